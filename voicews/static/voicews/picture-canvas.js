/**
 * Shows the bot's pictures on a canvas, which takes the size of each.
 */

export class PictureCanvas {
  #canvas;
  #newest = 0;

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.#canvas = canvas;
  }

  /**
   * @param {{ blob: Blob }} picture an image file
   * @returns {Promise<boolean>} false if it can't be decoded, or a newer one came meanwhile
   */
  async show(picture) {
    const number = ++this.#newest;
    let bitmap;
    try {
      bitmap = await createImageBitmap(picture.blob);
    } catch {
      return false;
    }
    if (number === this.#newest) {
      this.#canvas.width = bitmap.width;
      this.#canvas.height = bitmap.height;
      this.#canvas.getContext("2d")?.drawImage(bitmap, 0, 0);
    }
    bitmap.close();
    return number === this.#newest;
  }
}
