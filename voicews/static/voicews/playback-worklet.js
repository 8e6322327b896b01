/**
 * The audio thread's end of playing: takes the server's frames, writes what the jitter buffer lets through.
 *
 * From the page: {type: "audio", pcm, sampleRate, numChannels, pts}, {type: "end"}, {type: "flush"},
 * {type: "close"}. To the page: `PlaybackReport` of jitter-buffer.js.
 */

import { JitterBuffer } from "./jitter-buffer.js";
import { energy, toChannels } from "./pcm.js";
import { Resampler } from "./resampler.js";

/**
 * Where this file is, whatever it is called: pages import it for that. What renames static files
 * follows imports, and not `new URL`.
 */
export const url = import.meta.url;

/** A page has none, and makes no processor. */
const Processor = /** @type {typeof AudioWorkletProcessor} */ (globalThis.AudioWorkletProcessor ?? Object);

const REPORT_MS = 50;

class PlaybackProcessor extends Processor {
  #buffer = new JitterBuffer(sampleRate);
  /** @type {Resampler[]} one per channel of the stream that is being played */
  #resamplers = [];
  #closed = false;
  #reportedState = "idle";
  #sinceReport = 0;
  #energy = 0;
  #scratch = new Float32Array(128);

  constructor() {
    super();
    this.port.onmessage = ({ data }) => this.#onMessage(data);
  }

  /**
   * @param {Float32Array[][]} _inputs
   * @param {Float32Array[][]} outputs
   */
  process(_inputs, outputs) {
    if (this.#closed) return false;
    const [left, right = this.#scratch] = outputs[0];
    // What the filters hold back is due when nothing follows it: then, and not later, when the server
    // has learnt that its audio was played and says that this was all.
    const { state, bufferedMs } = this.#buffer;
    if (state === "playing" && bufferedMs * sampleRate < left.length * 1000) this.#drainResamplers();
    this.#buffer.pull(left, right);
    this.#energy += energy(left);
    this.#sinceReport += left.length;
    if (
      this.#buffer.state !== this.#reportedState
      || (this.#sinceReport / sampleRate) * 1000 >= REPORT_MS
    ) {
      this.#report(false);
    }
    return true;
  }

  /** @param {{ type: string, pcm: ArrayBuffer, sampleRate: number, numChannels: number, pts: number | null }} message */
  #onMessage(message) {
    if (message.type === "audio") this.#play(message);
    else if (message.type === "end") this.#end();
    else if (message.type === "flush") this.#flush();
    else if (message.type === "close") this.#closed = true;
  }

  /** @param {{ pcm: ArrayBuffer, sampleRate: number, numChannels: number, pts: number | null }} message */
  #play({ pcm, sampleRate: rate, numChannels, pts }) {
    const channels = toChannels(pcm, numChannels).slice(0, 2);
    const [current] = this.#resamplers;
    if (!current || current.inputRate !== rate || this.#resamplers.length !== channels.length) {
      this.#drainResamplers();
      this.#resamplers = channels.map(() => new Resampler(rate, sampleRate));
    }
    this.#buffer.push({
      channels: channels.map((samples, i) => this.#resamplers[i].process(samples)),
      pts,
    });
  }

  #end() {
    if (this.#buffer.state !== "idle") this.#drainResamplers();
    this.#buffer.end();
  }

  #flush() {
    for (const resampler of this.#resamplers) resampler.reset();
    this.#buffer.flush();
    this.#report(true);
  }

  /** Plays what the filters hold back, so that the end of an utterance is whole. */
  #drainResamplers() {
    if (this.#resamplers.length === 0) return;
    this.#buffer.push({ channels: this.#resamplers.map((r) => r.flush()), pts: null });
    this.#resamplers = [];
  }

  /** @param {boolean} flushed */
  #report(flushed) {
    const { state, pts, bufferedMs, targetMs, underruns, concealedMs, overflowMs } = this.#buffer;
    const level = this.#sinceReport ? Math.sqrt(this.#energy / this.#sinceReport) : 0;
    this.port.postMessage({
      state, flushed, pts, bufferedMs, targetMs, underruns, concealedMs, overflowMs, level,
    });
    this.#reportedState = state;
    this.#sinceReport = 0;
    this.#energy = 0;
  }
}

globalThis.registerProcessor?.("voicews-playback", PlaybackProcessor);
