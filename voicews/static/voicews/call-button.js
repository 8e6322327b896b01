/**
 * The element that the template tag `voicews_call_button` renders: a button that starts and ends a call.
 *
 * `element.client` is its VoiceClient, for pages that want to follow or steer the call.
 */

import { State, VoiceClient } from "./index.js";

/** @import { VoiceError } from "./errors.js" */
/** @import { StateName } from "./states.js" */

/** @type {Partial<Record<StateName, string>>} */
const STATUS = {
  [State.INITIALIZING]: "Opening the microphone…",
  [State.INITIALIZED]: "Connecting…",
  [State.AUTHENTICATING]: "Connecting…",
  [State.CONNECTING]: "Connecting…",
  [State.CONNECTED]: "Connecting…",
  [State.READY]: "You are connected",
  [State.RECONNECTING]: "Connection lost, trying again…",
  [State.DISCONNECTED]: "Call ended",
};

class CallButton extends HTMLElement {
  /**
   * The element of the page that is in a call: one loudspeaker and one microphone are for one call.
   * @type {CallButton | null}
   */
  static #talking = null;

  client = new VoiceClient();
  #label = "";
  #upgraded = false;

  connectedCallback() {
    this.#button.disabled = false;
    if (this.#upgraded) return;
    this.#upgraded = true;
    this.#label = this.#button.textContent?.trim() ?? "";
    this.#button.addEventListener("click", () => this.#toggle());
    this.client.on("onTransportStateChanged", (state) => this.#show(state));
    this.client.on("onError", (error) => this.#showError(error));
  }

  disconnectedCallback() {
    void this.client.disconnect();
  }

  get #button() {
    return /** @type {HTMLButtonElement} */ (this.querySelector("button"));
  }

  get #status() {
    return /** @type {HTMLElement} */ (this.querySelector("[role=status]"));
  }

  get #error() {
    return /** @type {HTMLElement} */ (this.querySelector("[role=alert]"));
  }

  async #toggle() {
    if (!this.client.isIdle) {
      await this.client.disconnect();
      return;
    }
    if (CallButton.#talking !== this) void CallButton.#talking?.client.disconnect();
    CallButton.#talking = this;
    this.#error.textContent = "";
    const { connectUrl, bot } = this.dataset;
    try {
      await this.client.connect({ endpoint: connectUrl ?? "", requestData: { bot } });
    } catch {
      // onError has shown it.
    }
  }

  /** @param {StateName} state */
  #show(state) {
    this.dataset.state = state;
    this.#button.textContent = this.client.isIdle ? this.#label : "Hang up";
    this.#status.textContent = STATUS[state] ?? "";
  }

  /** @param {VoiceError} error */
  #showError(error) {
    this.#error.textContent = error.message;
  }
}

if (!customElements.get("voicews-call")) customElements.define("voicews-call", CallButton);
