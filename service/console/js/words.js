// What a problem is to somebody at this page: the service's own texts speak to programs that call it.

import { place } from "./rules.js";

const LATER = "Try again in a moment.";

/** By problem type: title, what to do; the service's own where there is none. */
const WORDS = {
  validation: { title: "This is not possible as it stands", help: "" },
  "unknown-tier": { title: "There is no such tier any more", help: "Choose one of those shown now." },
  "budget-infeasible": { title: "The budget cannot be met", help: "" },
  "undecodable-image": { help: "Choose a complete JPEG, PNG or WebP image." },
  "unsupported-media-type": { title: "This kind of file is not taken", help: "Choose a JPEG, PNG or WebP image." },
  "not-acceptable": { title: "The result cannot be made in that format", help: "" },
  "payload-too-large": { title: "The file is too large", help: "Choose a smaller one." },
  "output-too-large": { help: "Choose a smaller image." },
  unauthorized: { title: "The service does not know you", help: "" },
  forbidden: { help: "Ask whoever runs the service." },
  "config-conflict": { title: "Somebody else changed the table meanwhile", help: "" },
  "not-found": { title: "There is nothing there", help: "" },
  "method-not-allowed": { help: "" },
  overloaded: { help: LATER },
  "not-ready": { help: LATER },
  "rate-limited": { title: "Too many requests of yours", help: LATER },
  "not-understood": { help: "Reload the page. If it stays, something between it and the service answers, or their versions differ." },
  "deadline-exceeded": { title: "It took too long", help: "Choose a faster tier or a smaller image." },
};

const REPORTED = new Set(["worker-crashed", "internal"]);

/** A place of the API, in the words of the page; empty where it is the whole. */
export function placeOf(field) {
  const path = String(field ?? "").replace(/^(query|body|header|path)\./, "");
  return path === "document" || path === "body" ? "" : place(path);
}

/** {title, detail, help, errors: [text]} of a problem. */
export function words(problem) {
  const own = WORDS[problem.type] ?? {};
  const errors = problem.errors.filter((one) => one.message !== undefined).map((one) => ({ where: placeOf(one.field), message: String(one.message) }));
  const help = REPORTED.has(problem.type) ? "Do not repeat it as it was. Whoever runs the service finds it in the log by the number below." : (own.help ?? problem.help);
  return {
    title: own.title ?? problem.title,
    // A refusal for its places is told by them.
    detail: errors.length ? "" : problem.detail,
    help: REPORTED.has(problem.type) && problem.requestId ? `${help} ${problem.requestId}` : help,
    errors: errors.map(({ where, message }) => (where ? `${where}: ${message}` : message)),
  };
}
