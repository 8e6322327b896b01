/**
 * One call's way to its bot: the socket, the audio and messages on it, and the way back after it was lost.
 */

import { closeError, mayReconnectAfter } from "./close-codes.js";
import { socketUrl, unreachable } from "./connect-endpoint.js";
import { ErrorCode, VoiceError } from "./errors.js";
import { Liveness } from "./liveness.js";
import { clientReady, ping, playback, VOICEWS_LABEL } from "./messages.js";
import { MicQueue } from "./mic-queue.js";
import { watchPage } from "./page-events.js";
import { PlaybackReporter } from "./playback-reporter.js";
import { ReconnectPolicy } from "./reconnect-policy.js";
import { Socket } from "./socket.js";

/** @import { CallMedia } from "./call-media.js" */
/** @import { ConnectionParams } from "./connect-endpoint.js" */
/** @import { BotReady } from "./events.js" */
/** @import { ImageFrame } from "./frame-codec.js" */
/** @import { PlaybackReport } from "./jitter-buffer.js" */
/** @import { Message } from "./messages.js" */
/** @import { FrameSerializer, Incoming, IncomingAudio } from "./protobuf-frame-serializer.js" */
/** @import { ReconnectOptions, ReconnectTry } from "./reconnect-policy.js" */

/** How long one try to come back may take, from the socket's opening to the bot's answer. */
const RECONNECT_TRY_MS = 10_000;
const MIN_SAMPLE_RATE = 3000;
const MAX_SAMPLE_RATE = 384_000;
const MAX_CHANNELS = 8;
/** For serializers that don't know what they bring, as with Pipecat's transport. */
const UNSAID_SAMPLE_RATE = 24_000;

/**
 * @typedef {object} ConnectionOptions
 * @property {FrameSerializer} serializer
 * @property {number} recorderSampleRate Hz
 * @property {number | null} playerSampleRate Hz
 * @property {ReconnectOptions} [reconnect]
 */

/**
 * What the owner of a connection wants to know of it.
 * @typedef {object} ConnectionHandlers
 * @property {() => void} onOpen for the first time
 * @property {(data: BotReady, isBack: boolean) => void} onReady the bot has answered
 * @property {(message: Message) => void} onMessage every other message
 * @property {(incoming: Incoming) => void} onIncoming texts, transcriptions, and what only the page knows
 * @property {() => void} onInterruption
 * @property {(next: ReconnectTry, error: VoiceError) => void} onReconnecting
 * @property {() => void} onReopened the socket is open again; the bot has not answered yet
 * @property {(code: number, reason: string, error: VoiceError) => void} onClosed for good
 * @property {() => void} onLeave the user leaves the page, and may come back to it
 * @property {(level: number) => void} onLocalLevel
 * @property {(report: PlaybackReport) => void} onPlayback
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

/** One call at a time: `open`, `connect`, `close`, and from the start again. */
export class VoiceConnection {
  /** @type {string | undefined} what its client speaks; undefined for ours */
  rtviVersion;
  #media;
  /** @type {ConnectionOptions} */
  #options;
  /** @type {ConnectionHandlers | null} */
  #handlers = null;
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
  #policy = new ReconnectPolicy();
  /** @type {ReturnType<typeof setTimeout> | undefined} of the try that is going on */
  #tryTimer;
  /** @type {ReturnType<typeof setTimeout> | undefined} of the try that is to come */
  #nextTimer;
  #stopWatching = () => {};
  #liveness;
  #micQueue;
  #reporter;
  /** @type {PlaybackReport | null} */
  #playback = null;
  #badFrames = 0;
  #badBytes = 0;
  #framesIn = 0;
  #framesOut = 0;

