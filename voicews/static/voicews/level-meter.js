/**
 * Shows a sound level as a bar.
 */

/** The quietest level that is shown, dB below full scale. */
const FLOOR_DB = 60;
/** How much of the bar is left from one update to the next when it gets quiet. */
const DECAY = 0.85;

/**
 * @param {HTMLElement} bar its custom property --level goes from 0 to 1
 * @returns {(level: number) => void} takes an RMS level, 0 to 1
 */
export function levelMeter(bar) {
  let shown = 0;
  return (level) => {
    const db = 20 * Math.log10(Math.max(level, 1e-6));
    const wanted = Math.min(1, Math.max(0, 1 + db / FLOOR_DB));
    shown = level === 0 ? 0 : Math.max(wanted, shown * DECAY);
    bar.style.setProperty("--level", shown.toFixed(3));
  };
}
