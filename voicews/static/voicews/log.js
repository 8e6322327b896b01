/**
 * What the client does, on the browser's console: nothing until a page asks for it, and never what was said.
 */

/* eslint-disable no-console */

export const LogLevel = Object.freeze({ NONE: 0, ERROR: 1, WARN: 2, INFO: 3, DEBUG: 4 });

export class Log {
  /** @type {number} one of LogLevel */
  level = LogLevel.NONE;

  /** @param {...unknown} parts */
  error(...parts) {
    if (this.level >= LogLevel.ERROR) console.error("[voicews]", ...parts);
  }

  /** @param {...unknown} parts */
  warn(...parts) {
    if (this.level >= LogLevel.WARN) console.warn("[voicews]", ...parts);
  }

  /** @param {...unknown} parts */
  info(...parts) {
    if (this.level >= LogLevel.INFO) console.info("[voicews]", ...parts);
  }

  /** @param {...unknown} parts */
  debug(...parts) {
    if (this.level >= LogLevel.DEBUG) console.debug("[voicews]", ...parts);
  }
}
