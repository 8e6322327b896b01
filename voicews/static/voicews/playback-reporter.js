/**
 * Tells the server how far its audio has really been heard, no more often than it needs to know.
 */

/** @import { PlaybackReport } from "./jitter-buffer.js" */

const MIN_INTERVAL_MS = 200;

/** @typedef {{ pts: number, state: "playing" | "idle" | "flushed", buffered_ms: number }} PlaybackPosition */

export class PlaybackReporter {
  #send;
  #lastState = "idle";
  #lastSent = -Infinity;

  /** @param {(position: PlaybackPosition) => void} send */
  constructor(send) {
    this.#send = send;
  }

  /**
   * @param {PlaybackReport} report
   * @param {number} latencySecs between the worklet and the ear
   * @param {number} nowMs
   */
  update(report, latencySecs, nowMs) {
    if (report.pts === null) return;
    if (report.flushed) {
      this.#report(report, report.pts, "flushed", nowMs);
    } else if (report.state === "playing") {
      if (nowMs - this.#lastSent < MIN_INTERVAL_MS) return;
      // What is on its way through the audio device has been played, but not been heard.
      this.#report(report, Math.max(0, report.pts - latencySecs * 1e9), "playing", nowMs);
    } else if (report.state === "idle" && this.#lastState === "playing") {
      this.#report(report, report.pts, "idle", nowMs);
    }
  }

  /**
   * @param {PlaybackReport} report
   * @param {number} pts
   * @param {PlaybackPosition["state"]} state
   * @param {number} nowMs
   */
  #report(report, pts, state, nowMs) {
    this.#lastState = state;
    this.#lastSent = nowMs;
    this.#send({ pts: Math.round(pts), state, buffered_ms: Math.round(report.bufferedMs) });
  }
}
