/**
 * What can go wrong in a call: one error class, its codes, and the sentence a person gets to read.
 */

export const ErrorCode = Object.freeze({
  AUDIO_SUSPENDED: "audio-suspended",
  BAD_FRAME: "bad-frame",
  BOT_ERROR: "bot-error",
  BLOCKED_BY_POLICY: "blocked-by-policy",
  BUSY: "busy",
  CAMERA_BUSY: "camera-busy",
  CAMERA_DENIED: "camera-denied",
  CAMERA_FAILED: "camera-failed",
  CAMERA_MISSING: "camera-missing",
  CANCELLED: "cancelled",
  CONNECT_FAILED: "connect-failed",
  CONNECT_REFUSED: "connect-refused",
  CONNECTION_LOST: "connection-lost",
  ENDED_BY_OPERATOR: "ended-by-operator",
  FUNCTION_FAILED: "function-failed",
  ILLEGAL_STATE: "illegal-state",
  INSECURE_CONTEXT: "insecure-context",
  INSECURE_SOCKET: "insecure-socket",
  INVALID_ARGUMENT: "invalid-argument",
  MICROPHONE_BUSY: "microphone-busy",
  MICROPHONE_DENIED: "microphone-denied",
  MICROPHONE_FAILED: "microphone-failed",
  MICROPHONE_FORBIDDEN: "microphone-forbidden",
  MICROPHONE_LOST: "microphone-lost",
  MICROPHONE_MISSING: "microphone-missing",
  NOT_ALLOWED: "not-allowed",
  PLAYBACK_FAILED: "playback-failed",
  PROTOCOL_ERROR: "protocol-error",
  REPLACED: "replaced",
  REQUEST_FAILED: "request-failed",
  REQUEST_TIMEOUT: "request-timeout",
  SCREEN_FAILED: "screen-failed",
  SERVER_ERROR: "server-error",
  SERVER_RESTARTED: "server-restarted",
  SESSION_TIMEOUT: "session-timeout",
  SPEAKER_FAILED: "speaker-failed",
  SPEAKER_LOST: "speaker-lost",
  SPEAKER_UNSUPPORTED: "speaker-unsupported",
  TIMEOUT: "timeout",
  UNSUPPORTED: "unsupported",
});

/** The sentence for whatever nobody answers. */
export const UNREACHABLE =
  "The server can't be reached. Check your connection, or try again later.";

/**
 * @typedef {object} VoiceErrorDetails
 * @property {string} [reason] what the server or the browser said, word for word
 * @property {number | null} [closeCode] the WebSocket close code, when a closed socket is the cause
 * @property {boolean} [fatal] whether the call is over
 * @property {string} [loginUrl] where to log in, when that is what is missing
 * @property {unknown} [cause]
 */

/** An error with a stable `code` for programs, the raw `reason`, and a `message` for people. */
export class VoiceError extends Error {
  /**
   * @param {string} code one of ErrorCode
   * @param {string} message
   * @param {VoiceErrorDetails} [details]
   */
  constructor(code, message, { reason = "", closeCode = null, fatal = false, loginUrl = "", cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "VoiceError";
    this.code = code;
    this.reason = reason;
    this.closeCode = closeCode;
    this.fatal = fatal;
    this.loginUrl = loginUrl;
  }
}

/**
 * @param {unknown} error
 * @param {string} code used when `error` is not a VoiceError yet
 * @param {string} message
 * @returns {VoiceError}
 */
export function toVoiceError(error, code, message) {
  if (error instanceof VoiceError) return error;
  const reason = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return new VoiceError(code, message, { reason, cause: error });
}

/**
 * What a page shows of an error: its message, and what the server said of it. A browser's own words for an
 * error are for its console.
 * @param {VoiceError} error
 * @returns {string}
 */
export function explain({ code, message, reason, closeCode }) {
  const isFromServer = closeCode !== null
    || code === ErrorCode.BOT_ERROR || code === ErrorCode.REQUEST_FAILED;
  return isFromServer && reason && code !== ErrorCode.REPLACED ? `${message} (${reason})` : message;
}

/**
 * Shows an error in an element of the page, or none: its text, or a link where logging in helps.
 * @param {Element} element
 * @param {VoiceError | null} error
 */
export function showAlert(element, error) {
  const text = error ? (error.loginUrl ? "Log in to call" : explain(error)) : "";
  if (element.textContent === text) return;
  element.textContent = text;
  if (!error?.loginUrl) return;
  const link = document.createElement("a");
  link.href = error.loginUrl;
  link.textContent = text;
  element.replaceChildren(link);
}
