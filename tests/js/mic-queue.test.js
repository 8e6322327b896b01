import assert from "node:assert/strict";
import { test } from "node:test";

import { MicQueue } from "../../voicews/static/voicews/mic-queue.js";

const [LOUD, SILENT] = [0.1, 0.003];

/** @param {number} mark */
function frame(mark) {
  return new Uint8Array(640).fill(mark);
}

/** Holds back what exceeds its buffer, as a slow network does. */
class SlowOutlet {
  bufferedAmount = 0;
  /** @type {number[]} */
  sent = [];
  /** @param {Uint8Array} pcm */
  send = (pcm) => {
    this.bufferedAmount += pcm.length;
    this.sent.push(pcm[0]);
  };
}

test("without a socket the newest half second is kept", () => {
  const queue = new MicQueue(16000);
  for (let i = 0; i < 100; i++) queue.push(frame(i), LOUD, null);
  assert.equal(queue.waitingMs, 500);
  assert.equal(queue.droppedMs, 1500);
  assert.equal(queue.droppedBytes, 75 * 640);
  const outlet = new SlowOutlet();
  for (let round = 0; round < 3; round++) {
    outlet.bufferedAmount = 0;
    queue.drain(outlet);
  }
  assert.deepEqual(outlet.sent, Array.from({ length: 25 }, (_, i) => 75 + i));
});

test("a socket that keeps up gets every frame at once", () => {
  const queue = new MicQueue(16000);
  const outlet = new SlowOutlet();
  for (let i = 0; i < 100; i++) {
    outlet.bufferedAmount = 0;
    queue.push(frame(i), LOUD, outlet);
  }
  assert.equal(outlet.sent.length, 100);
  assert.equal(queue.droppedMs, 0);
});

test("a socket that is stuck holds half a second together with the queue; the oldest goes", () => {
  const queue = new MicQueue(16000);
  const outlet = new SlowOutlet();
  for (let i = 0; i < 100; i++) queue.push(frame(i), LOUD, outlet);
  const stuckMs = (outlet.bufferedAmount + queue.waitingMs * 32) / 32;
  assert(stuckMs <= 520, `${stuckMs} ms`);
  assert(queue.droppedMs >= 1480 - 20, `${queue.droppedMs} ms`);
  outlet.bufferedAmount = 0;
  queue.drain(outlet);
  assert(outlet.sent.includes(99) || queue.waitingMs > 0);
  assert(!outlet.sent.includes(50));
});

test("who says nothing before the call begins is not behind when it does", () => {
  const queue = new MicQueue(16000);
  for (let i = 0; i < 100; i++) queue.push(frame(i), SILENT, null);
  assert.equal(queue.waitingMs, 60);
  assert.equal(queue.droppedMs, 0);
});

test("what is said before the call begins waits with its onset and its pauses", () => {
  const queue = new MicQueue(16000);
  for (let i = 0; i < 30; i++) queue.push(frame(i), SILENT, null);
  for (let i = 30; i < 40; i++) queue.push(frame(i), i % 5 === 0 ? LOUD : SILENT, null);
  const outlet = new SlowOutlet();
  for (let round = 0; round < 3; round++) {
    outlet.bufferedAmount = 0;
    queue.drain(outlet);
  }
  assert.deepEqual(outlet.sent, Array.from({ length: 13 }, (_, i) => 27 + i));
});

test("silence that a slow network holds up is sent like anything else", () => {
  const queue = new MicQueue(16000);
  const outlet = new SlowOutlet();
  for (let i = 0; i < 20; i++) queue.push(frame(i), SILENT, outlet);
  assert.equal(outlet.sent.length * 20 + queue.waitingMs, 400);
});
