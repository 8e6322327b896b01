import assert from "node:assert/strict";
import { test } from "node:test";

import { VoiceError } from "../../voicews/static/voicews/errors.js";
import { decodeFrame, encodeFrame } from "../../voicews/static/voicews/frame-codec.js";

/** @import { Frame } from "../../voicews/static/voicews/frame-codec.js" */

/** Recorded between Pipecat's browser client and its server. */
const RECORDED_REQUEST = "ImcKZXsibGFiZWwiOiJydHZpLWFpIiwidHlwZSI6ImNsaWVudC1tZXNzYWdlIiwiZGF0YSI6eyJ0IjoiZWNo"
  + "byIsImQiOnsiaGVsbG8iOiJ3b3JsZCJ9fSwiaWQiOiI0Y2M1ODFhNSJ9";
const RECORDED_INTERRUPTION = "KhgIrAkSE0ludGVycnVwdGlvbkZyYW1lIzA=";
/** The recorded start of an audio frame of that client, with the PCM cut down to eight bytes. */
const CLIENT_AUDIO = "12 16 12 05 617564696f 1a 08 f50c4715f81ccb23 20 80 7d 28 01";

/** @param {string} text base64 */
function fromBase64(text) {
  return new Uint8Array(Buffer.from(text, "base64")).buffer;
}

/** @param {string} text hexadecimal, spaces for the eye */
function fromHex(text) {
  return new Uint8Array(Buffer.from(text.replaceAll(" ", ""), "hex")).buffer;
}

test("reads and writes a recorded message byte for byte", () => {
  const frame = decodeFrame(fromBase64(RECORDED_REQUEST));
  assert.equal(frame?.type, "message");
  assert.deepEqual(JSON.parse(frame.data).data, { t: "echo", d: { hello: "world" } });
  assert.equal(Buffer.from(encodeFrame(frame)).toString("base64"), RECORDED_REQUEST);
});

test("reads and writes a recorded interruption byte for byte", () => {
  const frame = decodeFrame(fromBase64(RECORDED_INTERRUPTION));
  assert.deepEqual(frame, { type: "interruption", id: 1196, name: "InterruptionFrame#0" });
  assert.equal(Buffer.from(encodeFrame(frame)).toString("base64"), RECORDED_INTERRUPTION);
});

test("reads and writes a client's audio byte for byte", () => {
  const frame = decodeFrame(fromHex(CLIENT_AUDIO));
  assert.equal(frame?.type, "audio");
  assert.equal(frame.sampleRate, 16000);
  assert.equal(frame.numChannels, 1);
  assert.equal(frame.pts, null);
  assert.deepEqual([...new Int16Array(frame.audio.slice().buffer)], [3317, 5447, 7416, 9163]);
  assert.deepEqual(encodeFrame(frame).buffer, fromHex(CLIENT_AUDIO));
});

test("every kind of frame survives the way there and back", () => {
  /** @type {Frame[]} */
  const frames = [
    { type: "text", id: 7, name: "t", text: "grüß dich 👋" },
    { type: "transcription", id: 1, name: "n", text: "hello", userId: "u", timestamp: "2026-01-01" },
    { type: "message", data: "{}" },
    { type: "interruption", id: 0, name: "" },
    {
      type: "audio", id: 3, name: "audio", audio: new Uint8Array(640).fill(9), sampleRate: 24000,
      numChannels: 2, pts: 0,
    },
    { type: "interruption", id: 0, name: "", destination: "music" },
    {
      type: "audio", id: 3, name: "audio", audio: new Uint8Array(640).fill(9), sampleRate: 24000,
      numChannels: 2, pts: 0, destination: "music",
    },
  ];
  for (const frame of frames) {
    assert.deepEqual(decodeFrame(encodeFrame(frame).buffer), frame);
  }
});

test("what has a destination is of a kind that a peer without destinations passes over", () => {
  const audio = new Uint8Array(2);
  const destination = "music";
  const bytes = encodeFrame({ type: "audio", audio, sampleRate: 8000, numChannels: 1, destination });
  assert.equal(bytes[0] >> 3, 7);
  assert.equal(encodeFrame({ type: "interruption", destination })[0] >> 3, 8);
});

test("times and ids are exact up to 64 bits", () => {
  for (const pts of [0, 127, 128, 2 ** 32, 2 ** 49, 2 ** 53 - 1, 2n ** 53n, 2n ** 64n - 1n]) {
    const audio = new Uint8Array(2);
    const bytes = encodeFrame({ type: "audio", audio, sampleRate: 8000, numChannels: 1, pts });
    const frame = decodeFrame(bytes.buffer);
    assert.equal(frame?.type, "audio");
    assert.equal(frame.pts, pts);
  }
  assert.throws(() => encodeFrame({ type: "interruption", id: -1 }), VoiceError);
  assert.throws(() => encodeFrame({ type: "interruption", id: 2n ** 64n }), VoiceError);
  assert.throws(() => encodeFrame({ type: "interruption", id: 1.5 }), VoiceError);
});

test("a piece of a picture survives both ways", () => {
  const frame = {
    type: /** @type {const} */ ("image"), id: 3, name: "camera", image: Uint8Array.of(1, 2), width: 640,
    height: 480, format: "JPEG", offset: 1024, total: 5000, request: 9, pts: 7,
  };
  assert.deepEqual(decodeFrame(encodeFrame(frame).buffer), frame);
});

test("fields of a newer schema are passed over", () => {
  assert.equal(decodeFrame(new ArrayBuffer(0)), null);
  // A message (4), then an unknown varint, fixed64, fixed32 and bytes; inside, an unknown field too.
  const frame = decodeFrame(
    fromHex("22 06 0a 02 7b7d 50 01"
      + "48 05 51 0000000000000000 5d 00000000 62 01 ff"),
  );
  assert.deepEqual(frame, { type: "message", data: "{}" });
});

test("malformed input is refused with what was wrong, without the payload", () => {
  const cases = [
    ["22 05 0a", /expected 5 more bytes, found 1/],
    ["22", /ends inside a field/],
    ["22 03 0a 01 ff", /not UTF-8/],
    ["02 00", /field number 0/],
    ["0b", /wire type 3/],
    ["0d 00 00", /ends inside a field/],
    ["08 ff ff ff ff ff ff ff ff ff ff", /longer than 64 bits/],
    ["08 ff ff ff ff ff ff ff ff ff 02", /longer than 64 bits/],
    ["12 06 20 ff ff ff ff 7f", /sample_rate is larger than 32 bits/],
  ];
  for (const [hex, message] of cases) {
    assert.throws(() => decodeFrame(fromHex(/** @type {string} */ (hex))), (error) => {
      assert(error instanceof VoiceError);
      assert.equal(error.code, "bad-frame");
      assert.match(error.message, /** @type {RegExp} */ (message));
      return true;
    });
  }
});

test("random bytes never do anything but return or throw a VoiceError", () => {
  let seed = 1;
  const random = () => {
    seed = (seed * 48271) % 0x7fffffff;
    return seed;
  };
  for (let round = 0; round < 3000; round++) {
    const bytes = Uint8Array.from({ length: random() % 40 }, () => random() % 256);
    try {
      decodeFrame(bytes.buffer);
    } catch (error) {
      assert(error instanceof VoiceError, String(error));
    }
  }
});
