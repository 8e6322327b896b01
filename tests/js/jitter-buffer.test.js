import assert from "node:assert/strict";
import { test } from "node:test";

import { JitterBuffer } from "../../voicews/static/voicews/jitter-buffer.js";

const RATE = 48000;
const MS = RATE / 1000;

/**
 * @param {JitterBuffer} buffer
 * @param {number} ms
 * @param {number} [value]
 * @param {number | null} [pts]
 */
function push(buffer, ms, value = 0.5, pts = null) {
  buffer.push({ channels: [new Float32Array(ms * MS).fill(value)], pts });
}

/**
 * @param {JitterBuffer} buffer
 * @param {number} ms
 */
function pull(buffer, ms) {
  const output = [];
  for (let done = 0; done < ms * MS; done += 96) {
    const left = new Float32Array(96);
    buffer.pull(left, new Float32Array(96));
    output.push(...left);
  }
  return output;
}

/** @param {number[]} samples */
function largestStep(samples) {
  return samples.slice(1).reduce((step, x, i) => Math.max(step, Math.abs(x - samples[i])), 0);
}

test("nothing is played before the target is there, and all of it afterwards", () => {
  const buffer = new JitterBuffer(RATE);
  push(buffer, 20);
  assert(pull(buffer, 20).every((x) => x === 0));
  assert.equal(buffer.state, "buffering");
  push(buffer, 20);
  push(buffer, 20);
  assert(pull(buffer, 60).every((x) => x === 0.5));
  assert.equal(buffer.state, "playing");
});

test("an utterance shorter than the target is played after the same wait", () => {
  const buffer = new JitterBuffer(RATE);
  push(buffer, 20);
  const output = pull(buffer, 120);
  assert.equal(output.filter((x) => x === 0.5).length, 20 * MS);
  assert(output.slice(0, 55 * MS).every((x) => x === 0));
});

test("the end of an utterance plays what is there at once", () => {
  const buffer = new JitterBuffer(RATE);
  push(buffer, 20);
  buffer.end();
  assert(pull(buffer, 20).every((x) => x === 0.5));
});

test("late audio is counted, bridged without clicks, and makes the buffer more careful", () => {
  const buffer = new JitterBuffer(RATE);
  push(buffer, 60);
  const output = pull(buffer, 100);
  assert.equal(buffer.state, "idle");
  assert.equal(buffer.underruns, 0);
  push(buffer, 20);
  push(buffer, 60);
  output.push(...pull(buffer, 80));
  assert.equal(buffer.underruns, 1);
  assert.equal(buffer.targetMs, 80);
  assert(Math.abs(buffer.concealedMs - 40) <= 2, `${buffer.concealedMs} ms`);
  assert(largestStep(output.slice(1)) < 0.01, "a click");
});

test("a pause between two utterances is no under-run", () => {
  const marked = new JitterBuffer(RATE);
  push(marked, 100);
  marked.end();
  pull(marked, 200);
  push(marked, 100);
  const silent = new JitterBuffer(RATE);
  push(silent, 100);
  pull(silent, 1200);
  push(silent, 100);
  for (const buffer of [marked, silent]) {
    pull(buffer, 50);
    assert.equal(buffer.underruns, 0);
    assert.equal(buffer.concealedMs, 0);
  }
});

test("where ends are announced, a long gap without one is an under-run", () => {
  const buffer = new JitterBuffer(RATE);
  push(buffer, 60);
  buffer.end();
  pull(buffer, 3000);
  push(buffer, 60);
  pull(buffer, 3060);
  push(buffer, 100);
  pull(buffer, 20);
  assert.equal(buffer.underruns, 1);
  assert(Math.abs(buffer.concealedMs - 3000) <= 64, `${buffer.concealedMs} ms`);
});

test("the end may be announced after the buffer ran dry", () => {
  const buffer = new JitterBuffer(RATE);
  push(buffer, 60);
  pull(buffer, 80);
  buffer.end();
  push(buffer, 60);
  assert.equal(buffer.underruns, 0);
});

test("the target falls again in calm times", () => {
  const buffer = new JitterBuffer(RATE);
  push(buffer, 60);
  pull(buffer, 100);
  push(buffer, 20_000);
  pull(buffer, 10_200);
  assert.equal(buffer.targetMs, 60);
});

test("an interruption fades out within 5 ms and forgets the rest", () => {
  const buffer = new JitterBuffer(RATE);
  push(buffer, 1000, 0.5, 0);
  const before = pull(buffer, 100);
  buffer.flush();
  assert.equal(buffer.bufferedMs, 5);
  const after = pull(buffer, 20);
  assert(largestStep([...before.slice(-1), ...after]) < 0.01, "a click");
  assert(after.slice(5 * MS).every((x) => x === 0));
  assert.equal(buffer.pts, 105e6);
  assert.equal(buffer.state, "idle");
});

test("what comes after an interruption is played, and is no under-run", () => {
  const buffer = new JitterBuffer(RATE);
  push(buffer, 1000);
  pull(buffer, 100);
  buffer.flush();
  push(buffer, 100, -0.25);
  const output = pull(buffer, 120);
  assert.equal(output.filter((x) => x === -0.25).length, 100 * MS);
  assert.equal(buffer.underruns, 0);
});

test("an interruption before anything was heard leaves nothing", () => {
  const buffer = new JitterBuffer(RATE);
  push(buffer, 40);
  buffer.flush();
  assert.equal(buffer.state, "idle");
  assert.equal(buffer.bufferedMs, 0);
  assert(pull(buffer, 100).every((x) => x === 0));
});

test("the position is the media time of what has left the buffer", () => {
  const buffer = new JitterBuffer(RATE);
  assert.equal(buffer.pts, null);
  push(buffer, 60, 0.5, 1e9);
  push(buffer, 60, 0.5, 3e9);
  pull(buffer, 30);
  assert.equal(buffer.pts, 1.03e9);
  pull(buffer, 60);
  assert.equal(buffer.pts, 3.03e9);
  pull(buffer, 100);
  assert.equal(buffer.pts, 3.06e9);
});

test("stereo stays stereo, mono is heard on both sides", () => {
  const buffer = new JitterBuffer(RATE);
  const [one, two] = [new Float32Array(4800).fill(0.1), new Float32Array(4800).fill(0.2)];
  buffer.push({ channels: [one, two], pts: null });
  push(buffer, 100, 0.5);
  const [left, right] = [new Float32Array(9600), new Float32Array(9600)];
  buffer.pull(left, right);
  assert.deepEqual([left[0], right[0]], [one[0], two[0]]);
  assert.deepEqual([left[9000], right[9000]], [0.5, 0.5]);
});

test("a server that sends without end can't fill the memory", () => {
  const buffer = new JitterBuffer(RATE);
  for (let i = 0; i < 70; i++) push(buffer, 1000);
  assert.equal(buffer.bufferedMs, 60_000);
  assert.equal(buffer.overflowMs, 10_000);
});
