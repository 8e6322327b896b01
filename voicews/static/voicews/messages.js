/**
 * Builds and reads the JSON messages: RTVI (label "rtvi-ai") and the few of our own (label "voicews").
 */

import { ErrorCode, VoiceError } from "./errors.js";
import { VERSION } from "./version.js";

/** @import { BotOutput } from "./events.js" */

export const RTVI_LABEL = "rtvi-ai";
export const VOICEWS_LABEL = "voicews";
/** What our own client speaks. */
const RTVI_VERSION = "2.2.0";

/**
 * @typedef {object} Message
 * @property {string} label
 * @property {string} type
 * @property {string} [id]
 * @property {any} [data]
 */

/** @returns {string} eight hexadecimal digits */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(4));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * @param {string} type
 * @param {object} data
 * @param {string} [id]
 * @returns {Message}
 */
export function rtviMessage(type, data, id = newId()) {
  return { label: RTVI_LABEL, type, data, id };
}

/**
 * @param {string} [version] of RTVI, that the client which gets the messages speaks
 * @returns {Message}
 */
export function clientReady(version = RTVI_VERSION) {
  return rtviMessage("client-ready", {
    version,
    about: {
      library: "voicews",
      library_version: VERSION,
      platform: "browser",
      platform_details: { user_agent: globalThis.navigator?.userAgent ?? "" },
    },
  });
}

/**
 * @param {string} id
 * @returns {Message}
 */
export function ping(id) {
  return { label: VOICEWS_LABEL, type: "ping", id, data: {} };
}

/**
 * @param {{ pts: number, state: "playing" | "idle" | "flushed", buffered_ms: number }} data
 * @returns {Message}
 */
export function playback(data) {
  return { label: VOICEWS_LABEL, type: "playback", data };
}

/**
 * @param {string[]} audio codecs that both ends may use
 * @returns {Message}
 */
export function codecs(audio) {
  return { label: VOICEWS_LABEL, type: "codecs", data: { audio } };
}

/**
 * @param {string} data
 * @returns {Message}
 * @throws {VoiceError} bad-frame
 */
export function parseMessage(data) {
  let message;
  try {
    message = JSON.parse(data);
  } catch {
    throw new VoiceError(ErrorCode.BAD_FRAME, "A message is not JSON.");
  }
  if (typeof message !== "object" || message === null || typeof message.type !== "string") {
    throw new VoiceError(ErrorCode.BAD_FRAME, "A message is not an object with a type.");
  }
  return message;
}

/**
 * @param {string | string[]} buttons
 * @returns {string[]}
 * @throws {VoiceError} invalid-argument
 */
export function dtmfButtons(buttons) {
  const list = [...buttons].map((button) => button.toUpperCase());
  const wrong = list.find((button) => !/^[0-9*#A-D]$/.test(button));
  if (list.length === 0 || wrong !== undefined) {
    throw new VoiceError(
      ErrorCode.INVALID_ARGUMENT,
      `Expected DTMF buttons 0-9, *, #, A-D, found ${JSON.stringify(wrong ?? "")}.`,
    );
  }
  return list;
}

/**
 * The data of `bot-output`, with the names of RTVI 1 and of RTVI 2.
 * @param {any} data
 * @returns {BotOutput}
 */
export function botOutput(data) {
  const outputType = data?.output_type ?? data?.aggregated_by ?? "sentence";
  const isSpoken = data?.will_be_spoken ?? data?.spoken ?? false;
  return {
    ...data,
    text: String(data?.text ?? ""),
    output_type: outputType,
    aggregated_by: outputType,
    will_be_spoken: isSpoken,
    spoken: isSpoken,
  };
}

/**
 * @param {any} data of a `server-message`
 * @returns {string | null} what an operator wrote; null if it is another message
 */
export function operatorText(data) {
  return data?.type === "operator-message" && typeof data.text === "string" ? data.text : null;
}
