/**
 * Replaces the timers and `performance.now` by a clock that the test moves.
 */

const REAL = {
  setTimeout: globalThis.setTimeout,
  clearTimeout: globalThis.clearTimeout,
  setInterval: globalThis.setInterval,
  clearInterval: globalThis.clearInterval,
};
const realPerformance = globalThis.performance;

/** @param {{ now: () => number }} value */
function setPerformance(value) {
  Object.defineProperty(globalThis, "performance", { value, configurable: true, writable: true });
}

/** Lets everything run that waits for promises only. */
export function settle() {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

export class FakeClock {
  now = 1_000_000;
  #nextId = 1;
  /** @type {Map<number, { at: number, every: number | null, run: () => void }>} */
  #timers = new Map();

  install() {
    const start = (/** @type {() => void} */ run, /** @type {number} */ ms, /** @type {boolean} */ repeat) => {
      const id = this.#nextId++;
      this.#timers.set(id, { at: this.now + (ms || 0), every: repeat ? ms : null, run });
      return id;
    };
    const stop = (/** @type {number} */ id) => this.#timers.delete(id);
    Object.assign(globalThis, {
      setTimeout: (/** @type {() => void} */ run, /** @type {number} */ ms) => start(run, ms, false),
      setInterval: (/** @type {() => void} */ run, /** @type {number} */ ms) => start(run, ms, true),
      clearTimeout: stop,
      clearInterval: stop,
    });
    setPerformance({ now: () => this.now });
    return this;
  }

  uninstall() {
    Object.assign(globalThis, REAL);
    setPerformance(realPerformance);
  }

  get pending() {
    return this.#timers.size;
  }

  /** @param {number} ms */
  async advance(ms) {
    const end = this.now + ms;
    for (;;) {
      await settle();
      const due = [...this.#timers].filter(([, timer]) => timer.at <= end);
      due.sort(([, a], [, b]) => a.at - b.at);
      if (due.length === 0) break;
      const [id, timer] = due[0];
      this.now = Math.max(this.now, timer.at);
      if (timer.every === null) this.#timers.delete(id);
      else timer.at += timer.every;
      timer.run();
    }
    this.now = end;
    await settle();
  }
}
