/**
 * A camera or a screen: its stream, and single pictures of it.
 */

/** @typedef {import("./image-sender.js").CapturedImage} CapturedImage */

/** @typedef {"camera" | "screen"} VideoKind */

export class VideoSource {
  /** @type {MediaStream | null} */
  stream = null;
  #kind;
  #video = document.createElement("video");
  #canvas = document.createElement("canvas");
  #onEnded;

  /**
   * @param {VideoKind} kind
   * @param {() => void} onEnded the device is gone, or the user has stopped sharing
   */
  constructor(kind, onEnded) {
    this.#kind = kind;
    this.#onEnded = onEnded;
    this.#video.muted = true;
    this.#video.playsInline = true;
  }

  /** @returns {MediaStreamTrack | null} */
  get track() {
    return this.stream?.getVideoTracks()[0] ?? null;
  }

  /**
   * @param {{ deviceId?: string, width: number, height: number, framerate: number }} options
   * @throws {DOMException} as `getUserMedia` and `getDisplayMedia` do
   */
  async open({ deviceId = "", width, height, framerate }) {
    this.close();
    const size = { width: { ideal: width }, height: { ideal: height } };
    const rate = { frameRate: { ideal: Math.max(framerate, 5) } };
    const devices = navigator.mediaDevices;
    const device = deviceId ? { deviceId: { exact: deviceId } } : {};
    this.stream = this.#kind === "camera"
      ? await devices.getUserMedia({ video: { ...size, ...rate, ...device } })
      : await devices.getDisplayMedia({ video: rate, audio: false });
    this.track?.addEventListener("ended", this.#ended);
    this.#video.srcObject = this.stream;
    await this.#video.play();
  }

  /**
   * A picture that fits into `width` and `height`.
   * @param {number} width
   * @param {number} height
   * @param {number} quality 1 to 100
   * @returns {Promise<CapturedImage | null>} null while there is none
   */
  async capture(width, height, quality) {
    const { videoWidth, videoHeight } = this.#video;
    if (!this.stream || videoWidth === 0) return null;
    const share = Math.min(width / videoWidth, height / videoHeight, 1);
    const canvas = this.#canvas;
    canvas.width = Math.max(1, Math.round(videoWidth * share));
    canvas.height = Math.max(1, Math.round(videoHeight * share));
    const context = canvas.getContext("2d", { alpha: false });
    context?.drawImage(this.#video, 0, 0, canvas.width, canvas.height);
    /** @type {Blob | null} */
    const blob = await new Promise((resolve) => {
      canvas.toBlob(resolve, "image/jpeg", quality / 100);
    });
    if (blob === null) return null;
    const image = new Uint8Array(await blob.arrayBuffer());
    return { image, width: canvas.width, height: canvas.height };
  }

  close() {
    for (const track of this.stream?.getTracks() ?? []) {
      track.removeEventListener("ended", this.#ended);
      track.stop();
    }
    this.stream = null;
    this.#video.srcObject = null;
  }

  #ended = () => {
    this.#onEnded();
    this.close();
  };
}
