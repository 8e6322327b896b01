/**
 * Pings the server once a second: measures the round trip, and notices a connection that died in silence.
 */

const INTERVAL_MS = 1000;
const LOST_MS = 5000;

/**
 * @typedef {object} LivenessHandlers
 * @property {(id: string) => void} onPing sends one
 * @property {() => void} onLost
 */

/** Runs from `start` to `stop`; `onLost` is called at most once in between. */
export class Liveness {
  /** @type {number | null} */
  rttMs = null;
  #handlers;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;
  #count = 0;
  /** @type {Map<string, number>} when each unanswered ping was sent */
  #sent = new Map();
  #lastTick = 0;
  #lastPong = 0;

  /** @param {LivenessHandlers} handlers */
  constructor(handlers) {
    this.#handlers = handlers;
  }

  start() {
    this.stop();
    this.#lastTick = this.#lastPong = performance.now();
    this.#timer = setInterval(() => this.#tick(), INTERVAL_MS);
    this.#tick();
  }

  stop() {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#sent.clear();
  }

  /** @param {string} id */
  pong(id) {
    const sent = this.#sent.get(id);
    if (sent === undefined) return;
    this.#lastPong = performance.now();
    this.rttMs = this.#lastPong - sent;
    this.#sent.delete(id);
  }

  #tick() {
    const now = performance.now();
    // A page that slept (lid closed, tab frozen) has not heard the pongs yet that wait for it.
    if (now - this.#lastTick > LOST_MS / 2) this.#lastPong = now;
    this.#lastTick = now;
    if (now - this.#lastPong >= LOST_MS) {
      this.stop();
      this.#handlers.onLost();
      return;
    }
    this.#count += 1;
    const id = String(this.#count);
    this.#sent.set(id, now);
    this.#handlers.onPing(id);
  }
}
