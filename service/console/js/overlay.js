// Draws an importance map, or the cells a threshold skips, onto a canvas of a few pixels a window.

import { activeWindows } from "./importance.js";

const SIDE = 1024; // pixels of the canvas, about

// Dark violet over red to pale yellow: even steps of lightness, readable without colour (after matplotlib's inferno).
const HEAT = [
  [0, 0, 4], [31, 12, 72], [85, 15, 109], [136, 34, 106], [186, 54, 85], [227, 89, 51], [249, 140, 10], [249, 201, 50], [252, 255, 164],
];

function heat(value) {
  const at = Math.min(0.999999, Math.max(0, value)) * (HEAT.length - 1);
  const low = Math.floor(at);
  return HEAT[low].map((channel, index) => Math.round(channel + (at - low) * (HEAT[low + 1][index] - channel)));
}

/** One pixel a window, to be scaled up without smoothing. */
export function drawHeat(canvas, map) {
  canvas.width = map.width;
  canvas.height = map.height;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(map.width, map.height);
  map.values.forEach((value, index) => pixels.data.set([...heat(value), 205], 4 * index));
  context.putImageData(pixels, 0, 0);
}

/** Dims what is skipped and draws the border between the two. */
export function drawSkipped(canvas, map, threshold) {
  const active = activeWindows(map, threshold);
  const { width, height } = map;
  const cell = Math.min(64, Math.max(6, Math.round(SIDE / width)));
  canvas.width = width * cell;
  canvas.height = height * cell;
  const context = canvas.getContext("2d");
  context.fillStyle = "rgb(10 12 16 / 78%)";
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      if (!active[y * width + x]) context.fillRect(x * cell, y * cell, cell, cell);
    }
  }
  context.fillStyle = "#4bd0bc";
  const line = cell >= 24 ? 2 : 1;
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const here = active[y * width + x];
      if (x + 1 < width && here !== active[y * width + x + 1]) context.fillRect((x + 1) * cell - line, y * cell, 2 * line, cell);
      if (y + 1 < height && here !== active[(y + 1) * width + x]) context.fillRect(x * cell, (y + 1) * cell - line, cell, 2 * line);
    }
  }
}
