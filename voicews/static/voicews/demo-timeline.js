/**
 * The list of what was heard, said and done in a call, with times.
 */

/** Older entries go, so that a page that is left open does not grow without end. */
const MAX_ENTRIES = 500;
/** An utterance of this length fills the width of its bar, milliseconds. */
const FULL_BAR_MS = 10_000;
/** A reader who is this close to the end (pixels) wants to see what is new. */
const FOLLOW_PX = 80;

/** @typedef {"you" | "bot" | "operator" | "call" | "problem"} Speaker */

/**
 * @typedef {object} Entry
 * @property {(text: string) => void} text replaces the entry's text
 * @property {() => void} end stops its running duration
 * @property {(note: string) => void} note adds a remark behind the duration
 */

/** @param {number} ms */
function clock(ms) {
  const tenths = Math.floor(ms / 100);
  const minutes = Math.floor(tenths / 600);
  const seconds = Math.floor((tenths % 600) / 10);
  return `${minutes}:${String(seconds).padStart(2, "0")}.${tenths % 10}`;
}

/**
 * @param {string} name
 * @param {string} className
 * @param {string} [text]
 */
function element(name, className, text = "") {
  const node = document.createElement(name);
  node.className = className;
  node.textContent = text;
  return node;
}

const NAMES = { you: "You", bot: "Bot", operator: "Operator", call: "Call", problem: "Problem" };

export class Timeline {
  #list;
  #box;
  #start = performance.now();
  /** Whether the newest entry is looked at. */
  #follows = true;
  /** @type {Set<() => void>} updates of the entries that are still going on */
  #running = new Set();

  /** @param {HTMLElement} list an ol in the box that scrolls */
  constructor(list) {
    this.#list = list;
    this.#box = /** @type {HTMLElement} */ (list.parentElement);
    setInterval(() => {
      for (const update of this.#running) update();
    }, 100);
  }

  /** Empties the list; times count from now on. */
  restart() {
    this.#list.replaceChildren();
    this.#running.clear();
    this.#start = performance.now();
  }

  /**
   * @param {Speaker} who
   * @param {string} text
   * @returns {Entry}
   */
  add(who, text) {
    const list = this.#list;
    const box = this.#box;
    this.#follows = box.scrollHeight - box.scrollTop - box.clientHeight < FOLLOW_PX;
    const item = element("li", `entry entry-${who}`);
    const time = element("time", "entry-time", clock(performance.now() - this.#start));
    const body = element("span", "entry-text", text);
    const notes = element("span", "entry-notes");
    item.append(time, element("span", "entry-who", NAMES[who]), body, notes);
    list.append(item);
    while (list.children.length > MAX_ENTRIES) list.firstElementChild?.remove();
    this.#scroll();
    return {
      text: (newText) => {
        body.textContent = newText;
      },
      end: () => {},
      note: (note) => notes.append(element("span", "entry-note", note)),
    };
  }

  /**
   * An entry with a duration that runs until its `end`.
   * @param {Speaker} who
   * @param {string} text while it goes on
   * @param {string} past afterwards
   * @returns {Entry}
   */
  begin(who, text, past) {
    const entry = this.add(who, text);
    const item = /** @type {HTMLElement} */ (this.#list.lastElementChild);
    const duration = element("span", "entry-duration");
    const bar = element("span", "entry-bar");
    bar.setAttribute("aria-hidden", "true");
    item.lastElementChild?.before(duration);
    item.append(bar);
    item.classList.add("entry-running");
    this.#scroll();
    const start = performance.now();
    const update = () => {
      const ms = performance.now() - start;
      duration.textContent = `${(ms / 1000).toFixed(1)} s`;
      bar.style.setProperty("--part", Math.min(1, ms / FULL_BAR_MS).toFixed(3));
    };
    update();
    this.#running.add(update);
    entry.end = () => {
      if (!this.#running.delete(update)) return;
      update();
      entry.text(past);
      item.classList.remove("entry-running");
    };
    return entry;
  }

  #scroll() {
    if (this.#follows) this.#box.scrollTop = this.#box.scrollHeight;
  }
}
