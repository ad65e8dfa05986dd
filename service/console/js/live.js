// What is happening now: asks every two seconds, keeps the last two minutes for the small lines.

import * as admin from "./admin-api.js";
import { el, fill } from "./dom.js";
import { integer, milliseconds, percent } from "./format.js";

const EVERY_MS = 2000;
const WINDOW_S = 60;
const KEPT = 60;

function tile(name, value, detail = "") {
  return el("div", { class: "tile" }, el("span", { class: "small soft" }, name), el("strong", { class: "number" }, value), el("span", { class: "small soft number" }, detail));
}

function totals(models) {
  const all = Object.values(models).flatMap((tiers) => Object.values(tiers));
  const sum = (key) => all.reduce((total, one) => total + (Number(one[key]) || 0), 0);
  const dense = sum("macs_dense");
  return { requests: sum("requests"), failed: sum("failed"), degraded: sum("degraded_to"), saved: dense ? 1 - sum("macs_executed") / dense : null, executed: sum("macs_executed") };
}

/**
 * @param {(live: object) => void} arrived each time
 * @param {(error: Error) => boolean} failed whether to go on asking
 */
export function createLive(arrived, failed) {
  const node = el("div", { class: "tiles", role: "group", "aria-label": `Live, the last ${WINDOW_S} seconds` });
  const history = new Map();
  let timer = 0;
  let on = false;

  async function look() {
    clearTimeout(timer);
    if (!on) return;
    if (!document.hidden) {
      try {
        const live = await admin.live(WINDOW_S);
        if (!on) return;
        keep(live);
        show(live);
        arrived(live);
      } catch (error) {
        node.dataset.stale = "true";
        if (!failed(error)) on = false;
      }
    }
    if (on) timer = setTimeout(look, EVERY_MS);
  }

  function keep(live) {
    for (const [task, tiers] of Object.entries(live.models ?? {})) {
      for (const [tier, one] of Object.entries(tiers)) {
        const key = `${task} ${tier}`;
        history.set(key, [...(history.get(key) ?? []), one.p50_ms ?? NaN].slice(-KEPT));
      }
    }
  }

  function show(live) {
    const { requests, failed: failures, degraded, saved, executed } = totals(live.models ?? {});
    const pool = live.pool ?? {};
    const slots = Object.values(pool.slots ?? {});
    const brownout = live.brownout ?? {};
    delete node.dataset.stale;
    fill(
      node,
      tile("Requests", integer(requests), failures ? `${integer(failures)} failed` : "in 60 s"),
      tile("MACs saved", percent(saved), executed ? "of all work" : "no work yet"),
      tile("Queue", `${integer(pool.queue_depth)}`, `of ${integer(pool.queue_limit)}`),
      tile("Wait", milliseconds(1000 * pool.wait_estimate_s), "estimate"),
      tile("Workers", `${slots.filter((one) => one === "busy").length} / ${slots.length}`, pool.ready === false ? "not ready" : "busy"),
      tile("Brownout", brownout.enabled ? (brownout.level ? `level ${brownout.level}` : "calm") : "off", degraded ? `${integer(degraded)} degraded` : ""),
    );
  }

  document.addEventListener("visibilitychange", look);
  return {
    node,
    start() {
      if (on) return;
      on = true;
      look();
    },
    stop() {
      on = false;
      clearTimeout(timer);
    },
    /** The last p50s of a tier. */
    past: (task, tier) => history.get(`${task} ${tier}`) ?? [],
  };
}
