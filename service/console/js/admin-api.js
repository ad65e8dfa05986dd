// The operator's API (docs/admin-api.md). Every call carries the token.

import { secret } from "./credentials.js";
import { askJson } from "./http.js";
import { notUnderstood } from "./problem.js";

const ROOT = "admin/v1";

function call(path, { method = "GET", body, version, type = "application/json" } = {}) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = type;
  if (version !== undefined) headers["If-Match"] = `"${version}"`;
  return askJson(`${ROOT}/${path}`, { method, headers, secret: secret("token"), body: body === undefined ? undefined : JSON.stringify(body) }).then(({ body: answer }) => answer);
}

function tableOf(answer) {
  const sound = Number.isInteger(answer.version) && Array.isArray(answer.document?.tiers) && Array.isArray(answer.tiers);
  if (!sound) throw notUnderstood("admin/v1/tiers did not answer with a table");
  return { ...answer, curves: answer.curves ?? {} };
}

export const table = async () => tableOf(await call("tiers"));

/** Put a merge patch in force, if `version` still is. */
export const patch = async (changes, reason, version) =>
  tableOf(await call("tiers", { method: "PATCH", body: { ...changes, reason }, version, type: "application/merge-patch+json" }));

export const dryRun = (changes) => call("tiers:dry-run", { method: "POST", body: { patch: changes } });

export const rollback = async (to, reason, version) => tableOf(await call("tiers:rollback", { method: "POST", body: { version: to, ...(reason ? { reason } : {}) }, version }));

export const versions = async (limit, before) => {
  const answer = await call(`versions?limit=${limit}${before ? `&before=${before}` : ""}`);
  if (!Array.isArray(answer.versions)) throw notUnderstood("admin/v1/versions did not answer with versions");
  return answer;
};

export const version = (number) => call(`versions/${number}`);

export const audit = async (limit, before) => (await call(`audit?limit=${limit}${before ? `&before=${before}` : ""}`)).entries ?? [];

export const live = (seconds) => call(`live?seconds=${seconds}`);
