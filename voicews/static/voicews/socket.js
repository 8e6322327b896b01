/**
 * One WebSocket from opening to close: messages in, messages out, and exactly one report of its end.
 */

import { CloseCode } from "./close-codes.js";
import { watchPolicy } from "./security-policy.js";

/** @import { VoiceError } from "./errors.js" */
/** @import { Message } from "./messages.js" */
/** @import { FrameSerializer, Incoming } from "./protobuf-frame-serializer.js" */

/**
 * @typedef {object} SocketHandlers
 * @property {() => void} onOpen
 * @property {(incoming: Incoming) => void} onIncoming
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
   * What an asynchronous serializer is still busy with: messages stay in their order.
   * @type {Promise<void> | null}
   */
  #reading = null;

  /**
   * @param {string} url
   * @param {FrameSerializer} serializer
   * @param {SocketHandlers} handlers
   */
  constructor(url, serializer, handlers) {
    this.#serializer = serializer;
    this.#handlers = handlers;
    this.#ws = new WebSocket(url);
    this.#ws.binaryType = serializer.binaryType ?? "blob";
    this.#ws.onopen = () => {
      this.#stopWatching();
      this.#send(serializer.connected?.());
      this.#handlers?.onOpen();
    };
    this.#ws.onmessage = ({ data }) => this.#receive(data);
    this.#ws.onclose = ({ code, reason }) => {
      // What came before the end is heard before it.
      if (this.#reading) void this.#reading.then(() => this.#end(code, reason));
      else this.#end(code, reason);
    };
    this.#stopWatching = watchPolicy(url, (error) => this.#end(CloseCode.ABNORMAL, error.reason, error));
  }

  get isOpen() {
    return this.#handlers !== null && this.#ws.readyState === WebSocket.OPEN;
  }

  get bufferedAmount() {
    return this.#ws.bufferedAmount;
  }

  /** @param {Message} message */
  sendMessage(message) {
    if (this.isOpen) this.#send(this.#serializer.serializeMessage(message));
  }

  /**
   * @param {Uint8Array<ArrayBuffer>} pcm a whole buffer
   * @param {number} sampleRate Hz
   */
  sendAudio(pcm, sampleRate) {
    if (this.isOpen) this.#send(this.#serializer.serializeAudio(pcm.buffer, sampleRate, 1));
  }

  /** @param {unknown} data that the serializer understands */
  sendRaw(data) {
    if (this.isOpen) this.#send(this.#serializer.serialize(data));
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

  /** @param {any} data what a serializer made; some have nothing to say for some messages */
  #send(data) {
    if (data === null || data === undefined) return;
    this.#ws.send(data);
    this.framesOut += 1;
  }

  /** @param {ArrayBuffer | Blob | string} data */
  #receive(data) {
    if (!this.#handlers) return;
    this.framesIn += 1;
    if (this.#reading) {
      this.#queue(data, this.#reading);
      return;
    }
    let incoming;
    try {
      incoming = this.#serializer.deserialize(data);
    } catch {
      this.#handlers.onBadFrame(sizeOf(data));
      return;
    }
    if (incoming instanceof Promise) this.#await(incoming, data);
    else if (incoming) this.#handlers.onIncoming(incoming);
  }

  /**
   * @param {ArrayBuffer | Blob | string} data
   * @param {Promise<void>} before
   */
  #queue(data, before) {
    this.#await(before.then(() => this.#serializer.deserialize(data)), data);
  }

  /**
   * @param {Promise<Incoming | null>} incoming
   * @param {ArrayBuffer | Blob | string} data that it is made of
   */
  #await(incoming, data) {
    const reading = incoming.then(
      (found) => {
        if (found) this.#handlers?.onIncoming(found);
      },
      () => this.#handlers?.onBadFrame(sizeOf(data)),
    ).then(() => {
      if (this.#reading === reading) this.#reading = null;
    });
    this.#reading = reading;
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

/** @param {ArrayBuffer | Blob | string} data */
function sizeOf(data) {
  if (typeof data === "string") return data.length;
  return data instanceof Blob ? data.size : data.byteLength;
}
