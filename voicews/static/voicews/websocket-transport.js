/**
 * Carries a call over a WebSocket: its audio, its messages, and the way back after a lost connection.
 */

import { CallAudio } from "./call-audio.js";
import { closeError, mayReconnectAfter } from "./close-codes.js";
import { socketUrl, unreachable } from "./connect-endpoint.js";
import { ErrorCode, VoiceError } from "./errors.js";
import { Liveness } from "./liveness.js";
import { parseMessage, ping, playback, VOICEWS_LABEL } from "./messages.js";
import { MicQueue } from "./mic-queue.js";
import { PlaybackReporter } from "./playback-reporter.js";
import { ProtobufFrameSerializer } from "./protobuf-frame-serializer.js";
import { ReconnectPolicy } from "./reconnect-policy.js";
import { Socket } from "./socket.js";

/** @import { CallAudioOptions } from "./call-audio.js" */
/** @import { ConnectionParams } from "./connect-endpoint.js" */
/** @import { PlaybackReport } from "./jitter-buffer.js" */
/** @import { Message } from "./messages.js" */
/** @import { UserAudioHook } from "./microphone.js" */
/** @import { AudioFrame, Frame, FrameSerializer } from "./protobuf-frame-serializer.js" */
/** @import { ReconnectOptions, ReconnectTry } from "./reconnect-policy.js" */

const MIC_FRAME_MS = 20;
/** How long one try to come back may take, from the socket's opening to the bot's answer. */
const RECONNECT_TRY_MS = 10_000;
const MIN_SAMPLE_RATE = 3000;
const MAX_SAMPLE_RATE = 384_000;
const MAX_CHANNELS = 8;

/**
 * @typedef {object} WebSocketTransportOptions
 * @property {string} [ws_url] used by `connect` when it is not given one
 * @property {string} [wsUrl] the same
 * @property {FrameSerializer} [serializer] default: ProtobufFrameSerializer
 * @property {number} [recorderSampleRate] Hz of the microphone's frames, default 16000
 * @property {number | null} [playerSampleRate] Hz of the player's audio context, default null: the
 *   device's own. Frames of any rate are played right with either.
 * @property {UserAudioHook | null} [handleUserAudioStream] taps or replaces the microphone
 * @property {ReconnectOptions} [reconnect] default: two rounds of tries
 */

/**
 * What the owner of a transport, usually a VoiceClient, wants to know of it.
 * @typedef {object} TransportHandlers
 * @property {() => void} onOpen
 * @property {(message: Message) => void} onMessage
 * @property {(frame: Frame) => void} onFrame text and transcription frames
 * @property {() => void} onInterruption
 * @property {(next: ReconnectTry, error: VoiceError) => void} onReconnecting
 * @property {(code: number, reason: string, error: VoiceError) => void} onClosed for good
 * @property {(level: number) => void} onLocalLevel
 * @property {(report: PlaybackReport) => void} onPlayback
 * @property {(error: VoiceError) => void} onError not fatal
 */

/**
 * @typedef {object} TransportStats
 * @property {number | null} rttMs null until measured, or when the server does not answer pings
 * @property {number} bufferedMs audio that waits to be played
 * @property {number} underruns times that the player ran dry within an utterance
 * @property {number} concealedMs silence that was heard because of that
 * @property {number} droppedMicMs microphone audio that could not be sent in time
 * @property {number} droppedBytes PCM that was dropped in either direction
 * @property {number} badFrames messages that could not be read
 * @property {number} framesIn
 * @property {number} framesOut
 * @property {number | null} mouthToEarMs estimate of what the way costs: both devices, the network
 *   and our buffers, without the time that the bot takes to think
 */

export class WebSocketTransport {
  #options;
  #serializer;
  /** @type {TransportHandlers | null} */
  #handlers = null;
  /** @type {CallAudio | null} */
  #audio = null;
  /** @type {Socket | null} */
  #socket = null;
  /** @type {ConnectionParams} */
  #params = {};
  #token = "";
  #ready = false;
  /**
   * How far the call ever came: before the bot has answered, a lost connection is a failed one.
   * @type {"connecting" | "opened" | "ready"}
   */
  #progress = "connecting";
  #extended = false;
  #policy;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #liveness;
  #micQueue;
  #reporter;
  /** @type {PlaybackReport | null} */
  #playback = null;
  #badFrames = 0;
  #badBytes = 0;
  #framesIn = 0;
  #framesOut = 0;

