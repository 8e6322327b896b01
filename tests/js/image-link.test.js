import assert from "node:assert/strict";
import { test } from "node:test";

import { ImageLink } from "../../voicews/static/voicews/image-link.js";

/**
 * A link of `bytesPerMs` with a round trip of `roundTripMs`: sends a picture, and what arrives.
 * @param {ImageLink} link
 * @param {Uint8Array} picture
 * @param {{ bytesPerMs: number, roundTripMs: number, clock: { now: number }, waits: number[] }} way
 */
function send(link, picture, { bytesPerMs, roundTripMs, clock, waits }) {
  /** @type {number[]} */
  const arrived = [];
  let length = 0;
  /** @type {{ offset: number, bytes: Uint8Array } | null} */
  let piece = link.start(picture, clock.now);
  while (piece) {
    assert.equal(piece.offset, length);
    arrived.push(...piece.bytes);
    length += piece.bytes.length;
    waits.push(piece.bytes.length / bytesPerMs);
    clock.now += piece.bytes.length / bytesPerMs + roundTripMs;
    piece = link.acknowledge(link.id, length, clock.now);
  }
  return Uint8Array.from(arrived);
}

for (const kbitPerSec of [40, 64, 256, 100_000]) {
  test(`at ${kbitPerSec} kbit/s audio waits a moment only`, () => {
    const link = new ImageLink();
    const way = { bytesPerMs: kbitPerSec / 8, roundTripMs: 40, clock: { now: 0 }, waits: [0] };
    for (const size of [1, 5000, 30_000]) {
      const picture = Uint8Array.from({ length: size }, (_, i) => (i * 7) % 256);
      assert.deepEqual(send(link, picture, way), picture);
    }
    assert.ok(Math.max(...way.waits) <= 450, `${Math.max(...way.waits)} ms`);
  });
}

test("a lost picture is given up, and an answer to another one is nothing", () => {
  const link = new ImageLink();
  link.start(new Uint8Array(5000), 0);
  assert.equal(link.acknowledge(9, 1024, 10), null);
  assert.equal(link.isBusy(9999), true);
  assert.equal(link.isBusy(10_000), false);
  assert.equal(link.acknowledge(1, 1024, 10_001), null);
});
