/**
 * The list of sessions: calls appear and end without a reload.
 */

import { startClocks } from "./clocks.js";
import { connectionNote, openLiveSocket } from "./live-socket.js";
import { updater } from "./refresh.js";

const BOX = "input.action-select";

const note = /** @type {HTMLElement} */ (document.getElementById("voicews-list-news"));
/** What is shown: the server's name for the state of all sessions. */
let version = note.dataset.version;

/**
 * @param {Document} page
 * @returns {HTMLTableSectionElement | null}
 */
function listBody(page) {
  return page.querySelector("#result_list tbody");
}

/**
 * @param {Element} row
 * @returns {HTMLInputElement | null}
 */
function boxOf(row) {
  return row.querySelector(BOX);
}

/** @param {Document} page */
function update(page) {
  version = page.getElementById(note.id)?.dataset.version;
  const body = listBody(document);
  const fresh = listBody(page);
  if (!body || !fresh) {
    // An empty list has no table.
    if (body || fresh) location.reload();
    return;
  }
  const shown = new Map([...body.rows].map((row) => [boxOf(row)?.value, row]));
  body.replaceChildren(
    ...[...fresh.rows].map((row) => {
      const old = shown.get(boxOf(row)?.value);
      return old ? keepBox(old, row) : row;
    }),
  );
  const [paginator, newPaginator] = [document, page].map((one) => one.querySelector(".paginator"));
  if (paginator && newPaginator) paginator.replaceChildren(...newPaginator.childNodes);
  countSelected();
}

/**
 * Keeps the row and its box, which the admin's own script knows, and takes everything else.
 * @param {HTMLTableRowElement} old
 * @param {HTMLTableRowElement} fresh
 */
function keepBox(old, fresh) {
  const cell = boxOf(old)?.closest("td");
  const cells = [...fresh.cells].filter((one) => !one.querySelector(BOX));
  old.replaceChildren(...(cell ? [cell] : []), ...cells);
  return old;
}

/** The admin's own script counts the boxes that were there at first: here are all that are now. */
function countSelected() {
  const boxes = /** @type {HTMLInputElement[]} */ ([...document.querySelectorAll(BOX)]);
  const counter = document.querySelector("span.action-counter");
  const selected = boxes.filter((box) => box.checked).length;
  if (counter?.firstChild) {
    // "0 of 5 selected", in any language: the numbers are all that changes.
    const numbers = [selected, boxes.length];
    counter.textContent = (counter.textContent ?? "").replace(/\d+/g, (text) =>
      String(numbers.shift() ?? text));
  }
}

document.getElementById("result_list")?.addEventListener("change", countSelected);
document.getElementById("action-toggle")?.addEventListener("click", ({ target }) => {
  const { checked } = /** @type {HTMLInputElement} */ (target);
  for (const box of /** @type {NodeListOf<HTMLInputElement>} */ (document.querySelectorAll(BOX))) {
    box.checked = checked;
    box.closest("tr")?.classList.toggle("selected", checked);
  }
  countSelected();
});

const askForUpdate = updater(update);
openLiveSocket(
  note.dataset.socket ?? "",
  (message) => {
    if (message.version !== version) askForUpdate();
  },
  connectionNote(note),
);
startClocks();
