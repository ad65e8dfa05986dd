// Problems, shown in words for people, with what to do.

import { el, fill } from "./dom.js";
import { words } from "./words.js";

const ended = (text) => (/[.!?]$/.test(text) ? text : `${text}.`);

const begun = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** A problem as a notice; `actions` are buttons. */
export function problemNotice(problem, ...actions) {
  const { title, detail, help, errors } = words(problem);
  return el(
    "div",
    { class: "notice", role: "alert", "data-kind": problem.passing ? "warn" : "bad", "data-problem": problem.type },
    el(
      "div",
      {},
      el("strong", {}, ended(title)),
      " ",
      detail ? el("span", { class: "detail" }, ended(begun(detail))) : null,
      errors.length === 1 ? el("span", { class: "detail" }, ended(begun(errors[0]))) : null,
      errors.length > 1 ? el("ul", {}, errors.map((one) => el("li", { class: "small" }, ended(begun(one))))) : null,
      help ? el("div", { class: "soft small" }, help) : null,
    ),
    ...actions,
  );
}

/** A plain notice: kind is good, warn, bad or nothing. */
export function notice(kind, text, ...actions) {
  return el("div", { class: "notice", role: kind === "bad" ? "alert" : "status", "data-kind": kind }, el("div", {}, text), ...actions);
}

/** Shows one notice at a time in a node. */
export function noticePlace(node) {
  return {
    show: (...notices) => fill(node, ...notices),
    clear: () => fill(node),
  };
}
