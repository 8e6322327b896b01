/**
 * A call with a bot, as a page sees it: connect, talk, send messages, hear what happens, hang up.
 */

import { Call } from "./call.js";
import { BOT } from "./call-media.js";
import { CloseCode, mayReconnectAfter } from "./close-codes.js";
import { requestConnection } from "./connect-endpoint.js";
import { Conversation, errorText } from "./conversation.js";
import { DeviceControls } from "./device-controls.js";
import { Emitter } from "./emitter.js";
import { ErrorCode, explain, toVoiceError, VoiceError } from "./errors.js";
import { Log } from "./log.js";
import { botOutput, RTVI_LABEL } from "./messages.js";
import { State, StateMachine } from "./states.js";
import { checkOptions, completeOptions } from "./transport-options.js";
import { VERSION } from "./version.js";
import { WebSocketTransport } from "./websocket-transport.js";

/** @import { Tracks } from "./call-media.js" */
/** @import { EndpointRequest } from "./connect-endpoint.js" */
/** @import { FunctionCallHandler } from "./conversation.js" */
/** @import { BotReady, VoiceEvents } from "./events.js" */
/** @import { Message } from "./messages.js" */
/** @import { WebSocketTransportOptions } from "./transport-options.js" */
/** @import { ConnectionHandlers } from "./voice-connection.js" */

const CONNECT_TIMEOUT_MS = 20_000;
const STATS_MS = 1000;

/** @typedef {Partial<EndpointRequest> & WebSocketTransportOptions} ConnectOptions */

/**
 * @typedef {object} VoiceClientOptions
 * @property {WebSocketTransport} [transport]
 * @property {Partial<VoiceEvents>} [callbacks]
 * @property {boolean} [enableMic] whether a call starts with the microphone on, default true
 * @property {boolean} [enableCam] default false
 * @property {number} [connectTimeoutMs] from the end of the permission prompt to the bot's answer,
 *   default 20000
 */

/** One call at a time, any number one after the other. */
export class VoiceClient extends DeviceControls {
  #transport;
  #connectTimeoutMs;
  #states;
  /** @type {Emitter<VoiceEvents & { [name: string]: (...args: any[]) => void }>} */
  #emitter = new Emitter();
  #conversation;
  #log = new Log();
  #enableCam;
  /** @type {Call | null} */
  #call = null;

