// The light in the corner: asks /readyz now and then, more often while something is wrong.

import { readiness } from "./api.js";

const CALM_MS = 15000;
const WORRIED_MS = 2000;

const WORDS = { ready: "Ready", waiting: "Not ready", away: "Not reachable" };

export function startStatus(node) {
  let timer = 0;
  const look = async () => {
    clearTimeout(timer);
    let found = { state: "away", detail: "" };
    if (!document.hidden) {
      try {
        found = await readiness();
      } catch {
        // Stays away.
      }
      if (node.dataset.state !== found.state) {
        node.dataset.state = found.state;
        node.querySelector(".status-text").textContent = WORDS[found.state];
      }
      node.title = found.detail || (found.slots ? `${found.slots} workers` : "");
    }
    timer = setTimeout(look, found.state === "ready" ? CALM_MS : WORRIED_MS);
  };
  document.addEventListener("visibilitychange", look);
  look();
}
