// What is about to change, what it will do, why, and the button that does it.

import { el, fill } from "./dom.js";
import { metric, milliseconds, percent, threshold as shownThreshold, TASKS } from "./format.js";
import { problemNotice } from "./notices.js";
import { place, shown } from "./rules.js";

/** @param {{undo: Function, discard: Function, save: (reason: string) => void}} act */
export function createChangePanel(act) {
  const list = el("ul", { class: "changes" });
  const prediction = el("div", { class: "prediction", "aria-live": "polite" });
  const notes = el("div", { class: "notices" });
  const reason = el("textarea", { id: "reason", rows: "2", maxlength: "500", placeholder: "Why? It stands in the history." });
  const save = el("button", { type: "submit", class: "primary", id: "save" }, "Save");
  const discard = el("button", { type: "button", on: { click: act.discard } }, "Discard");
  const form = el("form", { class: "save-form" }, el("label", { class: "field", for: "reason" }, "Reason", reason), el("div", { class: "buttons" }, save, discard));
  const empty = el("p", { class: "soft" }, "Nothing changed yet. Move a point on the curve, or set a threshold in the table; what it would do is predicted here before anything is saved.");
  const full = el("div", { class: "change-full", hidden: true }, list, prediction, form);
  const node = el("div", { class: "card change-panel" }, el("div", { class: "card-head" }, el("h2", {}, "Change")), el("div", { class: "card-body" }, notes, empty, full));
  let state = { ready: false, saving: false, version: 0 };

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!save.disabled) act.save(reason.value.trim());
  });
  reason.addEventListener("input", showSave);

  function showSave() {
    save.disabled = !state.ready || state.saving || reason.value.trim() === "";
    save.textContent = state.saving ? "Saving…" : `Save as version ${state.version + 1}`;
  }

  return {
    node,
    notes,
    showChanges(changes, version) {
      state.version = version;
      empty.hidden = changes.length > 0;
      full.hidden = changes.length === 0;
      fill(list, changes.map(({ path, from, to }) =>
        el("li", {}, el("span", { class: "where" }, place(path)), el("span", { class: "number" }, el("del", {}, shown(from)), " → ", el("ins", {}, shown(to))), el("button", { type: "button", class: "plain", "aria-label": `Undo ${place(path)}`, title: "Undo", on: { click: () => act.undo(path) } }, "×"))));
      showSave();
    },
    predicting() {
      state.ready = false;
      prediction.setAttribute("aria-busy", "true");
      showSave();
    },
    showPrediction(answer) {
      state.ready = true;
      prediction.removeAttribute("aria-busy");
      fill(prediction, predictionTable(answer));
      showSave();
    },
    showProblem(problem, again) {
      state.ready = false;
      prediction.removeAttribute("aria-busy");
      fill(prediction, problemNotice(problem, ...(problem.passing ? [el("button", { type: "button", on: { click: again } }, "Try again")] : [])));
      showSave();
    },
    saving(on) {
      state.saving = on;
      showSave();
    },
    saved() {
      reason.value = "";
      fill(prediction);
      showSave();
    },
  };
}

function movement(before, after) {
  return before === after ? el("span", {}, after) : el("span", {}, el("span", { class: "soft" }, before), " → ", el("b", {}, after));
}

function predictionTable(answer) {
  const touched = (answer.tiers ?? []).flatMap((tier) => Object.entries(tier.models ?? {}).filter(([, one]) => one.changed).map(([task, one]) => ({ name: tier.name, task, ...one })));
  if (!touched.length) return el("p", { class: "small soft" }, "No tier computes anything else by this.");
  return touched.map(oneTier);
}

function oneTier({ name, task, current, proposed, shadow }) {
  const rows = [["Threshold", shownThreshold(current.threshold), shownThreshold(proposed.threshold)]];
  if (proposed.expected) {
    rows.push(["MACs saved, curve", percent(current.expected?.macs_saved), percent(proposed.expected.macs_saved)]);
    for (const [key, value] of Object.entries(proposed.expected.metrics)) {
      const { name: title, value: text } = metric(key);
      rows.push([title, text(current.expected?.metrics[key]), text(value)]);
    }
  }
  const [before, after] = [current.recent, proposed.recent];
  if (after) {
    rows.push([`MACs saved, ${after.images} images`, percent(before?.macs_saved), percent(after.macs_saved)]);
    if (after.latency_ms) rows.push(["In the slot, p50", milliseconds(before?.latency_ms?.p50), milliseconds(after.latency_ms.p50)]);
    if (after.latency_ms) rows.push(["In the slot, p95", milliseconds(before?.latency_ms?.p95), milliseconds(after.latency_ms.p95)]);
  }
  const shadowLine = !shadow ? null : `Shadow, ${shadow.comparisons} images at ${shownThreshold(shadow.candidate_threshold)}: ${shadow.agreement === null || shadow.agreement === undefined ? `${metric("psnr_y").value(shadow.psnr_db)} against what was served` : `${percent(shadow.agreement)} agree with what was served`}.`;
  return el(
    "div",
    { class: "predicted", "data-tier": name, "data-task": task },
    el("h3", {}, `${name}, ${(TASKS[task] ?? task).toLowerCase()}`),
    el("dl", { class: "facts small" }, rows.flatMap(([term, from, to]) => [el("dt", {}, term), el("dd", { class: "number" }, movement(from, to))])),
    proposed.note ? el("p", { class: "small", "data-kind": "warn" }, proposed.note) : null,
    after ? null : el("p", { class: "small soft" }, "No images came lately, so there is only the curve to go by."),
    shadowLine ? el("p", { class: "small soft" }, shadowLine) : null,
  );
}
