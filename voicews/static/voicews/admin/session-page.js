/**
 * The page of one session: what moves on it.
 */

import { startClocks } from "./clocks.js";
import { ListenIn } from "./listen-in.js";
import { openLiveSocket, showNote } from "./live-socket.js";
import { replacePart, sendForm, updater } from "./refresh.js";

/** What grows while a call goes on. */
const PARTS = ["#voicews-said", "#voicews-happened", "#voicews-sockets"];
/** How many figures a rate is worked out from: a second passes between two of them. */
const RATE_FIGURES = 4;

/**
 * @typedef {object} Figures
 * @property {boolean} has_client
 * @property {number} epoch
 * @property {number} [silent_secs]
 * @property {number} [messages_in]
 * @property {number} [messages_out]
 * @property {number} [bytes_in]
 * @property {number} [bytes_out]
 * @property {number} [invalid_messages]
 */

const call = /** @type {HTMLElement} */ (document.getElementById("voicews-call"));
const note = document.getElementById("voicews-connection");
let version = call.dataset.version;
/** @type {{ at: number, figures: Figures }[]} */
let recent = [];

/**
 * @param {string} name
 * @param {(cell: HTMLElement) => string} text
 */
function show(name, text) {
  const cell = /** @type {HTMLElement | null} */ (call.querySelector(`[data-figure="${name}"]`));
  if (cell) cell.textContent = text(cell);
}

/** @param {number} bytes */
function readableBytes(bytes) {
  const units = ["B", "kB", "MB", "GB"];
  let unit = 0;
  let value = bytes;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value.toFixed(unit === 0 || value >= 100 ? 0 : 1)} ${units[unit]}`;
}

/**
 * @param {"messages_in" | "messages_out"} name
 * @returns {string} a second, of late
 */
function rate(name) {
  const [first, last] = [recent[0], recent[recent.length - 1]];
  const secs = (last.at - first.at) / 1000;
  if (secs < 0.5) return "–";
  const count = (last.figures[name] ?? 0) - (first.figures[name] ?? 0);
  return Math.max(0, count / secs).toFixed(0);
}

/** @param {Figures | null} figures */
function showFigures(figures) {
  if (note) showNote(note, figures ? null : "unknown");
  if (!figures) {
    recent = [];
    return;
  }
  // The numbers are of one socket, and begin anew with the next.
  if (recent.at(-1)?.figures.epoch !== figures.epoch) recent = [];
  recent = [...recent, { at: performance.now(), figures }].slice(-RATE_FIGURES);
  show("client", (cell) => (figures.has_client ? cell.dataset.here : cell.dataset.away) ?? "");
  if (!figures.has_client) {
    for (const name of ["silent", "in", "out"]) show(name, () => "–");
    return;
  }
  show("silent", (cell) => `${(figures.silent_secs ?? 0).toFixed(1)} ${cell.dataset.unit}`);
  show("in", (cell) => `${rate("messages_in")} ${cell.dataset.unit}`);
  show("out", (cell) => `${rate("messages_out")} ${cell.dataset.unit}`);
  show("bytes-in", () => readableBytes(figures.bytes_in ?? 0));
  show("bytes-out", () => readableBytes(figures.bytes_out ?? 0));
  show("invalid", () => String(figures.invalid_messages ?? 0));
}

/** @param {Document} page */
function update(page) {
  const fresh = page.getElementById(call.id);
  version = fresh?.dataset.version;
  if (fresh?.dataset.live !== call.dataset.live) {
    // It has begun or ended: nearly everything is another.
    location.reload();
    return;
  }
  for (const part of PARTS) replacePart(page, part);
}

if (call.dataset.socket) {
  const askForUpdate = updater(update);
  openLiveSocket(
    call.dataset.socket,
    (message) => {
      showFigures(message.figures);
      if (message.version !== version) askForUpdate();
    },
    (isConnected) => {
      if (note) showNote(note, isConnected ? null : "lost");
    },
  );
}
/** A page that is loaded anew would stop listening in. */
const messageForm = /** @type {HTMLFormElement | null} */ (document.getElementById("voicews-message"));
messageForm?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = /** @type {HTMLInputElement} */ (messageForm.querySelector("[type=submit]"));
  button.disabled = true;
  const page = await sendForm(messageForm, messageForm.dataset.failed ?? "");
  button.disabled = false;
  if (!page) return;
  update(page);
  if (!document.querySelector(".messagelist .success")) return;
  messageForm.reset();
  const details = /** @type {HTMLDetailsElement} */ (messageForm.closest("details"));
  details.open = false;
  details.querySelector("summary")?.focus();
});
const panel = document.getElementById("voicews-listen");
if (panel) new ListenIn(panel);
startClocks();
