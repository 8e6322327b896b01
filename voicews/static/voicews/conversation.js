/**
 * The RTVI messages of a call: what the page sends, and which event each message of the bot becomes.
 */

import { ErrorCode, VoiceError } from "./errors.js";
import { MESSAGE_EVENTS } from "./events.js";
import { botOutput, dtmfButtons, newId, operatorText, RTVI_LABEL, rtviMessage } from "./messages.js";
import { Requests } from "./requests.js";

/** @import { Emit } from "./call-media.js" */
/** @import { Message } from "./messages.js" */

const REQUEST_TIMEOUT_MS = 10_000;

/** @typedef {{ functionName: string, arguments: Record<string, unknown> }} FunctionCallParams */
/**
 * Answers what the bot's language model asks of the page; undefined sends no answer.
 * @typedef {(call: FunctionCallParams) => Promise<unknown> | unknown} FunctionCallHandler
 */

export class Conversation {
  #requests = new Requests();
  /** @type {Map<string, FunctionCallHandler>} */
  #functions = new Map();
  #send;
  #emit;

  /**
   * @param {(message: Message) => void} send throws when nothing can be sent
   * @param {Emit} emit
   */
  constructor(send, emit) {
    this.#send = send;
    this.#emit = emit;
  }

  /**
   * @param {string} type
   * @param {object} data
   */
  send(type, data) {
    this.#send(rtviMessage(type, data));
  }

  /**
   * @param {string} type
   * @param {unknown} data
   * @param {number} [timeoutMs]
   * @returns {Promise<unknown>}
   */
  async request(type, data, timeoutMs = REQUEST_TIMEOUT_MS) {
    const id = newId();
    this.#send(rtviMessage("client-message", { t: type, d: data }, id));
    const answer = await this.#requests.add(id, timeoutMs);
    return /** @type {{ d?: unknown } | undefined} */ (answer)?.d;
  }

  /** @param {string | string[]} buttons */
  sendDTMF(buttons) {
    this.send("dtmf", { buttons: dtmfButtons(buttons) });
  }

  /**
   * @param {string | null} name null for all
   * @param {FunctionCallHandler | null} handler null takes it off
   */
  setFunction(name, handler) {
    if (name === null) this.#functions.clear();
    else if (handler) this.#functions.set(name, handler);
    else this.#functions.delete(name);
  }

  /** @param {VoiceError} error why no answer will come */
  rejectRequests(error) {
    this.#requests.rejectAll(error);
  }

  /** @param {Message} message any but bot-ready and error */
  receive(message) {
    const { label, type, id, data } = message;
    if (label !== RTVI_LABEL) {
      this.#emit("onMessage", message);
    } else if (type === "server-response") {
      this.#requests.resolve(id, data);
    } else if (type === "error-response") {
      this.#onRefusal(message);
    } else if (Object.hasOwn(MESSAGE_EVENTS, type)) {
      const event = MESSAGE_EVENTS[/** @type {keyof typeof MESSAGE_EVENTS} */ (type)];
      this.#emit(event, event === "onBotOutput" ? botOutput(data) : data);
      this.#follow(event, data);
    } else {
      this.#emit("onMessage", message);
    }
  }

  /**
   * @param {string} event
   * @param {any} data
   */
  #follow(event, data) {
    if (event === "onServerMessage") {
      const text = operatorText(data);
      if (text !== null) this.#emit("onOperatorMessage", { text });
    } else if (event === "onLLMFunctionCallInProgress") {
      void this.#callFunction(data, data?.arguments);
    } else if (event === "onLLMFunctionCall") {
      void this.#callFunction(data, data?.args);
    }
  }

  /**
   * @param {any} data
   * @param {Record<string, unknown>} [args]
   */
  async #callFunction(data, args = {}) {
    const { function_name: name, tool_call_id: toolCallId } = data ?? {};
    const handler = this.#functions.get(name);
    if (!handler) return;
    try {
      const result = await handler({ functionName: name, arguments: args });
      if (result === undefined) return;
      this.send("llm-function-call-result", {
        function_name: name, tool_call_id: toolCallId, arguments: args, result,
      });
    } catch (error) {
      this.#emit("onError", new VoiceError(
        ErrorCode.FUNCTION_FAILED, `The page could not answer the bot's call of ${name}.`,
        { reason: String(error), cause: error },
      ));
    }
  }

  /** @param {Message} message */
  #onRefusal(message) {
    const reason = errorText(message.data);
    const error = new VoiceError(ErrorCode.REQUEST_FAILED, "The bot could not do this.", { reason });
    if (!this.#requests.reject(message.id, error)) this.#emit("onError", error);
    this.#emit("onMessageError", message);
  }
}

/** @param {any} data of error and error-response */
export function errorText(data) {
  return typeof data?.error === "string" ? data.error : "";
}
