/**
 * Microphone audio that waits for a socket: bounded, and when it is full the oldest goes.
 */

/** The queue and the socket's own buffer hold at most this much together, in halves. */
const MAX_WAITING_MS = 500;
/** Quieter than this is nobody's voice: -50 dBFS, as for the server's voice activity detection. */
const SILENCE_LEVEL = 10 ** (-50 / 20);
/** So much silence is kept before what was said: voices begin softly. */
const ONSET_MS = 60;

/**
 * @typedef {object} Outlet
 * @property {number} bufferedAmount bytes that the socket has not sent yet
 * @property {(pcm: Uint8Array) => void} send
 */

export class MicQueue {
  /** Audio that was never sent, milliseconds; silence before the first word does not count. */
  droppedMs = 0;
  /** The same in bytes of PCM. */
  droppedBytes = 0;
  /** @type {{ pcm: Uint8Array, isSilent: boolean }[]} */
  #frames = [];
  #bytes = 0;
  #bytesPerMs;

  /** @param {number} sampleRate Hz, of 16-bit mono PCM */
  constructor(sampleRate) {
    this.#bytesPerMs = (2 * sampleRate) / 1000;
  }

  get waitingMs() {
    return this.#bytes / this.#bytesPerMs;
  }

  /**
   * @param {Uint8Array} pcm
   * @param {number} level RMS, 0 to 1
   * @param {Outlet | null} outlet null while there is no socket that is ready
   */
  push(pcm, level, outlet) {
    this.#frames.push({ pcm, isSilent: level < SILENCE_LEVEL });
    this.#bytes += pcm.length;
    this.drain(outlet);
    if (!outlet) this.#forgetSilence();
    const limit = outlet ? MAX_WAITING_MS / 2 : MAX_WAITING_MS;
    while (this.waitingMs > limit) this.#drop();
  }

  /**
   * A socket tells nobody when its buffer empties, so this is called again with each frame.
   * @param {Outlet | null} outlet
   */
  drain(outlet) {
    if (!outlet) return;
    const limit = (MAX_WAITING_MS / 2) * this.#bytesPerMs;
    while (this.#frames.length > 0 && outlet.bufferedAmount < limit) {
      outlet.send(this.#shift());
    }
  }

  /**
   * What waits is sent in a burst, and a bot that passes on what it hears stays late by that for the
   * whole call: so nothing waits but what somebody said.
   */
  #forgetSilence() {
    const spoken = this.#frames.findIndex(({ isSilent }) => !isSilent);
    const silent = this.#frames.slice(0, spoken < 0 ? undefined : spoken);
    let silence = silent.reduce((bytes, { pcm }) => bytes + pcm.length, 0);
    while (silence > ONSET_MS * this.#bytesPerMs) silence -= this.#shift().length;
  }

  #drop() {
    const { length } = this.#shift();
    this.droppedBytes += length;
    this.droppedMs += length / this.#bytesPerMs;
  }

  #shift() {
    const { pcm } = /** @type {{ pcm: Uint8Array }} */ (this.#frames.shift());
    this.#bytes -= pcm.length;
    return pcm;
  }
}
