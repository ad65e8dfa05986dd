// The keys of every control that holds a threshold: arrows by the last of three digits, with Shift by ten of it, pages
// by fifty, Home and End to the ends.

const STEPS = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 50, PageDown: -50 };

/** A threshold on screen has three digits. */
export const rounded = (value) => Math.round(value * 1000) / 1000;

/**
 * Where a key leads from a value; undefined where it is none of these.
 * @param {KeyboardEvent} event
 * @param {boolean} typed whether the control is also typed into: there left, right, Home and End move the caret
 */
export function keyedThreshold(event, now, [low, high] = [0, 1], typed = false) {
  if (event.altKey || event.ctrlKey || event.metaKey) return undefined;
  if (typed && !["ArrowUp", "ArrowDown", "PageUp", "PageDown"].includes(event.key)) return undefined;
  if (event.key === "Home") return low;
  if (event.key === "End") return high;
  const steps = STEPS[event.key];
  if (steps === undefined) return undefined;
  const by = Math.abs(steps) === 1 && event.shiftKey ? 10 * steps : steps;
  return Math.min(high, Math.max(low, rounded(now + by / 1000)));
}
