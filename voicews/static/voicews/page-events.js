/**
 * What happens to the page of a call: another network, sleep and waking up, being left.
 */

/** @typedef {{ onNetwork: () => void, onLeave: () => void }} PageHandlers */

/**
 * `onNetwork`: the network may have become another one, or the page was asleep. `onLeave`: the page is kept
 * for going back to, so the call must be hung up; one that goes away for good is closed by the browser
 * itself, with code 1001, which pages may not send.
 * @param {PageHandlers} handlers
 * @returns {() => void} stops watching
 */
export function watchPage({ onNetwork, onLeave }) {
  const { document, navigator } = globalThis;
  const { connection } = /** @type {{ connection?: EventTarget }} */ (
    /** @type {unknown} */ (navigator ?? {})
  );
  /** @type {[EventTarget | undefined, string, (event: any) => void][]} */
  const watched = [
    [globalThis, "online", onNetwork],
    [connection, "change", onNetwork],
    [document, "resume", onNetwork],
    [document, "visibilitychange", () => {
      if (!document.hidden) onNetwork();
    }],
    [globalThis, "pagehide", ({ persisted }) => {
      if (persisted) onLeave();
    }],
  ];
  for (const [target, name, listener] of watched) target?.addEventListener?.(name, listener);
  return () => {
    for (const [target, name, listener] of watched) target?.removeEventListener?.(name, listener);
  };
}
