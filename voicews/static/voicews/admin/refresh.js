/**
 * Brings a page up to date: the server makes it anew, and parts of it take the places of the old ones.
 */

/** At least so long from one time to the next. */
const PAUSE_MS = 2000;

/** @returns {Promise<Document>} this page as it would be now */
async function fetchPage() {
  const response = await fetch(location.href, { credentials: "same-origin" });
  // To the login page, when the login has expired.
  if (!response.ok || response.redirected) location.reload();
  return new DOMParser().parseFromString(await response.text(), "text/html");
}

/**
 * @param {(page: Document) => void} update takes what it needs from the new page
 * @returns {() => void} asks for an update: soon, once for all who ask meanwhile, and only while the
 *   page is looked at
 */
export function updater(update) {
  let wanted = false;
  let busy = false;

  async function run() {
    if (!wanted || busy || document.hidden) return;
    wanted = false;
    busy = true;
    try {
      update(await fetchPage());
    } catch {
      wanted = true; // the server is away; the socket says so
    }
    setTimeout(() => {
      busy = false;
      void run();
    }, PAUSE_MS);
  }

  document.addEventListener("visibilitychange", () => void run());
  return () => {
    wanted = true;
    void run();
  };
}

/**
 * @param {Document} page
 * @param {string} selector
 */
export function replacePart(page, selector) {
  const old = document.querySelector(selector);
  const fresh = page.querySelector(selector);
  if (!old || !fresh) return;
  const scrolls = [...old.querySelectorAll("[tabindex]")].map((box) => box.scrollTop);
  old.replaceChildren(...fresh.childNodes);
  old.querySelectorAll("[tabindex]").forEach((box, i) => {
    box.scrollTop = scrolls[i] ?? 0;
  });
}
