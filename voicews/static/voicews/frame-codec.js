/**
 * Turns one WebSocket message into one frame and back: the `pipecat.Frame` protobuf schema by hand.
 *
 * Wire format: https://protobuf.dev/programming-guides/encoding/
 */

import { ErrorCode, VoiceError } from "./errors.js";

/**
 * @typedef {object} AudioFrame
 * @property {"audio"} type
 * @property {Uint8Array} audio interleaved 16-bit little-endian PCM
 * @property {number} sampleRate Hz
 * @property {number} numChannels
 * @property {number | bigint | null} [pts] media time of the first sample, nanoseconds
 * @property {string} [destination] one of the server's `audio_out_destinations`, if it is for one
 * @property {number | bigint} [id]
 * @property {string} [name]
 */
/**
 * @typedef {object} TextFrame
 * @property {"text"} type
 * @property {string} text
 * @property {number | bigint} [id]
 * @property {string} [name]
 */
/**
 * @typedef {object} TranscriptionFrame
 * @property {"transcription"} type
 * @property {string} text
 * @property {string} userId
 * @property {string} timestamp ISO 8601
 * @property {number | bigint} [id]
 * @property {string} [name]
 */
/**
 * @typedef {object} MessageFrame
 * @property {"message"} type
 * @property {string} data JSON
 */
/**
 * @typedef {object} InterruptionFrame
 * @property {"interruption"} type
 * @property {string} [destination] whose audio is cut off, where it is not the bot's own
 * @property {number | bigint} [id]
 * @property {string} [name]
 */
/**
 * Compressed audio, between peers that have agreed on it.
 * @typedef {object} EncodedAudioFrame
 * @property {"encoded-audio"} type
 * @property {string} codec
 * @property {Uint8Array[]} packets of 20 ms each
 * @property {number} sampleRate Hz, of what was compressed
 * @property {number} numChannels
 * @property {number | bigint | null} [pts] media time of the first sample, nanoseconds
 * @property {string} [destination]
 */
/**
 * A picture, or a piece of one.
 * @typedef {object} ImageFrame
 * @property {"image"} type
 * @property {number | bigint} id counts the pictures of one sender
 * @property {string} name the source, or the destination
 * @property {Uint8Array} image the bytes of the piece
 * @property {number} width pixels
 * @property {number} height pixels
 * @property {string} format JPEG, PNG or WEBP
 * @property {number} offset where the piece begins
 * @property {number} total bytes of the picture; 0 when the piece is all of it
 * @property {number | bigint} request that it answers, or 0
 * @property {number | bigint | null} [pts] nanoseconds
 */
/**
 * @typedef {AudioFrame | EncodedAudioFrame | TextFrame | TranscriptionFrame | MessageFrame
 *   | InterruptionFrame | ImageFrame} Frame
 */

/** Field numbers of the oneof in `Frame`. Newer kinds are skipped like unknown fields. */
const TEXT = 1;
const AUDIO = 2;
const TRANSCRIPTION = 3;
const MESSAGE = 4;
const INTERRUPTION = 5;
const IMAGE = 6;
const DESTINATION_AUDIO = 7;
const DESTINATION_INTERRUPTION = 8;
const ENCODED_AUDIO = 9;

const VARINT = 0;
const FIXED64 = 1;
const LENGTH_DELIMITED = 2;
const FIXED32 = 5;

const MAX_UINT64 = (1n << 64n) - 1n;
const MAX_UINT32 = 0xffffffff;

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();

/** @param {string} message */
function malformed(message) {
  return new VoiceError(ErrorCode.BAD_FRAME, `Malformed protobuf frame: ${message}`);
}

