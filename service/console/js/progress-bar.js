// A line that moves while something runs, and fills where it is known how far it has come.

import { el } from "./dom.js";

export function createProgressBar() {
  const line = el("div", { class: "progress", "aria-hidden": "true" });
  const label = el("p", { class: "progress-label small soft", role: "progressbar", "aria-valuemin": "0", hidden: true });

  function busy(on) {
    line.dataset.busy = String(on);
    delete line.dataset.tiles;
    label.hidden = true;
  }

  /** So many tiles of a large image are done. */
  function tiles(done, total) {
    line.dataset.tiles = `${done}/${total}`;
    line.style.setProperty("--share", String(done / total));
    label.textContent = `${done} of ${total} tiles`;
    label.setAttribute("aria-valuemax", String(total));
    label.setAttribute("aria-valuenow", String(done));
    label.setAttribute("aria-valuetext", label.textContent);
    label.setAttribute("aria-label", "Enlarging");
    label.hidden = false;
  }

  return { nodes: [line, label], busy, tiles };
}
