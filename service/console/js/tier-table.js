// The tiers of one model: threshold, what is expected of it, and what happened in the last minute.

import { el, fill, freshId } from "./dom.js";
import { refill } from "./focus.js";
import { integer, metric, milliseconds, percent, threshold as shown } from "./format.js";
import { isGoalRule, phrases } from "./rules.js";
import { ruleEditor } from "./rule-editor.js";
import { sparkline } from "./sparkline.js";
import { keyedThreshold } from "./threshold-keys.js";

const NO_THRESHOLD = "A threshold is a number from 0 to 1.";

const cell = (label, props, ...children) => el("td", { role: "cell", "data-label": label, ...props }, ...children);
const head = (text, props = {}) => el("th", { role: "columnheader", scope: "col", ...props }, text);

/**
 * @param {{edit: Function, unsound: Function, resolved: Function, expected: Function, past: Function}} model
 *   edit(name, change), unsound() where a field holds no threshold, resolved(name): threshold, expected(threshold): {macs_saved, metrics, change}, past(name): p50s
 */
export function createTierTable(model) {
  const body = el("tbody", { role: "rowgroup" });
  const qualityHead = head("Quality", { class: "end" });
  const node = el(
    "table",
    { class: "tiers", role: "table", "aria-label": "Tiers" },
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, head("Tier"), head("Threshold"), head("MACs saved", { class: "end" }), qualityHead, head("Against exact", { class: "end" }), head("Last 60 s", { class: "end live" }), head("p50 now", { class: "end live" }), head("Saved now", { class: "end live" }), head(el("span", { class: "visually-hidden" }, "More")))),
    body,
  );
  const rows = new Map();
  let open = null;
  let state = null;
  const typed = new Map(); // what is in a field and is not a threshold, by tier: why not

  function build() {
    rows.clear();
    fill(body, state.names.flatMap((name) => {
      const row = buildRow(name);
      rows.set(name, row);
      return [row.node, row.editor];
    }));
  }

  function buildRow(name) {
    const fault = el("span", { class: "fault small", id: freshId("fault") });
    const input = el("input", { type: "number", min: "0", max: "1", step: "0.001", inputmode: "decimal", "aria-label": `${name}: threshold`, "aria-describedby": fault.id, "data-tier": name });
    const take = () => {
      const value = input.valueAsNumber;
      typed.delete(name);
      if (Number.isFinite(value) && value >= 0 && value <= 1) model.edit(name, (tier) => setThreshold(tier.thresholds[state.task], value));
      else {
        typed.set(name, NO_THRESHOLD);
        model.unsound();
      }
      for (const one of state.names) update(one);
    };
    input.addEventListener("input", take);
    input.addEventListener("keydown", (event) => {
      const to = keyedThreshold(event, Number.isFinite(input.valueAsNumber) ? input.valueAsNumber : 0, [0, 1], true);
      if (to === undefined) return;
      event.preventDefault();
      input.value = String(to);
      take();
    });
    input.addEventListener("blur", () => update(name));
    const more = el("button", { type: "button", class: "plain", "aria-expanded": "false", "aria-label": `${name}: rule`, on: { click: () => toggle(name) } }, "Rule");
    const parts = Object.fromEntries(["rule", "saved", "quality", "change", "requests", "p50", "live"].map((key) => [key, el("span", { class: "number" })]));
    const node = el(
      "tr",
      { role: "row", "data-tier": name },
      el("th", { role: "rowheader", scope: "row" }, name, name === state.defaultTier ? el("span", { class: "tag" }, "default") : null),
      cell("Threshold", { class: "set" }, input, fault, parts.rule),
      cell("MACs saved", { class: "end" }, parts.saved),
      cell("Quality", { class: "end" }, parts.quality),
      cell("Against exact", { class: "end versus" }, parts.change),
      cell("Requests, 60 s", { class: "end live" }, parts.requests),
      cell("p50 now", { class: "end live" }, parts.p50),
      cell("Saved now", { class: "end live" }, parts.live),
      cell("", { class: "more" }, more),
    );
    const editor = el("tr", { role: "row", class: "editor-row", hidden: true }, el("td", { role: "cell", colspan: "9" }));
    return { node, editor, input, fault, more, parts };
  }

  /** What is wrong with a tier: what was typed, its place among the others, or what the service says of it. */
  function faultOf(name) {
    if (typed.has(name)) return typed.get(name);
    const better = state.names.slice(0, state.names.indexOf(name)).findLast((one) => !typed.has(one));
    if (better !== undefined && state.changes && model.resolved(name) < model.resolved(better) - 1e-9) {
      return `Below ${better} (${shown(model.resolved(better))}): a faster tier may not skip less.`;
    }
    return state.faults?.get(name) ?? "";
  }

  function toggle(name) {
    open = open === name ? null : name;
    showEditor();
  }

  function showEditor() {
    for (const [name, { editor, more }] of rows) {
      const on = name === open;
      more.setAttribute("aria-expanded", String(on));
      editor.hidden = !on;
      const [place] = editor.children;
      if (!on) fill(place);
      else {
        const after = state.names.slice(state.names.indexOf(name) + 1);
        refill(place, () => fill(place, ruleEditor(name, state.task, state.document.tiers[name], after, model.resolved(name), (change) => model.edit(name, change))));
      }
    }
  }

  function update(name) {
    const row = rows.get(name);
    const tier = state.document.tiers[name];
    const rule = tier.thresholds[state.task];
    const threshold = model.resolved(name);
    const expected = model.expected(threshold);
    const quality = metric(state.metric);
    if (document.activeElement !== row.input && !typed.has(name)) row.input.value = shown(threshold);
    const fault = faultOf(name);
    row.input.setAttribute("aria-invalid", String(fault !== ""));
    if (row.fault.textContent !== fault) row.fault.textContent = fault;
    row.node.classList.toggle("faulty", fault !== "");
    const words = phrases(rule);
    row.parts.rule.textContent = words.length ? words.join(", ") : "";
    row.parts.rule.className = "rule small soft";
    row.node.classList.toggle("changed", state.changed.has(name));
    row.node.classList.toggle("goals", isGoalRule(rule));
    row.parts.saved.textContent = percent(expected?.macs_saved);
    row.parts.quality.textContent = expected && state.metric in expected.metrics ? quality.value(expected.metrics[state.metric]) : "–";
    row.parts.change.textContent = expected && state.metric in expected.change ? quality.change(expected.change[state.metric]) : "–";
  }

  return {
    node,
    /** {task, document, names, defaultTier, metric, changed: Set, changes: whether there are any, faults: Map, version} */
    show(next) {
      // Not for another version alone: the rows stay the same elements, and one of them may have the focus.
      const rebuild = state === null || state.task !== next.task || state.defaultTier !== next.defaultTier || state.names.join() !== next.names.join();
      if (state === null || state.task !== next.task || state.version !== next.version) typed.clear();
      const taskChanged = state !== null && state.task !== next.task;
      state = next;
      qualityHead.textContent = metric(state.metric).name;
      if (rebuild) {
        refill(body, build);
        if (!state.names.includes(open) || taskChanged) open = null;
        showEditor();
      }
      for (const name of state.names) update(name);
    },
    /** Draw the open editor anew: after an undo, or another table. */
    reopen: showEditor,
    /** Forget what was typed and is not a threshold. */
    forget(name) {
      if (name === undefined) typed.clear();
      else typed.delete(name);
      for (const one of state.names) update(one);
    },
    /** The first control whose value cannot be saved; null where there is none. */
    faulty() {
      const name = state?.names.find((one) => faultOf(one) !== "");
      return name === undefined ? null : rows.get(name).input;
    },
    showLive(tiers) {
      for (const [name, { parts }] of rows) {
        const one = tiers?.[name];
        parts.requests.textContent = integer(one?.requests);
        fill(parts.p50, sparkline(model.past(name)), milliseconds(one?.p50_ms ?? NaN));
        parts.live.textContent = percent(one?.macs_saved ?? NaN);
      }
    },
  };
}

/** A number takes the place of goals; the cap on cells stays. */
export function setThreshold(rule, value) {
  for (const key of Object.keys(rule)) if (key !== "max_active_share") delete rule[key];
  rule.threshold = value;
}
