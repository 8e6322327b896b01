/**
 * The protobuf serializer with Opus for the audio, where both the browser (WebCodecs) and the server have it.
 */

import { decodeFrame, encodeFrame } from "./frame-codec.js";
import { codecs, VOICEWS_LABEL } from "./messages.js";
import { ProtobufFrameSerializer } from "./protobuf-frame-serializer.js";

/** @import { EncodedAudioFrame } from "./frame-codec.js" */
/** @import { Incoming } from "./protobuf-frame-serializer.js" */

const DEFAULT_BITRATE = 24_000;
const PACKET_US = 20_000;
/** A decoder that keeps a packet for itself must not hold up what comes after it. */
const DECODE_TIMEOUT_MS = 100;

/** Offers Opus on each new socket; until the server agrees, and with a server that doesn't, it is PCM. */
export class OpusFrameSerializer extends ProtobufFrameSerializer {
  #bitrate;
  #agreed = false;
  /** @type {Encoder | null} */
  #encoder = null;
  /** @type {Map<string, Decoder>} by destination */
  #decoders = new Map();

  /** @param {{ bitrate?: number }} [options] bits per second of the microphone's audio, default 24000 */
  constructor({ bitrate = DEFAULT_BITRATE } = {}) {
    super();
    this.#bitrate = bitrate;
  }

  /** Whether this browser can compress and play Opus. */
  static get isSupported() {
    return typeof AudioEncoder === "function" && typeof AudioDecoder === "function";
  }

  /** Whether the server has agreed. */
  get isAgreed() {
    return this.#agreed;
  }

  /** @returns {BinaryType} */
  get binaryType() {
    return "arraybuffer";
  }

  connected() {
    this.#agreed = false;
    this.#encoder?.close();
    this.#encoder = null;
    for (const decoder of this.#decoders.values()) decoder.close();
    this.#decoders.clear();
    return OpusFrameSerializer.isSupported ? this.serializeMessage(codecs(["opus"])) : null;
  }

  /**
   * @param {ArrayBuffer} pcm 16-bit little-endian
   * @param {number} sampleRate Hz
   * @param {number} numChannels
   * @returns {any} null while the encoder has nothing ready
   */
  serializeAudio(pcm, sampleRate, numChannels) {
    if (!this.#agreed || this.#encoder?.failed) {
      return super.serializeAudio(pcm, sampleRate, numChannels);
    }
    this.#encoder ??= new Encoder(sampleRate, numChannels, this.#bitrate);
    this.#encoder.encode(pcm);
    const packets = this.#encoder.take();
    if (packets.length === 0) return null;
    return encodeFrame({ type: "encoded-audio", codec: "opus", packets, sampleRate, numChannels });
  }

  /**
   * @param {ArrayBuffer} data
   * @returns {any}
   */
  deserialize(data) {
    if (data instanceof ArrayBuffer && this.#agreed) {
      const frame = decodeFrame(data);
      if (frame?.type === "encoded-audio" && frame.codec === "opus") return this.#decode(frame);
      if (frame?.type === "interruption") this.#forget(frame.destination ?? "");
    }
    const incoming = super.deserialize(data);
    const message = incoming?.type === "message" ? incoming.message : null;
    if (message?.label !== VOICEWS_LABEL || message.type !== "codecs") return incoming;
    this.#agreed = OpusFrameSerializer.isSupported && message.data?.audio === "opus";
    return null;
  }

  /**
   * @param {EncodedAudioFrame} frame
   * @returns {Promise<Incoming | null>}
   */
  async #decode({ packets, numChannels, pts, destination }) {
    const name = destination ?? "";
    let decoder = this.#decoders.get(name);
    if (!decoder || decoder.failed || decoder.numChannels !== numChannels) {
      decoder?.close();
      decoder = new Decoder(numChannels);
      this.#decoders.set(name, decoder);
    }
    const audio = await decoder.decode(packets);
    return audio && { type: "audio", ...audio, numChannels, pts, ...(destination ? { destination } : {}) };
  }

  /** @param {string} destination */
  #forget(destination) {
    this.#decoders.get(destination)?.close();
    this.#decoders.delete(destination);
  }
}

