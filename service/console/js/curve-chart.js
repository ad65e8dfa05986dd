// Quality against MACs saved: the measured curve, the tiers as points on it that can be moved along.

import { el, fill, svg } from "./dom.js";
import { expectation, thresholdFor } from "./curve.js";
import { metric, percent, threshold as shown } from "./format.js";
import { spread } from "./spread.js";
import { keyedThreshold, rounded } from "./threshold-keys.js";

const SIZE = { width: 640, height: 280, left: 50, right: 20, top: 26, bottom: 40 };

/** How far beyond the fastest tier the curve is shown: what lies further would flatten the part that matters. */
const BEYOND = 0.14;
const NARROW = 520;

/** Nice steps for an axis: 1, 2 or 5 times a power of ten. */
function steps(low, high, count) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw);
  const marks = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-6; at += step) marks.push(at);
  return { marks, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

/** @param {(name: string, threshold: number) => void} moved while a point moves */
export function createCurveChart(moved) {
  const root = svg("svg", { class: "curve", role: "group" });
  const handles = new Map();
  let state = null;
  let dragged = null;
  let shownUpTo = null; // MACs saved at the right edge; still while a point is dragged

  function place({ macs_saved: saved, metrics }) {
    const { xs, ys, key } = state;
    return { x: xs(saved), y: ys(metrics[key] ?? state.low) };
  }

  /** The part of the curve to show: a little beyond the fastest tier. */
  function part({ points, tiers }) {
    const end = points.at(-1).macs_saved;
    const fastest = Math.max(...tiers.map((tier) => expectation(points, Math.max(tier.threshold, tier.inForce)).macs_saved));
    if (dragged === null && (shownUpTo === null || fastest > shownUpTo - 0.02)) shownUpTo = fastest + BEYOND;
    if (shownUpTo >= end) return points;
    const edge = thresholdFor(points, shownUpTo);
    return [...points.filter((point) => point.threshold < edge), { threshold: edge, ...expectation(points, edge) }];
  }

  function scales(points, key) {
    const values = points.map((point) => point.metrics[key]).filter(Number.isFinite);
    const savings = points.map((point) => point.macs_saved);
    const margin = (Math.max(...values) - Math.min(...values)) * 0.15 || 0.01;
    const [low, high] = [Math.min(...values) - margin, Math.max(...values) + margin];
    const [left, right] = [Math.min(0, ...savings), Math.max(...savings)];
    const inner = { width: SIZE.width - SIZE.left - SIZE.right, height: SIZE.height - SIZE.top - SIZE.bottom };
    return {
      low, high, left, right,
      xs: (saved) => SIZE.left + ((saved - left) / (right - left || 1)) * inner.width,
      ys: (value) => SIZE.top + ((high - value) / (high - low || 1)) * inner.height,
      back: (x) => left + ((x - SIZE.left) / inner.width) * (right - left),
    };
  }

  function axes() {
    const { xs, ys, low, high, left, right } = state;
    const { scale, unit } = metric(state.key);
    const bottom = SIZE.height - SIZE.bottom;
    const across = steps(low * scale, high * scale, 4);
    const along = steps(left * 100, right * 100, 6);
    return [
      ...across.marks.map((mark) => svg("g", {}, svg("line", { class: "grid", x1: SIZE.left, x2: SIZE.width - SIZE.right, y1: ys(mark / scale), y2: ys(mark / scale) }), svg("text", { class: "axis", x: SIZE.left - 8, y: ys(mark / scale) + 4, "text-anchor": "end" }, mark.toFixed(across.digits)))),
      ...along.marks.map((mark) => svg("text", { class: "axis", x: xs(mark / 100), y: bottom + 18, "text-anchor": "middle" }, `${mark.toFixed(along.digits)}`)),
      svg("text", { class: "axis title", x: SIZE.width - SIZE.right, y: SIZE.height - 6, "text-anchor": "end" }, "MACs saved, %"),
      svg("text", { class: "axis title", x: SIZE.left - 8, y: 12, "text-anchor": "end" }, unit || metric(state.key).name),
    ];
  }

  function draw(next) {
    if (state === null || state.key !== next.key || state.model !== next.model) shownUpTo = null;
    const seen = part(next);
    state = { ...next, seen, ...scales(seen, next.key) };
    root.setAttribute("viewBox", `0 0 ${SIZE.width} ${SIZE.height}`);
    root.setAttribute("aria-label", `${metric(state.key).name} against MACs saved; each tier is a slider on the curve`);
    const path = state.seen.map((point, index) => {
      const { x, y } = place(point);
      return `${index ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    });
    const line = svg("path", { class: "line", d: path.join("") });
    const dots = state.seen.map((point) => {
      const { x, y } = place(point);
      return svg("circle", { class: "dot-measured", cx: x, cy: y, r: 2.2 });
    });
    const ghosts = state.tiers.filter((tier) => tier.threshold !== tier.inForce).map((tier) => {
      const { x, y } = place(expectation(state.points, tier.inForce));
      return svg("circle", { class: "ghost", cx: x, cy: y, r: 6 });
    });
    // Handles stay the same elements while they move, or they would lose focus and pointer.
    for (const name of handles.keys()) if (!state.tiers.some((tier) => tier.name === name)) handles.delete(name);
    const nodes = state.tiers.map(update);
    const fixedNodes = svg("g", { "aria-hidden": "true" }, ...axes(), line, ...dots, ...ghosts, ...spreadLabels());
    const kept = root.querySelector("g.handles") ?? svg("g", { class: "handles" });
    if (kept.childNodes.length !== nodes.length || nodes.some((node, index) => kept.childNodes[index] !== node)) fill(kept, nodes);
    root.querySelector("g:not(.handles)[aria-hidden]")?.remove();
    root.prepend(fixedNodes);
    if (!kept.isConnected) root.append(kept);
  }

  function update(tier) {
    let node = handles.get(tier.name);
    if (!node) {
      node = svg("g", { class: "handle", role: "slider", tabindex: "0", "aria-label": `${tier.name}: threshold`, "data-tier": tier.name, on: { keydown: (event) => keyed(event, tier.name), pointerdown: (event) => grabbed(event, tier.name) } });
      node.append(svg("circle", { class: "hit", r: 22 }), svg("circle", { class: "knob", r: 7 }), svg("text", { class: "knob-label", "text-anchor": "middle" }, tier.name));
      handles.set(tier.name, node);
    }
    const at = expectation(state.points, tier.threshold);
    const { x, y } = place(at);
    node.setAttribute("transform", `translate(${x.toFixed(2)} ${y.toFixed(2)})`);
    node.classList.toggle("changed", tier.threshold !== tier.inForce);
    const [low, high] = bounds(tier.name);
    node.setAttribute("aria-valuemin", String(low));
    node.setAttribute("aria-valuemax", String(high));
    node.setAttribute("aria-valuenow", String(tier.threshold));
    const quality = metric(state.key);
    node.setAttribute("aria-valuetext", `${shown(tier.threshold)}: saves ${percent(at.macs_saved)}, ${quality.name} ${quality.value(at.metrics[state.key])}`);
    return node;
  }

  /** Names above or below their points, further off where they would touch another, and never over the edge;
   *  gives the lines to those further off, which lie below all names. */
  function spreadLabels() {
    const knobs = state.tiers.map((tier) => {
      const { x, y } = place(expectation(state.points, tier.threshold));
      return { x, y, width: 7.4 * tier.name.length + 8 };
    });
    const area = { left: SIZE.left - 6, right: SIZE.width, top: 0, bottom: SIZE.height - SIZE.bottom };
    return spread(knobs, area).map(({ dx, dy, far }, index) => {
      const label = handles.get(state.tiers[index].name).querySelector(".knob-label");
      label.setAttribute("x", String(dx));
      label.setAttribute("y", String(dy + 4));
      const { x, y } = knobs[index];
      return far ? svg("line", { class: "leader", x1: x, y1: y, x2: x + dx, y2: y + dy }) : null;
    });
  }

  /** A faster tier never has a lower threshold: the neighbours are the limits. */
  function bounds(name) {
    const at = state.tiers.findIndex((tier) => tier.name === name);
    return [state.tiers[at - 1]?.threshold ?? 0, state.tiers[at + 1]?.threshold ?? 1];
  }

  function move(name, threshold) {
    const [low, high] = bounds(name);
    const value = Math.min(high, Math.max(low, rounded(threshold)));
    if (value !== state.tiers.find((tier) => tier.name === name).threshold) moved(name, value);
  }

  function keyed(event, name) {
    const now = state.tiers.find((tier) => tier.name === name).threshold;
    const [low, high] = bounds(name);
    const to = keyedThreshold(event, now, [low, high]);
    if (to === undefined) return;
    event.preventDefault();
    move(name, to);
  }

  /** Where the reach of several points covers the place, the nearest is meant. */
  function nearest(event, name) {
    const box = root.getBoundingClientRect();
    const [x, y] = [((event.clientX - box.left) / box.width) * SIZE.width, ((event.clientY - box.top) / box.height) * SIZE.height];
    const far = (tier) => {
      const at = place(expectation(state.points, tier.threshold));
      return Math.hypot(at.x - x, at.y - y);
    };
    return state.tiers.reduce((best, tier) => (far(tier) < far(best) - 0.5 ? tier : best), state.tiers.find((tier) => tier.name === name)).name;
  }

  function grabbed(event, over) {
    if (event.button !== 0) return;
    event.preventDefault();
    const name = nearest(event, over);
    dragged = name;
    root.setPointerCapture(event.pointerId);
    handles.get(name).focus({ preventScroll: true });
  }

  root.addEventListener("pointermove", (event) => {
    if (dragged === null) return;
    const box = root.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * SIZE.width;
    move(dragged, Math.round(thresholdFor(state.points, state.back(x)) * 200) / 200);
  });
  const release = () => {
    if (dragged === null) return;
    dragged = null;
    draw(state);
  };
  root.addEventListener("pointerup", release);
  root.addEventListener("pointercancel", release);

  const empty = el("p", { class: "soft small" }, "This model's card has no curve; thresholds can be set in the table.");
  const node = el("div", { class: "curve-place" }, root, empty);
  new ResizeObserver(([{ contentRect }]) => {
    const width = Math.round(contentRect.width);
    if (!width || width === SIZE.width) return;
    SIZE.width = width;
    SIZE.height = width < NARROW ? 220 : 280;
    if (state) draw(state);
  }).observe(node);
  return {
    node,
    /** {model, points, key, tiers: [{name, threshold, inForce}]} */
    show(next) {
      const drawable = next.points.length > 1 && next.key;
      root.toggleAttribute("hidden", !drawable);
      empty.hidden = Boolean(drawable);
      if (drawable) draw(next);
    },
  };
}
