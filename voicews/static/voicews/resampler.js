/**
 * A streaming resampler for one channel: windowed-sinc polyphase filter with a constant latency.
 */

/** Zero crossings of the sinc on each side, counted at the lower of the two rates. */
const ZERO_CROSSINGS = 24;
/** Narrower filters are used at low rates, to keep the latency within this. */
const MAX_LATENCY_SECS = 0.002;
const KAISER_BETA = 7;
/** Centre of the transition band as a part of the lower Nyquist frequency; its width is about 0.18. */
const CUTOFF = 0.91;
/** Rates without a handy common divisor share this many filters; the error is below -70 dB. */
const MAX_PHASES = 1024;

/** @param {number} x */
function besselI0(x) {
  let term = 1;
  let sum = 1;
  for (let k = 1; term > sum * 1e-12; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

/**
 * @param {number} a
 * @param {number} b
 * @returns {number}
 */
function gcd(a, b) {
  return b === 0 ? a : gcd(b, a % b);
}

/**
 * @param {number} phases
 * @param {number} half filter half-length, input samples
 * @param {number} bandwidth cutoff as a part of the input's Nyquist frequency
 * @returns {Float32Array[]} one filter per phase, newest sample first, each with unit gain at 0 Hz
 */
function designFilters(phases, half, bandwidth) {
  const filters = [];
  for (let phase = 0; phase < phases; phase++) {
    const taps = new Float32Array(2 * half + 1);
    let sum = 0;
    for (let tap = 0; tap < taps.length; tap++) {
      const t = phase / phases + tap - half;
      if (Math.abs(t) > half) continue;
      const x = Math.PI * bandwidth * t;
      const sinc = x === 0 ? 1 : Math.sin(x) / x;
      taps[tap] = sinc * besselI0(KAISER_BETA * Math.sqrt(1 - (t / half) ** 2));
      sum += taps[tap];
    }
    for (let tap = 0; tap < taps.length; tap++) taps[tap] /= sum;
    filters.push(taps);
  }
  return filters;
}

/** Equal rates pass unchanged; otherwise every call returns all output that its input determines. */
export class Resampler {
  /** @type {Float32Array[]} */
  #filters = [];
  /** Length of the filters less one: as many past samples are kept. */
  #memory = 0;
  #half = 0;
  /** Input step per output sample, as a fraction #step / #unit of an input sample. */
  #step;
  #unit;
  /** Position of the next output sample after the start of the coming input, in 1 / #unit. */
  #position = 0;
  #history = new Float32Array(0);

  /**
   * @param {number} inputRate Hz
   * @param {number} outputRate Hz
   */
  constructor(inputRate, outputRate) {
    if (!Number.isInteger(inputRate) || !Number.isInteger(outputRate)
      || inputRate <= 0 || outputRate <= 0) {
      throw new RangeError(`expected positive rates in Hz, found ${inputRate} and ${outputRate}`);
    }
    this.inputRate = inputRate;
    this.outputRate = outputRate;
    const divisor = gcd(inputRate, outputRate);
    this.#step = inputRate / divisor;
    this.#unit = outputRate / divisor;
    if (inputRate !== outputRate) {
      const lowRate = Math.min(inputRate, outputRate);
      const zeros = Math.min(ZERO_CROSSINGS, Math.floor(lowRate * MAX_LATENCY_SECS));
      this.#half = Math.ceil((zeros * inputRate) / lowRate);
      this.#memory = 2 * this.#half;
      const phases = Math.min(this.#unit, MAX_PHASES);
      this.#filters = designFilters(phases, this.#half, (CUTOFF * lowRate) / inputRate);
    }
    this.reset();
  }

  /** How far the output lags behind the input, seconds. */
  get latencySecs() {
    return this.#half / this.inputRate;
  }

  /** Forgets the past, as if new. */
  reset() {
    this.#position = 0;
    this.#history = new Float32Array(this.#memory);
  }

  /**
   * @param {Float32Array} input
   * @returns {Float32Array} a new array
   */
  process(input) {
    if (this.#filters.length === 0) return input.slice();
    const memory = this.#memory;
    const work = new Float32Array(memory + input.length);
    work.set(this.#history);
    work.set(input, memory);

    const end = input.length * this.#unit;
    const count = Math.max(0, Math.ceil((end - this.#position) / this.#step));
    const output = new Float32Array(count);
    const phases = this.#filters.length;
    let position = this.#position;
    for (let i = 0; i < count; i++) {
      const whole = Math.floor(position / this.#unit);
      const phase = Math.floor(((position - whole * this.#unit) * phases) / this.#unit);
      const taps = this.#filters[phase];
      const newest = memory + whole;
      let sum = 0;
      for (let tap = 0; tap <= memory; tap++) sum += taps[tap] * work[newest - tap];
      output[i] = sum;
      position += this.#step;
    }
    this.#position = position - end;
    this.#history = work.slice(input.length);
    return output;
  }

  /**
   * Call at the end of a stream; the resampler is as new afterwards.
   * @returns {Float32Array} what the latency held back
   */
  flush() {
    const tail = this.process(new Float32Array(this.#half));
    this.reset();
    return tail;
  }
}
