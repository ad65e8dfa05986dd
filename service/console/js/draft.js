// The operator's unsaved changes: a merge patch on the table in force. Kept in this tab over reloads and restarts.

import { changes, difference, keyed, patched } from "./documents.js";

const PLACE = "pixeltier.draft";

export function createDraft(changed) {
  let base = null; // the table in force, as the admin API gave it
  let document = null; // keyed
  let edited = null;

  function stored() {
    try {
      return JSON.parse(sessionStorage.getItem(PLACE)) ?? null;
    } catch {
      return null;
    }
  }

  function store() {
    try {
      if (api.empty) sessionStorage.removeItem(PLACE);
      else sessionStorage.setItem(PLACE, JSON.stringify({ version: base.version, patch: api.patch }));
    } catch {
      // Then it lasts as long as the page.
    }
  }

  const api = {
    get base() {
      return base;
    },
    /** The document as it would be, keyed by tier. */
    get document() {
      return edited;
    },
    get patch() {
      return difference(document, edited);
    },
    get changes() {
      return changes(document, edited);
    },
    get empty() {
      return document === null || Object.keys(api.patch).length === 0;
    },
    /** Another table is in force: unsaved changes are kept and now stand on it. */
    rebase(table) {
      const kept = document === null ? (stored()?.patch ?? {}) : api.patch;
      base = table;
      document = keyed(table.document);
      try {
        edited = patched(document, kept);
      } catch {
        edited = keyed(table.document);
      }
      store();
      changed();
    },
    /** Edit the document in place. */
    edit(change) {
      change(edited);
      store();
      changed();
    },
    /** Take one change back; a rule goes back as a whole. */
    undo(path) {
      const [key, name, ...rest] = path.split(".");
      if (key === "tiers" && rest[0] === "thresholds") edited.tiers[name].thresholds[rest[1]] = structuredClone(document.tiers[name].thresholds[rest[1]]);
      else if (key === "tiers") edited.tiers[name][rest[0]] = structuredClone(document.tiers[name][rest[0]]);
      else edited[key] = structuredClone(document[key]);
      store();
      changed();
    },
    discard() {
      if (document === null) return;
      edited = structuredClone(document);
      store();
      changed();
    },
    /** After saving: what was sent is in force, what was edited meanwhile stays. */
    saved(table, sent) {
      const after = patched(keyed(table.document), difference(patched(document, sent), edited));
      base = table;
      document = keyed(table.document);
      edited = after;
      store();
      changed();
    },
  };
  return api;
}
