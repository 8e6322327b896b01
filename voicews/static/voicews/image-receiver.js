/**
 * Puts the pieces of the bot's pictures together.
 */

const MAX_PICTURE_BYTES = 16 * 1024 * 1024;

/**
 * @typedef {object} Picture
 * @property {string} destination one of the server's `video_out_destinations`; empty: the bot's own
 * @property {Blob} blob an image file
 * @property {number} width
 * @property {number} height
 * @property {string} format JPEG, PNG or WEBP
 */
/** @typedef {import("./frame-codec.js").ImageFrame} ImageFrame */

export class ImageReceiver {
  /** @type {Map<string, { id: number | bigint, total: number, length: number, pieces: Uint8Array[] }>} */
  #started = new Map();

  /**
   * @param {ImageFrame} frame
   * @returns {{ received: number, picture: Picture | null }} how many bytes of it have come, and the
   *   whole picture if that was the last piece; `received` is 0 for a piece that fits nowhere
   */
  add(frame) {
    const { name, image, offset } = frame;
    const total = frame.total || image.length;
    if (offset === 0) this.#started.set(name, { id: frame.id, total, length: 0, pieces: [] });
    const started = this.#started.get(name);
    const fits = started !== undefined && started.id === frame.id && started.length === offset
      && image.length > 0 && offset + image.length <= total && total <= MAX_PICTURE_BYTES;
    if (!fits) {
      this.#started.delete(name);
      return { received: 0, picture: null };
    }
    // Its bytes are a view of the message, which would otherwise be kept whole.
    started.pieces.push(image.slice());
    started.length += image.length;
    if (started.length < total) return { received: started.length, picture: null };
    this.#started.delete(name);
    const { width, height, format } = frame;
    const blob = new Blob(/** @type {BlobPart[]} */ (started.pieces), {
      type: `image/${format.toLowerCase()}`,
    });
    return { received: total, picture: { destination: name, blob, width, height, format } };
  }

  /** Another socket: what has come of a picture is of no use. */
  reset() {
    this.#started.clear();
  }
}
