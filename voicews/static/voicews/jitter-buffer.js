/**
 * Decides what is heard when: holds decoded audio until there is enough of it, plays it, and bridges gaps.
 *
 * It counts time in samples at the output rate and nothing else, so it can be tested without a clock.
 */

/** Audio that waits before playing starts; grows after under-runs, shrinks again in calm times. */
const MIN_TARGET_MS = 60;
const MAX_TARGET_MS = 200;
const TARGET_STEP_MS = 20;
const CALM_MS = 10_000;
/** Bounds the memory of a server that sends much faster than real time. */
const MAX_BUFFERED_MS = 60_000;
const FADE_MS = 5;
/**
 * With a server that never says when an utterance ends, audio that goes on within this time after
 * running dry was late, and later audio is a new utterance.
 */
const UNDERRUN_WINDOW_MS = 1000;

/**
 * @typedef {object} Chunk
 * @property {Float32Array[]} channels all of one length
 * @property {number | null} pts media time of the first sample, nanoseconds
 */

/** @typedef {"idle" | "buffering" | "playing"} PlaybackState */

/**
 * What the playback worklet tells the page, at every change and twenty times a second.
 * @typedef {object} PlaybackReport
 * @property {PlaybackState} state
 * @property {boolean} flushed whether this report answers a flush
 * @property {number | null} pts media time that has left the buffer, nanoseconds
 * @property {number} bufferedMs
 * @property {number} targetMs
 * @property {number} underruns
 * @property {number} concealedMs
 * @property {number} overflowMs
 * @property {number} level RMS since the last report, 0 to 1
 */

/** Audio on its way to the ear; every time is of media, counted in samples. */
export class JitterBuffer {
  underruns = 0;
  /** Silence put in where late audio should have been, milliseconds. */
  concealedMs = 0;
  /** Audio that did not fit, milliseconds. */
  overflowMs = 0;
  /**
   * Media time just after the last sample that was played, nanoseconds.
   * @type {number | null}
   */
  pts = null;

  /** @type {PlaybackState} */
  #state = "idle";
  #samplesPerMs;
  /** @type {Chunk[]} */
  #chunks = [];
  /** Samples of the first chunk that were played already. */
  #offset = 0;
  #buffered = 0;
  #targetMs = MIN_TARGET_MS;
  #calm = 0;
  /** Samples since the first chunk began to wait. */
  #waited = 0;
  /** Samples of silence since the buffer ran dry; Infinity when the utterance was complete. */
  #dry = Infinity;
  #late = false;
  #ended = false;
  /** Whether the server says when utterances end. */
  #endsAreMarked = false;
  #fadeIn = 0;
  #fadeOut = 0;
  /** Where the bridging fade starts from: the last sample of each channel. */
  #last = [0, 0];

  /** @param {number} sampleRate Hz, of everything that is pushed and pulled */
  constructor(sampleRate) {
    this.sampleRate = sampleRate;
    this.#samplesPerMs = sampleRate / 1000;
  }

  get state() {
    return this.#state;
  }

  get bufferedMs() {
    return this.#buffered / this.#samplesPerMs;
  }

  get targetMs() {
    return this.#targetMs;
  }

