import assert from "node:assert/strict";
import { test } from "node:test";

import { PlaybackReporter } from "../../voicews/static/voicews/playback-reporter.js";

/** @import { PlaybackReport } from "../../voicews/static/voicews/jitter-buffer.js" */
/** @import { PlaybackPosition } from "../../voicews/static/voicews/playback-reporter.js" */

/**
 * @param {Partial<PlaybackReport>} part
 * @returns {PlaybackReport}
 */
function report(part) {
  return {
    state: "playing", flushed: false, pts: 0, bufferedMs: 80, targetMs: 60, underruns: 0,
    concealedMs: 0, overflowMs: 0, level: 0, ...part,
  };
}

test("while playing at most five positions a second, each of what was really heard", () => {
  /** @type {PlaybackPosition[]} */
  const sent = [];
  const reporter = new PlaybackReporter((position) => sent.push(position));
  for (let ms = 0; ms < 2000; ms += 50) reporter.update(report({ pts: ms * 1e6 }), 0.03, ms);
  assert.equal(sent.length, 10);
  assert.deepEqual(sent[0], { pts: 0, state: "playing", buffered_ms: 80 });
  assert.equal(sent[1].pts, 170e6);
});

test("running dry and being flushed are told at once, and once", () => {
  /** @type {string[]} */
  const sent = [];
  const reporter = new PlaybackReporter(({ state }) => sent.push(state));
  reporter.update(report({ pts: 1 }), 0, 0);
  reporter.update(report({ pts: 2, state: "idle" }), 0, 10);
  reporter.update(report({ pts: 2, state: "idle" }), 0, 60);
  reporter.update(report({ pts: 3 }), 0, 300);
  reporter.update(report({ pts: 4, flushed: true }), 0, 310);
  reporter.update(report({ pts: 4, state: "idle" }), 0, 320);
  assert.deepEqual(sent, ["playing", "idle", "playing", "flushed"]);
});

test("audio without media time is not reported", () => {
  const reporter = new PlaybackReporter(() => assert.fail("reported"));
  reporter.update(report({ pts: null }), 0, 0);
});
