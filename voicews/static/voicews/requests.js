/**
 * Matches the answers of the bot to the requests of the page.
 */

import { ErrorCode, VoiceError } from "./errors.js";

/**
 * @typedef {object} Pending
 * @property {(data: unknown) => void} resolve
 * @property {(error: VoiceError) => void} reject
 * @property {ReturnType<typeof setTimeout>} timer
 */

/** Every request ends exactly once: with an answer, a refusal, a timeout, or the connection. */
export class Requests {
  /** @type {Map<string, Pending>} */
  #pending = new Map();

  /**
   * @param {string} id
   * @param {number} timeoutMs
   * @returns {Promise<unknown>}
   */
  add(id, timeoutMs) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(id);
        const message = `The bot did not answer within ${timeoutMs / 1000} s.`;
        reject(new VoiceError(ErrorCode.REQUEST_TIMEOUT, message));
      }, timeoutMs);
      this.#pending.set(id, { resolve, reject, timer });
    });
  }

  /**
   * @param {string | undefined} id
   * @param {unknown} data
   * @returns {boolean} whether this was waited for
   */
  resolve(id, data) {
    const pending = this.#take(id);
    pending?.resolve(data);
    return pending !== undefined;
  }

  /**
   * @param {string | undefined} id
   * @param {VoiceError} error
   * @returns {boolean} whether this was waited for
   */
  reject(id, error) {
    const pending = this.#take(id);
    pending?.reject(error);
    return pending !== undefined;
  }

  /** @param {VoiceError} error */
  rejectAll(error) {
    for (const id of [...this.#pending.keys()]) this.reject(id, error);
  }

  /** @param {string | undefined} id */
  #take(id) {
    if (id === undefined) return undefined;
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    clearTimeout(pending?.timer);
    return pending;
  }
}
