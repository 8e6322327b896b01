/**
 * A call with a bot, as a page sees it: connect, talk, send messages, hear what happens, hang up.
 */

import { requestConnection } from "./connect-endpoint.js";
import { CloseCode, mayReconnectAfter } from "./close-codes.js";
import { Emitter } from "./emitter.js";
import { ErrorCode, toVoiceError, VoiceError } from "./errors.js";
import { MESSAGE_EVENTS } from "./events.js";
import {
  botOutput, clientReady, dtmfButtons, newId, operatorText, RTVI_LABEL, rtviMessage,
} from "./messages.js";
import { listDevices } from "./microphone-access.js";
import { Requests } from "./requests.js";
import { State, StateMachine } from "./states.js";
import { WebSocketTransport } from "./websocket-transport.js";

/** @import { BotReady, VoiceEvents } from "./events.js" */
/** @import { ConnectionParams, EndpointRequest } from "./connect-endpoint.js" */
/** @import { Message } from "./messages.js" */
/** @import { TransportHandlers } from "./websocket-transport.js" */

const CONNECT_TIMEOUT_MS = 20_000;
const REQUEST_TIMEOUT_MS = 10_000;
const STATS_MS = 1000;

/**
 * @typedef {object} VoiceClientOptions
 * @property {WebSocketTransport} [transport]
 * @property {Partial<VoiceEvents>} [callbacks]
 * @property {boolean} [enableMic] whether a call starts with the microphone on, default true
 * @property {number} [connectTimeoutMs] from the end of the permission prompt to the bot's answer,
 *   default 20000
 */

/** What one call in progress holds; a new one for every call, so that nothing old can reach it. */
class Call {
  abort = new AbortController();
  /** @type {(data: BotReady) => void} */
  resolve = () => {};
  /** @type {(error: VoiceError) => void} */
  reject = () => {};
  /** @type {Promise<BotReady>} settled by the bot's first answer, or by whatever prevents it */
  botReady;
  wasReady = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  connectTimer;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  statsTimer;

  constructor() {
    this.botReady = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    // It may fail while nobody waits for it yet.
    this.botReady.catch(() => {});
  }
}

/** One call at a time, any number one after the other. */
export class VoiceClient {
  #transport;
  #enableMic;
  #connectTimeoutMs;
  #states;
  /** @type {Emitter<VoiceEvents & { [name: string]: (...args: any[]) => void }>} */
  #emitter = new Emitter();
  #requests = new Requests();
  /** @type {Call | null} */
  #call = null;
  #micId = "";
  #speakerId = "";