/** Reads one protobuf message field by field. */
class Reader {
  #bytes;
  #at = 0;

  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.#bytes = bytes;
  }

  get done() {
    return this.#at >= this.#bytes.length;
  }

  /** @returns {number | bigint} a bigint only above 2^53 - 1 */
  varint() {
    let low = 0;
    let scale = 1;
    // Seven groups of seven bits are exact in a double, the rest needs a bigint.
    for (let group = 0; group < 7; group++) {
      const byte = this.#byte();
      low += (byte & 0x7f) * scale;
      if (byte < 0x80) return low;
      scale *= 0x80;
    }
    let value = BigInt(low);
    for (let group = 7n; group < 10n; group++) {
      const byte = this.#byte();
      value |= BigInt(byte & 0x7f) << (group * 7n);
      if (byte < 0x80) {
        if (value > MAX_UINT64) break;
        return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;
      }
    }
    throw malformed("a varint is longer than 64 bits");
  }

  /** @returns {{ field: number, wireType: number }} */
  tag() {
    const tag = this.#small("tag");
    const field = Math.floor(tag / 8);
    if (field === 0) throw malformed("field number 0");
    return { field, wireType: tag % 8 };
  }

  /** @param {string} name */
  uint32(name) {
    return this.#small(name);
  }

  bytes() {
    const length = this.#small("length");
    const end = this.#at + length;
    if (end > this.#bytes.length) {
      throw malformed(`expected ${length} more bytes, found ${this.#bytes.length - this.#at}`);
    }
    const bytes = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return bytes;
  }

  string() {
    try {
      return decoder.decode(this.bytes());
    } catch (error) {
      if (error instanceof VoiceError) throw error;
      throw malformed("a string is not UTF-8");
    }
  }

  /** @param {number} wireType */
  skip(wireType) {
    if (wireType === VARINT) this.varint();
    else if (wireType === LENGTH_DELIMITED) this.bytes();
    else if (wireType === FIXED64) this.#advance(8);
    else if (wireType === FIXED32) this.#advance(4);
    else throw malformed(`wire type ${wireType}`);
  }

  #byte() {
    if (this.done) throw malformed("it ends inside a field");
    return this.#bytes[this.#at++];
  }

  /** @param {string} name */
  #small(name) {
    const value = this.varint();
    if (value > MAX_UINT32) throw malformed(`${name} is larger than 32 bits`);
    return Number(value);
  }

  /** @param {number} count */
  #advance(count) {
    if (this.#at + count > this.#bytes.length) throw malformed("it ends inside a field");
    this.#at += count;
  }
}

/**
 * Calls `onField` for each field whose wire type is the one that `types` expects, skips the others.
 * @param {Uint8Array} bytes
 * @param {Record<number, number>} types wire type by field number
 * @param {(field: number, reader: Reader) => void} onField
 */
function readFields(bytes, types, onField) {
  const reader = new Reader(bytes);
  while (!reader.done) {
    const { field, wireType } = reader.tag();
    if (types[field] === wireType) onField(field, reader);
    else reader.skip(wireType);
  }
}

/**
 * @param {Uint8Array} bytes
 * @returns {AudioFrame}
 */
function readAudio(bytes) {
  /** @type {AudioFrame} */
  const frame = {
    type: "audio", id: 0, name: "", audio: new Uint8Array(), sampleRate: 0, numChannels: 0, pts: null,
  };
  const types = {
    1: VARINT, 2: LENGTH_DELIMITED, 3: LENGTH_DELIMITED, 4: VARINT, 5: VARINT, 6: VARINT,
    7: LENGTH_DELIMITED,
  };
  readFields(bytes, types, (field, reader) => {
    if (field === 1) frame.id = reader.varint();
    else if (field === 2) frame.name = reader.string();
    else if (field === 3) frame.audio = reader.bytes();
    else if (field === 4) frame.sampleRate = reader.uint32("sample_rate");
    else if (field === 5) frame.numChannels = reader.uint32("num_channels");
    else if (field === 6) frame.pts = reader.varint();
    else frame.destination = reader.string();
  });
  return frame;
}

/**
 * @param {Uint8Array} bytes
 * @returns {EncodedAudioFrame}
 */
function readEncodedAudio(bytes) {
  /** @type {EncodedAudioFrame} */
  const frame = {
    type: "encoded-audio", codec: "", packets: [], sampleRate: 0, numChannels: 0, pts: null,
  };
  const types = {
    1: LENGTH_DELIMITED, 2: LENGTH_DELIMITED, 3: VARINT, 4: VARINT, 5: VARINT, 6: LENGTH_DELIMITED,
  };
  readFields(bytes, types, (field, reader) => {
    if (field === 1) frame.codec = reader.string();
    else if (field === 2) frame.packets.push(reader.bytes());
    else if (field === 3) frame.sampleRate = reader.uint32("sample_rate");
    else if (field === 4) frame.numChannels = reader.uint32("num_channels");
    else if (field === 5) frame.pts = reader.varint();
    else frame.destination = reader.string();
  });
  return frame;
}

