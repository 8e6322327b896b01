/**
 * Sends pictures over a socket that also carries audio, without making the audio late. The server
 * has the same rules in `voicews/video/link.py`.
 */

/** Bytes in flight at first and at least: so small that their way is the round trip. */
const MIN_WINDOW = 1024;
const MAX_WINDOW = 64 * 1024;
/** A piece that takes so much longer than the shortest round trip was too big. */
const TARGET_MS = 100;
/** A piece that is not acknowledged for so long is lost, and its picture with it. */
const LOST_MS = 10_000;
/** The weight of the newest picture in the throughput. */
const NEWEST_SHARE = 0.3;

/**
 * @typedef {object} Piece
 * @property {number} offset where it begins in the picture, in bytes
 * @property {Uint8Array} bytes
 */

/** One picture at a time, in pieces, each sent when the one before was acknowledged. */
export class ImageLink {
  #window = MIN_WINDOW;
  #roundTripMs = Infinity;
  /** @type {Uint8Array | null} */
  #picture = null;
  #offset = 0;
  #inFlight = 0;
  #sentAt = 0;
  #beganAt = 0;
  /** The number of the newest picture, from 1. */
  id = 0;
  /**
   * Bytes per millisecond of the last pictures; null: not known yet.
   * @type {number | null}
   */
  throughput = null;

  /** Whether a picture is on its way; one that is lost is given up. */
  isBusy(/** @type {number} */ now) {
    if (this.#picture && now - this.#sentAt >= LOST_MS) this.#picture = null;
    return this.#picture !== null;
  }

  /**
   * @param {Uint8Array} picture
   * @param {number} now milliseconds
   * @returns {Piece} the first one
   */
  start(picture, now) {
    this.id += 1;
    this.#picture = picture;
    this.#offset = 0;
    this.#beganAt = now;
    return this.#nextPiece(picture, now);
  }

  /**
   * The server has `numBytes` of a picture.
   * @param {number} id
   * @param {number} numBytes
   * @param {number} now milliseconds
   * @returns {Piece | null} the next one, if there is one to send
   */
  acknowledge(id, numBytes, now) {
    const picture = this.#picture;
    if (picture === null || id !== this.id || numBytes !== this.#offset) return null;
    const tookMs = now - this.#sentAt;
    this.#roundTripMs = Math.min(this.#roundTripMs, tookMs);
    const waitedMs = tookMs - this.#roundTripMs;
    if (waitedMs > TARGET_MS) {
      const fitting = Math.floor((this.#inFlight * TARGET_MS) / waitedMs);
      this.#window = Math.max(fitting, Math.floor(this.#window / 4), MIN_WINDOW);
    } else if (this.#inFlight === this.#window && waitedMs < TARGET_MS / 4) {
      this.#window = Math.min(Math.floor(this.#window * 1.5), MAX_WINDOW);
    }
    if (this.#offset < picture.length) return this.#nextPiece(picture, now);
    const measured = picture.length / Math.max(now - this.#beganAt, 1);
    const before = this.throughput ?? measured;
    this.throughput = before + (measured - before) * NEWEST_SHARE;
    this.#picture = null;
    return null;
  }

  /** Another socket: what was on its way is lost. */
  reset() {
    this.#picture = null;
    this.#window = MIN_WINDOW;
    this.#roundTripMs = Infinity;
    this.throughput = null;
  }

  /**
   * @param {Uint8Array} picture
   * @param {number} now
   * @returns {Piece}
   */
  #nextPiece(picture, now) {
    const offset = this.#offset;
    const bytes = picture.subarray(offset, offset + this.#window);
    this.#offset += bytes.length;
    this.#inFlight = bytes.length;
    this.#sentAt = now;
    return { offset, bytes };
  }
}
