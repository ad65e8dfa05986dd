// Answers that come later: a job's events are followed to its end, then its result is fetched.

import { ask, askJson } from "./http.js";
import { Problem, notUnderstood } from "./problem.js";

/** What a request sends that may be answered by a job: nothing is shown of what takes less than a second. */
export const PREFER = { Prefer: "respond-async, wait=1" };

const AGAIN_MS = 1000;

/**
 * The result of a job, as `askJson` gives it; an abort, or leaving the page, cancels the job.
 * @param {object} job the document of the answer 202
 * @param {(done: number, total: number) => void} tiles told of each tile
 */
export async function resultOf(job, { signal, secret, tiles }) {
  if (![job.status_url, job.events_url, job.result_url].every((url) => typeof url === "string" && url.startsWith("/"))) {
    throw notUnderstood("the answer does not say where its job is");
  }
  const forget = () => ask(job.status_url, { method: "DELETE", keepalive: true, secret }).catch(() => {});
  addEventListener("pagehide", forget);
  try {
    while (!(await over(job.events_url, { signal, secret, tiles }))) await pause(AGAIN_MS, signal);
    return await askJson(job.result_url, { signal, secret });
  } finally {
    removeEventListener("pagehide", forget);
    forget(); // fetched, failed or not wanted: the service need not keep it
  }
}

/** Follow the events; whether the job is over, or they only broke off. */
async function over(url, { signal, secret, tiles }) {
  try {
    const response = await ask(url, { signal, secret });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ""; ; ) {
      const { done, value } = await reader.read();
      if (done) return false;
      const events = (text + value).split("\n\n");
      text = events.pop();
      for (const event of events) {
        const [, name, data] = event.match(/^event: (.*)\ndata: (.*)$/) ?? [];
        if (!name) continue; // a sign of life
        const { progress } = JSON.parse(data);
        if (progress) tiles(progress.done, progress.total);
        if (name === "over") return true;
      }
    }
  } catch (error) {
    if (error.name === "AbortError" || (error instanceof Problem && !error.passing)) throw error;
    return false;
  }
}

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("aborted", "AbortError"));
    });
  });
}