/**
 * @param {Uint8Array} bytes
 * @returns {ImageFrame}
 */
function readImage(bytes) {
  /** @type {ImageFrame} */
  const frame = {
    type: "image", id: 0, name: "", image: new Uint8Array(), width: 0, height: 0, format: "",
    offset: 0, total: 0, request: 0, pts: null,
  };
  const types = {
    1: VARINT, 2: LENGTH_DELIMITED, 3: LENGTH_DELIMITED, 4: VARINT, 5: VARINT, 6: LENGTH_DELIMITED,
    7: VARINT, 8: VARINT, 9: VARINT, 10: VARINT,
  };
  readFields(bytes, types, (field, reader) => {
    if (field === 1) frame.id = reader.varint();
    else if (field === 2) frame.name = reader.string();
    else if (field === 3) frame.image = reader.bytes();
    else if (field === 4) frame.width = reader.uint32("width");
    else if (field === 5) frame.height = reader.uint32("height");
    else if (field === 6) frame.format = reader.string();
    else if (field === 7) frame.pts = reader.varint();
    else if (field === 8) frame.offset = reader.uint32("offset");
    else if (field === 9) frame.total = reader.uint32("total");
    else frame.request = reader.varint();
  });
  return frame;
}

/**
 * Reads the id (1), the name (2) and up to three strings (3, 4, 5).
 * @param {Uint8Array} bytes
 * @returns {{ id: number | bigint, name: string, strings: [string, string, string] }}
 */
function readNamed(bytes) {
  /** @type {{ id: number | bigint, name: string, strings: [string, string, string] }} */
  const result = { id: 0, name: "", strings: ["", "", ""] };
  const types = {
    1: VARINT, 2: LENGTH_DELIMITED, 3: LENGTH_DELIMITED, 4: LENGTH_DELIMITED, 5: LENGTH_DELIMITED,
  };
  readFields(bytes, types, (field, reader) => {
    if (field === 1) result.id = reader.varint();
    else if (field === 2) result.name = reader.string();
    else result.strings[field - 3] = reader.string();
  });
  return result;
}

/**
 * @param {number} kind
 * @param {Uint8Array} bytes
 * @returns {Frame | null}
 */
function readKind(kind, bytes) {
  if (kind === AUDIO || kind === DESTINATION_AUDIO) return readAudio(bytes);
  if (kind === ENCODED_AUDIO) return readEncodedAudio(bytes);
  if (kind === IMAGE) return readImage(bytes);
  if (kind === MESSAGE) {
    let data = "";
    readFields(bytes, { 1: LENGTH_DELIMITED }, (_field, reader) => {
      data = reader.string();
    });
    return { type: "message", data };
  }
  if (![TEXT, TRANSCRIPTION, INTERRUPTION, DESTINATION_INTERRUPTION].includes(kind)) return null;
  const { id, name, strings } = readNamed(bytes);
  if (kind === TEXT) return { type: "text", id, name, text: strings[0] };
  if (kind === INTERRUPTION) return { type: "interruption", id, name };
  if (kind === DESTINATION_INTERRUPTION) {
    return { type: "interruption", id, name, destination: strings[0] };
  }
  const [text, userId, timestamp] = strings;
  return { type: "transcription", id, name, text, userId, timestamp };
}

/** Collects the bytes of one protobuf message; empty and zero fields are left out, as proto3 does. */
class Writer {
  /** @type {Uint8Array[]} */
  #parts = [];
  #length = 0;

  /**
   * @param {number} field
   * @param {number | bigint | undefined} value
   */
  uint(field, value) {
    if (value !== undefined && Number(value) !== 0) this.#uint(field, value);
    return this;
  }

  /**
   * Written even when zero: for fields that tell "zero" from "not there".
   * @param {number} field
   * @param {number | bigint | null | undefined} value
   */
  optionalUint(field, value) {
    if (value !== null && value !== undefined) this.#uint(field, value);
    return this;
  }

  /**
   * @param {number} field
   * @param {string | undefined} value
   */
  string(field, value) {
    return value ? this.nested(field, encoder.encode(value)) : this;
  }

  /**
   * @param {number} field
   * @param {Uint8Array} bytes
   */
  bytes(field, bytes) {
    return bytes.length ? this.nested(field, bytes) : this;
  }

