// Rules of the tier document in words, and the goals a rule can have.

import { fixed, percent, threshold } from "./format.js";

/** Goals by task: key, label, unit on screen, how many of them make 1 in the document. */
export const GOALS = {
  classify: [
    ["macs_saved", "MACs saved, at least", "%", 100],
    ["max_top1_drop", "Top-1 lost, at most", "points", 100],
    ["max_top5_drop", "Top-5 lost, at most", "points", 100],
    ["min_agreement", "Agreement with exact, at least", "%", 100],
  ],
  "super-resolve": [
    ["macs_saved", "MACs saved, at least", "%", 100],
    ["max_psnr_drop_db", "PSNR lost, at most", "dB", 1],
    ["max_ssim_drop", "SSIM lost, at most", "", 1],
  ],
};

const WORDS = {
  macs_saved: (v) => `saves ≥ ${percent(v, 0)}`,
  max_psnr_drop_db: (v) => `PSNR −${fixed(v, 2)} dB at most`,
  max_ssim_drop: (v) => `SSIM −${fixed(v, 4)} at most`,
  max_top1_drop: (v) => `top-1 −${fixed(100 * v, 1)} at most`,
  max_top5_drop: (v) => `top-5 −${fixed(100 * v, 1)} at most`,
  min_agreement: (v) => `agrees ≥ ${percent(v, 0)}`,
  max_active_share: (v) => `cells ≤ ${percent(v, 0)}`,
};

/** The goals and the cap of a rule, as short phrases. */
export function phrases(rule) {
  return Object.entries(rule).filter(([key]) => key in WORDS).map(([key, value]) => WORDS[key](value));
}

export const isGoalRule = (rule) => typeof rule.threshold !== "number";

/** A value of the document in a list of changes. */
export function shown(value) {
  if (value === undefined) return "not set";
  if (value === null) return "none";
  if (typeof value === "number") return threshold(value);
  return typeof value === "string" ? value || "empty" : JSON.stringify(value);
}

/** What the service says of single tiers, of one task: a Map from the tier's name to why. */
export function faultsByTier(errors, task) {
  const found = new Map();
  for (const { field, message } of errors) {
    const text = String(message);
    const [, tier, of] = /^tiers\.([a-z][a-z0-9-]*)(?:\.thresholds\.([a-z-]+))?/.exec(String(field)) ?? [];
    const [, ofWhole, named] = /^(classify|super-resolve): ([a-z][a-z0-9-]*) /.exec(text) ?? [];
    const [name, model] = tier ? [tier, of] : [named, ofWhole];
    if (name && (model === undefined || model === task)) found.set(name, text.replace(/^(classify|super-resolve): /, ""));
  }
  return found;
}

/** "tiers.fast.thresholds.classify.threshold" as "fast · classify · threshold". */
export function place(path) {
  return path.replace(/^tiers\./, "").replace(".thresholds.", ".").split(".").map((part) => part.replaceAll("_", " ")).join(" · ");
}
