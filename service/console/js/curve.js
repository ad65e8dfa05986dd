// A model's measured curve: what a threshold is expected to save and cost, and back again.

/** Sorted by threshold, only sound points. */
export function curvePoints(curve) {
  const sound = (point) => Number.isFinite(point?.threshold) && Number.isFinite(point?.macs_saved) && point.metrics;
  return (curve?.points ?? []).filter(sound).sort((a, b) => a.threshold - b.threshold);
}

/** {macs_saved, metrics} at a threshold: straight lines between points, flat beyond the ends. */
export function expectation(points, threshold) {
  if (!points.length) return null;
  let right = points.findIndex((point) => point.threshold >= threshold);
  if (right === -1) right = points.length - 1;
  const left = Math.max(0, right - 1);
  const [low, high] = [points[left], points[right]];
  const span = high.threshold - low.threshold;
  const share = span > 0 ? Math.min(1, Math.max(0, (threshold - low.threshold) / span)) : 1;
  const between = (a, b) => a + share * (b - a);
  const metrics = {};
  for (const key of Object.keys(low.metrics)) {
    if (key in high.metrics) metrics[key] = between(low.metrics[key], high.metrics[key]);
  }
  return { macs_saved: between(low.macs_saved, high.macs_saved), metrics };
}

/** The threshold at which a share of MACs is saved; the nearest end beyond the curve. */
export function thresholdFor(points, saved) {
  for (let at = 1; at < points.length; at += 1) {
    const [low, high] = [points[at - 1], points[at]];
    if (saved <= high.macs_saved) {
      const span = high.macs_saved - low.macs_saved;
      const share = span > 0 ? Math.max(0, (saved - low.macs_saved) / span) : 0;
      return low.threshold + share * (high.threshold - low.threshold);
    }
  }
  return points.at(-1)?.threshold ?? 0;
}
