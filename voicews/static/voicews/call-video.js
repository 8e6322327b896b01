/**
 * The pictures of one call: the user's camera and screen to the bot, the bot's pictures to the page.
 */

import { ImageReceiver } from "./image-receiver.js";
import { ImageSender } from "./image-sender.js";
import { VideoSource } from "./video-source.js";
import { VOICEWS_LABEL } from "./messages.js";

/** @import { ImageFrame } from "./frame-codec.js" */
/** @import { Message } from "./messages.js" */
/** @import { Picture } from "./image-receiver.js" */
/** @import { ImageSettings } from "./image-sender.js" */
/** @import { VideoKind } from "./video-source.js" */

/** What a server asks for that doesn't say. */
const DEFAULTS = { width: 640, height: 480, framerate: 1, quality: 75, max_bytes: 1024 * 1024 };

/**
 * The socket of the call.
 * @typedef {object} VideoOutlet
 * @property {(frame: ImageFrame) => boolean} sendFrame false while there is no socket for it
 * @property {(message: Message) => void} sendMessage
 */
/**
 * @typedef {object} CallVideoOptions
 * @property {(picture: Picture) => void} onPicture
 * @property {(kind: VideoKind, track: MediaStreamTrack) => void} onTrackStarted
 * @property {(kind: VideoKind, track: MediaStreamTrack) => void} onTrackStopped
 */

export class CallVideo {
  #options;
  #receiver = new ImageReceiver();
  /** @type {Map<VideoKind, VideoSource>} */
  #sources = new Map();
  /** @type {Map<VideoKind, ImageSender>} */
  #senders = new Map();
  /** @type {VideoOutlet | null} while the bot is there */
  #outlet = null;
  /** @type {ImageSettings | null} what the bot wants; null: no pictures */
  #wanted = null;
  #cameraId = "";

  /** @param {CallVideoOptions} options */
  constructor(options) {
    this.#options = options;
  }

  /**
   * @param {VideoKind} kind
   * @returns {MediaStreamTrack | null}
   */
  track(kind) {
    return this.#sources.get(kind)?.track ?? null;
  }

  /**
   * The bot has answered, and says which pictures it wants.
   * @param {Partial<ImageSettings> | null | undefined} wanted
   * @param {VideoOutlet} outlet
   */
  ready(wanted, outlet) {
    this.pause();
    this.#outlet = outlet;
    this.#wanted = wanted ? { sources: ["camera", "screen"], ...DEFAULTS, ...wanted } : null;
    for (const kind of this.#sources.keys()) this.#send(kind);
  }

  /** The socket is gone: nothing is sent until the bot answers on another one. */
  pause() {
    this.#outlet = null;
    this.#receiver.reset();
    for (const sender of this.#senders.values()) sender.stop();
    this.#senders.clear();
  }

  /**
   * Opens or closes the camera or a screen.
   * @param {VideoKind} kind
   * @param {boolean} enabled
   * @param {string} [deviceId]
   * @throws {import("./errors.js").VoiceError} why it can't be opened
   */
  async enable(kind, enabled, deviceId = kind === "camera" ? this.#cameraId : "") {
    if (kind === "camera") this.#cameraId = deviceId;
    this.#stop(kind);
    if (!enabled) return;
    const source = new VideoSource(kind, () => this.#stop(kind));
    const { width, height, framerate } = this.#wanted ?? DEFAULTS;
    await source.open({ deviceId, width, height, framerate });
    this.#sources.set(kind, source);
    if (source.track) this.#options.onTrackStarted(kind, source.track);
    this.#send(kind);
  }

  /** @param {ImageFrame} frame */
  receive(frame) {
    const { received, picture } = this.#receiver.add(frame);
    if (received === 0) return;
    this.#outlet?.sendMessage({
      label: VOICEWS_LABEL,
      type: "image-received",
      data: { id: Number(frame.id), name: frame.name, bytes: received },
    });
    if (picture) this.#options.onPicture(picture);
  }

  /**
   * @param {Message} message with our label
   * @returns {boolean} whether it was about pictures
   */
  handleMessage({ type, data }) {
    if (type === "image-received") {
      this.#senders.get(data?.name)?.acknowledge(Number(data.id), Number(data.bytes));
    } else if (type === "image-request") {
      this.#request(Number(data?.id), data?.source);
    } else {
      return false;
    }
    return true;
  }

  close() {
    for (const kind of [...this.#sources.keys()]) this.#stop(kind);
  }

  /**
   * @param {number} id
   * @param {VideoKind} kind
   */
  #request(id, kind) {
    const sender = this.#senders.get(kind);
    if (sender) {
      sender.request(id);
      return;
    }
    this.#outlet?.sendMessage({
      label: VOICEWS_LABEL,
      type: "image-refused",
      data: { id, reason: `the ${kind === "screen" ? "screen is not shared" : "camera is off"}` },
    });
  }

  /** @param {VideoKind} kind */
  #send(kind) {
    const source = this.#sources.get(kind);
    const settings = this.#wanted;
    const outlet = this.#outlet;
    if (!source || !outlet || !settings?.sources.includes(kind)) return;
    const sender = new ImageSender({
      name: kind,
      settings,
      capture: (width, height, quality) => source.capture(width, height, quality),
      send: (frame) => outlet.sendFrame(frame),
    });
    this.#senders.set(kind, sender);
    sender.start();
  }

  /** @param {VideoKind} kind */
  #stop(kind) {
    this.#senders.get(kind)?.stop();
    this.#senders.delete(kind);
    const source = this.#sources.get(kind);
    if (!source) return;
    const { track } = source;
    this.#sources.delete(kind);
    source.close();
    if (track) this.#options.onTrackStopped(kind, track);
  }
}
