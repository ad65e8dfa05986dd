// The public half of the page: an image, a task, a tier; what came out, beside `exact`.

import * as api from "./api.js";
import { createCompare } from "./compare.js";
import { computeMs, costsPanel, likenessLine } from "./costs.js";
import { keepSecret } from "./credentials.js";
import { announce, choices, el, fill } from "./dom.js";
import { refill } from "./focus.js";
import { milliseconds, percent, TASKS } from "./format.js";
import { macsAt, shareAt } from "./importance.js";
import { createIntake } from "./intake.js";
import { psnr } from "./likeness.js";
import { noticePlace, notice, problemNotice } from "./notices.js";
import { drawHeat, drawSkipped } from "./overlay.js";
import { draw, isLarge, PART_SIDE, payload, region, takeIn } from "./picture.js";
import { predictionsPanel } from "./predictions.js";
import { Problem } from "./problem.js";
import { createProgressBar } from "./progress-bar.js";
import { withRetry } from "./retry.js";
import { createStrip } from "./strip.js";
import { createThresholdSlider } from "./threshold-slider.js";

const EXACT = "exact"; // what threshold 0 is called beside a tier, whatever the table calls it
const WEBP_ABOVE_PIXELS = 12e6; // a larger result comes as WebP: as PNG it would be tens of megabytes

