/**
 * The audio thread's end of the microphone: mono, resampled, cut into frames of 16-bit PCM.
 *
 * Options: {sampleRate, frameMs}. From the page: {type: "mute"}, {type: "unmute"}, {type: "close"}.
 * To the page: `CapturedFrame`.
 */

import { toInt16 } from "./pcm.js";
import { Resampler } from "./resampler.js";

/**
 * Where this file is, whatever it is called: pages import it for that. What renames static files
 * follows imports, and not `new URL`.
 */
export const url = import.meta.url;

/** A page has none, and makes no processor. */
const Processor = /** @type {typeof AudioWorkletProcessor} */ (globalThis.AudioWorkletProcessor ?? Object);

/**
 * After muting, this much silence is still sent and then nothing more: a server that waits for the
 * end of a sentence must hear one.
 */
const MUTE_TAIL_MS = 1000;

/**
 * @typedef {object} CapturedFrame
 * @property {ArrayBuffer} pcm 16-bit little-endian, mono
 * @property {number} level RMS, 0 to 1
 */

class CaptureProcessor extends Processor {
  #resampler;
  #view;
  #frameSamples;
  #frameMs;
  /** Samples of the current frame that are written. */
  #filled = 0;
  #energy = 0;
  #muted = false;
  #tailFrames = 0;
  #closed = false;

  /** @param {{ processorOptions: { sampleRate: number, frameMs: number } }} options */
  constructor(options) {
    super();
    const { sampleRate: rate, frameMs } = options.processorOptions;
    this.#resampler = new Resampler(sampleRate, rate);
    this.#frameMs = frameMs;
    this.#frameSamples = Math.round((rate * frameMs) / 1000);
    this.#view = new DataView(new ArrayBuffer(2 * this.#frameSamples));
    this.port.onmessage = ({ data }) => this.#onMessage(data);
  }

  /** @param {Float32Array[][]} inputs */
  process(inputs) {
    if (this.#closed) return false;
    if (this.#muted && this.#tailFrames === 0) return true;
    const samples = this.#resampler.process(this.#mix(inputs[0]));
    for (const sample of samples) {
      this.#view.setInt16(2 * this.#filled, toInt16(sample), true);
      this.#filled += 1;
      this.#energy += sample * sample;
      if (this.#filled === this.#frameSamples) this.#finishFrame();
    }
    return true;
  }

  /** @param {{ type: string }} message */
  #onMessage({ type }) {
    if (type === "mute") {
      this.#muted = true;
      this.#tailFrames = Math.round(MUTE_TAIL_MS / this.#frameMs);
    } else if (type === "unmute") {
      this.#muted = false;
    } else if (type === "close") {
      this.#closed = true;
    }
  }

  /**
   * @param {Float32Array[]} channels none while no source is connected
   * @returns {Float32Array}
   */
  #mix(channels) {
    if (this.#muted || channels.length === 0) return new Float32Array(128);
    if (channels.length === 1) return channels[0];
    return channels[0].map((_, i) => {
      let sum = 0;
      for (const samples of channels) sum += samples[i];
      return sum / channels.length;
    });
  }

  #finishFrame() {
    const { buffer } = this.#view;
    const level = Math.sqrt(this.#energy / this.#frameSamples);
    this.port.postMessage({ pcm: buffer, level }, [buffer]);
    this.#view = new DataView(new ArrayBuffer(2 * this.#frameSamples));
    this.#filled = 0;
    this.#energy = 0;
    if (this.#muted) this.#tailFrames -= 1;
  }
}

globalThis.registerProcessor?.("voicews-capture", CaptureProcessor);
