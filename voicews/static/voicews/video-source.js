/**
 * A camera or a screen: its stream, and single pictures of it.
 */

import { ErrorCode, VoiceError } from "./errors.js";
import { insecureContext } from "./microphone-access.js";

/** @typedef {import("./image-sender.js").CapturedImage} CapturedImage */

/** @typedef {"camera" | "screen"} VideoKind */

/** @type {Record<string, [string, string]>} by the browser's name */
const CAMERA_FAILURES = {
  NotAllowedError: [ErrorCode.CAMERA_DENIED, "The camera may not be used. Please allow it for this page."],
  SecurityError: [ErrorCode.CAMERA_DENIED, "This site does not let its pages use the camera."],
  NotFoundError: [ErrorCode.CAMERA_MISSING, "There is no camera."],
  OverconstrainedError: [ErrorCode.CAMERA_MISSING, "The chosen camera is not connected."],
  NotReadableError: [ErrorCode.CAMERA_BUSY, "The camera is used by another program."],
};

/** @param {unknown} error as the browser gives it */
function cameraError(error) {
  const name = error instanceof Error || error instanceof DOMException ? error.name : "";
  const [code, message] = CAMERA_FAILURES[name] ?? [
    ErrorCode.CAMERA_FAILED, "The camera can't be opened.",
  ];
  return new VoiceError(code, message, { reason: String(error), cause: error });
}

/** @param {unknown} error as the browser gives it */
function screenError(error) {
  return new VoiceError(ErrorCode.SCREEN_FAILED, "The screen is not shared.", {
    reason: String(error), cause: error,
  });
}

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
   * @throws {VoiceError} why there is none
   */
  async open({ deviceId = "", width, height, framerate }) {
    this.close();
    const size = { width: { ideal: width }, height: { ideal: height } };
    const rate = { frameRate: { ideal: Math.max(framerate, 5) } };
    const device = deviceId ? { deviceId: { exact: deviceId } } : {};
    const devices = globalThis.navigator?.mediaDevices;
    if (!devices) throw insecureContext();
    try {
      this.stream = this.#kind === "camera"
        ? await devices.getUserMedia({ video: { ...size, ...rate, ...device } })
        : await devices.getDisplayMedia({ video: rate, audio: false });
    } catch (error) {
      throw this.#kind === "camera" ? cameraError(error) : screenError(error);
    }
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
