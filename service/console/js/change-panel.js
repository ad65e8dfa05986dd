// What is about to change, what it will do, why, and the button that does it.

import { announce, el, fill } from "./dom.js";
import { refill } from "./focus.js";
import { metric, milliseconds, percent, threshold as shownThreshold, TASKS } from "./format.js";
import { problemNotice } from "./notices.js";
import { place, shown } from "./rules.js";

/**
 * @param {{undo: Function, discard: Function, save: (reason: string) => void, faulty: () => HTMLElement | null}} act
 *   faulty gives the first control that holds what the table cannot be saved with
 */
export function createChangePanel(act) {
  const list = el("ul", { class: "changes" });
  const prediction = el("div", { class: "prediction", "aria-live": "polite" });
  const notes = el("div", { class: "notices" });
  const heading = el("h2", {}, "Change");
  const reason = el("textarea", { id: "reason", rows: "2", maxlength: "500", required: true, placeholder: "Why? It stands in the history.", "aria-describedby": "save-hint" });
  const save = el("button", { type: "submit", class: "primary", id: "save", "aria-describedby": "save-hint" }, "Save");
  const hint = el("p", { class: "small save-hint", id: "save-hint" });
  const discard = el("button", { type: "button", on: { click: act.discard } }, "Discard");
  const form = el("form", { class: "save-form", novalidate: true }, el("label", { class: "field", for: "reason" }, "Reason", reason), el("div", { class: "buttons" }, save, discard), hint);
  const empty = el("p", { class: "soft" }, "Nothing changed yet. Move a point on the curve, or set a threshold in the table; what it would do is predicted here before anything is saved.");
  const full = el("div", { class: "change-full", hidden: true }, list, prediction, form);
  const node = el("div", { class: "card change-panel" }, el("div", { class: "card-head" }, heading), el("div", { class: "card-body" }, notes, empty, full));
  let state = { ready: false, refused: false, saving: false, version: 0, asked: false };

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    state.asked = true;
    showSave();
    if (state.saving) return;
    announce(missing());
    if (act.faulty()) act.faulty().focus();
    else if (reason.value.trim() === "") reason.focus();
    else if (state.ready) act.save(reason.value.trim());
  });
  reason.addEventListener("input", showSave);

  /** What stands between this change and being saved; empty where nothing does. */
  function missing() {
    if (state.saving) return "";
    if (act.faulty()) return "To save, first correct what is marked in red.";
    if (state.refused) return "It cannot be saved as it is; see above.";
    if (reason.value.trim() === "") return "To save, say why in Reason.";
    return state.ready ? "" : "To save, wait for the prediction; it is on its way.";
  }

  function showSave() {
    const why = missing();
    // Never disabled: a disabled button cannot be asked why, and drops the focus.
    save.setAttribute("aria-disabled", String(state.saving || why !== ""));
    save.textContent = state.saving ? "Saving…" : `Save as version ${state.version + 1}`;
    if (hint.textContent !== why) hint.textContent = why;
    hint.dataset.kind = state.asked && why ? "bad" : "";
    reason.setAttribute("aria-invalid", String(state.asked && reason.value.trim() === ""));
  }

  return {
    node,
    heading,
    notes,
    showChanges(changes, version) {
      state.version = version;
      if (!changes.length) Object.assign(state, { asked: false, refused: false });
      empty.hidden = changes.length > 0;
      full.hidden = changes.length === 0;
      refill(list, () => fill(list, changes.map(({ path, from, to }) =>
        el("li", {}, el("span", { class: "where" }, place(path)), el("span", { class: "number" }, el("del", {}, shown(from)), " → ", el("ins", {}, shown(to))), el("button", { type: "button", class: "plain", "aria-label": `Undo ${place(path)}`, title: "Undo", on: { click: () => act.undo(path) } }, "×")))));
      showSave();
    },
    predicting() {
      Object.assign(state, { ready: false, refused: false });
      prediction.setAttribute("aria-busy", "true");
      showSave();
    },
    showPrediction(answer) {
      Object.assign(state, { ready: true, refused: false });
      prediction.removeAttribute("aria-busy");
      fill(prediction, predictionTable(answer));
      showSave();
    },
    showProblem(problem, again) {
      Object.assign(state, { ready: false, refused: !problem.passing });
      prediction.removeAttribute("aria-busy");
      fill(prediction, problemNotice(problem, ...(problem.passing ? [el("button", { type: "button", on: { click: again } }, "Try again")] : [])));
      showSave();
    },
    /** What is typed in the table is no threshold at all: there is nothing to predict. */
    showFaulty() {
      Object.assign(state, { ready: false, refused: false });
      prediction.removeAttribute("aria-busy");
      fill(prediction);
      showSave();
    },
    refresh: showSave,
    saving(on) {
      state.saving = on;
      showSave();
    },
    saved() {
      reason.value = "";
      state.asked = false;
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
    if (after.latency_ms) rows.push(["In the worker, p50", milliseconds(before?.latency_ms?.p50), milliseconds(after.latency_ms.p50)]);
    if (after.latency_ms) rows.push(["In the worker, p95", milliseconds(before?.latency_ms?.p95), milliseconds(after.latency_ms.p95)]);
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
