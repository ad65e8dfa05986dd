// What an answer cost, beside what `exact` cost: MACs and milliseconds.

import { el } from "./dom.js";
import { fixed, macs, milliseconds, percent, threshold } from "./format.js";

const STAGES = ["queue", "decode", "importance", "infer", "encode"];

/** Milliseconds of the arithmetic alone: what sparsity can save. */
export function computeMs(answer) {
  const { importance, infer } = answer.timings;
  return Number.isFinite(importance) && Number.isFinite(infer) ? importance + infer : NaN;
}

function bar(share, kind) {
  const width = `${100 * Math.min(1, Math.max(0, share || 0))}%`;
  return el("div", { class: "bar", "data-kind": kind }, el("span", { style: { width } }));
}

function line(label, value, share, kind) {
  return el("div", { class: "cost-line" }, el("span", { class: "soft small" }, label), bar(share, kind), el("span", { class: "number small" }, value));
}

/** The panel: `exact` is null until it has answered. */
export function costsPanel(answer, exact) {
  const most = Math.max(answer.dense, answer.executed, exact?.executed ?? 0);
  const [ms, exactMs] = [computeMs(answer), exact ? computeMs(exact) : NaN];
  const slowest = Math.max(ms, exactMs || 0);
  const savedMs = exactMs - ms;
  const fact = (term, text) => [el("dt", {}, term), el("dd", { class: "number" }, text)];
  return el(
    "div",
    { class: "costs" },
    el("div", { class: "headline" }, el("strong", { class: "number", id: "macs-saved" }, percent(answer.saved)), el("span", {}, "of the MACs saved")),
    line("dense", macs(answer.dense), answer.dense / most, "rest"),
    line(answer.tier, macs(answer.executed), answer.executed / most, "main"),
    el(
      "div",
      { class: "headline second" },
      el("strong", { class: "number", id: "ms-saved" }, Number.isFinite(savedMs) ? milliseconds(savedMs) : milliseconds(ms)),
      el("span", {}, !Number.isFinite(savedMs) ? "of computing" : savedMs < 0 ? "saved, so slower than exact" : "saved against exact"),
    ),
    line("exact", exact ? milliseconds(exactMs) : "…", exact ? exactMs / slowest : 0, "rest"),
    line(answer.tier, milliseconds(ms), ms / slowest, "main"),
    el(
      "dl",
      { class: "facts small" },
      fact("Cells computed", percent(answer.activeShare)),
      fact("Threshold", threshold(answer.threshold)),
      answer.effective === answer.tier ? null : fact("Answered by", answer.effective),
      fact("Model", answer.model),
      fact("Tier table", `version ${answer.version}`),
    ),
    stages(answer),
  );
}

function stages(answer) {
  const shown = STAGES.filter((name) => Number.isFinite(answer.timings[name]));
  return el(
    "details",
    { class: "small" },
    el("summary", {}, `${milliseconds(answer.timings.total)} in the service`),
    el("dl", { class: "facts" }, shown.flatMap((name) => [el("dt", {}, name), el("dd", { class: "number" }, milliseconds(answer.timings[name]))])),
  );
}

/** How near an enlarged image is to exact's. */
export function likenessLine(db) {
  const text = db === Infinity ? "Every pixel as in exact." : db === null ? "" : `${fixed(db, 1)} dB PSNR against exact.`;
  return text ? el("p", { class: "small soft number", id: "likeness" }, text) : null;
}

