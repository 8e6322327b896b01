/**
 * The element that the template tag `voicews_call_button` renders: a button that starts and ends a call.
 *
 * `element.client` is its VoiceClient, for pages that want to follow or steer the call.
 */

import { showAlert } from "./errors.js";
import { State, VoiceClient } from "./index.js";

/** @import { VoiceError } from "./errors.js" */
/** @import { StateName } from "./states.js" */

/** A page that moves the element elsewhere takes it out for a moment; after this it was removed. */
const REMOVED_MS = 1000;

/** @type {Partial<Record<StateName, string>>} */
const STATUS = {
  [State.INITIALIZING]: "Opening the microphone…",
  [State.INITIALIZED]: "Connecting…",
  [State.AUTHENTICATING]: "Connecting…",
  [State.AUTHENTICATED]: "Connecting…",
  [State.CONNECTING]: "Connecting…",
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
  #upgraded = false;
  #label = "";
  /**
   * None until the first call.
   * @type {StateName | null}
   */
  #state = null;
  #status = "";
  /** @type {VoiceError | null} */
  #error = null;
  #message = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #removal;
  /** Scripts that bring the page up to date put back what the server rendered. */
  #observer = new MutationObserver(() => this.#render());

  connectedCallback() {
    clearTimeout(this.#removal);
    if (!this.#upgraded) this.#upgrade();
    this.#render();
  }

  /** With it, `moveBefore` is no removal. */
  connectedMoveCallback() {}

  disconnectedCallback() {
    this.#removal = setTimeout(() => void this.client.disconnect(), REMOVED_MS);
  }

  #upgrade() {
    this.#upgraded = true;
    // A copy of an element that was in a call has that one's texts; its label is kept aside.
    this.#label = this.#button.dataset.label ??= this.#button.textContent?.trim() ?? "";
    this.addEventListener("click", ({ target }) => {
      if (target instanceof Node && this.#button.contains(target)) void this.#toggle();
    });
    this.client.on("onTransportStateChanged", (state) => this.#show(state));
    this.client.on("onError", (error) => {
      this.#error = error;
      this.#render();
    });
    this.client.on("onOperatorMessage", ({ text }) => {
      this.#message = `Operator: ${text}`;
      this.#render();
    });
    this.client.on("onDisconnected", ({ reason, error }) => {
      if (!error && reason) this.#status = `Call ended (${reason})`;
      this.#render();
    });
  }

  get #button() {
    return /** @type {HTMLButtonElement} */ (this.querySelector("button"));
  }

  async #toggle() {
    if (!this.client.isIdle) {
      await this.client.disconnect();
      return;
    }
    if (CallButton.#talking !== this) void CallButton.#talking?.client.disconnect();
    CallButton.#talking = this;
    this.#error = null;
    this.#message = "";
    const { connectUrl, bot } = this.dataset;
    try {
      await this.client.connect({ endpoint: connectUrl ?? "", requestData: { bot } });
    } catch {
      // onError has shown it.
    }
  }

  /** @param {StateName} state */
  #show(state) {
    // On the way back the socket opens first, which is nobody's business.
    if (state !== State.CONNECTED) this.#status = STATUS[state] ?? "";
    this.#state = state;
    this.#render();
  }

  #render() {
    this.#observer.disconnect();
    if (this.#button.disabled) this.#button.disabled = false;
    write(this.#button, this.client.isIdle ? this.#label : "Hang up");
    write(this.querySelector("[role=status]"), this.#status);
    const alert = this.querySelector("[role=alert]");
    if (alert) showAlert(alert, this.#error);
    write(this.querySelector(".voicews-message"), this.#message);
    if (this.#state) this.dataset.state = this.#state;
    else delete this.dataset.state;
    this.#observer.observe(this, {
      attributeFilter: ["disabled", "data-state"], characterData: true, childList: true, subtree: true,
    });
  }
}

/**
 * @param {Element | null} node
 * @param {string} text
 */
function write(node, text) {
  if (node && node.textContent !== text) node.textContent = text;
}

if (!customElements.get("voicews-call")) customElements.define("voicews-call", CallButton);
