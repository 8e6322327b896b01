import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { decodeFrame, encodeFrame } from "../../voicews/static/voicews/frame-codec.js";
import { OpusFrameSerializer } from "../../voicews/static/voicews/opus-frame-serializer.js";
import { ProtobufFrameSerializer } from "../../voicews/static/voicews/protobuf-frame-serializer.js";

/** @import { EncodedAudioFrame } from "../../voicews/static/voicews/frame-codec.js" */

const ANSWER = { label: "voicews", type: "codecs", id: "codecs", data: { audio: "opus" } };

/** Packets are the samples as they are; a packet that begins with 255 is none. */
class FakeEncoder {
  state = "configured";
  /** @param {{ output: (chunk: any) => void }} callbacks */
  constructor({ output }) {
    this.output = output;
  }

  /** @param {any} config */
  configure(config) {
    FakeEncoder.config = config;
  }

  /** @param {{ data: ArrayBuffer }} audio */
  encode({ data }) {
    this.output({
      byteLength: data.byteLength,
      copyTo: (/** @type {Uint8Array} */ to) => to.set(new Uint8Array(data)),
    });
  }

  close() {
    this.state = "closed";
  }
}
/** @type {any} */
FakeEncoder.config = null;

class FakeDecoder {
  state = "configured";
  /** @param {{ output: (data: any) => void, error: (error: Error) => void }} callbacks */
  constructor({ output, error }) {
    this.output = output;
    this.error = error;
  }

  configure() {}

  /** @param {{ data: Uint8Array }} chunk */
  decode({ data }) {
    queueMicrotask(() => {
      if (data[0] === 255) {
        this.error(new Error("no packet"));
        return;
      }
      this.output({
        numberOfFrames: data.length, numberOfChannels: 1, sampleRate: 48_000, close() {},
        copyTo: (/** @type {Float32Array} */ plane) => {
          plane.set(Array.from(data, (byte) => byte / 32768));
        },
      });
    });
  }

  close() {
    this.state = "closed";
  }
}

class Plain {
  /** @param {object} fields */
  constructor(fields) {
    Object.assign(this, fields);
  }
}

const CODECS = {
  AudioEncoder: FakeEncoder, AudioDecoder: FakeDecoder, AudioData: Plain, EncodedAudioChunk: Plain,
};

beforeEach(() => Object.assign(globalThis, CODECS));
afterEach(() => {
  for (const name of Object.keys(CODECS)) Reflect.deleteProperty(globalThis, name);
});

function agreed() {
  const serializer = new OpusFrameSerializer({ bitrate: 16_000 });
  const offer = decodeFrame(/** @type {any} */ (serializer.connected()).buffer);
  assert.equal(offer?.type, "message");
  assert.deepEqual(JSON.parse(offer.data), {
    label: "voicews", type: "codecs", data: { audio: ["opus"] },
  });
  assert.equal(serializer.deserialize(message(ANSWER)), null);
  assert(serializer.isAgreed);
  return serializer;
}

/** @param {object} content */
function message(content) {
  return encodeFrame({ type: "message", data: JSON.stringify(content) }).buffer;
}

/**
 * @param {number[][]} packets
 * @param {Partial<EncodedAudioFrame>} [more]
 */
function encoded(packets, more = {}) {
  return encodeFrame({
    type: "encoded-audio", codec: "opus", packets: packets.map((packet) => Uint8Array.from(packet)),
    sampleRate: 24_000, numChannels: 1, pts: 5, ...more,
  }).buffer;
}

test("compressed audio survives the way there and back", () => {
  const frame = decodeFrame(encoded([[1, 2], [3]], { destination: "music" }));
  assert.deepEqual(frame, {
    type: "encoded-audio", codec: "opus", packets: [Uint8Array.of(1, 2), Uint8Array.of(3)],
    sampleRate: 24_000, numChannels: 1, pts: 5, destination: "music",
  });
});

test("before the server agrees it is PCM", () => {
  const serializer = new OpusFrameSerializer();
  serializer.connected();
  const pcm = new ArrayBuffer(640);
  const plain = new ProtobufFrameSerializer();
  assert.deepEqual(serializer.serializeAudio(pcm, 16_000, 1), plain.serializeAudio(pcm, 16_000, 1));
  assert.equal(serializer.deserialize(message({ ...ANSWER, data: { audio: "pcm" } })), null);
  assert(!serializer.isAgreed);
  // And what nobody asked for is not played.
  assert.equal(serializer.deserialize(encoded([[1]])), null);
  assert.equal(plain.deserialize(encoded([[1]])), null);
});

test("a browser without WebCodecs offers nothing", () => {
  Reflect.deleteProperty(globalThis, "AudioDecoder");
  const serializer = new OpusFrameSerializer();
  assert.equal(serializer.connected(), null);
  serializer.deserialize(message(ANSWER));
  assert(!serializer.isAgreed);
});

test("the microphone's audio is compressed", () => {
  const serializer = agreed();
  const frame = decodeFrame(serializer.serializeAudio(new ArrayBuffer(640), 16_000, 1).buffer);
  assert.equal(frame?.type, "encoded-audio");
  assert.deepEqual(frame.packets.map((packet) => packet.length), [640]);
  assert.equal(FakeEncoder.config.bitrate, 16_000);
  assert.equal(FakeEncoder.config.sampleRate, 16_000);
  // On another socket the server is asked again.
  serializer.connected();
  assert.equal(decodeFrame(serializer.serializeAudio(new ArrayBuffer(640), 16_000, 1).buffer)?.type, "audio");
});

test("the bot's audio comes out at its place and for its destination", async () => {
  const serializer = agreed();
  const audio = await serializer.deserialize(encoded([[1, 2], [3]]));
  assert.deepEqual(audio, {
    type: "audio", audio: Int16Array.of(1, 2, 3), sampleRate: 48_000, numChannels: 1, pts: 5,
  });
  const music = await serializer.deserialize(encoded([[4]], { destination: "music" }));
  assert.equal(music.destination, "music");
  const interruption = serializer.deserialize(encodeFrame({ type: "interruption" }).buffer);
  assert.equal(interruption?.type, "interruption");
  assert.deepEqual((await serializer.deserialize(encoded([[7]]))).audio, Int16Array.of(7));
});

test("a packet that can't be played is left out, and the next ones are played", async () => {
  const serializer = agreed();
  assert.equal(await serializer.deserialize(encoded([[255]])), null);
  assert.deepEqual((await serializer.deserialize(encoded([[7]]))).audio, Int16Array.of(7));
});

test("messages and other frames are what they were", () => {
  const serializer = agreed();
  const other = { label: "rtvi-ai", type: "codecs", data: {} };
  assert.deepEqual(serializer.deserialize(message(other)), { type: "message", message: other });
});
