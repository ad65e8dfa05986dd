// Asks for the operator's token, or says how to have an admin API at all.

import { el } from "./dom.js";
import { problemNotice } from "./notices.js";

/**
 * @param {boolean} there whether the service has an admin API
 * @param {Problem|null} problem why the last token was not taken
 */
export function tokenForm(there, problem, enter) {
  if (!there) {
    return el(
      "div",
      { class: "card gate" },
      el("h2", {}, "No operator's desk here"),
      el("p", { class: "soft" }, "This service was started without operator tokens. Name a file of them and start it again; tiers can then be changed here while it runs."),
      el("pre", { class: "document" }, "PIXELTIER_ADMIN_TOKEN_FILE=/etc/pixeltier/tokens"),
    );
  }
  const input = el("input", { type: "password", id: "token", autocomplete: "off", spellcheck: "false", required: true });
  return el(
    "form",
    { class: "card gate", on: { submit: (event) => {
      event.preventDefault();
      if (input.value.trim()) enter(input.value);
    } } },
    el("h2", {}, "Operator's desk"),
    el("p", { class: "soft" }, "See what the tiers do, try a change before it is made, and take it back."),
    problem && problem.status !== 404 ? problemNotice(problem) : null,
    el("label", { class: "field", for: "token" }, "Token", input, el("span", { class: "hint" }, "Kept in this tab only, until it closes.")),
    el("button", { class: "primary" }, "Open"),
  );
}
