// The threshold by hand: shows live, from the importance map alone, what would be skipped.

import { el, fill } from "./dom.js";
import { percent, threshold as shown } from "./format.js";

/**
 * @param {(threshold: number) => void} moved while it moves
 * @param {(threshold: number) => void} run when the user wants the real thing
 */
export function createThresholdSlider(moved, run) {
  const input = el("input", { type: "range", id: "threshold", min: "0", max: "1", step: "0.01", value: "0" });
  const ticks = el("div", { class: "ticks", "aria-hidden": "true" });
  const readout = el("p", { class: "readout number", id: "readout" });
  const button = el("button", { type: "button", id: "run-threshold", on: { click: () => run(Number(input.value)) } }, "Run");
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
    button.disabled = same;
    button.textContent = same ? "As shown" : `Run at ${shown(value)}`;
    input.setAttribute("aria-valuetext", `${shown(value)}: skips ${percent(1 - share)} of the cells${saved === null ? "" : `, saves ${percent(saved)} of the MACs`}`);
  }

  input.addEventListener("input", () => {
    show();
    moved(Number(input.value));
  });

  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !button.disabled) run(Number(input.value));
  });

  return {
    node,
    get value() {
      return Number(input.value);
    },
    /** The answer the slider speaks of: its threshold, dense MACs, and the two functions of importance.js. */
    setAnswer({ threshold, dense, shareAt, macsAt }, { move = true } = {}) {
      state = { threshold, dense, shareAt, macsAt };
      if (move) {
        input.step = Number.isInteger(Math.round(threshold * 1e6) / 1e4) ? "0.01" : "any";
        input.value = String(threshold);
      }
      show();
    },
    /** Marks under the track, one a tier. */
    setTiers(tiers) {
      fill(ticks, tiers.map(([name, at]) => el("span", { class: "tick", style: { left: `${100 * at}%` }, "data-edge": at < 0.06 ? "start" : at > 0.92 ? "end" : null }, el("i", {}), el("span", {}, name))));
    },
  };
}
