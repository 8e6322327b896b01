/**
 * The dashboard: made anew when a call begins or ends, and twice a minute.
 */

import { connectionNote, openLiveSocket } from "./live-socket.js";
import { replacePart, updater } from "./refresh.js";

const PERIOD_MS = 30_000;

const note = /** @type {HTMLElement} */ (document.getElementById("voicews-dashboard-news"));
let version = note.dataset.version;

const askForUpdate = updater((page) => {
  version = page.getElementById(note.id)?.dataset.version;
  replacePart(page, "#voicews-figures-now");
});
openLiveSocket(
  note.dataset.socket ?? "",
  (message) => {
    if (message.version !== version) askForUpdate();
  },
  connectionNote(note),
);
setInterval(askForUpdate, PERIOD_MS);
