// Tries again what failed for a passing reason: a restart, a full queue. What the user gave stays where it is.

import { el } from "./dom.js";
import { Problem } from "./problem.js";
import { problemNotice } from "./notices.js";

const LONGEST_S = 20;

/**
 * Run `attempt` until it succeeds, fails for good, or is aborted. Waits Retry-After, else longer each time.
 * @param {() => Promise<T>} attempt
 * @param {{show: Function, clear: Function}} place where the waiting is shown
 */
export async function withRetry(attempt, place, signal) {
  for (let tries = 0; ; tries += 1) {
    try {
      const result = await attempt();
      if (tries) place.clear();
      return result;
    } catch (error) {
      if (!(error instanceof Problem) || !error.passing) throw error;
      const wait = Math.min(LONGEST_S, Math.max(error.retryAfter ?? 0, Math.min(8, 2 ** tries)));
      await pause(wait, error, place, signal);
    }
  }
}

function pause(seconds, problem, place, signal) {
  return new Promise((resolve, reject) => {
    const end = Date.now() + 1000 * seconds;
    const countdown = el("span", { class: "number small", "aria-hidden": "true" }); // read once, not every second
    const finish = (outcome) => {
      clearInterval(timer);
      signal?.removeEventListener("abort", aborted);
      outcome();
    };
    const aborted = () => finish(() => reject(new DOMException("aborted", "AbortError")));
    const tick = () => {
      const left = Math.max(0, Math.ceil((end - Date.now()) / 1000));
      const text = `Trying again in ${left} s. Nothing is lost.`;
      if (countdown.textContent !== text) countdown.textContent = text;
      if (left === 0) finish(resolve);
    };
    const now = el("button", { type: "button", on: { click: () => finish(resolve) } }, "Try now");
    const stop = el("button", { type: "button", class: "plain", on: { click: () => finish(() => reject(problem)) } }, "Stop");
    place.show(problemNotice(problem, countdown, now, stop));
    const timer = setInterval(tick, 250);
    signal?.addEventListener("abort", aborted);
    if (signal?.aborted) aborted();
    else tick();
  });
}
