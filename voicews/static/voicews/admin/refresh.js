/**
 * Brings a page up to date: the server makes it anew, and parts of it take the places of the old ones.
 */

/** At least so long from one time to the next. */
const PAUSE_MS = 2000;

/** @returns {Promise<Document>} this page as it would be now */
async function fetchPage() {
  const response = await fetch(location.href, { credentials: "same-origin" });
  // To the login page, when the login has expired; what may not be seen any more goes too.
  if (response.redirected || response.status === 403 || response.status === 404) location.reload();
  if (!response.ok) throw new Error(`HTTP ${response.status}`);
  return parsePage(await response.text());
}

/**
 * @param {string} html
 * @returns {Document}
 */
function parsePage(html) {
  return new DOMParser().parseFromString(html, "text/html");
}

/**
 * Sends a form without leaving the page, and shows what the server's next page says of it.
 * @param {HTMLFormElement} form
 * @param {string} failed what to say when the server can't be asked
 * @returns {Promise<Document | null>} that page; null if there is none
 */
export async function sendForm(form, failed) {
  try {
    const response = await fetch(form.action, {
      method: "POST", body: new FormData(form), credentials: "same-origin",
    });
    const page = parsePage(await response.text());
    const found = page.querySelector(".messagelist");
    if (!response.ok || !found) throw new Error(`HTTP ${response.status}`);
    showMessages(found);
    return page;
  } catch {
    const list = document.createElement("ul");
    const item = document.createElement("li");
    list.className = "messagelist";
    item.className = "error";
    item.textContent = failed;
    list.append(item);
    showMessages(list);
    return null;
  }
}

/** @param {Element} list the admin's own, in place of the one that is shown */
function showMessages(list) {
  const shown = document.querySelector(".messagelist");
  let box = shown?.closest("[role=status]");
  if (!box) {
    box = document.createElement("div");
    box.setAttribute("role", "status");
    document.querySelector("#content")?.before(box);
    shown?.remove();
  }
  box.replaceChildren(list);
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
