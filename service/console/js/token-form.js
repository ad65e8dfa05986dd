// Asks for the operator's token, or says how to have an admin API at all.

import { el, fill } from "./dom.js";
import { notice } from "./notices.js";

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
  const refused = problem && problem.status !== 404;
  const said = el("div", { class: "notices" });
  const tell = (text) => {
    fill(said, notice("bad", text));
    input.setAttribute("aria-invalid", "true");
    input.focus();
  };
  const input = el("input", { type: "password", id: "token", autocomplete: "off", spellcheck: "false", required: true, "aria-invalid": refused ? "true" : null, "aria-describedby": "token-hint" });
  if (refused) fill(said, notice("bad", "This token is not valid here. Check that the whole of it was copied, or ask whoever made it."));
  return el(
    "form",
    { class: "card gate", novalidate: true, on: { submit: (event) => {
      event.preventDefault();
      const token = input.value.trim();
      const stray = [...token].findIndex((one) => one <= " " || one > "~");
      if (!token) tell("Give the token first.");
      else if (stray >= 0) tell(`Character ${stray + 1} of it is one that no token has: a space, one that cannot be seen, or a typographic one. Copy the token anew.`);
      else enter(token);
    } } },
    el("h2", {}, "Operator's desk"),
    el("p", { class: "soft" }, "See what the tiers do, try a change before it is made, and take it back."),
    said,
    el("label", { class: "field", for: "token" }, "Token", input, el("span", { class: "hint", id: "token-hint" }, "Kept in this tab only, until it closes.")),
    el("button", { class: "primary" }, "Open"),
  );
}
