import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { encodeFrame } from "../../voicews/static/voicews/frame-codec.js";
import { ProtobufFrameSerializer } from "../../voicews/static/voicews/protobuf-frame-serializer.js";
import { fakeCall } from "./fake-call.js";
import { FakeClock, settle } from "./fake-clock.js";

/** @import { FrameSerializer } from "../../voicews/static/voicews/protobuf-frame-serializer.js" */

const PARAMS = { ws_url: "ws://host/ws/voice/1/" };
const READY = { label: "rtvi-ai", type: "bot-ready", data: { version: "2.2.0" } };

/** @type {FakeClock} */
let clock;
beforeEach(() => {
  clock = new FakeClock().install();
});
afterEach(() => clock.uninstall());

/** @param {FrameSerializer} serializer */
async function callWith(serializer) {
  const call = fakeCall({}, { serializer, playerSampleRate: 8000 });
  /** @type {any[]} */
  const sent = [];
  /** @type {unknown[]} */
  const raw = [];
  call.client.on("onRawMessage", (message) => raw.push(message));
  const connected = call.client.connect(PARAMS);
  await settle();
  call.socket.send = (data) => sent.push(data);
  call.socket.accept();
  return { call, sent, raw, connected };
}

test("audio and messages are what Pipecat's own serializer makes of them", async () => {
  const serializer = new ProtobufFrameSerializer();
  const pcm = Int16Array.from([1, -2, 300]);
  const audio = serializer.serializeAudio(pcm.buffer, 8000, 1);
  assert.deepEqual(serializer.deserialize(audio.buffer), {
    type: "audio", id: 0, name: "audio", audio: pcm, sampleRate: 8000, numChannels: 1, pts: null,
  });
  const message = { label: "rtvi-ai", type: "client-ready", id: "1", data: {} };
  const incoming = await serializer.deserialize(new Blob([serializer.serializeMessage(message)]));
  assert.deepEqual(incoming, { type: "message", message });
  const text = /** @type {const} */ ({ type: "text", id: 1, name: "n", text: "hello" });
  assert.deepEqual(serializer.deserialize(encodeFrame(text).buffer), text);
  assert.equal(serializer.deserialize(new ArrayBuffer(0)), null);
  for (const data of [
    "text",
    encodeFrame({ type: "message", data: "{" }).buffer,
    encodeFrame({ type: "audio", audio: new Uint8Array(3), sampleRate: 8000, numChannels: 1 }).buffer,
  ]) assert.throws(() => serializer.deserialize(data), /JSON|binary|16-bit/);
});

/** As one is written for Pipecat's transport: text, and answers that take their time. */
class JsonSerializer {
  /** @param {any} data */
  serialize(data) {
    return JSON.stringify(data);
  }

  /** @param {ArrayBuffer} data */
  serializeAudio(data, sampleRate = 0, numChannels = 0) {
    const samples = Array.from(new Int16Array(data));
    return JSON.stringify({ samples, sampleRate, numChannels });
  }

  /** @param {any} message */
  serializeMessage(message) {
    return message.type === "client-ready" ? JSON.stringify({ message }) : null;
  }

  /**
   * @param {string} data
   * @returns {Promise<any>}
   */
  async deserialize(data) {
    const found = JSON.parse(data);
    await new Promise((resolve) => setTimeout(resolve, found.ms ?? 1));
    if (found.samples) return { type: "audio", audio: Int16Array.from(found.samples) };
    if (found.message) return { type: "message", message: found.message };
    return { type: "raw", message: found };
  }
}

test("a serializer that was written for Pipecat's transport works as it is", async () => {
  const { call, sent, raw, connected } = await callWith(new JsonSerializer());
  const receive = (/** @type {object} */ data) => call.socket.onmessage({ data: JSON.stringify(data) });
  assert.equal(call.socket.binaryType, "blob");
  receive({ message: READY, ms: 50 });
  receive({ samples: [1, 2, 3] });
  receive({ event: "clear", ms: 5 });
  call.socket.onmessage({ data: "{" });
  receive({ samples: [4] });
  await clock.advance(200);
  await connected;
  // In the order in which they came, however long each of them took.
  assert.deepEqual(call.audio.played.map(({ audio, sampleRate, numChannels, pts }) =>
    [Array.from(new Int16Array(audio.buffer)), sampleRate, numChannels, pts]),
  [[[1, 2, 3], 8000, 1, null], [[4], 8000, 1, null]]);
  assert.deepEqual(raw, [{ event: "clear", ms: 5 }]);
  assert.equal(call.client.stats.badFrames, 1);
  call.client.transport.handleUserAudioStream(Int16Array.from([7, 8]).buffer);
  call.client.transport.sendRawMessage({ event: "mark" });
  call.client.sendText("not for this server");
  const [ready, audio, mark] = sent.map((data) => JSON.parse(data));
  assert.equal(ready.message.type, "client-ready");
  assert.deepEqual(audio, { samples: [7, 8], sampleRate: 16_000, numChannels: 1 });
  assert.deepEqual(mark, { event: "mark" });
  assert.equal(sent.length, 3);
});

test("what came before the end of a socket is heard before it", async () => {
  const { call, connected } = await callWith(new JsonSerializer());
  call.socket.onmessage({ data: JSON.stringify({ message: READY, ms: 5 }) });
  call.socket.drop(1000, "bot ended");
  await clock.advance(20);
  await connected;
  assert.equal(call.client.state, "disconnected");
});

test("one that is derived from ours for Pipecat gets the Blob that it expects", async () => {
  /** @type {number[]} */
  const sizes = [];
  class Recording extends ProtobufFrameSerializer {
    /** @param {Blob} data */
    async deserialize(data) {
      sizes.push((await data.arrayBuffer()).byteLength);
      return super.deserialize(data);
    }
  }
  const { call, connected } = await callWith(new Recording());
  assert.equal(call.socket.binaryType, "blob");
  const bytes = new ProtobufFrameSerializer().serializeMessage(READY);
  call.socket.onmessage({ data: /** @type {any} */ (new Blob([bytes])) });
  await connected;
  assert.deepEqual(sizes, [bytes.length]);
  assert.equal(new ProtobufFrameSerializer().binaryType, "arraybuffer");
});
