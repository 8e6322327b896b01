/**
 * A WebSocket and audio devices that a test controls, and a client that uses them.
 */

import { webcrypto } from "node:crypto";

import { decodeFrame, encodeFrame } from "../../voicews/static/voicews/frame-codec.js";
import { VoiceClient } from "../../voicews/static/voicews/voice-client.js";
import { WebSocketTransport } from "../../voicews/static/voicews/websocket-transport.js";

/** @import { Frame } from "../../voicews/static/voicews/frame-codec.js" */

// Node 18 has it, but not as a global.
if (!globalThis.crypto) Object.assign(globalThis, { crypto: webcrypto });

export class FakeWebSocket {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSING = 2;
  static CLOSED = 3;

  /** @type {FakeWebSocket[]} */
  static all = [];

  static get last() {
    return FakeWebSocket.all[FakeWebSocket.all.length - 1];
  }

  static install() {
    FakeWebSocket.all = [];
    Object.assign(globalThis, { WebSocket: FakeWebSocket });
  }

  readyState = FakeWebSocket.CONNECTING;
  bufferedAmount = 0;
  binaryType = "blob";
  /** @type {ArrayBuffer[]} */
  sent = [];
  /** @type {{ code: number, reason: string } | null} */
  closedBy = null;
  onopen = () => {};
  /** @type {(event: { code: number, reason: string }) => void} */
  onclose = () => {};
  /** @type {(event: { data: ArrayBuffer | string }) => void} */
  onmessage = () => {};

  /** @param {string} url */
  constructor(url) {
    this.url = url;
    FakeWebSocket.all.push(this);
  }

  /** @param {Uint8Array} data */
  send(data) {
    this.sent.push(data.slice().buffer);
  }

  /**
   * @param {number} code
   * @param {string} reason
   */
  close(code, reason) {
    if (code !== 1000 && (code < 3000 || code > 4999)) throw new Error("browsers refuse this");
    this.closedBy = { code, reason };
    this.readyState = FakeWebSocket.CLOSING;
  }

  accept() {
    this.readyState = FakeWebSocket.OPEN;
    this.onopen();
  }

  /**
   * @param {number} code
   * @param {string} [reason]
   */
  drop(code, reason = "") {
    this.readyState = FakeWebSocket.CLOSED;
    this.onclose({ code, reason });
  }

  /** @param {Frame} frame */
  frame(frame) {
    this.onmessage({ data: encodeFrame(frame).buffer });
  }

  /** @param {object} message */
  message(message) {
    this.frame({ type: "message", data: JSON.stringify(message) });
  }

  /** @returns {Frame[]} */
  get frames() {
    return this.sent.map((data) => /** @type {Frame} */ (decodeFrame(data)));
  }

  /** @returns {any[]} */
  get messages() {
    return this.frames.flatMap((frame) => (frame.type === "message" ? [JSON.parse(frame.data)] : []));
  }

  get audio() {
    return this.frames.flatMap((frame) => (frame.type === "audio" ? [frame] : []));
  }

  /** Answers client-ready, as a voicews server or, without a token, as any other one. */
  botReady(
    /** @type {string | null} */ resumeToken = "resume-1",
    /** @type {number | undefined} */ graceSecs = undefined,
  ) {
    const { id } = this.messages.find((message) => message.type === "client-ready");
    const voicews = resumeToken === null
      ? {}
      : { voicews: { session: "s", resume_token: resumeToken, reconnect_grace_secs: graceSecs } };
    this.message({ label: "rtvi-ai", type: "bot-ready", id, data: { version: "2.2.0", ...voicews } });
  }
}

/** Stands in for CallAudio. */
export class FakeAudio {
  micEnabled = true;
  volume = 1;
  playbackNode = {};
  captureLatencySecs = 0.02;
  outputLatencySecs = 0;
  /** @type {any[]} */
  played = [];
  flushes = 0;
  /** @type {any[]} */
  flushed = [];
  ended = 0;
  closed = false;
  /** @type {Error | null} */
  failure = null;

  /** @param {any} options */
  constructor(options) {
    this.options = options;
  }

  async open() {
    if (this.failure) throw this.failure;
  }

  /** @param {boolean} enabled */
  async setMicEnabled(enabled) {
    this.micEnabled = enabled;
  }

  /**
   * @param {any} frame
   * @param {string} [destination]
   */
  play(frame, destination) {
    this.played.push(destination ? { ...frame, destination } : frame);
    return true;
  }

  /** @param {string} [destination] */
  flush(destination) {
    this.flushes += 1;
    this.flushed.push(destination);
  }

  endUtterance() {
    this.ended += 1;
  }

  /** @param {number} volume */
  setVolume(volume) {
    this.volume = volume;
  }

  close() {
    this.closed = true;
  }

  /** 20 ms at 16 kHz, recognisable by its first sample. */
  mic(/** @type {number} */ mark) {
    const pcm = new Int16Array(320);
    pcm[0] = mark;
    this.options.onMicFrame(pcm.buffer, 0.1);
  }
}

/**
 * @param {ConstructorParameters<typeof VoiceClient>[0]} [options]
 * @param {ConstructorParameters<typeof WebSocketTransport>[0]} [transportOptions]
 * @param {Error | null} [audioFailure]
 */
export function fakeCall(options = {}, transportOptions = {}, audioFailure = null) {
  FakeWebSocket.install();
  const transport = new WebSocketTransport({ reconnect: { jitter: 0 }, ...transportOptions });
  /** @type {FakeAudio[]} */
  const audios = [];
  transport.createAudio = (audioOptions) => {
    const audio = new FakeAudio(audioOptions);
    audio.failure = audioFailure;
    audios.push(audio);
    return /** @type {any} */ (audio);
  };
  const client = new VoiceClient({ transport, ...options });
  /** @type {[string, ...any[]][]} */
  const events = [];
  for (const name of [
    "onTransportStateChanged", "onConnected", "onBotReady", "onReconnecting", "onReconnected",
    "onDisconnected", "onError", "onUserTranscript", "onBotOutput", "onInterruption",
    "onServerMessage", "onMessage", "onBotStoppedSpeaking",
  ]) {
    client.on(/** @type {any} */ (name), (/** @type {any[]} */ ...args) => {
      events.push([name, ...args]);
    });
  }
  return {
    client,
    events,
    named: (/** @type {string} */ name) => events.filter(([event]) => event === name),
    get states() {
      return events.flatMap(([event, state]) => (event === "onTransportStateChanged" ? [state] : []));
    },
    get audio() {
      return audios[audios.length - 1];
    },
    get socket() {
      return FakeWebSocket.last;
    },
  };
}
