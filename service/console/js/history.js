// Every version of the table: who, when, why, what; each can be compared with what is in force and brought back.

import * as admin from "./admin-api.js";
import { changes, keyed } from "./documents.js";
import { el, fill } from "./dom.js";
import { refill } from "./focus.js";
import { moment } from "./format.js";
import { noticePlace, problemNotice } from "./notices.js";
import { Problem } from "./problem.js";
import { place, shown } from "./rules.js";

const PAGE = 20;

/** How a version came about. */
const KINDS = { start: "start", file: "tier file", put: "replaced", patch: "changed", rollback: "rolled back", model: "new weights" };

function changeList(list, emptyText) {
  if (!list.length) return el("p", { class: "small soft" }, emptyText);
  return el("ul", { class: "changes" }, list.map(({ path, from, to }) => el("li", {}, el("span", { class: "where" }, place(path)), el("span", { class: "number" }, el("del", {}, shown(from)), " → ", el("ins", {}, shown(to))))));
}

/** @param {(version: number, reason: string) => Promise<void>} rollback throws where it failed */
export function createHistory(rollback) {
  const list = el("ol", { class: "history" });
  const notes = el("div", { class: "notices" });
  const notesPlace = noticePlace(notes);
  const more = el("button", { type: "button", hidden: true, on: { click: () => load(last) } }, "Earlier versions");
  const node = el("div", { class: "card" }, el("div", { class: "card-head" }, el("h2", {}, "History")), el("div", { class: "card-body" }, notes, list, more));
  let current = null; // the table in force
  let last = null;

  async function load(before = null) {
    try {
      const [{ versions }, entries] = await Promise.all([admin.versions(PAGE, before), admin.audit(PAGE, before)]);
      const audit = new Map(entries.map((entry) => [entry.version, entry]));
      const rows = versions.map((one) => entry(one, audit.get(one.version)));
      notesPlace.clear();
      if (before === null) refill(list, () => fill(list, rows));
      else {
        list.append(...rows);
        if (document.activeElement === more && versions.length < PAGE) rows[0]?.querySelector("button").focus();
      }
      last = versions.at(-1)?.version ?? null;
      more.hidden = versions.length < PAGE;
    } catch (error) {
      report(error, () => load(before));
    }
  }

  function report(error, again = null) {
    if (!(error instanceof Problem)) throw error;
    notesPlace.show(problemNotice(error, ...(again ? [el("button", { type: "button", on: { click: again } }, "Try again")] : [])));
  }

  function entry(one, audit) {
    const inForce = one.version === current.version;
    const details = el("div", { class: "version-details", hidden: true });
    const compare = el("button", { type: "button", class: "plain", "aria-expanded": "false", on: { click: () => showDifference(one.version, details, compare, inForce) } }, inForce ? "Show" : "Compare");
    return el(
      "li",
      { "data-version": one.version },
      el("div", { class: "version-line" }, el("strong", { class: "number" }, String(one.version)), inForce ? el("span", { class: "tag", "data-kind": "accent" }, "in force") : el("span", { class: "tag" }, KINDS[one.kind] ?? one.kind), el("span", { class: "version-reason" }, one.reason || "no reason given"), el("span", { class: "small soft", title: one.changed_at }, `${one.actor}, ${moment(one.changed_at)}`), compare),
      audit?.changes?.length ? changeList(audit.changes, "") : null,
      details,
    );
  }

  async function showDifference(version, details, button, inForce) {
    const on = details.hidden;
    button.setAttribute("aria-expanded", String(on));
    details.hidden = !on;
    if (!on) return;
    try {
      const then = await admin.version(version);
      if (inForce) {
        fill(details, el("pre", { class: "document", tabindex: "0", "aria-label": `Table of version ${version}` }, JSON.stringify(then.document, null, 2)));
        return;
      }
      const list = changes(keyed(current.document), keyed(then.document));
      fill(details, el("h3", {}, `From version ${current.version}, in force, back to ${version}`), changeList(list, "The tiers are the same."), list.length ? rollbackForm(version) : null);
    } catch (error) {
      report(error, () => {
        details.hidden = true;
        showDifference(version, details, button, inForce);
      });
    }
  }

  function rollbackForm(version) {
    const reason = el("input", { type: "text", maxlength: "500", "aria-label": "Reason for the rollback", placeholder: `Reason, if not “back to version ${version}”` });
    const button = el("button", { class: "primary" }, `Roll back to ${version}`);
    let busy = false; // not a disabled button: it would drop the focus
    return el("form", { class: "rollback", on: { submit: async (event) => {
      event.preventDefault();
      if (busy) return;
      busy = true;
      try {
        await rollback(version, reason.value.trim());
      } catch (error) {
        report(error);
      } finally {
        busy = false;
      }
    } } }, reason, button);
  }

  return {
    node,
    /** Read the history anew, with this table in force. */
    show(table) {
      current = table;
      return load();
    },
  };
}
