/**
 * The transport of a call: what both clients, ours and Pipecat's own, put their calls on.
 *
 * It has the methods of `Transport` in @pipecat-ai/client-js 1.13, so `new PipecatClient({ transport })`
 * takes it; `VoiceClient` uses the same media and connection directly.
 */

import { CallAudio } from "./call-audio.js";
import { BOT, CallMedia } from "./call-media.js";
import { CloseCode } from "./close-codes.js";
import { DeviceControls } from "./device-controls.js";
import { DeviceError } from "./device-error.js";
import { ErrorCode, explain, toVoiceError, VoiceError } from "./errors.js";
import { newId, RTVI_LABEL } from "./messages.js";
import { checkOptions, completeOptions } from "./transport-options.js";
import { VoiceConnection } from "./voice-connection.js";

/** @import { CallAudioOptions } from "./call-audio.js" */
/** @import { BotReady } from "./events.js" */
/** @import { Message } from "./messages.js" */
/** @import { WebSocketTransportOptions } from "./transport-options.js" */
/** @import { ConnectionHandlers } from "./voice-connection.js" */

/** @typedef {{ callbacks?: Record<string, any>, enableMic?: boolean, enableCam?: boolean, enableScreenShare?: boolean }} PipecatOptions */

/** Of RTVI, that @pipecat-ai/client-js 1.13 announces. */
const PIPECAT_RTVI_VERSION = "2.1.0";
/** A message of this size still fits into the server's limit with all that is around it. */
const MAX_MESSAGE_BYTES = 1024 * 1024 - 1024;

// Pipecat's client hands this object out as a proxy, whose getters can't see private fields: what they need is
// in plain ones, with an underscore.
export class WebSocketTransport extends DeviceControls {
  /** @type {string} a TransportState of Pipecat's client */
  _state = "disconnected";
  /** @type {PipecatOptions} */
  _clientOptions = {};
  /** @type {((message: any) => void) | null} of Pipecat's client; null while ours has the transport */
  _onMessage = null;
  /** @type {unknown} */
  startBotParams;
  /** @type {{ resolve: () => void, reject: (error: VoiceError) => void } | null} */
  _connecting = null;

  /** @param {WebSocketTransportOptions} [options] */
  constructor(options = {}) {
    super(new CallMedia((audioOptions) => this.createAudio(audioOptions)));
    this.options = checkOptions(options);
    const complete = completeOptions(this.options);
    this.recorderSampleRate = complete.recorderSampleRate;
    this.playerSampleRate = complete.playerSampleRate;
    this.connection = new VoiceConnection(this.media, complete);
  }

  /**
   * Replace it to bring audio of another kind, for example in tests.
   * @param {CallAudioOptions} options
   * @returns {CallAudio}
   */
  createAudio(options) {
    return new CallAudio(options);
  }

  get stats() {
    return this.connection.stats;
  }

  /**
   * Sends audio of the page's own, beside or instead of a microphone's.
   * @param {ArrayBuffer | ArrayBufferView} data 16-bit little-endian mono PCM at recorderSampleRate
   */
  handleUserAudioStream(data) {
    this.connection.sendAudio(data);
  }

  /**
   * @param {Message} message
   * @throws {VoiceError} connection-lost
   */
  sendMessage(message) {
    this.connection.send(message);
  }

  /**
   * @param {unknown} message what the serializer's `serialize` takes
   * @throws {VoiceError} connection-lost
   */
  sendRawMessage(message) {
    this.connection.sendRaw(message);
  }

  get maxMessageSize() {
    return MAX_MESSAGE_BYTES;
  }

  // --- devices: Pipecat's client awaits none of these, so what fails is told as an event ---------

  /** @param {string} micId */
  updateMic(micId) {
    return this._told(super.updateMic(micId));
  }

  /** @param {string} speakerId */
  updateSpeaker(speakerId) {
    return this._told(super.updateSpeaker(speakerId));
  }

  /** @param {string} camId */
  updateCam(camId) {
    return this._told(super.updateCam(camId));
  }

  /** @param {boolean} enable pictures of the camera go to a bot that wants them */
  enableCam(enable) {
    return this._told(super.enableCam(enable));
  }

  /** @param {boolean} enable call it from a user's gesture */
  enableScreenShare(enable) {
    return this._told(super.enableScreenShare(enable));
  }

  /** @param {boolean} enable */
  enableMic(enable) {
    return this._told(super.enableMic(enable));
  }

  /** @param {Promise<void>} doing */
  async _told(doing) {
    if (!this._onMessage) return doing;
    return doing.catch((error) => {
      const told = toVoiceError(error, ErrorCode.MICROPHONE_FAILED, "The device can't be used.");
      if (!DeviceError.of(told)) this._tellError(told, false);
    });
  }

  // --- what Pipecat's client calls --------------------------------------------------------------

