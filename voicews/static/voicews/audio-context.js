/**
 * Opens an audio context with our worklets in it, and keeps it running.
 */

import { url as captureUrl } from "./capture-worklet.js";
import { ErrorCode, UNREACHABLE, VoiceError } from "./errors.js";
import { insecureContext } from "./microphone-access.js";
import { url as playbackUrl } from "./playback-worklet.js";

const GESTURES = ["pointerup", "keydown", "touchend"];
/** A page that was put to sleep, or behind others, may find its audio stopped. */
const WAKING = ["visibilitychange", "resume"];

/** A bundler may have put the worklets into the file of the page: then they are expected beside it. */
const WORKLETS = {
  capture: captureUrl === import.meta.url
    ? new URL("./capture-worklet.js", import.meta.url).href
    : captureUrl,
  playback: playbackUrl === import.meta.url
    ? new URL("./playback-worklet.js", import.meta.url).href
    : playbackUrl,
};

/**
 * Must be called straight from a user's gesture: browsers remember only for a moment that there was one.
 * @param {number | null} sampleRate Hz; null for the device's own
 * @returns {AudioContext}
 * @throws {VoiceError} insecure-context, playback-failed
 */
export function createAudioContext(sampleRate) {
  // Worklets, like microphones, are kept from insecure pages.
  if (!globalThis.isSecureContext || typeof AudioWorkletNode === "undefined") {
    throw insecureContext();
  }
  try {
    return new AudioContext({
      latencyHint: "interactive",
      ...(sampleRate ? { sampleRate } : {}),
    });
  } catch (error) {
    throw new VoiceError(ErrorCode.PLAYBACK_FAILED, "The browser can't play audio.", {
      reason: String(error),
      cause: error,
    });
  }
}

/**
 * @param {AudioContext} context
 * @param {"capture" | "playback"} worklet
 */
export async function loadWorklet(context, worklet) {
  const url = WORKLETS[worklet];
  try {
    await context.audioWorklet.addModule(url);
  } catch (error) {
    // The browser gives the same error for every reason.
    const [code, message] = (await isReachable(url))
      ? [ErrorCode.PLAYBACK_FAILED, "The audio programs can't be loaded."]
      : [ErrorCode.CONNECT_FAILED, UNREACHABLE];
    throw new VoiceError(code, message, { reason: String(error), cause: error });
  }
}

/** @param {string} url */
async function isReachable(url) {
  try {
    await fetch(url, { method: "HEAD", cache: "no-store" });
    return true;
  } catch {
    return false;
  }
}

/**
 * Resumes the context now, whenever the browser suspends it (Safari does for a phone call or another
 * tab), and at the user's next gesture when the browser wants one first.
 * @param {AudioContext} context
 * @returns {() => void} stops this and closes the context
 */
export function keepRunning(context) {
  const resume = () => {
    if (context.state === "running" || context.state === "closed") return;
    context.resume().catch(() => {
      // Refused without a gesture; the listeners below will try again.
    });
  };
  context.addEventListener("statechange", resume);
  for (const gesture of GESTURES) document.addEventListener(gesture, resume, { passive: true });
  for (const wake of WAKING) document.addEventListener(wake, resume);
  resume();
  return () => {
    context.removeEventListener("statechange", resume);
    for (const event of [...GESTURES, ...WAKING]) document.removeEventListener(event, resume);
    if (context.state !== "closed") void context.close();
  };
}
