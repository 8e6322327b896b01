/**
 * What a WebSocket close code means for a call: whether to come back, and what to tell the user.
 */

import { ErrorCode, UNREACHABLE, VoiceError } from "./errors.js";

export const CloseCode = Object.freeze({
  NORMAL: 1000,
  GOING_AWAY: 1001,
  PROTOCOL_ERROR: 1002,
  NO_STATUS: 1005,
  ABNORMAL: 1006,
  BAD_DATA: 1007,
  NOT_ALLOWED: 1008,
  TOO_BIG: 1009,
  SERVER_ERROR: 1011,
  SERVER_RESTARTING: 1012,
  BUSY: 1013,
  SESSION_TIMEOUT: 4000,
  REPLACED: 4001,
  ENDED_BY_OPERATOR: 4002,
});

/**
 * After these the call is over: the server meant it, and trying again would be wrong or useless.
 * @type {ReadonlySet<number>}
 */
const FINAL = new Set([
  CloseCode.NORMAL,
  CloseCode.NOT_ALLOWED,
  CloseCode.SESSION_TIMEOUT,
  CloseCode.REPLACED,
  CloseCode.ENDED_BY_OPERATOR,
]);

/** @type {Record<number, [string, string]>} */
const MEANINGS = {
  [CloseCode.GOING_AWAY]: [ErrorCode.CONNECTION_LOST, "The server ended the connection."],
  [CloseCode.PROTOCOL_ERROR]: [ErrorCode.PROTOCOL_ERROR, "The server could not read what was sent."],
  [CloseCode.BAD_DATA]: [ErrorCode.PROTOCOL_ERROR, "The server could not read what was sent."],
  [CloseCode.NOT_ALLOWED]: [
    ErrorCode.NOT_ALLOWED,
    "This call is not allowed, or its ticket has expired. Please start a new call.",
  ],
  [CloseCode.TOO_BIG]: [ErrorCode.PROTOCOL_ERROR, "A message was too big for the server."],
  [CloseCode.SERVER_ERROR]: [ErrorCode.SERVER_ERROR, "Something went wrong on the server."],
  [CloseCode.SERVER_RESTARTING]: [ErrorCode.SERVER_RESTARTED, "The server is restarting."],
  [CloseCode.BUSY]: [ErrorCode.BUSY, "The server is busy, or the call is held elsewhere."],
  [CloseCode.SESSION_TIMEOUT]: [
    ErrorCode.SESSION_TIMEOUT,
    "The call reached its time limit and was ended.",
  ],
  [CloseCode.REPLACED]: [
    ErrorCode.REPLACED,
    "The call was taken over by another window or device, and goes on there.",
  ],
  [CloseCode.ENDED_BY_OPERATOR]: [ErrorCode.ENDED_BY_OPERATOR, "The call was ended by an operator."],
};

/**
 * @param {number} code
 * @returns {boolean} whether a client may reconnect after this code
 */
export function mayReconnectAfter(code) {
  return !FINAL.has(code);
}

/**
 * What to say of the codes that say nothing, by how far the call had come.
 * @type {Record<"connecting" | "opened" | "ready", [string, string]>}
 */
const UNEXPLAINED = {
  connecting: [ErrorCode.CONNECT_FAILED, UNREACHABLE],
  opened: [ErrorCode.CONNECT_FAILED, "The server ended the call before it began. Please try again."],
  ready: [ErrorCode.CONNECTION_LOST, "The connection to the server was lost."],
};

/**
 * @param {number} closeCode
 * @param {string} reason
 * @param {keyof typeof UNEXPLAINED} progress
 * @returns {VoiceError} fatal; the server's reason is kept in `reason`
 */
export function closeError(closeCode, reason, progress) {
  const [code, message] = MEANINGS[closeCode] ?? UNEXPLAINED[progress];
  return new VoiceError(code, message, { reason, closeCode, fatal: true });
}
