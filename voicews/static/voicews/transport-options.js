/**
 * The options of a transport: what its constructor takes, and `connect` may override.
 */

import { ErrorCode, VoiceError } from "./errors.js";
import { ProtobufFrameSerializer } from "./protobuf-frame-serializer.js";

/** @import { MediaOptions } from "./call-media.js" */
/** @import { ConnectionParams } from "./connect-endpoint.js" */
/** @import { UserAudioHook } from "./microphone.js" */
/** @import { FrameSerializer } from "./protobuf-frame-serializer.js" */
/** @import { ReconnectOptions } from "./reconnect-policy.js" */
/** @import { ConnectionOptions } from "./voice-connection.js" */

/**
 * @typedef {object} WebSocketTransportOptions
 * @property {string} [ws_url]
 * @property {string} [wsUrl] the same
 * @property {string} [token] goes into the URL's query
 * @property {FrameSerializer} [serializer] default: ProtobufFrameSerializer
 * @property {number} [recorderSampleRate] Hz of the microphone's frames, default 16000
 * @property {number | null} [playerSampleRate] Hz of the player's audio context, default null: the
 *   device's own. Frames of any rate are played right with either.
 * @property {UserAudioHook | null} [openUserAudio] taps or replaces the microphone
 * @property {boolean} [pushToTalk] default false. The call begins muted, with the microphone taken and kept,
 *   so that `enableMic(true)` sends at once
 * @property {ReconnectOptions} [reconnect] default: two rounds of tries
 */

const KNOWN = new Set([
  "ws_url", "wsUrl", "token", "serializer", "recorderSampleRate", "playerSampleRate", "openUserAudio",
  "pushToTalk", "reconnect",
]);

/** @param {string} message */
function invalid(message) {
  return new VoiceError(ErrorCode.INVALID_ARGUMENT, message);
}

/**
 * @param {unknown} options
 * @returns {WebSocketTransportOptions}
 * @throws {VoiceError} invalid-argument
 */
export function checkOptions(options) {
  if (options === undefined || options === null) return {};
  if (typeof options !== "object") throw invalid(`Expected an object of options, found ${typeof options}.`);
  const found = Object.fromEntries(
    Object.entries(options).filter(([, value]) => value !== undefined),
  );
  for (const name of Object.keys(found)) {
    if (!KNOWN.has(name)) {
      throw invalid(`Expected options of ${[...KNOWN].join(", ")}, found ${JSON.stringify(name)}.`);
    }
  }
  for (const name of ["ws_url", "wsUrl", "token"]) {
    const value = found[name];
    if (value !== undefined && value !== null && typeof value !== "string") {
      throw invalid(`Expected ${name} to be a string, found ${typeof value}.`);
    }
  }
  for (const name of ["recorderSampleRate", "playerSampleRate"]) {
    const value = found[name];
    if (value === undefined || (value === null && name === "playerSampleRate")) continue;
    if (!Number.isInteger(value) || value < 3000 || value > 384_000) {
      throw invalid(`Expected ${name} in Hz, from 3000 to 384000, found ${JSON.stringify(value)}.`);
    }
  }
  return found;
}

/**
 * @param {WebSocketTransportOptions} options
 * @returns {ConnectionOptions & MediaOptions & { params: ConnectionParams }} with all defaults
 */
export function completeOptions(options) {
  return {
    serializer: options.serializer ?? new ProtobufFrameSerializer(),
    recorderSampleRate: options.recorderSampleRate ?? 16_000,
    playerSampleRate: options.playerSampleRate ?? null,
    openUserAudio: options.openUserAudio ?? null,
    pushToTalk: options.pushToTalk ?? false,
    ...(options.reconnect ? { reconnect: options.reconnect } : {}),
    params: { ws_url: options.wsUrl ?? options.ws_url, token: options.token },
  };
}
