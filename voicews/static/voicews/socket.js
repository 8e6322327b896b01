/**
 * One WebSocket from opening to close: frames in, frames out, and exactly one report of its end.
 */

import { CloseCode } from "./close-codes.js";
import { watchPolicy } from "./security-policy.js";

/** @import { VoiceError } from "./errors.js" */
/** @import { Frame, FrameSerializer } from "./protobuf-frame-serializer.js" */

/**
 * @typedef {object} SocketHandlers
 * @property {() => void} onOpen
 * @property {(frame: Frame) => void} onFrame
 * @property {(bytes: number) => void} onBadFrame
 * @property {(code: number, reason: string, blocked: VoiceError | null) => void} onClose `blocked` by the
 *   page's own policy
 */

export class Socket {
  framesIn = 0;
  framesOut = 0;
  #ws;
  #serializer;
  #stopWatching;
  /** @type {SocketHandlers | null} */
  #handlers;

  /**
   * @param {string} url
   * @param {FrameSerializer} serializer
   * @param {SocketHandlers} handlers
   */
  constructor(url, serializer, handlers) {
    this.#serializer = serializer;
    this.#handlers = handlers;
    this.#ws = new WebSocket(url);
    this.#ws.binaryType = "arraybuffer";
    this.#ws.onopen = () => {
      this.#stopWatching();
      this.#handlers?.onOpen();
    };
    this.#ws.onmessage = ({ data }) => this.#receive(data);
    this.#ws.onclose = ({ code, reason }) => this.#end(code, reason);
    this.#stopWatching = watchPolicy(url, (error) => this.#end(CloseCode.ABNORMAL, error.reason, error));
  }

  get isOpen() {
    return this.#handlers !== null && this.#ws.readyState === WebSocket.OPEN;
  }

  get bufferedAmount() {
    return this.#ws.bufferedAmount;
  }

  /** @param {Frame} frame */
  send(frame) {
    if (!this.isOpen) return;
    this.#ws.send(this.#serializer.serialize(frame));
    this.framesOut += 1;
  }

  /**
   * Closes from our side: nothing is reported any more.
   * @param {string} reason
   */
  close(reason) {
    this.#handlers = null;
    this.#stopWatching();
    this.#ws.close(CloseCode.NORMAL, reason);
  }

  /**
   * Gives up on a socket that does not answer. A closing handshake with a dead peer may take minutes,
   * so the end is reported now and whatever the socket says later is not heard.
   * @param {string} reason
   */
  abandon(reason) {
    this.#end(CloseCode.ABNORMAL, reason);
    // 1006 can't be sent, and 1000 would tell a server that is alive after all that the call is over.
    this.#ws.close(3000, reason);
  }

  /** @param {ArrayBuffer | string} data */
  #receive(data) {
    if (!this.#handlers) return;
    this.framesIn += 1;
    let frame;
    try {
      frame = this.#serializer.deserialize(data);
    } catch {
      this.#handlers.onBadFrame(typeof data === "string" ? data.length : data.byteLength);
      return;
    }
    if (frame) this.#handlers.onFrame(frame);
  }

  /**
   * @param {number} code
   * @param {string} reason
   * @param {VoiceError | null} [blocked]
   */
  #end(code, reason, blocked = null) {
    const handlers = this.#handlers;
    this.#handlers = null;
    this.#stopWatching();
    handlers?.onClose(code, reason, blocked);
  }
}
