/**
 * Decides whether a lost connection is tried again, and when.
 */

import { mayReconnectAfter } from "./close-codes.js";

/**
 * @typedef {object} ReconnectOptions
 * @property {readonly number[]} [delaysMs] one entry per try; none means never
 * @property {number} [jitter] each delay varies by up to this part of it, 0 to 1
 */

/** Tries start from the beginning only after a connection that was good for this long. */
const USEFUL_MS = 3000;

/** Counts the tries of one call. */
export class ReconnectPolicy {
  #delaysMs;
  #jitter;
  #tries = 0;
  #readySince = Infinity;

  /** @param {ReconnectOptions} [options] */
  constructor({ delaysMs = [1000, 4000], jitter = 0.2 } = {}) {
    this.#delaysMs = delaysMs;
    this.#jitter = jitter;
  }

  /** Tries so far since the connection was last good. */
  get tries() {
    return this.#tries;
  }

  /** @param {number} nowMs */
  ready(nowMs) {
    this.#readySince = nowMs;
  }

  /**
   * @param {number} closeCode
   * @param {number} nowMs
   * @returns {number | null} milliseconds until the next try, null to give up
   */
  next(closeCode, nowMs) {
    // A server that accepts, answers and closes again must not be asked for ever.
    if (nowMs - this.#readySince >= USEFUL_MS) this.#tries = 0;
    this.#readySince = Infinity;
    if (!mayReconnectAfter(closeCode) || this.#tries >= this.#delaysMs.length) return null;
    const delay = this.#delaysMs[this.#tries];
    this.#tries += 1;
    return delay * (1 + this.#jitter * (2 * Math.random() - 1));
  }
}
