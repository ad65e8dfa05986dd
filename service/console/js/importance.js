// What an importance map says about a threshold, in the browser: the rule the kernels follow.

const STAGES = 4;

/**
 * Which windows reach a threshold: 1 or 0 each.
 * @param {{height: number, width: number, values: Float32Array}} map
 */
export function activeWindows(map, threshold) {
  const limit = Math.fround(threshold);
  return Uint8Array.from(map.values, (value) => (value >= limit ? 1 : 0));
}

/** Share of an image's cells that run in super-resolution: windows at the right and lower edge hold fewer. */
function shareOfPixels(map, threshold, window, size) {
  const active = activeWindows(map, threshold);
  let cells = 0;
  for (let y = 0; y < map.height; y += 1) {
    const rows = Math.min(window, size.height - y * window);
    for (let x = 0; x < map.width; x += 1) {
      if (active[y * map.width + x]) cells += rows * Math.min(window, size.width - x * window);
    }
  }
  return cells / (size.height * size.width);
}

/**
 * Share of the cells of ResNet-18's four stages that run: finer stages repeat windows, coarser average them. Where the
 * base's answer is not used, the best cell of each stage always runs.
 */
function shareOfStages(map, threshold, window, keepBest) {
  let grid = { height: map.height, width: map.width, values: map.values };
  let side = window;
  let active = 0;
  let all = 0;
  for (let stage = 0; stage < STAGES; stage += 1) {
    if (side < 1) grid = halved(grid);
    const each = side >= 1 ? side * side : 1;
    const count = activeWindows(grid, threshold).reduce((sum, one) => sum + one, 0) * each;
    active += keepBest ? Math.max(1, count) : count;
    all += grid.values.length * each;
    side /= 2;
  }
  return active / all;
}

function halved(grid) {
  const height = Math.ceil(grid.height / 2);
  const width = Math.ceil(grid.width / 2);
  const values = new Float32Array(height * width);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      let sum = 0;
      let count = 0;
      for (const row of [2 * y, 2 * y + 1]) {
        for (const column of [2 * x, 2 * x + 1]) {
          if (row >= grid.height || column >= grid.width) continue;
          sum = Math.fround(sum + grid.values[row * grid.width + column]);
          count += 1;
        }
      }
      values[y * width + x] = Math.fround(sum / count);
    }
  }
  return { height, width, values };
}

/** Cells along a window's side, where the card does not tell: the smallest that gives this map. */
function guessedWindow(map, size) {
  for (let side = 1; side <= 64; side *= 2) {
    if (Math.ceil(size.width / side) === map.width && Math.ceil(size.height / side) === map.height) return side;
  }
  return 1;
}

/**
 * The share of cells that run at any threshold.
 * @param {object} answer an answer of `api.run`
 * @param {number|null} window of the model's card
 * @param {boolean} keepBest whether the card says that the base's answer is not used
 * @returns {(threshold: number) => number}
 */
export function shareAt(answer, window, keepBest = false) {
  const { map, image } = answer;
  if (image === null) return (threshold) => shareOfStages(map, threshold, window ?? 4, keepBest);
  const size = { width: image.width / 4, height: image.height / 4 };
  return (threshold) => shareOfPixels(map, threshold, window ?? guessedWindow(map, size), size);
}

/**
 * MACs at any share of active cells, through what was measured on this very image; straight lines between.
 * Executed MACs are a constant and a multiple of the active cells, so two answers pin them down.
 * @param {{activeShare: number, executed: number}[]} answers
 */
export function macsAt(answers) {
  const known = [...new Map(answers.map((one) => [one.activeShare, one.executed]))].sort((a, b) => a[0] - b[0]);
  if (known.length < 2) return null;
  return (share) => {
    let right = known.findIndex(([at]) => at >= share);
    right = Math.min(Math.max(right === -1 ? known.length - 1 : right, 1), known.length - 1);
    const [x0, y0] = known[right - 1];
    const [x1, y1] = known[right];
    return y0 + ((share - x0) / (x1 - x0)) * (y1 - y0);
  };
}