  /** @param {WebSocketTransportOptions} [options] */
  constructor(options = {}) {
    this.#options = options;
    this.recorderSampleRate = options.recorderSampleRate ?? 16_000;
    this.playerSampleRate = options.playerSampleRate ?? null;
    this.#serializer = options.serializer ?? new ProtobufFrameSerializer();
    this.#policy = new ReconnectPolicy(options.reconnect);
    this.#micQueue = new MicQueue(this.recorderSampleRate);
    this.#liveness = new Liveness({
      onPing: (id) => this.#sendMessage(ping(id)),
      onLost: () => this.#socket?.abandon("no answer to pings for 5 seconds"),
    });
    this.#reporter = new PlaybackReporter((position) => this.#sendMessage(playback(position)));
  }

  /** @returns {CallAudio | null} null outside a call */
  get audio() {
    return this.#audio;
  }

  /** @returns {TransportStats} */
  get stats() {
    const { rttMs } = this.#liveness;
    const bufferedMs = this.#playback?.bufferedMs ?? 0;
    const deviceMs = this.#audio
      ? (this.#audio.captureLatencySecs + this.#audio.outputLatencySecs) * 1000
      : 0;
    return {
      rttMs,
      bufferedMs,
      underruns: this.#playback?.underruns ?? 0,
      concealedMs: this.#playback?.concealedMs ?? 0,
      droppedMicMs: this.#micQueue.droppedMs,
      droppedBytes: this.#micQueue.droppedBytes + this.#badBytes,
      badFrames: this.#badFrames,
      framesIn: this.#framesIn + (this.#socket?.framesIn ?? 0),
      framesOut: this.#framesOut + (this.#socket?.framesOut ?? 0),
      mouthToEarMs: rttMs === null
        ? null
        : deviceMs + this.#micQueue.waitingMs + rttMs + bufferedMs,
    };
  }

  /**
   * Starts a new call: counters at zero, audio devices open. Call it straight from a user's gesture.
   * @param {TransportHandlers} handlers
   * @param {{ mic: boolean, micId: string, speakerId: string }} devices
   * @throws {VoiceError}
   */
  async open(handlers, devices) {
    this.close("replaced by a new call");
    this.#handlers = handlers;
    this.#ready = this.#extended = false;
    this.#progress = "connecting";
    this.#policy = new ReconnectPolicy(this.#options.reconnect);
    this.#micQueue = new MicQueue(this.recorderSampleRate);
    this.#liveness.rttMs = null;
    this.#playback = null;
    this.#badFrames = this.#badBytes = this.#framesIn = this.#framesOut = 0;
    this.#audio = this.createAudio({
      recorderSampleRate: this.recorderSampleRate,
      playerSampleRate: this.playerSampleRate,
      frameMs: MIC_FRAME_MS,
      handleUserAudioStream: this.#options.handleUserAudioStream ?? null,
      sendAudio: (pcm) => this.sendAudio(pcm),
      onMicFrame: (pcm, level) => this.#onMicFrame(pcm, level),
      onPlayback: (report) => this.#onPlayback(report),
      onError: (error) => this.#handlers?.onError(error),
    });
    await this.#audio.open(devices);
  }

  /**
   * Replace it to bring audio of another kind, for example in tests.
   * @param {CallAudioOptions} options
   * @returns {CallAudio}
   */
  createAudio(options) {
    return new CallAudio(options);
  }

  /**
   * @param {ConnectionParams} params
   * @throws {VoiceError} invalid-argument
   */
  connect(params) {
    const { ws_url = this.#options.ws_url, wsUrl = this.#options.wsUrl, token } = params;
    this.#params = { ws_url: ws_url ?? wsUrl, token };
    this.#token = token ?? "";
    this.#openSocket();
  }

  /**
   * The bot has answered: audio may flow.
   * @param {{ extended: boolean, resumeToken: string, graceMs: number | null }} bot whether it speaks
   *   our extension, the token to come back with, and for how long that is possible
   */
  ready({ extended, resumeToken, graceMs }) {
    clearTimeout(this.#timer);
    this.#ready = true;
    this.#progress = "ready";
    this.#extended = extended;
    if (resumeToken) this.#token = resumeToken;
    this.#policy.ready(performance.now(), graceMs);
    if (extended) this.#liveness.start();
    this.#micQueue.drain(this.#outlet());
  }

  /**
   * @param {Message} message
   * @throws {VoiceError} connection-lost
   */
  send(message) {
    if (!this.#socket?.isOpen) {
      throw new VoiceError(ErrorCode.CONNECTION_LOST, "There is no connection to send this on.");
    }
    this.#sendMessage(message);
  }

  /**
   * Sends audio of the page's own instead of a microphone's; it is dropped while muted.
   * @param {ArrayBuffer | ArrayBufferView} pcm 16-bit little-endian mono PCM at recorderSampleRate
   */
  sendAudio(pcm) {
    if (!this.#audio?.micEnabled) return;
    this.#queueAudio(ArrayBuffer.isView(pcm)
      ? new Uint8Array(pcm.buffer, pcm.byteOffset, pcm.byteLength).slice()
      : new Uint8Array(pcm));
  }

  /** The bot has finished an utterance: what comes next is a new one, and not late. */
  endUtterance() {
    this.#audio?.endUtterance();
  }

  /**
   * Ends the call from our side and lets go of everything; nothing is reported any more.
   * @param {string} reason
   */
  close(reason) {
    this.#handlers = null;
    this.#leaveSocket();
    this.#socket?.close(reason);
    this.#forgetSocket();
    this.#audio?.close();
    this.#audio = null;
  }

  #openSocket() {
    const url = socketUrl(this.#params, this.#token);
    const socket = new Socket(url, this.#serializer, {
      onOpen: () => this.#onSocketOpen(),
      onFrame: (frame) => this.#onFrame(frame),
      onBadFrame: (bytes) => this.#countBad(bytes),
      onClose: (code, reason, blocked) => {
        const error = blocked ?? closeError(code, reason, this.#progress);
        if (error.code === ErrorCode.CONNECT_FAILED && this.#progress === "connecting") {
          error.message = unreachable(url);
        }
        this.#onSocketClose(code, reason, error);
      },
    });
    this.#socket = socket;
    if (this.#progress === "ready") {
      this.#timer = setTimeout(() => socket.abandon("no answer in time"), RECONNECT_TRY_MS);
    }
  }

  #onSocketOpen() {
    if (this.#progress === "connecting") this.#progress = "opened";
    this.#handlers?.onOpen();
  }

  #leaveSocket() {
    clearTimeout(this.#timer);
    this.#liveness.stop();
    this.#ready = false;
  }

  #forgetSocket() {
    this.#framesIn += this.#socket?.framesIn ?? 0;
    this.#framesOut += this.#socket?.framesOut ?? 0;
    this.#socket = null;
  }

  /**
   * @param {number} code
   * @param {string} reason
   * @param {VoiceError} error
   */
  #onSocketClose(code, reason, error) {
    this.#leaveSocket();
    this.#forgetSocket();
    this.#audio?.endUtterance();
    const mayReturn = this.#progress === "ready";
    const next = mayReturn ? this.#policy.next(code, performance.now()) : null;
    if (next === null) {
      if (this.#policy.rounds > 0 && mayReconnectAfter(code)) {
        error.message += " Reconnecting failed: please start a new call.";
      }
      this.#handlers?.onClosed(code, reason, error);
      return;
    }
    this.#timer = setTimeout(() => this.#openSocket(), next.delayMs);
    this.#handlers?.onReconnecting(next, error);
  }

  /** @param {Frame} frame */
  #onFrame(frame) {
    switch (frame.type) {
      case "audio":
        this.#play(frame);
        break;
      case "interruption":
        this.#audio?.flush(frame.destination);
        if (!frame.destination) this.#handlers?.onInterruption();
        break;
      case "message":
        this.#onMessage(frame.data);
        break;
      default:
        this.#handlers?.onFrame(frame);
    }
  }

  /** @param {string} data */
  #onMessage(data) {
    let message;
    try {
      message = parseMessage(data);
    } catch {
      this.#countBad(data.length);
      return;
    }
    if (message.label === VOICEWS_LABEL && message.type === "pong") {
      this.#liveness.pong(String(message.id));
    } else {
      this.#handlers?.onMessage(message);
    }
  }

  /** @param {AudioFrame} frame */
  #play({ audio, sampleRate, numChannels, pts, destination }) {
    const playable = audio.length > 0
      && sampleRate >= MIN_SAMPLE_RATE && sampleRate <= MAX_SAMPLE_RATE
      && numChannels >= 1 && numChannels <= MAX_CHANNELS
      && audio.length % (2 * numChannels) === 0;
    if (!playable) {
      this.#countBad(audio.length);
      return;
    }
    const mediaTime = pts === null || pts === undefined ? null : Number(pts);
    const played = this.#audio?.play(
      { audio, sampleRate, numChannels, pts: mediaTime },
      destination,
    );
    if (!played) this.#badBytes += audio.length;
  }

  /**
   * @param {ArrayBuffer} pcm
   * @param {number} level
   */
  #onMicFrame(pcm, level) {
    this.#queueAudio(new Uint8Array(pcm), level);
    this.#handlers?.onLocalLevel(level);
  }

  /**
   * @param {Uint8Array} pcm
   * @param {number} [level] RMS; what a page sends by itself is never taken for silence
   */
  #queueAudio(pcm, level = 1) {
    if (pcm.length === 0 || pcm.length % 2 !== 0) {
      this.#countBad(pcm.length);
      return;
    }
    this.#micQueue.push(pcm, level, this.#outlet());
  }

  /** @returns {import("./mic-queue.js").Outlet | null} */
  #outlet() {
    const socket = this.#socket;
    if (!this.#ready || !socket?.isOpen) return null;
    const sampleRate = this.recorderSampleRate;
    return {
      get bufferedAmount() {
        return socket.bufferedAmount;
      },
      send: (audio) => {
        socket.send({ type: "audio", name: "audio", audio, sampleRate, numChannels: 1 });
      },
    };
  }

  /** @param {PlaybackReport} report */
  #onPlayback(report) {
    this.#playback = report;
    if (this.#extended && this.#ready) {
      this.#reporter.update(report, this.#audio?.outputLatencySecs ?? 0, performance.now());
    }
    this.#handlers?.onPlayback(report);
  }

  /** @param {Message} message */
  #sendMessage(message) {
    this.#socket?.send({ type: "message", data: JSON.stringify(message) });
  }

  /** @param {number} bytes */
  #countBad(bytes) {
    this.#badFrames += 1;
    this.#badBytes += bytes;
  }
}
