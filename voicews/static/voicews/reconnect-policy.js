/**
 * Decides whether a lost connection is tried again, and when.
 */

import { mayReconnectAfter } from "./close-codes.js";

/**
 * @typedef {object} ReconnectOptions
 * @property {readonly number[]} [delaysMs] a round of one try for each entry; none means never. Default:
 *   two rounds over the time that the server keeps the call, or 1 s and 4 s if it tells none
 * @property {number} [jitter] each delay varies by up to this part of it, 0 to 1
 */

/**
 * @typedef {object} ReconnectTry
 * @property {number} delayMs from now
 * @property {number} round counts from 1
 * @property {boolean} isNewRound
 */

/** Rounds start from the beginning only after a connection that was good for this long. */
const USEFUL_MS = 3000;
/** For servers that don't say how long they keep a call. */
const BLIND_DELAYS_MS = [1000, 4000];
/** The first round is for a short fault: it lasts for this part of the grace. */
const FIRST_ROUND_PART = 0.25;
const FIRST_ROUND_DELAY_MS = 1000;
/** The second round is for a server that restarts, or that waits for a dead process's lease. */
const SECOND_ROUND_DELAY_MS = 2500;
/** No try starts later than this before the grace ends: it could not be answered in time. */
const LAST_TRY_MS = 500;

/** Counts the rounds of one call. */
export class ReconnectPolicy {
  #delaysMs;
  #jitter;
  /** @type {number | null} */
  #graceMs = null;
  #round = 0;
  #readySince = Infinity;
  #lostAt = 0;

  /** @param {ReconnectOptions} [options] */
  constructor({ delaysMs, jitter = 0.2 } = {}) {
    this.#delaysMs = delaysMs;
    this.#jitter = jitter;
  }

  /** Rounds so far since the connection was last good. */
  get rounds() {
    return this.#round;
  }

  /**
   * @param {number} nowMs
   * @param {number | null} graceMs how long the server keeps a call without a client; null if unknown
   */
  ready(nowMs, graceMs) {
    this.#readySince = nowMs;
    this.#graceMs = graceMs;
  }

  /**
   * @param {number} closeCode
   * @param {number} nowMs
   * @returns {ReconnectTry | null} null to give up
   */
  next(closeCode, nowMs) {
    // A server that accepts, answers and closes again must not be asked for ever.
    if (nowMs - this.#readySince >= USEFUL_MS) this.#round = 0;
    this.#readySince = Infinity;
    if (this.#round === 0) this.#lostAt = nowMs;
    if (!mayReconnectAfter(closeCode)) return null;
    const before = this.#round;
    const delayMs = this.#delaysMs === undefined && this.#graceMs !== null
      ? this.#nextInGrace(this.#graceMs, nowMs - this.#lostAt)
      : this.#nextInList(this.#delaysMs ?? BLIND_DELAYS_MS);
    if (delayMs === null) return null;
    return { delayMs, round: this.#round, isNewRound: this.#round !== before };
  }

  /** @param {readonly number[]} delaysMs */
  #nextInList(delaysMs) {
    if (this.#round >= delaysMs.length) return null;
    this.#round += 1;
    return this.#vary(delaysMs[this.#round - 1]);
  }

  /**
   * @param {number} graceMs
   * @param {number} elapsedMs
   */
  #nextInGrace(graceMs, elapsedMs) {
    const leftMs = graceMs - LAST_TRY_MS - elapsedMs;
    if (leftMs <= 0) return null;
    this.#round = elapsedMs < graceMs * FIRST_ROUND_PART ? 1 : 2;
    const delayMs = this.#round === 1 ? FIRST_ROUND_DELAY_MS : SECOND_ROUND_DELAY_MS;
    return Math.min(leftMs, this.#vary(delayMs));
  }

  /** @param {number} delayMs */
  #vary(delayMs) {
    return delayMs * (1 + this.#jitter * (2 * Math.random() - 1));
  }
}
