// The threshold by hand: shows live, from the importance map alone, what would be skipped.

import { el, fill } from "./dom.js";
import { percent, threshold as shown } from "./format.js";
import { keyedThreshold, rounded } from "./threshold-keys.js";

/**
 * @param {(threshold: number) => void} moved while it moves
 * @param {(threshold: number) => void} run when the user wants the real thing
 */
export function createThresholdSlider(moved, run) {
  const input = el("input", { type: "range", id: "threshold", min: "0", max: "1", step: "any", value: "0" });
  const ticks = el("div", { class: "ticks", "aria-hidden": "true" });
  const readout = el("p", { class: "readout number", id: "readout" });
  const button = el("button", { type: "button", id: "run-threshold", on: { click: runIt } }, "Run");
  const node = el(
    "div",
    { class: "threshold" },
    el("div", { class: "threshold-head" }, el("label", { for: "threshold" }, el("h2", {}, "Threshold")), readout, button),
    el("div", { class: "track" }, input, ticks),
  );
  let state = null;

  function show() {
    const value = Number(input.value);
    input.style.setProperty("--fill", `${100 * value}%`);
    if (!state) return;
    const share = state.shareAt(value);
    const executed = state.macsAt?.(share);
    const saved = executed === undefined ? null : 1 - executed / state.dense;
    fill(
      readout,
      el("b", {}, shown(value)),
      " skips ",
      el("b", { id: "skipped", "data-share": String(share) }, percent(1 - share)),
      " of the cells",
      saved === null ? null : ", saves ",
      saved === null ? null : el("b", { id: "estimate" }, percent(saved)),
      saved === null ? null : " of the MACs",
    );
    const same = Math.abs(value - state.threshold) < 1e-9;
    button.setAttribute("aria-disabled", String(same)); // not disabled: it would drop the focus
    button.textContent = same ? "As shown" : `Run at ${shown(value)}`;
    input.setAttribute("aria-valuetext", `${shown(value)}: skips ${percent(1 - share)} of the cells${saved === null ? "" : `, saves ${percent(saved)} of the MACs`}`);
  }

  function runIt() {
    if (button.getAttribute("aria-disabled") !== "true") run(Number(input.value));
  }

  input.addEventListener("input", () => {
    const value = Number(input.value);
    if (value !== state?.threshold) input.value = String(rounded(value));
    show();
    moved(Number(input.value));
  });

  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter") runIt();
    const to = keyedThreshold(event, Number(input.value));
    if (to === undefined) return;
    event.preventDefault();
    input.value = String(to);
    show();
    moved(to);
  });

  /** The names under the track, each on the first line where it touches no other. */
  function layTicks() {
    const free = [];
    for (const tick of ticks.children) {
      const name = tick.querySelector("span");
      const half = name.offsetWidth / 2;
      const at = parseFloat(tick.dataset.at) * ticks.clientWidth;
      const shift = Math.max(half - at - 8, 0) - Math.max(at + half - ticks.clientWidth - 8, 0);
      const left = at + shift - half;
      let level = free.findIndex((end) => end + 4 <= left);
      if (level < 0) level = free.length;
      free[level] = left + 2 * half;
      tick.style.setProperty("--level", String(level));
      name.style.setProperty("--shift", `${shift}px`);
    }
    ticks.style.setProperty("--levels", String(Math.max(1, free.length)));
  }
  new ResizeObserver(layTicks).observe(ticks);

  return {
    node,
    get value() {
      return Number(input.value);
    },
    /** The answer the slider speaks of: its threshold, dense MACs, and the two functions of importance.js. */
    setAnswer({ threshold, dense, shareAt, macsAt }, { move = true } = {}) {
      state = { threshold, dense, shareAt, macsAt };
      if (move) {
        input.value = String(threshold);
      }
      show();
    },
    /** Marks under the track, one a tier. */
    setTiers(tiers) {
      fill(ticks, tiers.map(([name, at]) => el("span", { class: "tick", style: { left: `${100 * at}%` }, "data-at": at }, el("i", {}), el("span", {}, name))));
      layTicks();
    },
  };
}
