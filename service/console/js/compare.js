// Two pictures on top of each other with a divider between, zoom, and an overlay on the right-hand one.

import { el, fill } from "./dom.js";

const MOST_ZOOM = 16;
const STEP = 1.5;

export function createCompare() {
  const content = { before: el("div", { class: "content" }), after: el("div", { class: "content" }), overlay: el("div", { class: "content overlay" }) };
  const layers = {
    before: el("div", { class: "layer" }, content.before),
    after: el("div", { class: "layer" }, content.after, content.overlay),
  };
  const labels = { before: el("span", { class: "side-label before" }), after: el("span", { class: "side-label after" }) };
  const handle = el("div", { class: "divider", role: "slider", tabindex: "0", "aria-orientation": "horizontal", "aria-valuemin": "0", "aria-valuemax": "100" }, el("span", { class: "grip", "aria-hidden": "true" }));
  const view = el("div", { class: "compare-view", role: "group", tabindex: "0", "aria-label": "Comparison; plus and minus zoom, arrow keys move a zoomed picture" }, layers.before, layers.after, labels.before, labels.after, handle);
  const zoomLabel = el("output", { class: "zoom-label", "aria-label": "Zoom" });
  const button = (text, label, act) => el("button", { type: "button", class: "icon-button", "aria-label": label, title: label, on: { click: act } }, text);
  const zoomBar = el(
    "div",
    { class: "zoom-bar", role: "group", "aria-label": "Zoom" },
    button("−", "Zoom out", () => zoomBy(1 / STEP)),
    zoomLabel,
    button("+", "Zoom in", () => zoomBy(STEP)),
    button("⤢", "Fit", () => zoomTo(1)),
  );

  let split = 50;
  let zoom = { scale: 1, x: 0, y: 0 };
  let natural = 1; // pixels of the picture, to tell when it is shown larger than it is

  function showSplit() {
    layers.before.style.clipPath = `inset(0 ${100 - split}% 0 0)`;
    layers.after.style.clipPath = `inset(0 0 0 ${split}%)`;
    handle.style.left = `${split}%`;
    handle.setAttribute("aria-valuenow", String(Math.round(split)));
    handle.setAttribute("aria-valuetext", `${Math.round(split)} % ${labels.before.textContent}, the rest ${labels.after.textContent}`);
    labels.before.style.opacity = split > 12 ? "1" : "0";
    labels.after.style.opacity = split < 88 ? "1" : "0";
  }

  function setSplit(value) {
    split = Math.min(100, Math.max(0, value));
    showSplit();
  }

  function showZoom() {
    const { width, height } = view.getBoundingClientRect();
    zoom.x = Math.min(0, Math.max(width * (1 - zoom.scale), zoom.x));
    zoom.y = Math.min(0, Math.max(height * (1 - zoom.scale), zoom.y));
    for (const one of Object.values(content)) {
      one.style.transform = `translate(${zoom.x}px, ${zoom.y}px) scale(${zoom.scale})`;
    }
    zoomLabel.textContent = `${Number(zoom.scale.toFixed(1))}×`;
    view.classList.toggle("zoomed", zoom.scale > 1);
    view.classList.toggle("pixels", zoom.scale * width > 2 * natural);
  }

  /** Zoom so that a point of the view stays where it is; the middle where none is given. */
  function zoomTo(scale, at) {
    const { width, height } = view.getBoundingClientRect();
    const { x, y } = at ?? { x: width / 2, y: height / 2 };
    const next = Math.min(MOST_ZOOM, Math.max(1, scale));
    const ratio = next / zoom.scale;
    zoom = { scale: next, x: x - ratio * (x - zoom.x), y: y - ratio * (y - zoom.y) };
    showZoom();
  }

  const zoomBy = (factor, at) => zoomTo(zoom.scale * factor, at);

  const inside = (event) => {
    const box = view.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };

  handle.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 10 : 2;
    const moves = { ArrowLeft: split - step, ArrowDown: split - step, ArrowRight: split + step, ArrowUp: split + step, Home: 0, End: 100, PageDown: split - 10, PageUp: split + 10 };
    if (!(event.key in moves)) return;
    event.preventDefault();
    event.stopPropagation();
    setSplit(moves[event.key]);
  });

  view.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const pan = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] }[event.key];
    if (event.key === "+" || event.key === "=") zoomBy(STEP);
    else if (event.key === "-") zoomBy(1 / STEP);
    else if (event.key === "0") zoomTo(1);
    else if (pan && zoom.scale > 1) {
      zoom.x += pan[0];
      zoom.y += pan[1];
      showZoom();
    } else return;
    event.preventDefault();
  });

  view.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // a plain wheel scrolls the page; a pinch arrives with ctrl
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY / 200), inside(event));
  }, { passive: false });

  view.addEventListener("dblclick", (event) => zoomTo(zoom.scale > 1 ? 1 : 4, inside(event)));

  const pointers = new Map();
  let dragging = null;

  view.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const at = inside(event);
    pointers.set(event.pointerId, at);
    const onHandle = handle.contains(event.target);
    // At rest a drag anywhere moves the divider; zoomed in, it moves the picture.
    dragging = pointers.size === 2 ? "pinch" : onHandle || (zoom.scale === 1 && event.pointerType === "mouse") ? "split" : zoom.scale > 1 ? "pan" : null;
    if (dragging) view.setPointerCapture(event.pointerId);
    if (dragging === "split") {
      setSplit((100 * at.x) / view.clientWidth);
      handle.focus({ preventScroll: true });
      event.preventDefault();
    }
  });

  view.addEventListener("pointermove", (event) => {
    const last = pointers.get(event.pointerId);
    if (!last || !dragging) return;
    const at = inside(event);
    if (dragging === "split") setSplit((100 * at.x) / view.clientWidth);
    else if (dragging === "pan") {
      zoom.x += at.x - last.x;
      zoom.y += at.y - last.y;
      showZoom();
    } else if (pointers.size === 2) {
      const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
      const before = Math.hypot(last.x - other.x, last.y - other.y);
      const after = Math.hypot(at.x - other.x, at.y - other.y);
      if (before > 0) zoomBy(after / before, { x: (at.x + other.x) / 2, y: (at.y + other.y) / 2 });
    }
    pointers.set(event.pointerId, at);
  });

  const release = (event) => {
    pointers.delete(event.pointerId);
    if (pointers.size < 2 && dragging === "pinch") dragging = zoom.scale > 1 ? "pan" : null;
    if (pointers.size === 0) dragging = null;
  };
  view.addEventListener("pointerup", release);
  view.addEventListener("pointercancel", release);
  new ResizeObserver(showZoom).observe(view);

  return {
    view,
    zoomBar,
    /** The picture's shape; `pixels` is its own width. A new shape starts unzoomed. */
    setShape(width, height, pixels) {
      const ratio = `${width} / ${height}`;
      natural = pixels;
      if (view.style.aspectRatio === ratio) return;
      view.style.aspectRatio = ratio;
      view.style.setProperty("--ratio", String(width / height));
      zoom = { scale: 1, x: 0, y: 0 };
      showZoom();
    },
    /** What stands left and right of the divider. */
    setSide(side, node, label) {
      fill(content[side], node);
      labels[side].textContent = label;
      handle.setAttribute("aria-label", `Divider between ${labels.before.textContent} and ${labels.after.textContent}`);
      showSplit();
    },
    /** A canvas over the right-hand side; `width` and `height` are in percent of the picture. */
    setOverlay(canvas, width = 100, height = 100) {
      if (canvas) {
        canvas.style.width = `${width}%`;
        canvas.style.height = `${height}%`;
      }
      fill(content.overlay, canvas);
    },
    setSplit,
  };
}
