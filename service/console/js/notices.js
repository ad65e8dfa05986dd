// Problems, shown with the service's own words and what to do.

import { el, fill } from "./dom.js";

/** A problem as a notice; `actions` are buttons. */
export function problemNotice(problem, ...actions) {
  const sentence = problem.detail.charAt(0).toUpperCase() + problem.detail.slice(1);
  const errors = problem.errors.filter((one) => !problem.detail.includes(String(one.message)));
  return el(
    "div",
    { class: "notice", role: "alert", "data-kind": problem.passing ? "warn" : "bad", "data-problem": problem.type },
    el(
      "div",
      {},
      el("strong", {}, problem.title.endsWith(".") ? problem.title : `${problem.title}.`),
      " ",
      el("span", { class: "detail" }, sentence.endsWith(".") ? sentence : `${sentence}.`),
      problem.help ? el("div", { class: "soft small" }, problem.help) : null,
      errors.length ? el("ul", {}, errors.map((one) => el("li", { class: "small" }, `${one.field}: ${one.message}`))) : null,
    ),
    ...actions,
  );
}

/** A plain notice: kind is good, warn, bad or nothing. */
export function notice(kind, text, ...actions) {
  return el("div", { class: "notice", role: "status", "data-kind": kind }, el("div", {}, text), ...actions);
}

/** Shows one notice at a time in a node. */
export function noticePlace(node) {
  return {
    show: (...notices) => fill(node, ...notices),
    clear: () => fill(node),
  };
}