  /** @param {VoiceClientOptions} [options] */
  constructor({ transport, callbacks = {}, enableMic = true, connectTimeoutMs } = {}) {
    this.#transport = transport ?? new WebSocketTransport();
    this.#enableMic = enableMic;
    this.#connectTimeoutMs = connectTimeoutMs ?? CONNECT_TIMEOUT_MS;
    this.#states = new StateMachine((state, previous) => {
      this.#emitter.emit("onTransportStateChanged", state, previous);
    });
    for (const [name, handler] of Object.entries(callbacks)) {
      if (handler) this.#emitter.on(name, handler);
    }
  }

  get state() {
    return this.#states.state;
  }

  /** Whether there is no call, so that one may be started. */
  get isIdle() {
    return this.#states.is(State.DISCONNECTED, State.ERROR);
  }

  get stats() {
    return this.#transport.stats;
  }

  /** The player's last node, to connect an analyser or a recorder to; null outside a call. */
  get playbackNode() {
    return this.#transport.audio?.playbackNode ?? null;
  }

  /** The audio context of the player; null outside a call. */
  get audioContext() {
    return this.#transport.audio?.context ?? null;
  }

  /**
   * The node that plays one of the server's `audio_out_destinations`, to be heard by an analyser or
   * routed elsewhere; null before the first of it has come.
   * @param {string} destination
   */
  destinationNode(destination) {
    return this.#transport.audio?.destinationNode(destination) ?? null;
  }

  /** What is played, as a stream; null outside a call. */
  get remoteStream() {
    return this.#transport.audio?.remoteStream ?? null;
  }

  /** The microphone's stream; null while there is none. */
  get localStream() {
    return this.#transport.audio?.localStream ?? null;
  }

  get isMicEnabled() {
    return this.#transport.audio?.micEnabled ?? this.#enableMic;
  }

  /**
   * @template {keyof VoiceEvents} Name
   * @param {Name} name
   * @param {VoiceEvents[Name]} handler
   * @returns {() => void} takes the handler off again
   */
  on(name, handler) {
    return this.#emitter.on(name, handler);
  }

  /**
   * Starts a call. Call it straight from a user's gesture, or the browser may hold the sound back.
   * @param {EndpointRequest | ConnectionParams} [params] a connect endpoint to ask, or its answer
   * @returns {Promise<BotReady>} when the bot is ready
   * @throws {VoiceError} illegal-state while there is a call already; otherwise why there is none
   */
  async connect(params = {}) {
    this.#states.to(State.INITIALIZING);
    const call = new Call();
    this.#call = call;
    globalThis.addEventListener("pagehide", this.#onPageHide);
    globalThis.navigator?.mediaDevices?.addEventListener("devicechange", this.#onDeviceChange);
    this.#begin(call, params).catch((error) => {
      this.#end(call, toVoiceError(error, ErrorCode.CONNECT_FAILED, "The call can't be started."));
    });
    return call.botReady;
  }

  /** Hangs up. Does nothing when there is no call. */
  async disconnect() {
    if (this.#call) this.#end(this.#call, null);
  }

  /**
   * Muting sends one second of silence and then nothing; see `Microphone.disable` for the device.
   * @param {boolean} enabled
   * @throws {VoiceError} when the microphone can't be opened
   */
  async enableMic(enabled) {
    try {
      await this.#transport.audio?.setMicEnabled(enabled);
      this.#enableMic = enabled;
    } finally {
      this.#emitter.emit("onMicEnabled", this.isMicEnabled);
    }
  }

  async getAllMics() {
    return listDevices("audioinput");
  }

  async getAllSpeakers() {
    return listDevices("audiooutput");
  }

  /**
   * @param {string} deviceId the browser's default when empty; kept for later calls
   * @throws {VoiceError}
   */
  async updateMic(deviceId) {
    await this.#transport.audio?.setMic(deviceId);
    this.#micId = deviceId;
  }

  /**
   * @param {string} deviceId the browser's default when empty; kept for later calls
   * @throws {VoiceError} speaker-unsupported, speaker-failed
   */
  async updateSpeaker(deviceId) {
    await this.#transport.audio?.setSpeaker(deviceId);
    this.#speakerId = deviceId;
  }

  /**
   * @param {string} type
   * @param {unknown} [data]
   * @throws {VoiceError} illegal-state, connection-lost
   */
  sendClientMessage(type, data) {
    this.#send(rtviMessage("client-message", { t: type, d: data }));
  }

  /**
   * @param {string} type
   * @param {unknown} [data]
   * @param {number} [timeoutMs]
   * @returns {Promise<unknown>} the bot's answer
   * @throws {VoiceError} request-failed, request-timeout, connection-lost
   */
  async sendClientRequest(type, data, timeoutMs = REQUEST_TIMEOUT_MS) {
    const id = newId();
    this.#send(rtviMessage("client-message", { t: type, d: data }, id));
    const answer = await this.#requests.add(id, timeoutMs);
    return /** @type {{ d?: unknown } | undefined} */ (answer)?.d;
  }

  /**
   * @param {string} content
   * @param {{ run_immediately?: boolean, audio_response?: boolean }} [options]
   * @throws {VoiceError} illegal-state, connection-lost
   */
  sendText(content, options = {}) {
    this.#send(rtviMessage("send-text", { content, options }));
  }

  /**
   * @param {string | string[]} buttons 0-9, *, #, A-D
   * @throws {VoiceError} invalid-argument, illegal-state, connection-lost
   */
  sendDtmf(buttons) {
    this.#send(rtviMessage("dtmf", { buttons: dtmfButtons(buttons) }));
  }

  /**
   * Asks the bot to end the call.
   * @throws {VoiceError} illegal-state, connection-lost
   */
  disconnectBot() {
    this.#send(rtviMessage("disconnect-bot", {}));
  }

  /**
   * @param {Call} call
   * @param {EndpointRequest | ConnectionParams} params
   */
  async #begin(call, params) {
    const { signal } = call.abort;
    await this.#transport.open(this.#handlers(call), {
      mic: this.#enableMic,
      micId: this.#micId,
      speakerId: this.#speakerId,
    });
    if (signal.aborted) return;
    this.#emitter.emit("onMicEnabled", this.isMicEnabled);
    call.connectTimer = setTimeout(() => this.#end(call, connectTimeout()), this.#connectTimeoutMs);
    this.#states.to(State.INITIALIZED);
    if ("endpoint" in params) {
      this.#states.to(State.AUTHENTICATING);
      params = await requestConnection(params, signal);
      if (signal.aborted) return;
    }
    this.#states.to(State.CONNECTING);
    this.#transport.connect(/** @type {ConnectionParams} */ (params));
  }

  /**
   * @param {Call} call
   * @returns {TransportHandlers}
   */
  #handlers(call) {
    const emit = this.#emitter.emit.bind(this.#emitter);
    return {
      onOpen: () => {
        this.#states.to(State.CONNECTED);
        this.#transport.send(clientReady());
        emit("onConnected");
      },
      onMessage: (message) => this.#onMessage(call, message),
      onFrame: (frame) => {
        if (frame.type === "transcription") {
          const { text, userId, timestamp } = frame;
          emit("onUserTranscript", { text, user_id: userId, timestamp, final: true });
        } else if (frame.type === "text") {
          emit("onBotOutput", botOutput({ text: frame.text }));
        }
      },
      onInterruption: () => emit("onInterruption"),
      onReconnecting: ({ delayMs, round, isNewRound }, error) => {
        this.#requests.rejectAll(error);
        if (!this.#states.is(State.RECONNECTING)) this.#states.to(State.RECONNECTING);
        if (isNewRound) emit("onReconnecting", { attempt: round, delayMs, error });
      },
      onClosed: (code, reason, error) => {
        const expected = code === CloseCode.NORMAL && call.wasReady;
        this.#end(call, expected ? null : error, { code, reason });
      },
      onLocalLevel: (level) => emit("onLocalAudioLevel", level),
      onPlayback: (report) => {
        emit("onRemoteAudioLevel", report.level);
        emit("onPlayback", report);
      },
      onError: (error) => {
        emit("onError", error);
        emit("onMicEnabled", this.isMicEnabled);
      },
    };
  }

  /**
   * @param {Call} call
   * @param {Message} message
   */
  #onMessage(call, message) {
    const { label, type, id, data } = message;
    if (label !== RTVI_LABEL) {
      this.#emitter.emit("onMessage", message);
    } else if (type === "bot-ready") {
      this.#onBotReady(call, data ?? {});
    } else if (type === "server-response") {
      this.#requests.resolve(id, data);
    } else if (type === "error-response") {
      this.#onErrorResponse(id, data);
    } else if (type === "error") {
      this.#onBotError(call, data);
    } else if (Object.hasOwn(MESSAGE_EVENTS, type)) {
      if (type === "bot-stopped-speaking") this.#transport.endUtterance();
      const event = MESSAGE_EVENTS[/** @type {keyof typeof MESSAGE_EVENTS} */ (type)];
      this.#emitter.emit(event, event === "onBotOutput" ? botOutput(data) : data);
      const text = event === "onServerMessage" ? operatorText(data) : null;
      if (text !== null) this.#emitter.emit("onOperatorMessage", { text });
    } else {
      this.#emitter.emit("onMessage", message);
    }
  }

  /**
   * @param {Call} call
   * @param {BotReady} data
   */
  #onBotReady(call, data) {
    // A bot that restarts inside its session may say so again; there is nothing new in that.
    if (!this.#states.is(State.CONNECTED)) return;
    clearTimeout(call.connectTimer);
    const graceSecs = data.voicews?.reconnect_grace_secs;
    this.#transport.ready({
      extended: data.voicews !== undefined,
      resumeToken: data.voicews?.resume_token ?? "",
      graceMs: typeof graceSecs === "number" ? graceSecs * 1000 : null,
    });
    this.#states.to(State.READY);
    if (call.wasReady) {
      this.#emitter.emit("onReconnected", data);
      return;
    }
    call.wasReady = true;
    call.statsTimer = setInterval(() => this.#emitter.emit("onStats", this.stats), STATS_MS);
    this.#emitter.emit("onBotReady", data);
    call.resolve(data);
  }

  /**
   * @param {string | undefined} id
   * @param {any} data
   */
  #onErrorResponse(id, data) {
    const reason = errorText(data);
    const error = new VoiceError(ErrorCode.REQUEST_FAILED, "The bot could not do this.", { reason });
    if (!this.#requests.reject(id, error)) this.#emitter.emit("onError", error);
  }

  /**
   * @param {Call} call
   * @param {any} data
   */
  #onBotError(call, data) {
    const fatal = data?.fatal === true;
    const reason = errorText(data);
    const error = new VoiceError(ErrorCode.BOT_ERROR, "The bot reports an error.", { reason, fatal });
    if (fatal) this.#end(call, error);
    else this.#emitter.emit("onError", error);
  }

  /** @param {Message} message */
  #send(message) {
    if (!this.#states.is(State.READY)) {
      throw new VoiceError(
        ErrorCode.ILLEGAL_STATE,
        `Nothing can be sent while the call is ${this.state}.`,
      );
    }
    this.#transport.send(message);
  }

  /**
   * The one way out of a call, whoever ends it, and taken once.
   * @param {Call} call
   * @param {VoiceError | null} error null when the call ended as it should
   * @param {{ code: number | null, reason: string }} [close] what the server's close said
   */
  #end(call, error, { code, reason } = { code: null, reason: error?.reason ?? "" }) {
    if (this.#call !== call) return;
    this.#call = null;
    clearTimeout(call.connectTimer);
    clearInterval(call.statsTimer);
    globalThis.removeEventListener("pagehide", this.#onPageHide);
    globalThis.navigator?.mediaDevices?.removeEventListener("devicechange", this.#onDeviceChange);
    this.#states.to(State.DISCONNECTING);
    call.abort.abort();
    this.#transport.close(error ? error.code : "client left");
    if (error) error.fatal = true;
    const over = error ?? new VoiceError(ErrorCode.CANCELLED, "The call has ended.");
    this.#requests.rejectAll(over);
    call.reject(over);
    // A call that could not be brought back has ended, and nothing is wrong with the next one.
    const isOver = error === null || (call.wasReady && code !== null && mayReconnectAfter(code));
    this.#states.to(isOver ? State.DISCONNECTED : State.ERROR);
    if (error) this.#emitter.emit("onError", error);
    this.#emitter.emit("onDisconnected", { code, reason, error });
  }

  /**
   * A page that goes away for good is closed by the browser itself, with code 1001, which pages may
   * not send. One that is kept for going back to must hang up first.
   * @param {PageTransitionEvent} event
   */
  #onPageHide = (event) => {
    if (event.persisted) void this.disconnect();
  };

  #onDeviceChange = () => this.#emitter.emit("onDevicesChanged");
}

function connectTimeout() {
  return new VoiceError(ErrorCode.TIMEOUT, "The bot did not answer in time.");
}

/** @param {any} data */
function errorText(data) {
  return typeof data?.error === "string" ? data.error : "";
}
