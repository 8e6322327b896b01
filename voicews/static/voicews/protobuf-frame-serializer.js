/**
 * The default serializer, and the interface of all of them: it is the one of Pipecat's WebSocketTransport.
 */

import { ErrorCode, VoiceError } from "./errors.js";
import { decodeFrame, encodeFrame } from "./frame-codec.js";
import { parseMessage } from "./messages.js";

/** @import { Frame, ImageFrame } from "./frame-codec.js" */
/** @import { Message } from "./messages.js" */

/**
 * Audio as a serializer hands it over. A serializer that does not know the rate leaves it out; it is then
 * the player's, or 24000 Hz.
 * @typedef {object} IncomingAudio
 * @property {"audio"} type
 * @property {Int16Array} audio interleaved
 * @property {number} [sampleRate] Hz
 * @property {number} [numChannels]
 * @property {number | bigint | null} [pts] media time of the first sample, nanoseconds
 * @property {string} [destination] one of the server's `audio_out_destinations`, if it is for one
 */
/** @typedef {{ type: "message", message: Message }} IncomingMessage */
/** @typedef {{ type: "raw", message: unknown }} IncomingRaw what only the application understands */
/**
 * @typedef {{ type: "interruption", destination?: string }} IncomingInterruption `destination`: whose audio
 *   is cut off, where it is not the bot's own
 */
/** @typedef {{ type: "text", text: string }} IncomingText */
/** @typedef {{ type: "transcription", text: string, userId: string, timestamp: string }} IncomingTranscription */
/**
 * @typedef {IncomingAudio | IncomingMessage | IncomingRaw | IncomingInterruption | IncomingText
 *   | IncomingTranscription | ImageFrame} Incoming
 */

/**
 * `deserialize` answers null for what is well-formed and of no interest, and throws for what it cannot
 * read. What the other three return is sent as it is; nothing is sent for null and undefined.
 * @typedef {object} FrameSerializer
 * @property {BinaryType} [binaryType] what `deserialize` gets for a binary message: a Blob when left out,
 *   as with Pipecat's transport
 * @property {() => any} [connected] what to send first on each new socket
 * @property {(data: any) => any} serialize for `transport.sendRawMessage`
 * @property {(pcm: ArrayBuffer, sampleRate: number, numChannels: number) => any} serializeAudio
 * @property {(message: Message) => any} serializeMessage
 * @property {(data: any) => Incoming | null | Promise<Incoming | null>} deserialize
 */

/** Binary messages, each a protobuf `pipecat.Frame`. */
export class ProtobufFrameSerializer {
  /** @returns {BinaryType} a Blob takes one task more, and only what was derived for Pipecat wants one */
  get binaryType() {
    return this.deserialize === ProtobufFrameSerializer.prototype.deserialize ? "arraybuffer" : "blob";
  }

  /**
   * @param {Frame} frame
   * @returns {Uint8Array<ArrayBuffer>}
   * @throws {VoiceError} bad-frame
   */
  serialize(frame) {
    return encodeFrame(frame);
  }

  /**
   * @param {ArrayBuffer} pcm 16-bit little-endian
   * @param {number} sampleRate Hz
   * @param {number} numChannels
   */
  serializeAudio(pcm, sampleRate, numChannels) {
    return encodeFrame({
      type: "audio", name: "audio", audio: new Uint8Array(pcm), sampleRate, numChannels,
    });
  }

  /** @param {Message} message */
  serializeMessage(message) {
    return encodeFrame({ type: "message", data: JSON.stringify(message) });
  }

  /**
   * @param {ArrayBuffer | Blob | string} data
   * @returns {any} an Incoming or null; a promise of that for a Blob
   * @throws {VoiceError} bad-frame, with what was wrong and never the payload
   */
  deserialize(data) {
    if (data instanceof Blob) return data.arrayBuffer().then(readIncoming);
    if (typeof data === "string") {
      throw new VoiceError(ErrorCode.BAD_FRAME, "Expected a binary message, found text.");
    }
    return readIncoming(data);
  }
}

/**
 * @param {ArrayBuffer} data
 * @returns {Incoming | null}
 */
function readIncoming(data) {
  const frame = decodeFrame(data);
  if (frame?.type === "message") return { type: "message", message: parseMessage(frame.data) };
  // Nobody offered to take that.
  if (frame?.type === "encoded-audio") return null;
  if (frame?.type !== "audio") return frame;
  const { audio, ...rest } = frame;
  if (audio.length % 2 !== 0) {
    throw new VoiceError(ErrorCode.BAD_FRAME, `Expected 16-bit samples, found ${audio.length} bytes.`);
  }
  // A copy, as samples can't begin at any byte.
  return { ...rest, audio: new Int16Array(audio.slice().buffer) };
}
