/**
 * One of the admin's sockets: JSON in, opened again for as long as the page is there.
 */

const FIRST_RETRY_MS = 1000;
const LONGEST_RETRY_MS = 30_000;
/** What the server closes with when nothing more will happen, or the user may not see it any more. */
const NOTHING_MORE = 1000;
const NOT_ALLOWED = 1008;

/**
 * @param {string} path
 * @returns {string} its address on the host of this page
 */
export function socketUrl(path) {
  const url = new URL(path, location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

/**
 * @param {string} path
 * @param {(message: any) => void} onMessage
 * @param {(isConnected: boolean) => void} onChange
 */
export function openLiveSocket(path, onMessage, onChange) {
  let retryMs = FIRST_RETRY_MS;

  function open() {
    const socket = new WebSocket(socketUrl(path));
    socket.onopen = () => {
      retryMs = FIRST_RETRY_MS;
      onChange(true);
    };
    socket.onmessage = ({ data }) => onMessage(JSON.parse(data));
    socket.onclose = ({ code }) => {
      if (code === NOTHING_MORE) return;
      onChange(false);
      if (code === NOT_ALLOWED) return;
      setTimeout(open, retryMs);
      retryMs = Math.min(2 * retryMs, LONGEST_RETRY_MS);
    };
  }

  open();
}

/**
 * @param {HTMLElement} note a status line that is hidden while all is well
 * @returns {(isConnected: boolean) => void}
 */
export function connectionNote(note) {
  return (isConnected) => showNote(note, isConnected ? null : "lost");
}

/**
 * @param {HTMLElement} note
 * @param {string | null} name of the text, in its data attributes; null hides the note
 */
export function showNote(note, name) {
  const text = name === null ? "" : note.dataset[name] ?? "";
  if (note.textContent !== text) note.textContent = text;
  note.hidden = text === "";
}
