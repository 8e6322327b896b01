/**
 * Durations of live calls, that go on while one looks at them.
 */

/** @type {WeakMap<HTMLElement, number>} when each began, on this page's clock, milliseconds */
const beginnings = new WeakMap();

/**
 * @param {number} secs
 * @returns {string} as the server writes it: 1:02:03, or 2:03
 */
export function readable(secs) {
  const hours = Math.floor(secs / 3600);
  const minutes = Math.floor(secs / 60) % 60;
  const two = (/** @type {number} */ value) => String(value).padStart(2, "0");
  const end = two(Math.floor(secs) % 60);
  return hours ? `${hours}:${two(minutes)}:${end}` : `${minutes}:${end}`;
}

function tick() {
  const now = performance.now();
  for (const clock of /** @type {NodeListOf<HTMLElement>} */ (
    document.querySelectorAll(".voicews-clock")
  )) {
    const began = beginnings.get(clock) ?? now - 1000 * Number(clock.dataset.secs);
    beginnings.set(clock, began);
    clock.textContent = readable((now - began) / 1000);
  }
}

export function startClocks() {
  tick();
  setInterval(tick, 1000);
}
