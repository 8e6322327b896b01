/**
 * Microphone audio that waits for a socket: bounded, and when it is full the oldest goes.
 */

/** The queue and the socket's own buffer hold at most this much together, in halves. */
const MAX_WAITING_MS = 500;

/**
 * @typedef {object} Outlet
 * @property {number} bufferedAmount bytes that the socket has not sent yet
 * @property {(pcm: Uint8Array) => void} send
 */

export class MicQueue {
  /** Audio that was never sent, milliseconds. */
  droppedMs = 0;
  /** The same in bytes of PCM. */
  droppedBytes = 0;
  /** @type {Uint8Array[]} */
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
   * @param {Outlet | null} outlet null while there is no socket that is ready
   */
  push(pcm, outlet) {
    this.#frames.push(pcm);
    this.#bytes += pcm.length;
    this.drain(outlet);
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

  /** Forgets what waits, without counting it as lost. */
  clear() {
    this.#frames = [];
    this.#bytes = 0;
  }

  #drop() {
    const { length } = this.#shift();
    this.droppedBytes += length;
    this.droppedMs += length / this.#bytesPerMs;
  }

  #shift() {
    const frame = /** @type {Uint8Array} */ (this.#frames.shift());
    this.#bytes -= frame.length;
    return frame;
  }
}
