// Numbers and times as people read them.

const MISSING = "–";

function finite(value) {
  return typeof value === "number" && Number.isFinite(value);
}

/** 0.4829 as "48.3 %". */
export function percent(share, digits = 1) {
  return finite(share) ? `${minus((100 * share).toFixed(digits))} %` : MISSING;
}

/** A difference of shares in points: 0.021 as "+2.1". */
export function points(difference, digits = 1) {
  return finite(difference) ? signed(100 * difference, digits) : MISSING;
}

/** With a sign, and a true minus. */
export function signed(value, digits) {
  if (!finite(value)) return MISSING;
  const text = minus(value.toFixed(digits));
  return value > 0 && Number(value.toFixed(digits)) !== 0 ? `+${text}` : text;
}

function minus(text) {
  return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−");
}

/** MACs with a unit: 938008832 as "938 M". */
export function macs(count) {
  if (!finite(count)) return MISSING;
  for (const [unit, size] of [["T", 1e12], ["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
    if (Math.abs(count) >= size) return `${(count / size).toPrecision(3)} ${unit}`;
  }
  return String(count);
}

/** Milliseconds, from a second on in seconds. */
export function milliseconds(ms) {
  if (!finite(ms)) return MISSING;
  if (Math.abs(ms) >= 999.5) return minus(`${(ms / 1000).toFixed(Math.abs(ms) < 10000 ? 2 : 1)} s`);
  if (Math.abs(ms) < 0.05) return "0 ms";
  return minus(`${Math.abs(ms) < 100 ? ms.toFixed(1) : ms.toFixed(0)} ms`);
}

/** A threshold without needless zeros. */
export function threshold(value) {
  return finite(value) ? String(Number(value.toFixed(4))) : MISSING;
}

export function fixed(value, digits) {
  return finite(value) ? minus(value.toFixed(digits)) : MISSING;
}

export function integer(value) {
  return finite(value) ? value.toLocaleString("en") : MISSING;
}

/** "Egyptian_cat" as "Egyptian cat". */
export function label(text) {
  return String(text).replaceAll("_", " ");
}

/** When something happened: the time today, else the date too. */
export function moment(iso) {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return MISSING;
  const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
  if (date.toDateString() === new Date().toDateString()) return time;
  return `${date.toLocaleDateString("en", { day: "numeric", month: "short", year: "numeric" })}, ${time}`;
}

const METRICS = {
  top1: { name: "Top-1", kind: "share" },
  top5: { name: "Top-5", kind: "share" },
  agreement: { name: "Agreement with exact", kind: "share" },
  psnr_y: { name: "PSNR", kind: "db" },
  ssim_y: { name: "SSIM", kind: "ssim" },
};

/** What a metric is called, and how its values and differences read. */
export function metric(key) {
  const { name, kind } = METRICS[key] ?? { name: key, kind: "plain" };
  if (kind === "share") return { name, value: percent, change: (v) => `${points(v)} points`, unit: "%", scale: 100 };
  if (kind === "db") return { name, value: (v) => `${fixed(v, 2)} dB`, change: (v) => `${signed(v, 3)} dB`, unit: "dB", scale: 1 };
  return { name, value: (v) => fixed(v, 4), change: (v) => signed(v, 4), unit: "", scale: 1 };
}

export const TASKS = { classify: "Classify", "super-resolve": "Enlarge 4×" };
