// Several images at once: one request runs them all, and a click shows one of them large.

import { runSeveral } from "./api.js";
import { announce, el, fill } from "./dom.js";
import { percent } from "./format.js";
import { payload, takeIn } from "./picture.js";
import { Problem } from "./problem.js";
import { withRetry } from "./retry.js";

const PER_REQUEST = 16; // what a service takes unless it is told otherwise

/**
 * @param {(blob: Blob, name: string) => void} choose
 * @param {object} place where pauses between attempts are told
 */
export function createStrip(choose, place) {
  const node = el("ul", { class: "strip", hidden: true, "aria-label": "Images" });
  let entries = [];
  let running = null;

  function entryOf(file) {
    const picture = el("img", { alt: "", width: 72, height: 72 });
    picture.src = URL.createObjectURL(file);
    const outcome = el("span", { class: "small soft" }, "…");
    const entry = { file, outcome, url: picture.src };
    entry.button = el("button", { type: "button", title: file.name, "aria-pressed": "false", on: { click: () => select(entry) } }, picture, el("b", { class: "small" }, file.name), outcome);
    return entry;
  }

  function select(entry) {
    for (const one of entries) one.button.setAttribute("aria-pressed", String(one === entry));
    choose(entry.file, entry.file.name);
  }

  function clear() {
    running?.abort();
    for (const { url } of entries) URL.revokeObjectURL(url);
    entries = [];
    node.hidden = true;
  }

  /** Take new images in; the first is shown large. */
  function show(files) {
    clear();
    entries = files.map(entryOf);
    fill(node, entries.map((entry) => el("li", {}, entry.button)));
    node.hidden = false;
    select(entries[0]);
  }

  /** Run all images anew, for another task or quality. */
  async function refresh(task, quality) {
    running?.abort();
    if (!entries.length || quality === null) return;
    const control = new AbortController();
    running = control;
    const asked = entries;
    for (const { outcome } of asked) outcome.textContent = "…";
    try {
      for (let first = 0; first < asked.length; first += PER_REQUEST) {
        await run(asked.slice(first, first + PER_REQUEST), task, quality, control.signal);
      }
      announce(`${asked.length} images done`);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof Problem)) throw error;
      for (const { outcome } of asked) if (outcome.textContent === "…") outcome.textContent = error.detail;
    }
  }

  async function run(chunk, task, quality, signal) {
    const images = [];
    for (const { file } of chunk) images.push({ name: file.name, blob: await sent(file, task) });
    const outcomes = await withRetry(() => runSeveral(task, images, quality, { signal }), place, signal);
    outcomes.forEach((one, index) => {
      fill(chunk[index].outcome, said(one).map((line) => el("span", { title: line }, line)));
      chunk[index].button.dataset.kind = one.problem ? "bad" : "good";
    });
  }

  return { node, show, clear, refresh };
}

/** What goes to the service of a file, as when it is shown large: of a large image that is enlarged, the centre. */
async function sent(file, task) {
  const picture = await takeIn(file, file.name);
  try {
    return await payload(picture, task, "part");
  } finally {
    picture.bitmap?.close();
  }
}

/** What became of an image, in lines. */
function said({ answer, problem }) {
  if (problem) return [problem];
  const [best] = answer.predictions ?? [];
  return [...(best ? [best.label.replaceAll("_", " ")] : []), `${percent(answer.saved)} saved`];
}
