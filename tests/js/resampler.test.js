import assert from "node:assert/strict";
import { test } from "node:test";

import { Resampler } from "../../voicews/static/voicews/resampler.js";

/**
 * @param {number} frequency Hz
 * @param {number} rate Hz
 * @param {number} length samples
 */
function tone(frequency, rate, length) {
  return Float32Array.from({ length }, (_, i) => 0.5 * Math.sin((2 * Math.PI * frequency * i) / rate));
}

/**
 * @param {Resampler} resampler
 * @param {Float32Array} input
 * @param {number} chunk samples per call
 */
function stream(resampler, input, chunk) {
  const output = [];
  for (let at = 0; at < input.length; at += chunk) {
    output.push(...resampler.process(input.subarray(at, at + chunk)));
  }
  return output;
}

/**
 * Fits a sine of the given frequency to the middle of the signal.
 * @param {number[]} signal
 * @param {number} frequency
 * @param {number} rate
 */
function fit(signal, frequency, rate) {
  const middle = signal.slice(400, -400);
  const w = (2 * Math.PI * frequency) / rate;
  let [ss, cc, sc, s, c] = [0, 0, 0, 0, 0];
  middle.forEach((x, i) => {
    const [sin, cos] = [Math.sin(w * i), Math.cos(w * i)];
    ss += sin * sin;
    cc += cos * cos;
    sc += sin * cos;
    s += x * sin;
    c += x * cos;
  });
  const det = ss * cc - sc * sc;
  const a = (s * cc - c * sc) / det;
  const b = (c * ss - s * sc) / det;
  let noise = 0;
  middle.forEach((x, i) => {
    noise += (x - a * Math.sin(w * i) - b * Math.cos(w * i)) ** 2;
  });
  const amplitude = Math.hypot(a, b);
  const snr = 10 * Math.log10((middle.length * amplitude ** 2) / 2 / noise);
  return { amplitude, snr };
}

const RATES = [
  [48000, 16000], [44100, 16000], [48000, 8000], [96000, 16000], [16000, 16000], [8000, 48000],
  [16000, 48000], [22050, 48000], [24000, 44100], [24000, 48000], [11025, 44100], [47999, 16000],
];

test("a tone keeps its frequency, its level and its purity", () => {
  for (const [from, to] of RATES) {
    const output = stream(new Resampler(from, to), tone(1000, from, from), 128);
    const { amplitude, snr } = fit(output, 1000, to);
    assert(Math.abs(amplitude - 0.5) < 0.001, `${from} to ${to}: amplitude ${amplitude}`);
    assert(snr > 70, `${from} to ${to}: ${snr.toFixed(1)} dB`);
  }
});

test("speech frequencies pass, what the lower rate can't hold does not", () => {
  for (const [from, to] of [[48000, 16000], [44100, 16000], [48000, 8000], [24000, 8000]]) {
    const edge = fit(stream(new Resampler(from, to), tone(0.375 * to, from, from), 128), 0.375 * to, to);
    assert(edge.amplitude > 0.45, `${from} to ${to}: ${edge.amplitude} at three quarters`);
    for (const frequency of [0.55 * to, 0.7 * to, 0.95 * to]) {
      const alias = stream(new Resampler(from, to), tone(frequency, from, from), 128).slice(400, -400);
      const peak = Math.max(...alias.map(Math.abs));
      assert(peak < 0.5 * 10 ** (-60 / 20), `${from} to ${to}: ${frequency} Hz leaves ${peak}`);
    }
  }
});

test("images of the lower rate stay away", () => {
  const output = stream(new Resampler(16000, 48000), tone(3000, 16000, 16000), 320);
  const image = fit(output, 13000, 48000);
  assert(image.amplitude < 0.5 * 10 ** (-65 / 20), `image ${image.amplitude}`);
});

test("the output does not depend on how the input is cut", () => {
  const input = tone(440, 44100, 4410);
  const whole = stream(new Resampler(44100, 16000), input, input.length);
  for (const chunk of [1, 7, 128, 441]) {
    assert.deepEqual(stream(new Resampler(44100, 16000), input, chunk), whole);
  }
});

test("as much comes out as goes in, and the latency is constant and small", () => {
  for (const [from, to] of RATES) {
    const resampler = new Resampler(from, to);
    assert(resampler.latencySecs <= 0.0021, `${from} to ${to}: ${resampler.latencySecs} s`);
    let [inputs, outputs] = [0, 0];
    for (let i = 0; i < 400; i++) {
      inputs += 128;
      outputs += resampler.process(new Float32Array(128)).length;
      assert(Math.abs(outputs - (inputs * to) / from) <= 1);
    }
    const tail = resampler.flush().length;
    assert(Math.abs(tail - resampler.latencySecs * to) <= 1, `${from} to ${to}: tail ${tail}`);
  }
});

test("flushing brings the end of the signal out, and starts anew", () => {
  const resampler = new Resampler(24000, 48000);
  const input = new Float32Array(480);
  input[479] = 1;
  const before = resampler.process(input);
  const tail = resampler.flush();
  assert(Math.max(...tail) > 0.8);
  assert.deepEqual(resampler.process(input), before);
});

test("equal rates pass every sample unchanged, in an array of its own", () => {
  const input = tone(440, 48000, 128);
  const output = new Resampler(48000, 48000).process(input);
  assert.deepEqual(output, input);
  assert.notEqual(output, input);
});

test("rates that make no sense are refused", () => {
  for (const rate of [0, -1, 0.5, NaN]) assert.throws(() => new Resampler(rate, 16000), RangeError);
});
