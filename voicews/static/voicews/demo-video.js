/**
 * The demo page's pictures: camera and screen to a bot that wants them, and what the bot shows.
 */

import { PictureCanvas } from "./picture-canvas.js";

/** @import { VoiceClient } from "./voice-client.js" */

/**
 * @typedef {object} VideoElements
 * @property {HTMLElement} buttons
 * @property {HTMLButtonElement} camera
 * @property {HTMLButtonElement} screen
 * @property {HTMLCanvasElement} picture
 */

/**
 * @param {VoiceClient} client
 * @param {VideoElements} elements
 * @param {(text: string) => void} showError
 */
export function showVideo(client, { buttons, camera, screen, picture }, showError) {
  const canvas = new PictureCanvas(picture);
  const update = () => {
    camera.setAttribute("aria-pressed", String(client.isCamEnabled));
    screen.setAttribute("aria-pressed", String(client.isSharingScreen));
    camera.textContent = client.isCamEnabled ? "Camera off" : "Camera on";
    screen.textContent = client.isSharingScreen ? "Stop sharing" : "Share screen";
  };
  const hide = () => {
    buttons.hidden = picture.hidden = true;
    update();
  };
  /** @param {unknown} error */
  const tell = (error) => showError(error instanceof Error ? error.message : String(error));

  client.on("onBotReady", ({ voicews }) => {
    buttons.hidden = !voicews?.video_in;
    screen.hidden = !navigator.mediaDevices?.getDisplayMedia;
  });
  client.on("onPicture", async (shown) => {
    if (shown.destination === "" && await canvas.show(shown) && !client.isIdle) picture.hidden = false;
  });
  client.on("onDisconnected", hide);
  for (const event of /** @type {const} */ ([
    "onTrackStarted", "onTrackStopped", "onScreenTrackStarted", "onScreenTrackStopped",
  ])) client.on(event, update);
  camera.addEventListener("click", () => {
    client.enableCam(!client.isCamEnabled).catch(tell).finally(update);
  });
  screen.addEventListener("click", () => {
    client.enableScreenShare(!client.isSharingScreen).catch(tell).finally(update);
  });
}
