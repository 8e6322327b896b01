/**
 * Everything of one call that makes or takes sound: opened at its start, closed at its end, never reused.
 */

import { createAudioContext, keepRunning, loadWorklet } from "./audio-context.js";
import { ErrorCode, VoiceError } from "./errors.js";
import { Microphone } from "./microphone.js";
import { Speaker } from "./speaker.js";

/** @import { PlaybackReport } from "./jitter-buffer.js" */
/** @import { PlayableAudio } from "./speaker.js" */
/** @import { UserAudioHook } from "./microphone.js" */

/** How long the browser may take to start the audio before the user is told. */
const START_MS = 1500;
/** Destinations that are played at the same time: each has an audio worklet of its own. */
const MAX_DESTINATIONS = 16;

/**
 * @typedef {object} CallAudioOptions
 * @property {number} recorderSampleRate Hz
 * @property {number | null} playerSampleRate Hz
 * @property {number} frameMs
 * @property {UserAudioHook | null} openUserAudio
 * @property {boolean} pushToTalk the microphone is taken at the start and kept while muted
 * @property {(pcm: ArrayBuffer | ArrayBufferView) => void} sendAudio
 * @property {(pcm: ArrayBuffer, level: number) => void} onMicFrame
 * @property {(report: PlaybackReport) => void} onPlayback
 * @property {() => void} onStream the microphone's stream is another one, or muted, or none
 * @property {(error: VoiceError) => void} onError
 */

/** Creates its audio contexts at once, in the user's gesture; the rest takes `open`. */
export class CallAudio {
  #context;
  /** The player has a context of its own when it was asked to have a rate of its own. */
  #playerContext;
  #microphone;
  /** @type {Speaker | null} */
  #speaker = null;
  /**
   * What the server sends for one of its `audio_out_destinations`, each heard beside all else.
   * @type {Map<string, Speaker>}
   */
  #destinations = new Map();
  #volume = 1;
  /** @type {(() => void)[]} */
  #closers;
  #options;
  #closed = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #startTimer;

  /**
   * @param {CallAudioOptions} options
   * @throws {VoiceError}
   */
  constructor(options) {
    this.#options = options;
    this.#context = createAudioContext(null);
    this.#closers = [keepRunning(this.#context)];
    this.#playerContext = this.#context;
    const rate = options.playerSampleRate;
    if (rate !== null && rate !== this.#context.sampleRate) {
      this.#playerContext = createAudioContext(rate);
      this.#closers.push(keepRunning(this.#playerContext));
    }
    this.#microphone = new Microphone(this.#context, {
      sampleRate: options.recorderSampleRate,
      frameMs: options.frameMs,
      hook: options.openUserAudio,
      keepsDevice: options.pushToTalk,
      onStream: options.onStream,
      sendAudio: options.sendAudio,
      onFrame: options.onMicFrame,
      onError: options.onError,
    });
  }

  /**
   * @param {{ mic: boolean, micId: string, speakerId: string }} choice
   * @throws {VoiceError}
   */
  async open({ mic, micId, speakerId }) {
    await Promise.all([
      loadWorklet(this.#context, "capture"),
      loadWorklet(this.#playerContext, "playback"),
    ]);
    if (this.#closed) return;
    this.#speaker = new Speaker(this.#playerContext, this.#options.onPlayback);
    await this.#microphone.switchTo(micId);
    if (speakerId) await this.setSpeaker(speakerId).catch(this.#options.onError);
    if (mic && !this.#closed) await this.#microphone.enable();
    if (this.#options.pushToTalk && !this.#closed) await this.#microphone.prepare();
    if (!this.#closed) this.#startTimer = setTimeout(() => this.#checkRunning(), START_MS);
  }

  get context() {
    return this.#playerContext;
  }

  get playbackNode() {
    return this.#speaker?.output ?? null;
  }

  get remoteStream() {
    return this.#speaker?.stream ?? null;
  }

  /**
   * What is played of one of the server's destinations; null before the first of it has come.
   * @param {string} destination
   */
  destinationNode(destination) {
    return this.#destinations.get(destination)?.output ?? null;
  }

  get localStream() {
    return this.#microphone.stream;
  }

  get micEnabled() {
    return this.#microphone.enabled;
  }

  get captureLatencySecs() {
    return this.#microphone.latencySecs + this.#options.frameMs / 1000;
  }

  get outputLatencySecs() {
    return this.#speaker?.latencySecs ?? 0;
  }

  /** @param {boolean} enabled */
  async setMicEnabled(enabled) {
    await (enabled ? this.#microphone.enable() : this.#microphone.disable());
  }

  /** @param {string} deviceId */
  async setMic(deviceId) {
    await this.#microphone.switchTo(deviceId);
  }

  /** @param {string} deviceId */
  async setSpeaker(deviceId) {
    // Of the context, and so of them all.
    await this.#speaker?.setDevice(deviceId);
  }

  /** @param {number} volume 0 to 1, of them all */
  setVolume(volume) {
    this.#volume = volume;
    for (const speaker of this.#speakers()) speaker.volume = volume;
  }

  /**
   * @param {PlayableAudio} frame
   * @param {string} [destination]
   */
  play(frame, destination) {
    return this.#speakerOf(destination)?.play(frame) ?? false;
  }

  endUtterance() {
    for (const speaker of this.#speakers()) speaker.end();
  }

  /** @param {string} [destination] */
  flush(destination) {
    const speaker = destination ? this.#destinations.get(destination) : this.#speaker;
    speaker?.flush();
  }

  close() {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#startTimer);
    this.#microphone.close();
    for (const speaker of this.#speakers()) speaker.close();
    for (const close of this.#closers) close();
  }

  *#speakers() {
    if (this.#speaker) yield this.#speaker;
    yield* this.#destinations.values();
  }

  /** @param {string | undefined} destination */
  #speakerOf(destination) {
    if (!destination || !this.#speaker) return this.#speaker;
    const found = this.#destinations.get(destination);
    if (found || this.#destinations.size >= MAX_DESTINATIONS) return found ?? null;
    const speaker = new Speaker(this.#playerContext, () => {});
    speaker.volume = this.#volume;
    this.#destinations.set(destination, speaker);
    return speaker;
  }

  #checkRunning() {
    if (this.#playerContext.state === "running") return;
    this.#options.onError(
      new VoiceError(
        ErrorCode.AUDIO_SUSPENDED,
        "The browser holds the sound back. Click or tap anywhere on the page to hear the call.",
        { reason: `AudioContext is ${this.#playerContext.state}` },
      ),
    );
  }
}