  /**
   * @param {number} field
   * @param {Uint8Array} bytes
   */
  nested(field, bytes) {
    this.#varint(field * 8 + LENGTH_DELIMITED);
    this.#varint(bytes.length);
    return this.#push(bytes);
  }

  /** @returns {Uint8Array<ArrayBuffer>} */
  finish() {
    const message = new Uint8Array(this.#length);
    let at = 0;
    for (const part of this.#parts) {
      message.set(part, at);
      at += part.length;
    }
    return message;
  }

  /**
   * @param {number} field
   * @param {number | bigint} value
   */
  #uint(field, value) {
    this.#varint(field * 8 + VARINT);
    this.#varint(value);
  }

  /** @param {number | bigint} value */
  #varint(value) {
    const valid = typeof value === "bigint" ? value <= MAX_UINT64 : Number.isSafeInteger(value);
    if (!valid || value < 0) {
      throw new VoiceError(ErrorCode.BAD_FRAME, `Expected an unsigned integer, found ${value}.`);
    }
    const bytes = [];
    let rest = BigInt(value);
    while (rest > 0x7fn) {
      bytes.push(Number(rest & 0x7fn) | 0x80);
      rest >>= 7n;
    }
    bytes.push(Number(rest));
    this.#push(Uint8Array.from(bytes));
  }

  /** @param {Uint8Array} bytes */
  #push(bytes) {
    this.#parts.push(bytes);
    this.#length += bytes.length;
    return this;
  }
}

/**
 * @param {Frame} frame
 * @returns {[number, Writer]} the field number of its kind, and its own message
 */
function writeKind(frame) {
  const writer = new Writer();
  switch (frame.type) {
    case "audio":
      writer.uint(1, frame.id).string(2, frame.name).bytes(3, frame.audio);
      writer.uint(4, frame.sampleRate).uint(5, frame.numChannels).optionalUint(6, frame.pts);
      writer.string(7, frame.destination);
      return [frame.destination ? DESTINATION_AUDIO : AUDIO, writer];
    case "encoded-audio":
      writer.string(1, frame.codec);
      for (const packet of frame.packets) writer.nested(2, packet);
      writer.uint(3, frame.sampleRate).uint(4, frame.numChannels).optionalUint(5, frame.pts);
      return [ENCODED_AUDIO, writer.string(6, frame.destination)];
    case "image":
      writer.uint(1, frame.id).string(2, frame.name).bytes(3, frame.image);
      writer.uint(4, frame.width).uint(5, frame.height).string(6, frame.format);
      writer.optionalUint(7, frame.pts).uint(8, frame.offset).uint(9, frame.total);
      return [IMAGE, writer.uint(10, frame.request)];
    case "message":
      return [MESSAGE, writer.string(1, frame.data)];
    case "text":
      return [TEXT, writer.uint(1, frame.id).string(2, frame.name).string(3, frame.text)];
    case "transcription":
      writer.uint(1, frame.id).string(2, frame.name).string(3, frame.text);
      return [TRANSCRIPTION, writer.string(4, frame.userId).string(5, frame.timestamp)];
    case "interruption":
      writer.uint(1, frame.id).string(2, frame.name).string(3, frame.destination);
      return [frame.destination ? DESTINATION_INTERRUPTION : INTERRUPTION, writer];
    default:
      throw new VoiceError(ErrorCode.BAD_FRAME, "There is no frame of this type.");
  }
}

/**
 * @param {Frame} frame
 * @returns {Uint8Array<ArrayBuffer>}
 * @throws {VoiceError} bad-frame
 */
export function encodeFrame(frame) {
  const [kind, message] = writeKind(frame);
  return new Writer().nested(kind, message.finish()).finish();
}

/**
 * @param {ArrayBuffer} data
 * @returns {Frame | null} null for kinds that this client does not use, such as images
 * @throws {VoiceError} bad-frame, with what was wrong and never the payload
 */
export function decodeFrame(data) {
  /** @type {Frame | null} */
  let frame = null;
  const reader = new Reader(new Uint8Array(data));
  while (!reader.done) {
    const { field, wireType } = reader.tag();
    // The last member of a oneof wins.
    if (wireType === LENGTH_DELIMITED) frame = readKind(field, reader.bytes()) ?? frame;
    else reader.skip(wireType);
  }
  return frame;
}
