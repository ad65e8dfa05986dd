// The tiers of one model: threshold, what is expected of it, and what happened in the last minute.

import { el, fill } from "./dom.js";
import { integer, metric, milliseconds, percent, threshold as shown } from "./format.js";
import { isGoalRule, phrases } from "./rules.js";
import { ruleEditor } from "./rule-editor.js";
import { sparkline } from "./sparkline.js";

const cell = (label, props, ...children) => el("td", { role: "cell", "data-label": label, ...props }, ...children);
const head = (text, props = {}) => el("th", { role: "columnheader", scope: "col", ...props }, text);

/**
 * @param {{edit: Function, resolved: Function, expected: Function, past: Function}} model
 *   edit(name, change), resolved(name): threshold, expected(threshold): {macs_saved, metrics, change}, past(name): p50s
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

  function build() {
    rows.clear();
    fill(body, state.names.flatMap((name) => {
      const row = buildRow(name);
      rows.set(name, row);
      return [row.node, row.editor];
    }));
  }

  function buildRow(name) {
    const input = el("input", { type: "number", min: "0", max: "1", step: "0.01", "aria-label": `${name}: threshold`, "data-tier": name });
    input.addEventListener("input", () => {
      const value = input.valueAsNumber;
      const sound = Number.isFinite(value) && value >= 0 && value <= 1;
      input.setAttribute("aria-invalid", String(!sound));
      if (sound) model.edit(name, (tier) => setThreshold(tier.thresholds[state.task], value));
    });
    input.addEventListener("blur", () => update(name));
    const more = el("button", { type: "button", class: "plain", "aria-expanded": "false", "aria-label": `${name}: rule`, on: { click: () => toggle(name) } }, "Rule");
    const parts = Object.fromEntries(["rule", "saved", "quality", "change", "requests", "p50", "live"].map((key) => [key, el("span", { class: "number" })]));
    const node = el(
      "tr",
      { role: "row", "data-tier": name },
      el("th", { role: "rowheader", scope: "row" }, name, name === state.defaultTier ? el("span", { class: "tag" }, "default") : null),
      cell("Threshold", { class: "set" }, input, parts.rule),
      cell("MACs saved", { class: "end" }, parts.saved),
      cell("Quality", { class: "end" }, parts.quality),
      cell("Against exact", { class: "end versus" }, parts.change),
      cell("Requests, 60 s", { class: "end live" }, parts.requests),
      cell("p50 now", { class: "end live" }, parts.p50),
      cell("Saved now", { class: "end live" }, parts.live),
      cell("", { class: "more" }, more),
    );
    const editor = el("tr", { role: "row", class: "editor-row", hidden: true }, el("td", { role: "cell", colspan: "9" }));
    return { node, editor, input, more, parts };
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
        fill(place, ruleEditor(name, state.task, state.document.tiers[name], after, model.resolved(name), (change) => model.edit(name, change)));
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
    if (document.activeElement !== row.input) {
      row.input.value = shown(threshold);
      row.input.removeAttribute("aria-invalid");
    }
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
    /** {task, document, names, defaultTier, metric, changed: Set, version} */
    show(next) {
      const rebuild = state === null || state.task !== next.task || state.version !== next.version || state.names.join() !== next.names.join();
      const taskChanged = state !== null && state.task !== next.task;
      state = next;
      qualityHead.textContent = metric(state.metric).name;
      if (rebuild) {
        build();
        if (!state.names.includes(open) || taskChanged) open = null;
        showEditor();
      }
      for (const name of state.names) update(name);
    },
    /** Draw the open editor anew: after an undo, or another table. */
    reopen: showEditor,
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
