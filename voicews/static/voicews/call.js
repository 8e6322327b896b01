/**
 * What one call of a client in progress holds; a new one for every call, so that nothing old can reach it.
 */

/** @import { VoiceError } from "./errors.js" */
/** @import { BotReady } from "./events.js" */

export class Call {
  abort = new AbortController();
  /** @type {(data: BotReady) => void} */
  resolve = () => {};
  /** @type {(error: VoiceError) => void} */
  reject = () => {};
  /** @type {Promise<BotReady>} settled by the bot's first answer, or by whatever prevents it */
  botReady;
  wasReady = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  connectTimer;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  statsTimer;

  constructor() {
    this.botReady = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    // It may fail while nobody waits for it yet.
    this.botReady.catch(() => {});
  }
}
