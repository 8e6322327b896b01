/**
 * Sends the pictures of one source, camera or screen: as often and as large as the server asks for,
 * as the link allows, and one more when the server asks for one.
 */

import { ImageLink } from "./image-link.js";

const WORST_QUALITY = 20;
const SMALLEST_SHARE = 0.25;
/** Pictures per second that the quality is chosen for, on a thin link. */
const NARROW_FRAMERATE = 5;

/**
 * What the server asks for, as `bot-ready` has it.
 * @typedef {object} ImageSettings
 * @property {string[]} sources
 * @property {number} width
 * @property {number} height
 * @property {number} framerate pictures a second
 * @property {number} quality JPEG, 1 to 100
 * @property {number} max_bytes
 */
/**
 * @typedef {object} CapturedImage
 * @property {Uint8Array} image a JPEG file
 * @property {number} width
 * @property {number} height
 */
/** @typedef {import("./frame-codec.js").ImageFrame} ImageFrame */

/**
 * @typedef {object} ImageSenderOptions
 * @property {string} name "camera" or "screen"
 * @property {ImageSettings} settings
 * @property {(width: number, height: number, quality: number) => Promise<CapturedImage | null>} capture
 * @property {(frame: ImageFrame) => boolean} send false while there is no socket for it
 * @property {() => number} [now] milliseconds
 */

export class ImageSender {
  #options;
  #now;
  #link = new ImageLink();
  #quality;
  #share = 1;
  #isRunning = false;
  #isCapturing = false;
  #dueAt = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {number[]} ids of requests that wait for a picture */
  #requests = [];
  /** @type {Omit<ImageFrame, "image" | "offset">} */
  #current;
  /** Pictures that were sent. */
  sent = 0;

  /** @param {ImageSenderOptions} options */
  constructor(options) {
    this.#options = options;
    this.#quality = options.settings.quality;
    this.#now = options.now ?? (() => performance.now());
    this.#current = this.#header(0, 0, 0, 0);
  }

  start() {
    this.#isRunning = true;
    this.#pump();
  }

  stop() {
    this.#isRunning = false;
    clearTimeout(this.#timer);
  }

  /**
   * The server asks for one picture, whether they are sent regularly or not.
   * @param {number} id
   */
  request(id) {
    this.#requests.push(id);
    this.#pump();
  }

  /** Another socket. */
  reset() {
    this.#link.reset();
    this.#requests = [];
    if (this.#isRunning) this.#pump();
  }

  /**
   * @param {number} id
   * @param {number} numBytes
   */
  acknowledge(id, numBytes) {
    const piece = this.#link.acknowledge(id, numBytes, this.#now());
    if (piece) this.#sendPiece(piece);
    else if (!this.#link.isBusy(this.#now())) this.#pump();
  }

  #pump() {
    clearTimeout(this.#timer);
    const wanted = this.#isRunning || this.#requests.length > 0;
    if (!wanted || this.#isCapturing || this.#link.isBusy(this.#now())) return;
    const waitMs = this.#requests.length > 0 ? 0 : this.#dueAt - this.#now();
    if (waitMs > 0) {
      this.#timer = setTimeout(() => this.#pump(), waitMs);
    } else {
      this.#isCapturing = true;
      this.#captureAndSend().finally(() => {
        this.#isCapturing = false;
        this.#pump();
      });
    }
  }

  async #captureAndSend() {
    const { settings, capture } = this.#options;
    this.#dueAt = this.#now() + 1000 / settings.framerate;
    const width = Math.round(settings.width * this.#share);
    const height = Math.round(settings.height * this.#share);
    const captured = await capture(width, height, this.#quality);
    if (!captured || (!this.#isRunning && this.#requests.length === 0)) return;
    const { image } = captured;
    this.#fit(image.length);
    if (image.length > settings.max_bytes) return;
    const piece = this.#link.start(image, this.#now());
    const request = this.#requests.shift() ?? 0;
    this.#current = this.#header(captured.width, captured.height, image.length, request);
    this.sent += 1;
    this.#sendPiece(piece);
  }

  /** @param {number} numBytes of the last picture */
  #fit(numBytes) {
    const { settings } = this.#options;
    const framerate = Math.min(settings.framerate, NARROW_FRAMERATE);
    const linkBytes = ((this.#link.throughput ?? Infinity) * 1000) / framerate;
    const ratio = Math.min(linkBytes, settings.max_bytes) / numBytes;
    if (ratio < 1) {
      if (this.#quality > WORST_QUALITY) {
        this.#quality = Math.max(WORST_QUALITY, Math.floor(this.#quality * ratio ** 0.7));
      } else {
        this.#share = Math.max(SMALLEST_SHARE, this.#share * Math.max(Math.sqrt(ratio), 0.5));
      }
    } else if (ratio > 1.5) {
      if (this.#share < 1) this.#share = Math.min(1, this.#share * 1.2);
      else this.#quality = Math.min(settings.quality, this.#quality + 5);
    }
  }

  /**
   * @param {number} width
   * @param {number} height
   * @param {number} total
   * @param {number} request
   * @returns {Omit<ImageFrame, "image" | "offset">}
   */
  #header(width, height, total, request) {
    const { name } = this.#options;
    return { type: "image", id: this.#link.id, name, width, height, format: "JPEG", total, request };
  }

  /** @param {import("./image-link.js").Piece} piece */
  #sendPiece({ offset, bytes }) {
    if (!this.#options.send({ ...this.#current, image: bytes, offset })) this.#link.reset();
  }
}
