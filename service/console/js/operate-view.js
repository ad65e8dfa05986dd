// The operator's half of the page: the table in force, a change tried out and made, and taken back.

import * as admin from "./admin-api.js";
import { tiers as publicTiers } from "./api.js";
import { createChangePanel } from "./change-panel.js";
import { keepSecret, secret } from "./credentials.js";
import { curvePoints, expectation } from "./curve.js";
import { createCurveChart } from "./curve-chart.js";
import { changes as changesBetween, keyed } from "./documents.js";
import { announce, choices, el, fill } from "./dom.js";
import { createDraft } from "./draft.js";
import { metric, moment, TASKS } from "./format.js";
import { land } from "./focus.js";
import { createHistory } from "./history.js";
import { createLive } from "./live.js";
import { createLoadSettings } from "./load-settings.js";
import { noticePlace, notice, problemNotice } from "./notices.js";
import { Problem } from "./problem.js";
import { faultsByTier, place } from "./rules.js";
import { createTierTable, setThreshold } from "./tier-table.js";
import { tokenForm } from "./token-form.js";

const PREDICT_AFTER_MS = 350;

export function startOperate(root) {
  let on = false;
  let entered = false;
  let task = "classify";
  let chosenMetric = null;
  let prediction = { key: "", answer: null };
  let timer = 0;
  let reloading = false;
  let signingIn = false;
  let refused = null; // {key of the patch, faults: by tier} where the service would not have it

  const notes = el("div", { class: "notices" });
  const place_ = noticePlace(notes);
  const gate = el("div", {});
  const head = el("div", { class: "in-force" });
  const draft = createDraft(drafted);
  const live = createLive(liveArrived, liveFailed);
  const chart = createCurveChart((name, threshold) => draft.edit((document) => setThreshold(document.tiers[name].thresholds[task], threshold)));
  const table = createTierTable({
    edit: (name, change) => draft.edit((document) => change(document.tiers[name])),
    unsound: () => drafted(),
    resolved,
    expected,
    past: (name) => live.past(task, name),
  });
  const settings = createLoadSettings((change) => draft.edit(change));
  const panel = createChangePanel({ undo, discard, save, faulty: () => table.faulty() });
  const panelPlace = noticePlace(panel.notes);
  const history = createHistory(rollback);
  const taskChoice = choices("Model", Object.entries(TASKS), task, (next) => {
    task = next;
    chosenMetric = null;
    show();
  }, { small: true });
  const metricSelect = el("select", { "aria-label": "Quality metric", on: { change: () => {
    chosenMetric = metricSelect.value;
    show();
  } } });
  const curveData = el("p", { class: "small soft" });
  const desk = el(
    "div",
    { class: "desk", hidden: true },
    head,
    live.node,
    el(
      "div",
      { class: "desk-grid" },
      el("div", { class: "desk-main" }, el("div", { class: "card" }, el("div", { class: "card-head" }, el("h2", {}, "Tiers"), el("div", { class: "pickers" }, taskChoice.node, metricSelect)), el("div", { class: "chart-body" }, chart.node, curveData), el("div", { class: "table-place" }, table.node)), settings.node),
      panel.node,
    ),
    history.node,
  );
  // Where the panel stands far below the table, a bar says that something waits there.
  const count = el("span", { class: "small" });
  const review = el("div", { class: "review", hidden: true }, count, el("button", { type: "button", class: "primary", on: { click: () => {
    panel.node.scrollIntoView({ block: "start" });
    land(panel.heading, { preventScroll: true });
  } } }, "Review"));
  new IntersectionObserver(([entry]) => review.classList.toggle("arrived", entry.isIntersecting)).observe(panel.node);
  fill(root, notes, gate, desk, review);

  return {
    active(next) {
      on = next;
      if (!on) live.stop();
      else if (entered) live.start();
      else enter();
    },
  };

  async function enter() {
    place_.clear();
    if (!secret("token")) {
      await showGate();
      return;
    }
    try {
      took(await admin.table());
      // Who gave a token is where the keyboard was: in the form, which is gone.
      if (signingIn) land(head.querySelector("#version"), { preventScroll: true });
    } catch (error) {
      if (error instanceof Problem && (error.status === 401 || error.status === 404)) await showGate(error);
      else fail(error, enter);
    } finally {
      signingIn = false;
    }
  }

  /** The place where the token is asked for, or where it is said that there is no admin API. */
  async function showGate(problem = null) {
    live.stop();
    entered = false;
    desk.hidden = true;
    const had = signingIn || root.contains(document.activeElement);
    let there = true;
    try {
      there = (await publicTiers()).admin !== false;
    } catch {
      // Not reachable now: ask for the token anyway.
    }
    fill(gate, tokenForm(there, problem, (token) => {
      keepSecret("token", token);
      signingIn = true;
      enter();
    }));
    const first = gate.querySelector("input") ?? gate.querySelector("h2");
    if (had) land(first);
  }

  function leave() {
    keepSecret("token", "");
    draft.discard();
    showGate();
  }

  function took(next) {
    entered = true;
    fill(gate);
    desk.hidden = false;
    panelPlace.clear(); // what it says was said of another version
    refused = null;
    draft.rebase(next);
    inForce();
    table.reopen();
    history.show(next);
    if (on) live.start();
  }

  function inForce() {
    const { version, changed_at: at, actor, reason, kind, persistent } = draft.base;
    fill(
      head,
      el("div", {}, el("h2", { id: "version", "data-version": version }, `Version ${version} is in force`), el("p", { class: "small soft" }, kind === "start" ? `since the start, ${moment(at)}` : `since ${moment(at)}, by ${actor}${reason ? `: “${reason}”` : ""}`)),
      persistent === false ? el("span", { class: "tag", "data-kind": "warn", title: "No state directory is set: a restart begins again from the tier file" }, "history ends with the process") : null,
      el("button", { type: "button", class: "plain", on: { click: leave } }, "Forget the token"),
    );
  }

  // The draft

  function drafted() {
    show();
    panel.showChanges(draft.changes, draft.base.version);
    review.hidden = draft.empty;
    count.textContent = draft.changes.length === 1 ? "1 change, not saved" : `${draft.changes.length} changes, not saved`;
    clearTimeout(timer);
    if (draft.empty) {
      prediction = { key: "", answer: null };
      return;
    }
    if (table.faulty() && !refused) {
      prediction = { key: "", answer: null };
      panel.showFaulty();
    }
    if (prediction.key === JSON.stringify(draft.patch)) return;
    panel.predicting();
    timer = setTimeout(predict, PREDICT_AFTER_MS);
  }

  async function predict() {
    const { patch } = draft;
    const key = JSON.stringify(patch);
    try {
      const answer = await admin.dryRun(patch);
      if (key !== JSON.stringify(draft.patch)) return;
      prediction = { key, answer };
      refused = null;
      show();
      panel.showPrediction(answer);
    } catch (error) {
      if (key !== JSON.stringify(draft.patch)) return;
      if (error instanceof Problem && error.status === 422) refuse(error);
      if (!(error instanceof Problem)) fail(error);
      else if (error.status === 401) await showGate(error);
      else panel.showProblem(error, predict);
    }
  }

  /** The service will not have it: the tiers that it names are marked. */
  function refuse(error) {
    refused = { key: JSON.stringify(draft.patch), faults: faultsByTier(error.errors, task) };
    show();
  }

  function undo(path) {
    table.forget();
    draft.undo(path);
    table.reopen();
    if (draft.empty) land(panel.heading, { preventScroll: true });
  }

  function discard() {
    table.forget();
    draft.discard();
    panelPlace.clear();
    table.reopen();
    land(panel.heading, { preventScroll: true });
  }

  async function save(reason) {
    const { patch, base } = draft;
    panelPlace.clear();
    panel.saving(true);
    try {
      const next = await admin.patch(patch, reason, base.version);
      prediction = { key: "", answer: null };
      refused = null;
      panel.saved();
      place_.clear();
      draft.saved(next, patch);
      inForce();
      table.reopen();
      const said = notice("good", `Version ${next.version} is in force.`);
      panelPlace.show(said);
      land(said, { preventScroll: true });
      announce(`Version ${next.version} is in force`);
      await history.show(next);
    } catch (error) {
      if (!(error instanceof Problem)) fail(error);
      else if (error.status === 401) await showGate(error);
      else if (error.status === 412) await conflict(error);
      else {
        if (error.status === 422) refuse(error);
        panelPlace.show(problemNotice(error));
      }
    } finally {
      panel.saving(false);
    }
  }

  /** Somebody was faster: their change is taken in, ours stands on top of it, and nothing is sent by itself. */
  async function conflict(problem) {
    const before = keyed(draft.base.document);
    const ours = new Set(draft.changes.map((one) => one.path));
    try {
      const next = await admin.table();
      const theirs = changesBetween(before, keyed(next.document));
      const both = theirs.filter((one) => ours.has(one.path));
      prediction = { key: "", answer: null };
      took(next);
      const text = both.length ? `Both changed ${both.map((one) => place(one.path)).join("; ")}: saving puts yours over theirs.` : "Nothing of it touches what you changed.";
      panelPlace.show(problemNotice(problem, el("div", { class: "small" }, `Version ${next.version} by ${next.actor}${next.reason ? `, “${next.reason}”` : ""}. ${text} Your change is kept; look at the prediction again, then save.`)));
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      panelPlace.show(problemNotice(problem), problemNotice(error));
    }
  }

  async function rollback(version, reason) {
    const next = await admin.rollback(version, reason, draft.base.version).catch(async (error) => {
      if (error instanceof Problem && error.status === 412) took(await admin.table());
      throw error;
    });
    took(next);
    const said = notice("good", `Version ${next.version} is in force, with the tiers of version ${version}.`);
    place_.show(said);
    land(said);
    announce(`Rolled back: version ${next.version} is in force`);
  }

  // What is shown

  function baseTier(name) {
    return draft.base.tiers.find((tier) => tier.name === name)?.models?.[task];
  }

  /** The threshold a tier's rule comes to: its number, or what the last prediction or the table in force says. */
  function resolved(name) {
    const rule = draft.document.tiers[name].thresholds[task];
    if (typeof rule.threshold === "number") return rule.threshold;
    const proposed = prediction.answer?.tiers?.find((tier) => tier.name === name)?.models?.[task]?.proposed;
    return proposed?.threshold ?? baseTier(name)?.threshold ?? 0;
  }

  function points() {
    return curvePoints(draft.base.curves[task]);
  }

  function expected(threshold) {
    const at = expectation(points(), threshold);
    if (at === null) return null;
    const exact = expectation(points(), 0);
    return { ...at, change: Object.fromEntries(Object.entries(at.metrics).map(([key, value]) => [key, value - exact.metrics[key]])) };
  }

  function show() {
    const names = draft.base.document.tiers.map((tier) => tier.name);
    const measured = points();
    const metrics = Object.keys(measured[0]?.metrics ?? {});
    const key = metrics.includes(chosenMetric) ? chosenMetric : (metrics[0] ?? null);
    fill(metricSelect, metrics.map((one) => el("option", { value: one }, metric(one).name)));
    if (key) metricSelect.value = key;
    metricSelect.hidden = metrics.length < 2;
    const { model, version, data } = draft.base.curves[task] ?? {};
    curveData.textContent = model ? `${model} ${version}, measured on ${data}` : "";
    chart.show({ model: task, points: measured, key, tiers: names.map((name) => ({ name, threshold: resolved(name), inForce: baseTier(name)?.threshold ?? 0 })) });
    const changed = new Set(draft.changes.map((one) => one.path.split(".")).filter(([kind, , , model_]) => kind === "tiers" && (model_ === undefined || model_ === task)).map(([, name]) => name));
    const faults = refused !== null && refused.key === JSON.stringify(draft.patch) ? refused.faults : new Map();
    table.show({ task, document: draft.document, names, defaultTier: draft.document.default, metric: key, changed, changes: !draft.empty, faults, version: draft.base.version });
    panel.refresh();
    settings.show(draft.document);
  }

  // Live

  async function liveArrived(now) {
    table.showLive(now.models?.[task]);
    if (notes.querySelector("[data-problem='unreachable'], [data-problem='live']")) place_.clear();
    if (now.version === draft.base.version || reloading) return;
    reloading = true;
    try {
      const next = await admin.table();
      if (next.version !== draft.base.version) {
        prediction = { key: "", answer: null };
        took(next);
        place_.show(notice("", `Version ${next.version} came into force${next.actor ? `, by ${next.actor}` : ""}.${draft.empty ? "" : " Your unsaved change is kept."}`));
      }
    } catch {
      // The next round asks again.
    } finally {
      reloading = false;
    }
  }

  function liveFailed(error) {
    if (error instanceof Problem && error.status === 401) {
      showGate(error);
      return false;
    }
    if (error instanceof Problem) {
      const shown = problemNotice(error, el("div", { class: "small" }, "Trying again every two seconds. Nothing is lost."));
      if (!notes.querySelector("[data-problem]")) place_.show(shown);
      return true;
    }
    fail(error);
    return true;
  }

  function fail(error, again = null) {
    if (error instanceof Problem) {
      place_.show(problemNotice(error, ...(again ? [el("button", { type: "button", on: { click: again } }, "Try again")] : [])));
      return;
    }
    console.error(error);
    place_.show(notice("bad", `This page failed: ${error.message}`, el("button", { type: "button", on: { click: () => location.reload() } }, "Reload")));
  }
}
