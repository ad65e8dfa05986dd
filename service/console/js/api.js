// The public API, answers checked and brought into one form.

import { secret } from "./credentials.js";
import { ask, askJson } from "./http.js";
import { PREFER, resultOf } from "./jobs.js";
import { Problem, notUnderstood } from "./problem.js";

const IMAGE_TYPES = new Set(["image/png", "image/webp", "image/jpeg"]);

/** {default, version, admin, tiers: [{name, description, models}]}, best tier first. */
export async function tiers() {
  const { body } = await askJson("v1/tiers");
  const sound = Array.isArray(body.tiers) && body.tiers.every((tier) => typeof tier?.name === "string" && tier.models);
  if (!sound || body.tiers.length === 0) throw notUnderstood("v1/tiers does not list tiers");
  return body;
}

/** By task, as the models' cards say: cells along a window's side, and whether the best one always runs. */
export async function windows() {
  const { body } = await askJson("v1/models");
  const models = Array.isArray(body.models) ? body.models : [];
  const told = (card) => ({ side: Number(card?.window) || null, keepBest: card?.architecture?.base_answers === 0 });
  return Object.fromEntries(models.map((model) => [model?.task, told(model?.card)]));
}

/** {ready, detail, slots}: a service that is not ready is an answer, not an error. */
export async function readiness() {
  try {
    const { body } = await askJson("readyz");
    return { state: "ready", detail: "", slots: Object.keys(body.slots ?? {}).length };
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    return { state: error.type === "unreachable" ? "away" : "waiting", detail: error.detail, slots: 0 };
  }
}

/**
 * Run one task on an image.
 * @param {string} task "classify" or "super-resolve"
 * @param {Blob} image what is sent
 * @param {{tier?: string, threshold?: number}} quality
 * @param {object} options `tiles` is told how many tiles of a large image are done, of how many
 */
export async function run(task, image, quality, { signal, format = "png", tiles = () => {} } = {}) {
  const { body, status } = await askJson(`v1/${task}?${queryOf(task, quality, format)}`, {
    method: "POST",
    body: image,
    signal,
    secret: secret("key"),
    headers: { "Content-Type": "application/octet-stream", Accept: "application/json", ...PREFER },
  });
  if (status !== 202) return answerOf(task, body);
  const result = await resultOf(body, { signal, secret: secret("key"), tiles });
  return answerOf(task, result.body);
}

/**
 * Run one task on several images in one request; each has its answer or the words of its problem.
 * @param {{name: string, blob: Blob}[]} images at least two, or one that is asked for alone
 */
export async function runSeveral(task, images, quality, { signal }) {
  if (images.length === 1) {
    try {
      return [{ answer: await run(task, images[0].blob, quality, { signal }), problem: null }];
    } catch (error) {
      if (!(error instanceof Problem) || error.passing) throw error;
      return [{ answer: null, problem: error.detail }];
    }
  }
  const form = new FormData();
  for (const { name, blob } of images) form.append("file", blob, name);
  const query = queryOf(task, quality, "png");
  const options = { method: "POST", body: form, signal, secret: secret("key"), headers: { Accept: "application/json" } };
  const { body } = await askJson(`v1/${task}?${query}`, options);
  if (!Array.isArray(body.images) || body.images.length !== images.length) throw notUnderstood("the answer does not tell of each image");
  return body.images.map(({ result, problem }) =>
    result ? { answer: answerOf(task, result), problem: null } : { answer: null, problem: String(problem?.detail ?? "failed") },
  );
}

function queryOf(task, quality, format) {
  const query = new URLSearchParams({ include: "importance" });
  if (quality.tier !== undefined) query.set("tier", quality.tier);
  else query.set("threshold", String(quality.threshold));
  if (task === "super-resolve") query.set("format", format);
  return query;
}

function answerOf(task, body) {
  const { macs, importance, timings_ms: timings } = body;
  if (![macs?.dense, macs?.executed, macs?.saved_ratio, body.threshold, body.active_share].every(Number.isFinite)) {
    throw notUnderstood("the answer does not say what it cost");
  }
  return {
    task,
    tier: String(body.tier),
    effective: String(body.tier_effective ?? body.tier),
    threshold: body.threshold,
    activeShare: body.active_share,
    dense: macs.dense,
    executed: macs.executed,
    saved: macs.saved_ratio,
    timings: timings && typeof timings === "object" ? timings : {},
    model: `${body.model?.name ?? ""} ${body.model?.version ?? ""}`.trim(),
    version: body.config_version,
    requestId: body.request_id,
    map: mapOf(importance),
    predictions: task === "classify" ? predictionsOf(body.predictions) : null,
    image: task === "super-resolve" ? imageOf(body.image) : null,
  };
}

function mapOf(importance) {
  const { height, width, values } = importance ?? {};
  if (!(height > 0 && width > 0 && Array.isArray(values) && values.length === height)) {
    throw notUnderstood("the answer has no importance map");
  }
  const cells = new Float32Array(height * width);
  values.forEach((row, y) => cells.set(row.slice(0, width), y * width));
  return { height, width, values: cells };
}

function predictionsOf(predictions) {
  if (!Array.isArray(predictions)) throw notUnderstood("the answer names no classes");
  return predictions.map((one) => ({ index: one.index, label: String(one.label), probability: Number(one.probability) || 0 }));
}

function imageOf(image) {
  if (typeof image?.base64 !== "string" || !IMAGE_TYPES.has(image.media_type)) throw notUnderstood("the answer holds no image");
  const text = atob(image.base64);
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at += 1) bytes[at] = text.charCodeAt(at);
  return { blob: new Blob([bytes], { type: image.media_type }), type: image.media_type, width: image.width, height: image.height };
}

/** A sample photo that came with the page. */
export async function sample(name) {
  const url = new URL(`../samples/${name}`, import.meta.url);
  return (await ask(url.href, { cache: "default" })).blob();
}