/** Build the view into a node. `active` tells whether it is on. */
export function startTry(root, active) {
  const state = { table: null, windows: {}, task: "classify", quality: null, part: "part", picture: null, answers: new Map(), shown: null, exact: null, overlay: "cells", against: EXACT };
  let running = null;

  const notes = el("div", { class: "notices" });
  const place = noticePlace(notes);
  const progress = createProgressBar();
  const compare = createCompare();
  const slider = createThresholdSlider(preview, (threshold) => setQuality({ threshold }));
  const strip = createStrip(take, place);
  const intake = createIntake(takeOne, takeSeveral, fail, active);
  const taskChoice = choices("Task", Object.entries(TASKS), state.task, setTask);
  const tierPlace = el("div", { class: "tier-place" });
  const overlayChoice = choices("Overlay", [["none", "Plain"], ["heat", "Importance"], ["cells", "Cells"]], state.overlay, setOverlay, { small: true });
  const againstChoice = choices("Compare with", [[EXACT, "exact"], ["input", "input"]], state.against, setAgainst, { small: true });
  const partChoice = choices("What to enlarge", [["part", `Centre, ${PART_SIDE} px`], ["whole", "Whole image"]], state.part, setPart, { small: true });
  const fileName = el("span", { class: "file-name small soft" });
  const results = el("div", { class: "results", "aria-label": "Result", role: "region" });
  const another = el("button", { type: "button", "data-landing": true, on: { click: intake.pick } }, "Choose an image");
  const sampleButtons = intake.samples.map((one) => el("button", { type: "button", class: "plain", on: { click: () => intake.takeSample(one) } }, one.name));
  const custom = el("span", { class: "tag", "data-kind": "accent", hidden: true });
  let tierChoice = null; // stays the same element while the names stay: it may have the focus

  const work = el(
    "div",
    { class: "work", hidden: true },
    el(
      "div",
      { class: "card stage" },
      el("div", { class: "stage-bar" }, overlayChoice.node, el("div", { class: "against" }, el("span", { class: "small soft" }, "against"), againstChoice.node), compare.zoomBar),
      el("div", { class: "stage-view" }, compare.view),
      slider.node,
    ),
    el("aside", { class: "card side" }, results),
  );
  const sourceBar = el("div", { class: "source-bar", hidden: true }, another, sampleButtons, partChoice.node, fileName);
  fill(root, el("div", { class: "toolbar" }, taskChoice.node, tierPlace), notes, intake.welcome, sourceBar, strip.node, ...progress.nodes, work, intake.input);

  loadTable();
  return {
    /** Another table may be in force: after a change by an operator, and when the view comes back. */
    refreshTable: loadTable,
  };

  async function loadTable() {
    try {
      const table = await withRetry(api.tiers, place);
      state.windows = Object.keys(state.windows).length ? state.windows : await api.windows().catch(() => ({}));
      const changed = state.table?.version !== table.version;
      state.table = table;
      if (changed) state.answers.clear();
      if (state.quality === null || (state.quality.tier !== undefined && !tierOf(state.quality.tier))) {
        state.quality = { tier: tierOf(table.default) ? table.default : table.tiers[0].name };
      }
      showTiers();
      if (changed) refreshAll();
    } catch (error) {
      fail(error, loadTable);
    }
  }

  function tierOf(name) {
    return state.table?.tiers.find((tier) => tier.name === name);
  }

  function thresholdOf(tier) {
    return tier.models?.[state.task]?.threshold ?? 0;
  }

  function showTiers() {
    const names = state.table.tiers.map((tier) => tier.name);
    if (tierChoice?.names !== names.join()) {
      tierChoice = { ...choices("Tier", names.map((name) => [name, name]), null, (tier) => setQuality({ tier })), names: names.join() };
      fill(tierPlace, tierChoice.node, custom);
    }
    for (const [index, label] of [...tierChoice.node.children].entries()) label.title = state.table.tiers[index].description ?? "";
    tierChoice.set(state.quality.tier);
    custom.hidden = state.quality.tier !== undefined;
    custom.textContent = `threshold ${state.quality.threshold}`;
    slider.setTiers(state.table.tiers.map((tier) => [tier.name, thresholdOf(tier)]));
  }

  function setTask(task) {
    state.task = task;
    if (state.table) showTiers();
    refreshAll();
  }

  function setQuality(quality) {
    state.quality = quality;
    showTiers();
    refreshAll();
  }

  function setPart(part) {
    state.part = part;
    refresh();
  }

  function setOverlay(overlay) {
    state.overlay = overlay;
    showOverlay();
  }

  function setAgainst(against) {
    state.against = against;
    if (state.shown) showBefore();
  }

  function takeOne(blob, name) {
    strip.clear();
    return take(blob, name);
  }

  function takeSeveral(files) {
    strip.show(files);
    strip.refresh(state.task, state.quality);
  }

  async function take(blob, name) {
    running?.abort();
    state.shown = null; // what is still shown is of another image
    work.hidden = true;
    const picture = await takeIn(blob, name);
    if (state.picture !== null && state.picture.number > picture.number) return; // a later one was quicker
    state.picture = picture;
    state.answers.clear();
    state.part = "part";
    partChoice.set("part");
    intake.welcome.hidden = true;
    sourceBar.hidden = false;
    another.textContent = "Another image";
    const size = state.picture.bitmap ? `${state.picture.width} × ${state.picture.height}` : "";
    fill(fileName, el("b", {}, name), size ? ` ${size}` : "");
    compare.setSplit(50);
    refresh();
  }

  function refreshAll() {
    if (state.picture) refresh();
    strip.refresh(state.task, state.quality);
  }

  /** Ask for the chosen quality, then for exact, one after the other: neither slows the other's clock. */
  async function refresh() {
    running?.abort();
    const control = new AbortController();
    running = control;
    const { task, quality } = state;
    place.clear();
    partChoice.node.hidden = task !== "super-resolve" || !isLarge(state.picture);
    if (quality === null) return; // the table is still on its way; loadTable refreshes
    progress.busy(true);
    work.setAttribute("aria-busy", "true");
    try {
      const answer = await answerTo(quality, control.signal);
      if (control.signal.aborted) return;
      state.shown = answer;
      state.exact = state.answers.get(keyOf(exactQuality())) ?? (answer.threshold === 0 ? answer : null);
      showAll({ move: true });
      announce(`${answer.tier}: ${percent(answer.saved)} of the MACs saved`);
      if (state.exact === null) {
        const exact = await answerTo(exactQuality(), control.signal);
        if (control.signal.aborted) return;
        state.exact = exact;
        showAll({ move: false });
        const ms = computeMs(exact) - computeMs(answer);
        if (Number.isFinite(ms)) announce(`Against exact: ${milliseconds(ms)} saved`);
      }
    } catch (error) {
      if (error.name !== "AbortError" && running === control) fail(error, refresh);
    } finally {
      if (running === control) {
        progress.busy(false);
        work.removeAttribute("aria-busy");
      }
    }
  }

  function exactQuality() {
    const tier = state.table.tiers.find((one) => thresholdOf(one) === 0);
    return tier ? { tier: tier.name } : { threshold: 0 };
  }

  function keyOf(quality) {
    return JSON.stringify([state.picture.number, state.task, state.task === "super-resolve" ? state.part : "", quality]);
  }

  async function answerTo(quality, signal) {
    const key = keyOf(quality);
    const { picture, task, part } = state;
    if (state.answers.has(key)) return state.answers.get(key);
    const image = await payload(picture, task, part);
    const { width, height } = region(picture, task, part);
    const format = 16 * width * height > WEBP_ABOVE_PIXELS ? "webp" : "png";
    const answer = await withRetry(() => api.run(task, image, quality, { signal, format, tiles: progress.tiles }), place, signal);
    if (answer.image) answer.bitmap = await createImageBitmap(answer.image.blob);
    if (!signal.aborted) state.answers.set(key, answer);
    return answer;
  }

  function showAll({ move }) {
    const { shown, exact } = state;
    work.hidden = false;
    const seen = region(state.picture, state.task, state.part);
    const [width, height] = shown.bitmap ? [shown.bitmap.width, shown.bitmap.height] : [seen.width || 1, seen.height || 1];
    compare.setShape(width, height, width);
    const after = shown.bitmap ? still(shown.bitmap, `Enlarged at ${shown.tier}`) : still(draw(state.picture, seen), "What the classifier sees of the image");
    compare.setSide("after", after, shown.tier === "custom" ? `at ${shown.threshold}` : shown.tier);
    showBefore();
    const share = shareAt(shown, state.windows[state.task]?.side ?? null, state.windows[state.task]?.keepBest);
    const measured = [...state.answers].filter(([key]) => sameImage(key)).map(([, answer]) => answer);
    slider.setAnswer({ threshold: shown.threshold, dense: shown.dense, shareAt: share, macsAt: macsAt(measured) }, { move });
    showOverlay();
    showResults(exact);
  }

  function sameImage(key) {
    return JSON.stringify(JSON.parse(key).slice(0, 3)) === JSON.stringify(JSON.parse(keyOf({})).slice(0, 3));
  }

  function showBefore() {
    const { shown, exact } = state;
    const enlarging = shown.task === "super-resolve";
    againstChoice.node.parentElement.hidden = !enlarging;
    againstChoice.enable(EXACT, exact !== null);
    const seen = region(state.picture, state.task, state.part);
    if (enlarging && (state.against === "input" || exact === null)) {
      compare.setSide("before", still(draw(state.picture, seen), "The input, stretched"), exact === null ? "input, exact is coming" : "input");
      return;
    }
    const before = enlarging ? still(exact.bitmap, "Enlarged at exact") : still(draw(state.picture, seen), "What the classifier sees of the image");
    compare.setSide("before", before, EXACT);
  }

  function showResults(exact) {
    const { shown } = state;
    const compared = exact && exact !== shown && shown.bitmap ? psnr(shown.bitmap, exact.bitmap) : undefined;
    refill(results, () => fill(
      results,
      shown.predictions ? predictionsPanel(shown, exact) : null,
      costsPanel(shown, exact),
      compared === undefined ? null : likenessLine(compared),
      shown.image ? download(shown) : null,
    ));
  }

  function showOverlay() {
    const { shown, overlay, task } = state;
    if (!shown || shown.task !== task) return;
    if (overlay === "none") {
      compare.setOverlay(null);
      return;
    }
    const canvas = el("canvas", { class: "map", "aria-hidden": "true" });
    if (overlay === "heat") drawHeat(canvas, shown.map);
    else drawSkipped(canvas, shown.map, slider.value);
    const window = state.windows[task]?.side ?? 1;
    // The last windows of an enlarged image may reach over its edge.
    const [width, height] = shown.image
      ? [(400 * shown.map.width * window) / shown.image.width, (400 * shown.map.height * window) / shown.image.height]
      : [100, 100];
    compare.setOverlay(canvas, Math.max(100, width), Math.max(100, height));
  }

  function preview() {
    if (state.overlay !== "cells") {
      state.overlay = "cells";
      overlayChoice.set("cells");
    }
    showOverlay();
  }

  function fail(error, again = null) {
    if (error instanceof Problem) {
      const actions = again ? [el("button", { type: "button", on: { click: () => again() } }, "Try again")] : [];
      place.show(problemNotice(error, ...(error.status === 401 ? [keyForm(again)] : actions)));
      return;
    }
    console.error(error);
    place.show(notice("bad", `This page failed: ${error.message}`, el("button", { type: "button", on: { click: () => location.reload() } }, "Reload")));
  }

  function keyForm(again) {
    const input = el("input", { type: "password", autocomplete: "off", "aria-label": "API key", placeholder: "API key" });
    return el("form", { class: "key-form", on: { submit: (event) => {
      event.preventDefault();
      keepSecret("key", input.value);
      again?.();
    } } }, input, el("button", {}, "Use this key"));
  }
}

/** A picture for one side: a canvas as it is, a bitmap drawn onto one. */
function still(source, description) {
  let canvas = source;
  if (!(source instanceof HTMLCanvasElement)) {
    canvas = document.createElement("canvas");
    canvas.width = source.width;
    canvas.height = source.height;
    canvas.getContext("2d").drawImage(source, 0, 0);
  }
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", description);
  return canvas;
}

let lastUrl = null;

function download(answer) {
  if (lastUrl) URL.revokeObjectURL(lastUrl);
  lastUrl = URL.createObjectURL(answer.image.blob);
  const kind = answer.image.type.slice("image/".length);
  return el("a", { class: "button", href: lastUrl, download: `enlarged-${answer.tier}.${kind}` }, `Download ${kind.toUpperCase()}, ${answer.image.width} × ${answer.image.height}`);
}
