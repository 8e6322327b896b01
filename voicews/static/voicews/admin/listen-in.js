/**
 * Listening in to a call: the caller on the left, the bot on the right, nothing from here.
 */

import { createAudioContext, keepRunning, loadWorklet } from "../audio-context.js";
import { VoiceError } from "../errors.js";
import { PictureCanvas } from "../picture-canvas.js";
import { Speaker } from "../speaker.js";
import { socketUrl } from "./live-socket.js";

/** What a packet is: the first byte of its header. The server's `Packet` has the same numbers. */
const CALLER = 0;
const BOT = 1;
const INTERRUPTED = 2;
const CALLER_IMAGE = 3;
const BOT_IMAGE = 4;
const HEADER_BYTES = 8;
/** Audio that waits longer is not live any more: it is skipped. */
const MAX_LATE_MS = 1500;

/**
 * @param {ArrayBuffer} packet
 * @returns {{ kind: number, sampleRate: number, numChannels: number, audio: Uint8Array }}
 */
export function readPacket(packet) {
  const header = new DataView(packet);
  return {
    kind: header.getUint8(0),
    numChannels: header.getUint8(1),
    sampleRate: header.getUint32(4, true),
    audio: new Uint8Array(packet, HEADER_BYTES),
  };
}

/** One direction of the call: its loudspeaker, its place between the ears, its level. */
class Side {
  /**
   * @param {AudioContext} context with the playback worklet loaded
   * @param {number} pan -1 to 1
   * @param {HTMLMeterElement} meter
   */
  constructor(context, pan, meter) {
    this.pan = pan;
    this.meter = meter;
    this.closed = false;
    this.speaker = new Speaker(context, (report) => {
      // A last report may come after the end.
      if (this.closed) return;
      meter.value = Math.min(1, 2 * Math.sqrt(report.level));
      if (report.bufferedMs > MAX_LATE_MS) this.speaker.flush();
    });
    // To one channel first: a panner adds up the two that are the same.
    const mono = new GainNode(context, { channelCount: 1, channelCountMode: "explicit" });
    this.panner = new StereoPannerNode(context, { pan });
    this.speaker.node.disconnect();
    this.speaker.node.connect(mono).connect(this.panner).connect(context.destination);
  }

  close() {
    this.closed = true;
    this.speaker.close();
    this.meter.value = 0;
  }
}

/**
 * @template {Element} T
 * @param {string} id
 * @param {new () => T} kind
 * @returns {T}
 */
function element(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new TypeError(`expected #${id} to be a ${kind.name}`);
  return found;
}

/** The panel on a session's page: a button, two levels, a status. */
export class ListenIn {
  #panel;
  #button = element("voicews-listen-button", HTMLButtonElement);
  #status = element("voicews-listen-status", HTMLSpanElement);
  #mono = element("voicews-mono", HTMLInputElement);
  /** @type {(() => void) | null} stops listening */
  #stop = null;

  /** @param {HTMLElement} panel */
  constructor(panel) {
    this.#panel = panel;
    this.#button.addEventListener("click", () => {
      if (this.#stop) this.#stop();
      else void this.#start();
    });
  }

  async #start() {
    /** @type {Side[]} */
    let sides = [];
    /** @type {WebSocket | null} */
    let socket = null;
    let stopped = false;
    let heard = false;
    let context;
    try {
      context = createAudioContext(null);
    } catch (error) {
      this.#say(error instanceof VoiceError ? error.message : String(error));
      return;
    }
    const closeContext = keepRunning(context);
    const place = () => {
      for (const side of sides) side.panner.pan.value = this.#mono.checked ? 0 : side.pan;
    };
    const stop = (/** @type {string} */ text) => {
      if (stopped) return;
      stopped = true;
      this.#stop = null;
      this.#mono.removeEventListener("change", place);
      socket?.close();
      for (const side of sides) side.close();
      closeContext();
      this.#button.textContent = this.#panel.dataset.start ?? "";
      this.#say(text);
    };
    this.#stop = () => stop(this.#text("stopped"));
    this.#button.textContent = this.#panel.dataset.stop ?? "";
    this.#say(this.#text("connecting"));
    try {
      await loadWorklet(context, "playback");
    } catch (error) {
      stop(error instanceof VoiceError ? error.message : String(error));
    }
    if (stopped) return;
    sides = [
      new Side(context, -1, element("voicews-caller-level", HTMLMeterElement)),
      new Side(context, 1, element("voicews-bot-level", HTMLMeterElement)),
    ];
    place();
    this.#mono.addEventListener("change", place);
    const pictures = new Map([
      [CALLER_IMAGE, new ShownPicture("voicews-caller-picture")],
      [BOT_IMAGE, new ShownPicture("voicews-bot-picture")],
    ]);
    socket = new WebSocket(socketUrl(this.#panel.dataset.socket ?? ""));
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      heard = true;
    };
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") this.#say(this.#text(JSON.parse(data).type));
      else if (!show(pictures, data)) play(sides, data);
    };
    socket.onclose = ({ reason }) =>
      stop(reason ? sentence(reason) : this.#text(heard ? "lost" : "refused"));
  }

  /** @param {string} name */
  #text(name) {
    return this.#panel.dataset[name] ?? "";
  }

  /** @param {string} text */
  #say(text) {
    this.#status.textContent = text;
  }
}

/** The last picture of one side, with its caption; hidden until there is one. */
class ShownPicture {
  #figure;
  #canvas;

  /** @param {string} id of the figure */
  constructor(id) {
    this.#figure = element(id, HTMLElement);
    this.#figure.hidden = true;
    const canvas = this.#figure.querySelector("canvas");
    if (!canvas) throw new TypeError(`expected a canvas in #${id}`);
    this.#canvas = new PictureCanvas(canvas);
  }

  /** @param {Uint8Array} image a file */
  async show(image) {
    const blob = new Blob([/** @type {BlobPart} */ (image)]);
    if (await this.#canvas.show({ blob })) this.#figure.hidden = false;
  }
}

/**
 * @param {Map<number, ShownPicture>} pictures
 * @param {ArrayBuffer} data
 * @returns {boolean} whether it was a picture
 */
function show(pictures, data) {
  const { kind, audio } = readPacket(data);
  const picture = pictures.get(kind);
  void picture?.show(audio);
  return picture !== undefined;
}

/**
 * @param {Side[]} sides
 * @param {ArrayBuffer} data
 */
function play(sides, data) {
  const packet = readPacket(data);
  if (packet.kind === INTERRUPTED) sides[BOT].speaker.flush();
  else if (packet.kind === CALLER || packet.kind === BOT) {
    sides[packet.kind].speaker.play({ ...packet, pts: null });
  }
}

/** @param {string} text */
function sentence(text) {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}