  /**
   * @param {PipecatOptions} options
   * @param {(message: any) => void} onMessage
   */
  initialize(options, onMessage) {
    this._clientOptions = options;
    this._onMessage = onMessage;
    this.connection.rtviVersion = PIPECAT_RTVI_VERSION;
    this.media.wantMic(options.enableMic ?? true);
    this.media.emit = (name, ...args) => this._call(name, ...args);
    this.state = "disconnected";
  }

  /** What is wrong with a device is told by `onDeviceError`; a call without a microphone goes on. */
  async initDevices() {
    this.state = "initializing";
    await this._openMedia(completeOptions(this.options));
    await this.media.told;
    if (this._clientOptions.enableCam) this.enableCam(true);
    if (this._clientOptions.enableScreenShare) this.enableScreenShare(true);
    this.state = "initialized";
  }

  /**
   * @param {WebSocketTransportOptions} [params] overrides what the constructor was given
   * @throws {VoiceError} why there is no connection
   */
  async connect(params) {
    const options = completeOptions({ ...this.options, ...checkOptions(params) });
    this.state = "connecting";
    try {
      await this._openMedia(options);
      this.connection.open(this._handlers(), options);
      await new Promise((resolve, reject) => {
        this._connecting = { resolve: () => resolve(undefined), reject };
        this.connection.connect(options.params);
      });
    } catch (error) {
      if (this._state === "connecting") this.state = "error";
      throw error;
    } finally {
      this._connecting = null;
    }
  }

  async disconnect() {
    this._finish(new VoiceError(ErrorCode.CANCELLED, "The call has ended."));
  }

  sendReadyMessage() {
    this.connection.sayReady();
  }

  get state() {
    return this._state;
  }

  set state(state) {
    if (state === this._state) return;
    this._state = state;
    this._call("onTransportStateChanged", state);
  }

  /** @param {ReturnType<typeof completeOptions>} options */
  async _openMedia(options) {
    try {
      await this.media.open(options);
    } catch (error) {
      // Without a loudspeaker there is no call; without a microphone one may listen, and was told why.
      if (!this.media.audio?.playbackNode || !DeviceError.of(/** @type {VoiceError} */ (error))) throw error;
    }
  }

  /** @returns {ConnectionHandlers} */
  _handlers() {
    return {
      onOpen: () => {
        this.state = "connected";
        this._call("onConnected");
        this._connecting?.resolve();
      },
      onReady: (data, isBack) => this._onReady(data, isBack),
      onMessage: (message) => {
        if (message.label === RTVI_LABEL) this._deliver(message);
      },
      onIncoming: () => {},
      onInterruption: () => {},
      onReconnecting: ({ isNewRound }, error) => {
        this.state = "connecting";
        if (isNewRound) this._tellError(error, false);
      },
      onReopened: () => {
        this.state = "connected";
      },
      onClosed: (code, _reason, error) => {
        const isOver = code === CloseCode.NORMAL && this._state === "ready";
        if (!isOver && !this._connecting) this._tellError(error, true);
        this._finish(error);
      },
      onLeave: () => void this.disconnect(),
      onLocalLevel: (level) => this._call("onLocalAudioLevel", level),
      onPlayback: ({ level }) => this._call("onRemoteAudioLevel", level, BOT),
    };
  }

  /**
   * @param {BotReady} data
   * @param {boolean} isBack
   */
  _onReady(data, isBack) {
    this.state = "ready";
    // Who comes back to a call has had its bot-ready.
    if (isBack) return;
    this._call("onBotConnected", BOT);
    this._call("onParticipantJoined", BOT);
    this._deliver({ label: RTVI_LABEL, type: "bot-ready", id: newId(), data });
  }

  /** @param {Message} message */
  _deliver(message) {
    if (message.type === "bot-stopped-speaking") this.connection.endUtterance();
    this._onMessage?.(message);
  }

  /** @param {VoiceError} error why the call is over */
  _finish(error) {
    const isOpen = ["connecting", "connected", "ready"].includes(this._state);
    if (!isOpen && !this.media.audio) return;
    const hadBot = this._state === "ready";
    this.state = "disconnecting";
    this.connection.close(error.code === ErrorCode.CANCELLED ? "client left" : error.code);
    this.media.close();
    this._connecting?.reject(error);
    this.state = "disconnected";
    this._call("onDisconnected");
    if (!hadBot) return;
    this._call("onParticipantLeft", BOT);
    this._call("onBotDisconnected", BOT);
  }

  /**
   * @param {VoiceError} error
   * @param {boolean} fatal
   */
  _tellError(error, fatal) {
    const text = explain(error);
    this._call("onError", {
      label: RTVI_LABEL, type: "error", id: newId(), data: { error: text, message: text, fatal, code: error.code },
    });
  }

  /**
   * @param {string} name
   * @param {any[]} args
   */
  _call(name, ...args) {
    this._clientOptions.callbacks?.[name]?.(...args);
  }
}