class Encoder {
  failed = false;
  /** @type {Uint8Array[]} */
  #packets = [];
  #encoder;
  #sampleRate;
  #numChannels;
  #timestampUs = 0;

  /**
   * @param {number} sampleRate
   * @param {number} numChannels
   * @param {number} bitrate
   */
  constructor(sampleRate, numChannels, bitrate) {
    this.#sampleRate = sampleRate;
    this.#numChannels = numChannels;
    this.#encoder = new AudioEncoder({
      output: (chunk) => {
        const packet = new Uint8Array(chunk.byteLength);
        chunk.copyTo(packet);
        this.#packets.push(packet);
      },
      error: () => {
        this.failed = true;
      },
    });
    this.#encoder.configure({
      codec: "opus", sampleRate, numberOfChannels: numChannels, bitrate,
      opus: { frameDuration: PACKET_US },
    });
  }

  /** @param {ArrayBuffer} pcm */
  encode(pcm) {
    const numberOfFrames = pcm.byteLength / (2 * this.#numChannels);
    this.#encoder.encode(new AudioData({
      format: "s16", sampleRate: this.#sampleRate, numberOfFrames, numberOfChannels: this.#numChannels,
      timestamp: this.#timestampUs, data: pcm,
    }));
    this.#timestampUs += Math.round((numberOfFrames * 1e6) / this.#sampleRate);
  }

  /** What has come out of it so far. */
  take() {
    const packets = this.#packets;
    this.#packets = [];
    return packets;
  }

  close() {
    if (this.#encoder.state !== "closed") this.#encoder.close();
  }
}

class Decoder {
  failed = false;
  numChannels;
  /** @type {AudioData[]} */
  #decoded = [];
  #expected = 0;
  #onOutput = () => {};
  #decoder;
  #timestampUs = 0;

  /** @param {number} numChannels */
  constructor(numChannels) {
    this.numChannels = numChannels;
    this.#decoder = new AudioDecoder({
      output: (data) => {
        this.#decoded.push(data);
        this.#onOutput();
      },
      error: () => {
        this.failed = true;
        this.#onOutput();
      },
    });
    this.#decoder.configure({ codec: "opus", sampleRate: 48_000, numberOfChannels: numChannels });
  }

  /**
   * @param {Uint8Array[]} packets
   * @returns {Promise<{ audio: Int16Array<ArrayBuffer>, sampleRate: number } | null>}
   */
  async decode(packets) {
    for (const data of packets) {
      this.#decoder.decode(new EncodedAudioChunk({ type: "key", timestamp: this.#timestampUs, data }));
      this.#timestampUs += PACKET_US;
    }
    this.#expected = packets.length;
    await this.#outputs();
    const decoded = this.#decoded;
    this.#decoded = [];
    if (decoded.length === 0) return null;
    const { sampleRate } = decoded[0];
    const parts = decoded.map(toPcm);
    const audio = new Int16Array(parts.reduce((length, part) => length + part.length, 0));
    let at = 0;
    for (const part of parts) {
      audio.set(part, at);
      at += part.length;
    }
    return { audio, sampleRate };
  }

  close() {
    this.failed = true;
    this.#onOutput();
    if (this.#decoder.state !== "closed") this.#decoder.close();
  }

  /** @returns {Promise<void>} */
  #outputs() {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, DECODE_TIMEOUT_MS);
      this.#onOutput = () => {
        if (this.#decoded.length < this.#expected && !this.failed) return;
        clearTimeout(timer);
        resolve();
      };
      this.#onOutput();
    });
  }
}

/** @param {AudioData} data */
function toPcm(data) {
  const { numberOfFrames, numberOfChannels } = data;
  const pcm = new Int16Array(numberOfFrames * numberOfChannels);
  const plane = new Float32Array(numberOfFrames);
  for (let channel = 0; channel < numberOfChannels; channel++) {
    data.copyTo(plane, { planeIndex: channel, format: "f32-planar" });
    for (let i = 0; i < numberOfFrames; i++) {
      pcm[i * numberOfChannels + channel] = Math.max(-32768, Math.min(32767, Math.round(plane[i] * 32768)));
    }
  }
  data.close();
  return pcm;
}