  /**
   * @param {CallMedia} media
   * @param {ConnectionOptions} options
   */
  constructor(media, options) {
    this.#media = media;
    this.#options = options;
    this.#micQueue = new MicQueue(options.recorderSampleRate);
    this.#liveness = new Liveness({
      onPing: (id) => this.#socket?.sendMessage(ping(id)),
      onLost: () => this.#socket?.abandon("no answer to pings"),
    });
    this.#reporter = new PlaybackReporter((at) => this.#socket?.sendMessage(playback(at)));
  }

  /** @returns {TransportStats} */
  get stats() {
    const { rttMs } = this.#liveness;
    const bufferedMs = this.#playback?.bufferedMs ?? 0;
    const { audio } = this.#media;
    const deviceMs = audio ? (audio.captureLatencySecs + audio.outputLatencySecs) * 1000 : 0;
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
   * Begins a call: counters at zero, and what the microphone hears waits for the bot.
   * @param {ConnectionHandlers} handlers
   * @param {ConnectionOptions} options
   */
  open(handlers, options) {
    this.close("replaced by a new call");
    this.#handlers = handlers;
    this.#options = options;
    this.#ready = this.#extended = false;
    this.#progress = "connecting";
    this.#policy = new ReconnectPolicy(options.reconnect);
    this.#micQueue = new MicQueue(options.recorderSampleRate);
    this.#liveness.rttMs = null;
    this.#playback = null;
    this.#badFrames = this.#badBytes = this.#framesIn = this.#framesOut = 0;
    this.#stopWatching = watchPage({
      onNetwork: () => this.#onNetworkChange(),
      onLeave: () => this.#handlers?.onLeave(),
    });
    this.#media.listener = {
      onMicFrame: (pcm, level) => {
        this.#queueAudio(new Uint8Array(pcm), level);
        this.#handlers?.onLocalLevel(level);
      },
      onPlayback: (report) => this.#onPlayback(report),
      onPageAudio: (pcm) => this.sendAudio(pcm),
    };
  }

  /**
   * @param {ConnectionParams} params
   * @throws {VoiceError} invalid-argument, insecure-socket
   */
  connect(params) {
    this.#params = params;
    this.#token = params.token ?? "";
    this.#openSocket();
  }

  /** Tells the bot that its client is there; the bot answers, and then audio flows. */
  sayReady() {
    this.#socket?.sendMessage(clientReady(this.rtviVersion));
  }

  /**
   * @param {Message} message
   * @throws {VoiceError} connection-lost
   */
  send(message) {
    this.#openedSocket().sendMessage(message);
  }

  /**
   * @param {unknown} data what the serializer's `serialize` takes
   * @throws {VoiceError} connection-lost
   */
  sendRaw(data) {
    this.#openedSocket().sendRaw(data);
  }

  /** @param {ArrayBuffer | ArrayBufferView} pcm 16-bit little-endian mono at recorderSampleRate */
  sendAudio(pcm) {
    if (!this.#handlers) return;
    this.#queueAudio(ArrayBuffer.isView(pcm)
      ? new Uint8Array(pcm.buffer, pcm.byteOffset, pcm.byteLength).slice()
      : new Uint8Array(pcm));
  }

  /** The bot has finished an utterance: what comes next is a new one, and not late. */
  endUtterance() {
    this.#media.audio?.endUtterance();
  }

  /**
   * Ends the call from our side; nothing is reported any more. The audio devices stay with the media.
   * @param {string} reason
   */
  close(reason) {
    this.#handlers = null;
    this.#media.listener = null;
    this.#stopWatching();
    this.#leaveSocket();
    this.#socket?.close(reason);
    this.#forgetSocket();
  }

  #openedSocket() {
    if (!this.#socket?.isOpen) {
      throw new VoiceError(ErrorCode.CONNECTION_LOST, "There is no connection to send this on.");
    }
    return this.#socket;
  }

  #openSocket() {
    this.#nextTimer = undefined;
    const url = socketUrl(this.#params, this.#token);
    const socket = new Socket(url, this.#options.serializer, {
      onOpen: () => this.#onSocketOpen(),
      onIncoming: (incoming) => this.#onIncoming(incoming),
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
      this.#tryTimer = setTimeout(() => socket.abandon("no answer in time"), RECONNECT_TRY_MS);
    }
  }

  #onSocketOpen() {
    if (this.#progress === "ready") {
      this.#handlers?.onReopened();
      this.sayReady();
    } else {
      this.#progress = "opened";
      this.#handlers?.onOpen();
    }
  }

  #leaveSocket() {
    clearTimeout(this.#tryTimer);
    clearTimeout(this.#nextTimer);
    this.#nextTimer = undefined;
    this.#liveness.stop();
    this.#media.video.pause();
    this.#ready = false;
  }

  #forgetSocket() {
    this.#framesIn += this.#socket?.framesIn ?? 0;
    this.#framesOut += this.#socket?.framesOut ?? 0;
    this.#socket = null;
  }

  /** A dead connection is noticed soon, and the way back is not waited for. */
  #onNetworkChange() {
    if (this.#nextTimer !== undefined) {
      clearTimeout(this.#nextTimer);
      this.#openSocket();
    } else if (this.#ready && this.#extended) {
      this.#liveness.check();
    }
  }

  /**
   * @param {number} code
   * @param {string} reason
   * @param {VoiceError} error
   */
  #onSocketClose(code, reason, error) {
    this.#leaveSocket();
    this.#forgetSocket();
    this.#media.audio?.endUtterance();
    const next = this.#progress === "ready" ? this.#policy.next(code, performance.now()) : null;
    if (next === null) {
      if (this.#policy.rounds > 0 && mayReconnectAfter(code)) {
        error.message += " Reconnecting failed: please start a new call.";
      }
      this.#handlers?.onClosed(code, reason, error);
      return;
    }
    this.#nextTimer = setTimeout(() => this.#openSocket(), next.delayMs);
    this.#handlers?.onReconnecting(next, error);
  }

  /** @param {Incoming} incoming */
  #onIncoming(incoming) {
    switch (incoming.type) {
      case "audio":
        this.#play(incoming);
        break;
      case "image":
        this.#media.video.receive(incoming);
        break;
      case "interruption":
        this.#media.audio?.flush(incoming.destination);
        if (!incoming.destination) this.#handlers?.onInterruption();
        break;
      case "message":
        this.#onMessage(incoming.message);
        break;
      default:
        this.#handlers?.onIncoming(incoming);
    }
  }

  /** @param {Message} message */
  #onMessage(message) {
    const { label, type, id, data } = message;
    if (label === VOICEWS_LABEL && type === "pong") this.#liveness.pong(String(id));
    else if (label === VOICEWS_LABEL && this.#media.video.handleMessage(message)) return;
    else if (label === "rtvi-ai" && type === "bot-ready") this.#onBotReady(data ?? {});
    else this.#handlers?.onMessage(message);
  }

  /** @param {BotReady} data */
  #onBotReady(data) {
    // A bot that restarts inside its session may say so again; there is nothing new in that.
    if (this.#ready) return;
    clearTimeout(this.#tryTimer);
    const isBack = this.#progress === "ready";
    const { voicews } = data;
    this.#ready = true;
    this.#progress = "ready";
    this.#extended = voicews !== undefined;
    if (voicews?.resume_token) this.#token = voicews.resume_token;
    const graceSecs = voicews?.reconnect_grace_secs;
    this.#policy.ready(performance.now(), graceSecs === undefined ? null : graceSecs * 1000);
    if (this.#extended) this.#liveness.start();
    this.#micQueue.drain(this.#outlet());
    this.#media.video.ready(voicews?.video_in, {
      sendFrame: (frame) => this.#sendImage(frame),
      sendMessage: (message) => this.#socket?.sendMessage(message),
    });
    this.#handlers?.onReady(data, isBack);
  }

  /** @param {IncomingAudio} incoming */
  #play({ audio, sampleRate, numChannels = 1, pts, destination }) {
    const rate = sampleRate ?? this.#options.playerSampleRate ?? UNSAID_SAMPLE_RATE;
    const playable = audio.length > 0
      && rate >= MIN_SAMPLE_RATE && rate <= MAX_SAMPLE_RATE
      && numChannels >= 1 && numChannels <= MAX_CHANNELS
      && audio.length % numChannels === 0;
    if (!playable) {
      this.#countBad(audio.byteLength);
      return;
    }
    const mediaTime = pts === null || pts === undefined ? null : Number(pts);
    const bytes = new Uint8Array(audio.buffer, audio.byteOffset, audio.byteLength);
    const played = this.#media.audio?.play(
      { audio: bytes, sampleRate: rate, numChannels, pts: mediaTime },
      destination,
    );
    if (!played) this.#badBytes += audio.byteLength;
  }

  /**
   * @param {Uint8Array<ArrayBuffer>} pcm a whole buffer
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
    const { recorderSampleRate } = this.#options;
    return {
      get bufferedAmount() {
        return socket.bufferedAmount;
      },
      send: (pcm) => socket.sendAudio(/** @type {Uint8Array<ArrayBuffer>} */ (pcm), recorderSampleRate),
    };
  }

  /**
   * @param {ImageFrame} frame
   * @returns {boolean} false while there is no socket for it
   */
  #sendImage(frame) {
    if (!this.#ready || !this.#socket?.isOpen) return false;
    this.#socket.sendRaw(frame);
    return true;
  }

  /** @param {PlaybackReport} report */
  #onPlayback(report) {
    this.#playback = report;
    if (this.#extended && this.#ready) {
      this.#reporter.update(report, this.#media.audio?.outputLatencySecs ?? 0, performance.now());
    }
    this.#handlers?.onPlayback(report);
  }

  /** @param {number} bytes */
  #countBad(bytes) {
    this.#badFrames += 1;
    this.#badBytes += bytes;
  }
}
