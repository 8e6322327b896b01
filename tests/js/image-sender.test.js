import assert from "node:assert/strict";
import { test } from "node:test";

import { ImageReceiver } from "../../voicews/static/voicews/image-receiver.js";
import { ImageSender } from "../../voicews/static/voicews/image-sender.js";
import { FakeClock } from "./fake-clock.js";

const SETTINGS = {
  sources: ["camera"], width: 640, height: 480, framerate: 2, quality: 75, max_bytes: 100_000,
};

/** @typedef {import("../../voicews/static/voicews/frame-codec.js").ImageFrame} ImageFrame */

/**
 * A camera whose pictures have `bytes(width, height, quality)` bytes, and a server behind a link.
 * @param {FakeClock} clock
 * @param {{ bytes: (width: number, height: number, quality: number) => number, msPerByte?: number }} link
 */
function call(clock, { bytes, msPerByte = 0 }) {
  const receiver = new ImageReceiver();
  const state = {
    /** @type {{ blob: Blob, width: number, request: number | bigint }[]} */
    pictures: [],
    /** @type {{ width: number, quality: number }[]} */
    captures: [],
    /** @type {ImageFrame[]} */
    frames: [],
  };
  const sender = new ImageSender({
    name: "camera",
    settings: SETTINGS,
    now: () => clock.now,
    capture: async (width, height, quality) => {
      state.captures.push({ width, quality });
      return { image: new Uint8Array(bytes(width, height, quality)), width, height };
    },
    send: (frame) => {
      state.frames.push(frame);
      setTimeout(() => {
        const { received, picture } = receiver.add(frame);
        if (picture) state.pictures.push({ ...picture, request: frame.request });
        if (received) sender.acknowledge(Number(frame.id), received);
      }, 5 + frame.image.length * msPerByte);
      return true;
    },
  });
  return { sender, state };
}

test("pictures leave at the rate that the server asks for", async (t) => {
  const clock = new FakeClock().install();
  t.after(() => clock.uninstall());
  const { sender, state } = call(clock, { bytes: () => 3000 });
  sender.start();
  await clock.advance(5000);
  sender.stop();
  await clock.advance(5000);
  assert.ok(state.pictures.length >= 9 && state.pictures.length <= 11, `${state.pictures.length}`);
  assert.deepEqual([...new Set(state.pictures.map(({ width }) => width))], [640]);
});

test("on a thin link they become worse, then smaller", async (t) => {
  const clock = new FakeClock().install();
  t.after(() => clock.uninstall());
  const { sender, state } = call(clock, {
    bytes: (width, height, quality) => Math.round((width * height * quality) / 800),
    msPerByte: 1 / 5,
  });
  sender.start();
  await clock.advance(30_000);
  const last = state.captures.at(-1);
  assert.equal(last?.quality, 20);
  assert.ok(last.width < 640);
  const pieces = state.frames.map(({ image }) => image.length);
  assert.ok(Math.max(...pieces) <= 2048);
});

test("a picture that is asked for answers the request", async (t) => {
  const clock = new FakeClock().install();
  t.after(() => clock.uninstall());
  const { sender, state } = call(clock, { bytes: () => 3000 });
  sender.request(7);
  await clock.advance(1000);
  assert.deepEqual(state.pictures.map(({ request }) => request), [7]);
});

test("a picture that is too large is not sent, and the next one is worse", async (t) => {
  const clock = new FakeClock().install();
  t.after(() => clock.uninstall());
  const { sender, state } = call(clock, { bytes: (_w, _h, quality) => quality * 2000 });
  sender.start();
  await clock.advance(3000);
  assert.ok(state.pictures.length >= 3);
  assert.ok(state.pictures.every(({ blob }) => blob.size <= 100_000));
});

test("pieces that fit nowhere are no picture", () => {
  const receiver = new ImageReceiver();
  const piece = {
    type: /** @type {const} */ ("image"), id: 1, name: "", width: 4, height: 2, format: "JPEG", total: 5, request: 0,
  };
  assert.equal(receiver.add({ ...piece, image: new Uint8Array(2), offset: 3 }).received, 0);
  assert.equal(receiver.add({ ...piece, image: new Uint8Array(3), offset: 0 }).received, 3);
  assert.equal(receiver.add({ ...piece, image: new Uint8Array(9), offset: 3 }).received, 0);
  assert.equal(receiver.add({ ...piece, image: new Uint8Array(0), offset: 0 }).received, 0);
  const { picture } = receiver.add({ ...piece, image: new Uint8Array(5), offset: 0, total: 0 });
  assert.equal(picture?.blob.size, 5);
  assert.equal(picture?.blob.type, "image/jpeg");
});
