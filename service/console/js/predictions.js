// The best classes with bars; a mark on each bar shows what `exact` says.

import { el } from "./dom.js";
import { label, percent } from "./format.js";

/** A list of classes, best first; `exact` is null until it has answered. */
export function predictionsPanel(answer, exact) {
  const exactOf = new Map(exact?.predictions.map((one) => [one.index, one.probability]));
  const rows = answer.predictions.map((one) => {
    const other = exactOf.get(one.index);
    const mark = other === undefined ? null : el("i", { class: "mark", style: { left: `${100 * Math.min(1, other)}%` } });
    return el(
      "li",
      {},
      el("span", { class: "class-name" }, label(one.label)),
      el("span", { class: "number" }, percent(one.probability)),
      el("div", { class: "bar", "data-kind": "main" }, el("span", { style: { width: `${100 * Math.min(1, one.probability)}%` } }), mark),
      other === undefined ? null : el("span", { class: "visually-hidden" }, `exact: ${percent(other)}`),
    );
  });
  return el("div", { class: "predictions" }, el("ol", { "aria-label": "Best classes" }, rows), verdict(answer, exact));
}

function verdict(answer, exact) {
  if (!exact || !exact.predictions.length || !answer.predictions.length) return null;
  const same = exact.predictions[0].index === answer.predictions[0].index;
  const text = same ? "Same first class as exact" : `Exact says ${label(exact.predictions[0].label)}`;
  return el("p", { class: "verdict small", "data-same": String(same) }, el("span", { class: "tag", "data-kind": same ? "accent" : "warn" }, text), el("span", { class: "soft legend" }, "┃ exact"));
}