  /** @param {VoiceClientOptions} [options] */
  constructor({
    transport = new WebSocketTransport(), callbacks = {}, enableMic = true, enableCam = false,
    connectTimeoutMs = CONNECT_TIMEOUT_MS,
  } = {}) {
    super(transport.media);
    this.#transport = transport;
    this.#enableCam = enableCam;
    this.#connectTimeoutMs = connectTimeoutMs;
    const emit = this.#emitter.emit.bind(this.#emitter);
    this.#states = new StateMachine((state, previous) => {
      this.#log.info(`${previous} -> ${state}`);
      emit("onTransportStateChanged", state, previous);
    });
    this.#conversation = new Conversation((message) => this.#send(message), emit);
    this.media.emit = emit;
    this.media.wantMic(enableMic);
    for (const [name, handler] of Object.entries(callbacks)) {
      if (handler) this.#emitter.on(name, handler);
    }
  }

  get transport() {
    return this.#transport;
  }

  /** Of this library. */
  get version() {
    return VERSION;
  }

  get state() {
    return this.#states.state;
  }

  get connected() {
    return this.#states.is(State.CONNECTED, State.READY);
  }

  /** Whether there is no call, so that one may be started. */
  get isIdle() {
    return this.#isPrepared || this.#states.is(State.DISCONNECTED, State.ERROR);
  }

  get #isPrepared() {
    return this.#call === null && this.#states.is(State.INITIALIZED, State.AUTHENTICATED);
  }

  get stats() {
    return this.#transport.stats;
  }

  /** @param {number} level one of LogLevel */
  setLogLevel(level) {
    this.#log.level = level;
  }

  /** @returns {Tracks} the microphone's while it is sent, and the bot's, which is played already */
  tracks() {
    const audio = this.remoteStream?.getAudioTracks()[0];
    return { ...super.tracks(), ...(audio ? { bot: { audio } } : {}) };
  }

  // --- the call ---------------------------------------------------------------------------------

  /**
   * @template {keyof VoiceEvents} Name
   * @param {Name} name
   * @param {VoiceEvents[Name]} handler
   * @returns {() => void} takes the handler off again
   */
  on(name, handler) {
    return this.#emitter.on(name, handler);
  }

  /**
   * Opens the devices before a call, so that the user may be asked, and choose, in time.
   * @throws {VoiceError}
   */
  async initDevices() {
    if (this.#isPrepared) return;
    this.#states.to(State.INITIALIZING);
    try {
      await this.#openMedia(completeOptions(this.#transport.options));
      this.#states.to(State.INITIALIZED);
    } catch (error) {
      throw this.#abandon(toVoiceError(error, ErrorCode.MICROPHONE_FAILED, "The devices can't be opened."));
    }
  }

  /**
   * Asks a connect endpoint for a session; its answer is for `connect`.
   * @param {EndpointRequest} request
   * @returns {Promise<unknown>}
   * @throws {VoiceError}
   */
  async startBot(request) {
    await this.initDevices();
    try {
      return await this.#authenticate(request, new AbortController().signal);
    } catch (error) {
      throw this.#abandon(toVoiceError(error, ErrorCode.CONNECT_FAILED, "The call can't be started."));
    }
  }

  /**
   * @param {EndpointRequest} request
   * @returns {Promise<BotReady>}
   * @throws {VoiceError}
   */
  async startBotAndConnect(request) {
    return this.connect(request);
  }

  /**
   * Starts a call. Call it straight from a user's gesture, or the browser may hold the sound back.
   * @param {ConnectOptions} [options] a connect endpoint to ask, or its answer; and any of the transport's
   *   options, for this call
   * @returns {Promise<BotReady>} when the bot is ready
   * @throws {VoiceError} illegal-state while there is a call already; otherwise why there is none
   */
  async connect(options = {}) {
    if (!this.#isPrepared) this.#states.to(State.INITIALIZING);
    const call = new Call();
    this.#call = call;
    this.#begin(call, options).catch((error) => {
      this.#end(call, toVoiceError(error, ErrorCode.CONNECT_FAILED, "The call can't be started."));
    });
    return call.botReady;
  }

  /** Hangs up, and lets go of the devices. Does nothing when there is no call. */
  async disconnect() {
    if (this.#call) this.#end(this.#call, null);
    else if (this.#isPrepared) this.#abandon(null);
  }

  // --- messages ---------------------------------------------------------------------------------

  /**
   * @param {string} type
   * @param {unknown} [data]
   * @throws {VoiceError} illegal-state, connection-lost; so do all that send
   */
  sendClientMessage(type, data) {
    this.#conversation.send("client-message", { t: type, d: data });
  }

  /**
   * @param {string} type
   * @param {unknown} [data]
   * @param {number} [timeoutMs] default 10000
   * @returns {Promise<unknown>} the bot's answer
   * @throws {VoiceError} request-failed, request-timeout, connection-lost
   */
  async sendClientRequest(type, data, timeoutMs) {
    return this.#conversation.request(type, data, timeoutMs);
  }

  /**
   * @param {string} content
   * @param {{ run_immediately?: boolean, audio_response?: boolean }} [options]
   */
  sendText(content, options = {}) {
    this.#conversation.send("send-text", { content, options });
  }

  /**
   * @param {{ role: "user" | "assistant", content: unknown, run_immediately?: boolean }} context
   */
  appendToContext({ role, content, run_immediately: runImmediately }) {
    this.#conversation.send("append-to-context", {
      role, content, run_immediately: runImmediately,
    });
  }

  /**
   * @param {string | string[]} buttons 0-9, *, #, A-D
   * @throws {VoiceError} invalid-argument
   */
  sendDTMF(buttons) {
    this.#conversation.sendDTMF(buttons);
  }

  /** @param {string | string[]} buttons */
  sendDtmf(buttons) {
    this.sendDTMF(buttons);
  }

  /**
   * The user did something on the page that the bot should know of.
   * @param {string} event
   * @param {unknown} [payload]
   */
  sendUIEvent(event, payload) {
    this.#conversation.send("ui-event", { event, payload });
  }

  /**
   * @param {string} jobId
   * @param {string} [reason]
   */
  cancelUIJobGroup(jobId, reason) {
    this.#conversation.send("ui-cancel-job-group", {
      job_id: jobId, ...(reason === undefined ? {} : { reason }),
    });
  }

  /** Asks the bot to end the call. */
  disconnectBot() {
    this.#conversation.send("disconnect-bot", {});
  }

  /**
   * @param {string} functionName that the bot's language model may call on this page
   * @param {FunctionCallHandler} handler
   */
  registerFunctionCallHandler(functionName, handler) {
    this.#conversation.setFunction(functionName, handler);
  }

  /** @param {string} functionName */
  unregisterFunctionCallHandler(functionName) {
    this.#conversation.setFunction(functionName, null);
  }

  unregisterAllFunctionCallHandlers() {
    this.#conversation.setFunction(null, null);
  }

  // --- inside -----------------------------------------------------------------------------------

  /** @param {ReturnType<typeof completeOptions>} options */
  async #openMedia(options) {
    await this.media.open(options);
    // A call without a camera goes on: `onDeviceError` tells what is wrong with it.
    if (this.#enableCam) await this.enableCam(true).catch(() => {});
  }

  /**
   * @param {EndpointRequest} request
   * @param {AbortSignal} signal
   */
  async #authenticate(request, signal) {
    this.#states.to(State.AUTHENTICATING);
    const answer = await requestConnection(request, signal);
    signal.throwIfAborted();
    this.#states.to(State.AUTHENTICATED);
    this.#emitter.emit("onBotStarted", answer);
    return answer;
  }

  /**
   * Ends what was prepared for a call that did not begin.
   * @template {VoiceError | null} E
   * @param {E} error
   * @returns {E}
   */
  #abandon(error) {
    this.media.close();
    this.#states.to(State.DISCONNECTING);
    this.#states.to(error ? State.ERROR : State.DISCONNECTED);
    if (error) this.#tellError(error, true);
    return error;
  }

  /**
   * @param {Call} call
   * @param {ConnectOptions} options
   */
  async #begin(call, { endpoint, requestData, headers, timeout, ...rest }) {
    const { signal } = call.abort;
    const options = completeOptions({ ...this.#transport.options, ...checkOptions(rest) });
    this.#transport.connection.open(this.#handlers(call), options);
    await this.#openMedia(options);
    if (signal.aborted) return;
    call.connectTimer = setTimeout(() => this.#end(call, connectTimeout()), this.#connectTimeoutMs);
    if (this.#states.is(State.INITIALIZING)) this.#states.to(State.INITIALIZED);
    let { params } = options;
    if (endpoint !== undefined) {
      const request = { endpoint, requestData, headers, timeout };
      params = await this.#authenticate(request, signal);
    }
    this.#states.to(State.CONNECTING);
    this.#transport.connection.connect(params);
  }

  /**
   * @param {Call} call
   * @returns {ConnectionHandlers}
   */
  #handlers(call) {
    const emit = this.#emitter.emit.bind(this.#emitter);
    return {
      onOpen: () => {
        this.#states.to(State.CONNECTED);
        this.#transport.connection.sayReady();
        emit("onConnected");
      },
      onReady: (data, isBack) => this.#onReady(call, data, isBack),
      onMessage: (message) => this.#onMessage(call, message),
      onIncoming: (incoming) => {
        if (incoming.type === "transcription") {
          const { text, userId, timestamp } = incoming;
          emit("onUserTranscript", { text, user_id: userId, timestamp, final: true });
        } else if (incoming.type === "text") {
          emit("onBotOutput", botOutput({ text: incoming.text }));
        } else if (incoming.type === "raw") {
          emit("onRawMessage", incoming.message);
        }
      },
      onInterruption: () => emit("onInterruption"),
      onReconnecting: ({ delayMs, round, isNewRound }, error) => {
        this.#conversation.rejectRequests(error);
        if (!this.#states.is(State.RECONNECTING)) this.#states.to(State.RECONNECTING);
        if (isNewRound) emit("onReconnecting", { attempt: round, delayMs, error });
      },
      onReopened: () => {
        this.#states.to(State.CONNECTED);
        emit("onConnected");
      },
      onClosed: (code, reason, error) => {
        const expected = code === CloseCode.NORMAL && call.wasReady;
        this.#end(call, expected ? null : error, { code, reason });
      },
      onLeave: () => void this.disconnect(),
      onLocalLevel: (level) => emit("onLocalAudioLevel", level),
      onPlayback: (report) => {
        emit("onRemoteAudioLevel", report.level, BOT);
        emit("onPlayback", report);
      },
    };
  }

  /**
   * @param {Call} call
   * @param {BotReady} data
   * @param {boolean} isBack
   */
  #onReady(call, data, isBack) {
    clearTimeout(call.connectTimer);
    this.#states.to(State.READY);
    if (isBack) {
      this.#emitter.emit("onReconnected", data);
      return;
    }
    call.wasReady = true;
    call.statsTimer = setInterval(() => this.#emitter.emit("onStats", this.stats), STATS_MS);
    this.#emitter.emit("onBotConnected", BOT);
    this.#emitter.emit("onParticipantJoined", BOT);
    this.#emitter.emit("onBotReady", data);
    call.resolve(data);
  }

  /**
   * @param {Call} call
   * @param {Message} message
   */
  #onMessage(call, message) {
    const { label, type, data } = message;
    this.#log.debug(`received ${type}`);
    if (label === RTVI_LABEL && type === "error") {
      this.#onBotError(call, data);
      return;
    }
    if (label === RTVI_LABEL && type === "bot-stopped-speaking") {
      this.#transport.connection.endUtterance();
    }
    this.#conversation.receive(message);
  }

  /**
   * @param {Call} call
   * @param {any} data
   */
  #onBotError(call, data) {
    const fatal = data?.fatal === true;
    const reason = errorText(data);
    const error = new VoiceError(ErrorCode.BOT_ERROR, "The bot reports an error.", { reason, fatal });
    if (fatal) this.#end(call, error);
    else this.#tellError(error, false);
  }

  /**
   * @param {VoiceError} error
   * @param {boolean} fatal whether the call is over
   */
  #tellError(error, fatal) {
    error.fatal = fatal;
    this.#log[fatal ? "error" : "warn"](explain(error));
    this.#emitter.emit("onError", error);
  }

  /** @param {Message} message */
  #send(message) {
    if (!this.#states.is(State.READY)) {
      throw new VoiceError(
        ErrorCode.ILLEGAL_STATE,
        `Nothing can be sent while the call is ${this.state}.`,
      );
    }
    this.#log.debug(`sends ${message.type}`);
    this.#transport.connection.send(message);
  }

  /**
   * The one way out of a call, whoever ends it, and taken once.
   * @param {Call} call
   * @param {VoiceError | null} error null when the call ended as it should
   * @param {{ code: number | null, reason: string }} [close] what the server's close said
   */
  #end(call, error, { code, reason } = { code: null, reason: error?.reason ?? "" }) {
    if (this.#call !== call) return;
    this.#call = null;
    clearTimeout(call.connectTimer);
    clearInterval(call.statsTimer);
    this.#states.to(State.DISCONNECTING);
    call.abort.abort();
    this.#transport.connection.close(error ? error.code : "client left");
    this.media.close();
    if (error) error.fatal = true;
    const over = error ?? new VoiceError(ErrorCode.CANCELLED, "The call has ended.");
    this.#conversation.rejectRequests(over);
    call.reject(over);
    // A call that could not be brought back has ended, and nothing is wrong with the next one.
    const isOver = error === null || (call.wasReady && code !== null && mayReconnectAfter(code));
    this.#states.to(isOver ? State.DISCONNECTED : State.ERROR);
    if (error) this.#tellError(error, true);
    if (call.wasReady) {
      this.#emitter.emit("onParticipantLeft", BOT);
      this.#emitter.emit("onBotDisconnected", BOT);
    }
    this.#emitter.emit("onDisconnected", { code, reason, error });
  }
}

function connectTimeout() {
  return new VoiceError(ErrorCode.TIMEOUT, "The bot did not answer in time.");
}
