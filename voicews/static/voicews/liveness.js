/**
 * Pings the server once a second: measures the round trip, and notices a connection that died in silence.
 */

const INTERVAL_MS = 1000;
const LOST_MS = 5000;
/** How soon an answer must come when there is a reason for doubt. */
const CHECK_MS = 3000;

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
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #checkTimer;
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

  /** The network may have become another one: is anybody there still? */
  check() {
    if (this.#timer === undefined) return;
    clearTimeout(this.#checkTimer);
    const asked = performance.now();
    this.#lastTick = asked;
    this.#ping(asked);
    this.#checkTimer = setTimeout(() => {
      if (this.#lastPong < asked) this.#lose();
    }, CHECK_MS);
  }

  stop() {
    clearInterval(this.#timer);
    clearTimeout(this.#checkTimer);
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
    if (now - this.#lastPong >= LOST_MS) this.#lose();
    else this.#ping(now);
  }

  /** @param {number} now */
  #ping(now) {
    this.#count += 1;
    const id = String(this.#count);
    this.#sent.set(id, now);
    this.#handlers.onPing(id);
  }

  #lose() {
    this.stop();
    this.#handlers.onLost();
  }
}
