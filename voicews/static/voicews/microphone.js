/**
 * The microphone of one call: its stream, its worklet, mute, and what happens when the device goes.
 */

import { ErrorCode, VoiceError } from "./errors.js";
import { isMicrophoneGranted, openMicrophone } from "./microphone-access.js";

/**
 * What a page's own hook gets. It answers the stream to send, which is then ours to stop, or null
 * when it will pass PCM to `sendAudio` by itself.
 * @typedef {object} UserAudio
 * @property {() => Promise<MediaStream>} openMicrophone
 * @property {(pcm: ArrayBuffer | ArrayBufferView) => void} sendAudio 16-bit little-endian mono PCM
 *   at the recorder's rate
 */
/** @typedef {(audio: UserAudio) => MediaStream | null | Promise<MediaStream | null>} UserAudioHook */

/**
 * @typedef {object} MicrophoneOptions
 * @property {number} sampleRate Hz, of the frames
 * @property {number} frameMs
 * @property {UserAudioHook | null} hook
 * @property {boolean} keepsDevice also while muted, so that unmuting takes no time
 * @property {() => void} onStream the stream is another one, or muted, or none
 * @property {(pcm: ArrayBuffer | ArrayBufferView) => void} sendAudio
 * @property {(pcm: ArrayBuffer, level: number) => void} onFrame
 * @property {(error: VoiceError) => void} onError
 */

/** Takes the device when enabled first, and gives it back when closed. */
export class Microphone {
  /** @type {MediaStream | null} */
  stream = null;
  #context;
  #options;
  /** @type {AudioWorkletNode | null} */
  #node = null;
  /** @type {MediaStreamAudioSourceNode | null} */
  #source = null;
  #deviceId = "";
  #enabled = false;
  /** Whether the page's hook said that it sends PCM by itself. */
  #custom = false;
  #closed = false;
  /** Which opening is the newest: an older one that comes in late must let its stream go again. */
  #opening = 0;

  /**
   * @param {AudioContext} context
   * @param {MicrophoneOptions} options
   */
  constructor(context, options) {
    this.#context = context;
    this.#options = options;
  }

  get enabled() {
    return this.#enabled;
  }

  /** Seconds between the sound and its sample, as far as the browser says. */
  get latencySecs() {
    const settings = this.stream?.getAudioTracks()[0]?.getSettings();
    const { latency = 0 } = /** @type {{ latency?: number }} */ (settings ?? {});
    return latency;
  }

  /**
   * Also unmutes: takes the device, unless it is held already.
   * @throws {VoiceError}
   */
  async enable() {
    this.#enabled = true;
    if (this.stream) {
      for (const track of this.stream.getAudioTracks()) track.enabled = true;
    } else if (!this.#custom) {
      try {
        await this.#open();
      } catch (error) {
        this.#enabled = false;
        throw error;
      }
    }
    if (this.#enabled) this.#node?.port.postMessage({ type: "unmute" });
    this.#options.onStream();
  }

  /**
   * Nothing is sent any more, after a second of silence that ends the sentence for the server. The
   * device is let go, so that its light goes out, if taking it back will not ask the user again.
   */
  async disable() {
    this.#enabled = false;
    this.#node?.port.postMessage({ type: "mute" });
    for (const track of this.stream?.getAudioTracks() ?? []) track.enabled = false;
    this.#options.onStream();
    const { hook, keepsDevice } = this.#options;
    if (!hook && !keepsDevice && (await isMicrophoneGranted()) && !this.#enabled) this.#release();
  }

  /**
   * Opens the device without sending anything of it yet.
   * @throws {VoiceError}
   */
  async prepare() {
    await this.enable();
    await this.disable();
  }

  /**
   * @param {string} deviceId
   * @throws {VoiceError} the device that was in use stays in use
   */
  async switchTo(deviceId) {
    const previous = this.#deviceId;
    this.#deviceId = deviceId;
    if (!this.#enabled) {
      this.#release();
      return;
    }
    try {
      await this.#open();
    } catch (error) {
      this.#deviceId = previous;
      throw error;
    }
  }

  close() {
    this.#closed = true;
    this.#enabled = false;
    this.#release();
    this.#node?.port.postMessage({ type: "close" });
    this.#node?.disconnect();
    this.#node = null;
  }

  async #open() {
    this.#opening += 1;
    const opening = this.#opening;
    const { hook, sendAudio } = this.#options;
    const open = () => openMicrophone(this.#deviceId);
    const stream = hook ? await hook({ openMicrophone: open, sendAudio }) : await open();
    if (this.#closed || opening !== this.#opening || !this.#enabled) {
      stopTracks(stream);
      return;
    }
    this.#custom = stream === null;
    if (stream) this.#attach(stream);
    else this.#release();
  }

  /** @param {MediaStream} stream */
  #attach(stream) {
    try {
      this.#node ??= this.#createNode();
      const source = this.#context.createMediaStreamSource(stream);
      this.#release();
      source.connect(this.#node);
      this.#source = source;
      this.stream = stream;
      this.#options.onStream();
    } catch (error) {
      stopTracks(stream);
      throw new VoiceError(ErrorCode.MICROPHONE_FAILED, "The microphone can't be recorded.", {
        reason: String(error),
        cause: error,
      });
    }
    for (const track of stream.getAudioTracks()) {
      track.addEventListener("ended", () => this.#onEnded(stream));
    }
  }

  #createNode() {
    const node = new AudioWorkletNode(this.#context, "voicews-capture", {
      numberOfInputs: 1,
      numberOfOutputs: 1,
      processorOptions: { sampleRate: this.#options.sampleRate, frameMs: this.#options.frameMs },
    });
    node.port.onmessage = ({ data }) => this.#options.onFrame(data.pcm, data.level);
    // Its output is silent; a node that leads nowhere would not be run.
    node.connect(this.#context.destination);
    return node;
  }

  /**
   * The device was unplugged, or its permission was taken away: fall back to the default one.
   * @param {MediaStream} stream
   */
  async #onEnded(stream) {
    if (this.#closed || stream !== this.stream) return;
    this.#release();
    this.#deviceId = "";
    if (!this.#enabled) return;
    try {
      await this.#open();
      this.#options.onError(
        new VoiceError(
          ErrorCode.MICROPHONE_LOST,
          "The microphone was disconnected. The call goes on with another one.",
        ),
      );
    } catch (error) {
      this.#enabled = false;
      this.#options.onError(
        new VoiceError(
          ErrorCode.MICROPHONE_LOST,
          "The microphone was disconnected. You can't be heard.",
          { reason: String(error), cause: error },
        ),
      );
    }
  }

  #release() {
    this.#source?.disconnect();
    this.#source = null;
    stopTracks(this.stream);
    this.stream = null;
  }
}

/** @param {MediaStream | null} stream */
function stopTracks(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}
