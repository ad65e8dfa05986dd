// One tier in full: a threshold or goals, the cap on cells, and how it behaves under load.

import { choices, el, fill } from "./dom.js";
import { GOALS, isGoalRule } from "./rules.js";

function numberField(label, unit, value, changed, { max, step = "any" } = {}) {
  const input = el("input", { type: "number", min: "0", max, step, value: value ?? "", placeholder: "not set" });
  input.addEventListener("input", () => changed(input.value === "" ? null : Number(input.value)));
  return el("label", { class: "field" }, el("span", {}, label, unit ? el("span", { class: "soft" }, `, ${unit}`) : null), input);
}

const round = (value) => Math.round(value * 1e6) / 1e6;

/**
 * @param {object} tier of the keyed document
 * @param {string[]} faster names of the tiers after it, what a floor may be
 * @param {(change: (tier: object) => void) => void} edit
 * @param {number} threshold what the rule comes to now: the start when goals give way to a number
 */
export function ruleEditor(name, task, tier, faster, threshold, edit) {
  const rule = tier.thresholds[task];
  const setRule = (change) => edit((one) => change(one.thresholds[task]));
  const goals = el("div", { class: "editor-fields" });
  const kind = choices(`How ${name} is set`, [["threshold", "By threshold"], ["goals", "By goals"]], isGoalRule(rule) ? "goals" : "threshold", setKind, { small: true });

  function setKind(next) {
    if (next === "threshold") {
      setRule((one) => {
        for (const [key] of GOALS[task]) delete one[key];
        one.threshold = round(threshold);
      });
    }
    showGoals(next);
  }

  function showGoals(current) {
    const fields = GOALS[task].map(([key, label, unit, many]) =>
      numberField(label, unit, rule[key] === undefined ? null : round(rule[key] * many), (value) =>
        setRule((one) => {
          if (value === null) delete one[key];
          else one[key] = round(value / many);
          if (GOALS[task].some(([goal]) => goal in one)) delete one.threshold;
          else one.threshold ??= round(threshold);
        }),
      ),
    );
    fill(goals, current === "goals" ? fields : el("p", { class: "small soft" }, "Set the number in the table, or move the point on the curve."));
  }
  showGoals(isGoalRule(rule) ? "goals" : "threshold");

  const cap = numberField("Cells at most", "%", rule.max_active_share === undefined ? null : round(100 * rule.max_active_share), (value) =>
    setRule((one) => {
      if (value === null) delete one.max_active_share;
      else one.max_active_share = round(value / 100);
    }), { max: "100" });
  const floor = el("select", {}, el("option", { value: "" }, "none"), faster.map((one) => el("option", { value: one }, one)));
  floor.value = tier.floor ?? "";
  floor.addEventListener("change", () => edit((one) => {
    one.floor = floor.value || null;
  }));
  const degradable = el("input", { type: "checkbox", checked: Boolean(tier.degradable) });
  degradable.addEventListener("change", () => edit((one) => {
    one.degradable = degradable.checked;
  }));
  const description = el("input", { type: "text", maxlength: "200", value: tier.description ?? "" });
  description.addEventListener("input", () => edit((one) => {
    one.description = description.value;
  }));
  return el(
    "div",
    { class: "editor" },
    kind.node,
    goals,
    el("div", { class: "editor-fields" }, cap, el("label", { class: "field" }, "Floor under load", floor), el("label", { class: "field wide" }, "Description", description)),
    el("label", { class: "check" }, degradable, "May be answered by a faster tier under load"),
  );
}
