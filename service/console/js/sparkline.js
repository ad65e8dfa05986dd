// A tiny line of the last values.

import { svg } from "./dom.js";

const WIDTH = 64;
const HEIGHT = 18;

/** An SVG of values in their order, NaN leaves a gap; null where there is no line to draw. */
export function sparkline(values) {
  const known = values.filter(Number.isFinite);
  if (known.length < 2) return null;
  const low = Math.min(...known);
  const span = Math.max(...known) - low || 1;
  const x = (index) => (values.length > 1 ? 1 + (index / (values.length - 1)) * (WIDTH - 2) : WIDTH / 2);
  const y = (value) => HEIGHT - 3 - ((value - low) / span) * (HEIGHT - 6);
  let path = "";
  let pen = "M";
  values.forEach((value, index) => {
    if (!Number.isFinite(value)) {
      pen = "M";
      return;
    }
    path += `${pen}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
    pen = "L";
  });
  return svg("svg", { class: "sparkline", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, "aria-hidden": "true" }, svg("path", { d: path }));
}
