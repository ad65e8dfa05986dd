// Tier documents as plain data: keyed by tier, compared, patched (RFC 7396). Touches no page.

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

const clone = (value) => structuredClone(value);

/** The document with `tiers` as an object by name and rules without empty keys: the form patches speak of. */
export function keyed(document) {
  const tiers = {};
  for (const { name, ...tier } of document.tiers) {
    const thresholds = {};
    for (const [task, rule] of Object.entries(tier.thresholds ?? {})) {
      const one = isObject(rule) ? rule : { threshold: rule };
      thresholds[task] = Object.fromEntries(Object.entries(one).filter(([, value]) => value !== null));
    }
    tiers[name] = { ...tier, thresholds };
  }
  return { ...clone(document), tiers };
}

/** The merge patch that leads from one document to another; empty where they are equal. */
export function difference(from, to) {
  const patch = {};
  for (const key of new Set([...Object.keys(from), ...Object.keys(to)])) {
    if (!(key in to)) patch[key] = null;
    else if (isObject(from[key]) && isObject(to[key])) {
      const inner = difference(from[key], to[key]);
      if (Object.keys(inner).length) patch[key] = inner;
    } else if (JSON.stringify(from[key]) !== JSON.stringify(to[key])) patch[key] = clone(to[key]);
  }
  return patch;
}

/** A document with a merge patch applied; tiers that the document no longer has are left out. */
export function patched(document, patch) {
  const result = merged(clone(document), patch);
  for (const name of Object.keys(result.tiers)) {
    if (!(name in document.tiers)) {
      delete result.tiers[name];
      continue;
    }
    for (const [task, rule] of Object.entries(result.tiers[name].thresholds)) {
      settle(rule, patch.tiers?.[name]?.thresholds?.[task]);
    }
  }
  return result;
}

function merged(target, patch) {
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete target[key];
    else if (isObject(value)) target[key] = merged(isObject(target[key]) ? target[key] : {}, value);
    else target[key] = clone(value);
  }
  return target;
}

/** A rule is a threshold or goals, never both: what the patch says wins. */
function settle(rule, patch) {
  if (!isObject(patch) || !("threshold" in rule)) return;
  const goals = Object.keys(rule).filter((key) => key !== "threshold" && key !== "max_active_share");
  if (typeof patch.threshold === "number") for (const goal of goals) delete rule[goal];
  else if (goals.length) delete rule.threshold;
}

/** Every value by its path: what lists of changes are made of. */
export function flat(value, path = "", into = new Map()) {
  if (isObject(value)) {
    for (const [key, inner] of Object.entries(value)) flat(inner, path ? `${path}.${key}` : key, into);
  } else into.set(path, value);
  return into;
}

/** [{path, from, to}] between two keyed documents; a side is undefined where the path is not there. */
export function changes(from, to) {
  const before = flat(from);
  const after = flat(to);
  return [...new Set([...before.keys(), ...after.keys()])]
    .filter((path) => JSON.stringify(before.get(path)) !== JSON.stringify(after.get(path)))
    .map((path) => ({ path, from: before.get(path), to: after.get(path) }));
}
