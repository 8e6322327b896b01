/**
 * A button that one holds down to talk.
 *
 * Give the transport `pushToTalk: true`, so that the microphone is ready when it is pressed.
 */

/** @import { VoiceClient } from "./voice-client.js" */

const KEYS = new Set([" ", "Enter"]);

/**
 * @param {VoiceClient} client
 * @param {HTMLElement} button pressed by pointer or, while it has the focus, by space and enter; `aria-pressed`
 *   says whether it is
 * @returns {() => void} takes the button off again
 */
export function pushToTalk(client, button) {
  let isPressed = false;

  /** @param {boolean} pressed */
  function set(pressed) {
    if (pressed === isPressed) return;
    isPressed = pressed;
    button.setAttribute("aria-pressed", String(pressed));
    // What fails is told by onError and onDeviceError.
    client.enableMic(pressed).catch(() => set(false));
  }

  const press = (/** @type {Event} */ event) => {
    if (event instanceof KeyboardEvent) {
      if (!KEYS.has(event.key)) return;
      event.preventDefault();
      if (event.repeat) return;
    } else if (event instanceof PointerEvent) {
      if (event.button !== 0) return;
      button.setPointerCapture(event.pointerId);
    }
    set(true);
  };
  const release = (/** @type {Event} */ event) => {
    if (event instanceof KeyboardEvent && !KEYS.has(event.key)) return;
    set(false);
  };
  // A long press on a touch screen must not open a menu.
  const suppress = (/** @type {Event} */ event) => event.preventDefault();

  /** @type {[string, (event: Event) => void][]} */
  const listeners = [
    ["pointerdown", press], ["keydown", press],
    ["pointerup", release], ["pointercancel", release], ["lostpointercapture", release],
    ["keyup", release], ["blur", release], ["contextmenu", suppress],
  ];
  for (const [name, listener] of listeners) button.addEventListener(name, listener);
  button.setAttribute("aria-pressed", "false");
  return () => {
    for (const [name, listener] of listeners) button.removeEventListener(name, listener);
    set(false);
    button.removeAttribute("aria-pressed");
  };
}
