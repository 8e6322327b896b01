/**
 * The loudspeaker of one call: hands frames to the playback worklet, and says what has been heard.
 */

import { ErrorCode, VoiceError } from "./errors.js";

/** @import { PlaybackReport } from "./jitter-buffer.js" */

/** Audio that may queue up for a context that does not run, milliseconds. */
const MAX_SUSPENDED_MS = 2000;

/**
 * @typedef {object} PlayableAudio
 * @property {Uint8Array} audio
 * @property {number} sampleRate Hz
 * @property {number} numChannels
 * @property {number | null} pts nanoseconds
 */

/** Plays on the context it is given, and leaves it open. */
export class Speaker {
  /** What the bot says, at its own volume. */
  node;
  /** The last node before the loudspeaker. */
  output;
  /** @type {MediaStreamAudioDestinationNode | null} */
  #tap = null;
  #context;
  #suspendedMs = 0;

  /**
   * @param {AudioContext} context with the worklets loaded
   * @param {(report: PlaybackReport) => void} onReport
   */
  constructor(context, onReport) {
    this.#context = context;
    this.node = new AudioWorkletNode(context, "voicews-playback", {
      numberOfInputs: 0,
      numberOfOutputs: 1,
      outputChannelCount: [2],
    });
    this.node.port.onmessage = ({ data }) => onReport(data);
    this.output = new GainNode(context);
    this.node.connect(this.output).connect(context.destination);
  }

  /** @param {number} volume 0 to 1 */
  set volume(volume) {
    // Without a click.
    this.output.gain.setTargetAtTime(volume, this.#context.currentTime, 0.01);
  }

  /** Seconds from leaving the worklet to being heard, as far as the browser says. */
  get latencySecs() {
    return this.#context.outputLatency || this.#context.baseLatency || 0;
  }

  /** What is played, as a stream of its own. */
  get stream() {
    if (!this.#tap) {
      this.#tap = this.#context.createMediaStreamDestination();
      this.node.connect(this.#tap);
    }
    return this.#tap.stream;
  }

  /**
   * @param {PlayableAudio} frame
   * @returns {boolean} false when it was dropped, because the browser does not let the page play
   */
  play({ audio, sampleRate, numChannels, pts }) {
    if (this.#context.state === "running") {
      this.#suspendedMs = 0;
    } else {
      this.#suspendedMs += (audio.length / (2 * numChannels * sampleRate)) * 1000;
      if (this.#suspendedMs > MAX_SUSPENDED_MS) return false;
    }
    const pcm = audio.slice().buffer;
    const message = { type: "audio", pcm, sampleRate, numChannels, pts };
    this.node.port.postMessage(message, [pcm]);
    return true;
  }

  /** The bot has finished an utterance. */
  end() {
    this.node.port.postMessage({ type: "end" });
  }

  /** Drops what was not played yet. */
  flush() {
    this.#suspendedMs = 0;
    this.node.port.postMessage({ type: "flush" });
  }

  /**
   * @param {string} deviceId the browser's default loudspeaker when empty
   * @throws {VoiceError} speaker-unsupported, speaker-failed
   */
  async setDevice(deviceId) {
    const context = /** @type {AudioContext & { setSinkId?: (id: string) => Promise<void> }} */ (
      this.#context
    );
    if (!context.setSinkId) {
      if (deviceId === "") return;
      throw new VoiceError(
        ErrorCode.SPEAKER_UNSUPPORTED,
        "This browser can't choose a loudspeaker for a page. Choose one in the system's settings.",
      );
    }
    try {
      await context.setSinkId(deviceId);
    } catch (error) {
      throw new VoiceError(ErrorCode.SPEAKER_FAILED, "The loudspeaker can't be used.", {
        reason: String(error),
        cause: error,
      });
    }
  }

  close() {
    this.node.port.postMessage({ type: "close" });
    this.node.disconnect();
    this.output.disconnect();
    for (const track of this.#tap?.stream.getTracks() ?? []) track.stop();
  }
}
