/**
 * The states of a call and the only place that changes them.
 */

import { ErrorCode, VoiceError } from "./errors.js";

/** @typedef {(typeof State)[keyof typeof State]} StateName */

export const State = Object.freeze({
  DISCONNECTED: "disconnected",
  INITIALIZING: "initializing",
  INITIALIZED: "initialized",
  AUTHENTICATING: "authenticating",
  AUTHENTICATED: "authenticated",
  CONNECTING: "connecting",
  CONNECTED: "connected",
  READY: "ready",
  RECONNECTING: "reconnecting",
  DISCONNECTING: "disconnecting",
  ERROR: "error",
});

/** @type {Readonly<Record<StateName, readonly StateName[]>>} */
const NEXT = Object.freeze({
  [State.DISCONNECTED]: [State.INITIALIZING],
  [State.INITIALIZING]: [State.INITIALIZED, State.DISCONNECTING],
  [State.INITIALIZED]: [State.AUTHENTICATING, State.CONNECTING, State.DISCONNECTING],
  [State.AUTHENTICATING]: [State.AUTHENTICATED, State.DISCONNECTING],
  [State.AUTHENTICATED]: [State.AUTHENTICATING, State.CONNECTING, State.DISCONNECTING],
  [State.CONNECTING]: [State.CONNECTED, State.DISCONNECTING],
  [State.CONNECTED]: [State.READY, State.RECONNECTING, State.DISCONNECTING],
  [State.READY]: [State.RECONNECTING, State.DISCONNECTING],
  [State.RECONNECTING]: [State.CONNECTED, State.DISCONNECTING],
  [State.DISCONNECTING]: [State.DISCONNECTED, State.ERROR],
  [State.ERROR]: [State.INITIALIZING],
});

/** Holds the state of one client; a step that the table above does not allow throws. */
export class StateMachine {
  /** @type {StateName} */
  #state = State.DISCONNECTED;
  #onChange;

  /** @param {(state: StateName, previous: StateName) => void} onChange */
  constructor(onChange) {
    this.#onChange = onChange;
  }

  get state() {
    return this.#state;
  }

  /** @param {...StateName} states */
  is(...states) {
    return states.includes(this.#state);
  }

  /**
   * @param {StateName} next
   * @throws {VoiceError} illegal-state
   */
  to(next) {
    const previous = this.#state;
    if (!NEXT[previous].includes(next)) {
      throw new VoiceError(
        ErrorCode.ILLEGAL_STATE,
        `A call that is ${previous} cannot become ${next}.`,
      );
    }
    this.#state = next;
    this.#onChange(next, previous);
  }
}