  /** @param {Chunk} chunk */
  push(chunk) {
    const length = chunk.channels[0].length;
    if (length === 0) return;
    if ((this.#buffered + length) / this.#samplesPerMs > MAX_BUFFERED_MS) {
      this.overflowMs += length / this.#samplesPerMs;
      return;
    }
    if (this.#state === "idle") this.#startBuffering();
    this.#ended = false;
    this.#chunks.push(chunk);
    this.#buffered += length;
  }

  /** The utterance is complete: what is there gets played, and running dry afterwards is no fault. */
  end() {
    this.#ended = true;
    this.#endsAreMarked = true;
    if (this.#state === "idle") this.#dry = Infinity;
  }

  /** Fades out within a few milliseconds and forgets everything else that was pushed so far. */
  flush() {
    const length = Math.min(Math.round(FADE_MS * this.#samplesPerMs), this.#buffered);
    /** @type {Chunk | null} */
    let tail = null;
    if (this.#state === "playing" && length > 0) {
      const pts = this.#headPts();
      const channels = [new Float32Array(length), new Float32Array(length)];
      this.#take(channels, 0, length);
      for (const samples of channels) {
        for (let i = 0; i < length; i++) samples[i] *= 1 - (i + 1) / length;
      }
      tail = { channels, pts };
    }
    this.#chunks = tail ? [tail] : [];
    this.#offset = 0;
    this.#buffered = tail ? length : 0;
    this.#ended = true;
    this.#late = false;
    if (!tail && this.#state === "playing") this.#runDry();
    if (!tail) this.#state = "idle";
    this.#dry = Infinity;
  }

  /**
   * Fills both channels with what is to be heard now.
   * @param {Float32Array} left
   * @param {Float32Array} right of the same length
   */
  pull(left, right) {
    left.fill(0);
    right.fill(0);
    const length = left.length;
    if (this.#state === "buffering") this.#wait(length);
    let played = 0;
    if (this.#state === "playing") {
      played = Math.min(length, this.#buffered);
      this.#take([left, right], 0, played);
      this.#applyFadeIn(left, right, played);
      if (played > 0) this.#last = [left[played - 1], right[played - 1]];
      this.#relax(played);
      if (played < length) this.#runDry();
    }
    if (played < length) this.#silence(left, right, played);
  }

  #startBuffering() {
    this.#state = "buffering";
    this.#waited = 0;
    const window = this.#endsAreMarked ? Infinity : UNDERRUN_WINDOW_MS;
    this.#late = this.#dry / this.#samplesPerMs < window;
    if (this.#late) {
      this.underruns += 1;
      this.#calm = 0;
      this.#targetMs = Math.min(MAX_TARGET_MS, this.#targetMs + TARGET_STEP_MS);
      this.#fadeIn = Math.round(FADE_MS * this.#samplesPerMs);
    }
  }

  /**
   * Starts playing when enough is there, or when it has waited as long as that would have taken:
   * an utterance may be shorter than the target.
   * @param {number} length
   */
  #wait(length) {
    const target = this.#targetMs * this.#samplesPerMs;
    if (this.#buffered >= target || this.#waited >= target || this.#ended) {
      this.#state = "playing";
      if (this.#late) this.concealedMs += this.#dry / this.#samplesPerMs;
      this.#late = false;
    }
    this.#waited += length;
  }

  /** @param {number} played */
  #relax(played) {
    this.#calm += played;
    if (this.#calm / this.#samplesPerMs >= CALM_MS) {
      this.#calm = 0;
      this.#targetMs = Math.max(MIN_TARGET_MS, this.#targetMs - TARGET_STEP_MS);
    }
  }

  #runDry() {
    this.#state = "idle";
    this.#dry = this.#ended ? Infinity : 0;
    this.#fadeOut = Math.round(FADE_MS * this.#samplesPerMs);
  }

  /**
   * Lets the last sample die away, instead of a step to zero that would be heard as a click.
   * @param {Float32Array} left
   * @param {Float32Array} right
   * @param {number} from
   */
  #silence(left, right, from) {
    const fade = Math.round(FADE_MS * this.#samplesPerMs);
    for (let i = from; i < left.length && this.#fadeOut > 0; i++) {
      this.#fadeOut -= 1;
      left[i] = (this.#last[0] * this.#fadeOut) / fade;
      right[i] = (this.#last[1] * this.#fadeOut) / fade;
    }
    this.#dry += left.length - from;
  }

  /**
   * @param {Float32Array} left
   * @param {Float32Array} right
   * @param {number} length
   */
  #applyFadeIn(left, right, length) {
    const fade = Math.round(FADE_MS * this.#samplesPerMs);
    for (let i = 0; i < length && this.#fadeIn > 0; i++) {
      const gain = 1 - this.#fadeIn / fade;
      left[i] *= gain;
      right[i] *= gain;
      this.#fadeIn -= 1;
    }
  }

  /** @returns {number | null} media time of the next sample */
  #headPts() {
    const head = this.#chunks[0];
    if (!head || head.pts === null) return null;
    return head.pts + (this.#offset / this.sampleRate) * 1e9;
  }

  /**
   * Moves samples out of the queue; mono is copied to both channels.
   * @param {Float32Array[]} outputs two arrays
   * @param {number} at
   * @param {number} length at most what is buffered
   */
  #take(outputs, at, length) {
    let rest = length;
    while (rest > 0) {
      const { channels } = this.#chunks[0];
      const count = Math.min(rest, channels[0].length - this.#offset);
      for (let channel = 0; channel < outputs.length; channel++) {
        const samples = channels[Math.min(channel, channels.length - 1)];
        outputs[channel].set(samples.subarray(this.#offset, this.#offset + count), at);
      }
      at += count;
      rest -= count;
      this.#offset += count;
      this.#buffered -= count;
      this.pts = this.#headPts() ?? this.pts;
      if (this.#offset === channels[0].length) {
        this.#chunks.shift();
        this.#offset = 0;
      }
    }
  }
}
