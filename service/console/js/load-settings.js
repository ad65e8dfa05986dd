// Brownout and shadow: what the table says beside its tiers.

import { el, fill } from "./dom.js";
import { TASKS } from "./format.js";

/** @param {(change: (document: object) => void) => void} edit */
export function createLoadSettings(edit) {
  const body = el("div", { class: "settings" });
  const node = el("details", { class: "card fold" }, el("summary", { class: "card-head" }, el("h2", {}, "Under load, and shadow")), el("div", { class: "card-body" }, body));

  function number(label, hint, value, set, { step = "any", max } = {}) {
    const input = el("input", { type: "number", min: "0", max, step, value: value ?? "", placeholder: "not set" });
    input.addEventListener("input", () => edit((document) => set(document, input.value === "" ? null : Number(input.value))));
    return el("label", { class: "field" }, label, input, hint ? el("span", { class: "hint" }, hint) : null);
  }

  return {
    node,
    show(document) {
      if (node.contains(globalThis.document.activeElement) && globalThis.document.activeElement.tagName === "INPUT") return;
      const { brownout = {}, shadow = {} } = document;
      const enabled = el("input", { type: "checkbox", checked: Boolean(brownout.enabled) });
      enabled.addEventListener("change", () => edit((one) => {
        one.brownout = { ...one.brownout, enabled: enabled.checked };
      }));
      fill(
        body,
        el("label", { class: "check" }, enabled, "Brownout: answer from faster tiers before turning requests away"),
        el(
          "div",
          { class: "editor-fields" },
          number("Begin when the wait is above, s", "", brownout.enter_wait_s, (one, value) => {
            one.brownout.enter_wait_s = value;
          }),
          number("End when it is below, s", "", brownout.exit_wait_s, (one, value) => {
            one.brownout.exit_wait_s = value;
          }),
        ),
        el(
          "div",
          { class: "editor-fields" },
          number("Shadow, % of requests", "Run again at a candidate threshold while nothing waits.", Math.round(1e4 * (shadow.share ?? 0)) / 100, (one, value) => {
            one.shadow.share = (value ?? 0) / 100;
          }, { max: "100" }),
          Object.entries(TASKS).map(([task, name]) => number(`Candidate, ${name.toLowerCase()}`, "", shadow.thresholds?.[task], (one, value) => {
            one.shadow.thresholds = { ...one.shadow.thresholds, [task]: value };
          }, { max: "1", step: "0.001" })),
        ),
      );
    },
  };
}
