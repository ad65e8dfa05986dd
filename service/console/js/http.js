// One way to ask the service: relative to the page, so that it works below any prefix.

import { Problem, notUnderstood, problemOf, unreachable } from "./problem.js";

/** Answer a request or throw a Problem; an abort passes through as AbortError. */
export async function ask(path, { secret = "", headers = {}, ...options } = {}) {
  const sent = new Headers(headers);
  if (secret) {
    try {
      sent.set("Authorization", `Bearer ${secret}`);
    } catch {
      throw new Problem({ type: "unauthorized", title: "No valid credentials", detail: "this token has characters that cannot be sent", status: 401 });
    }
  }
  let response;
  try {
    response = await fetch(path, { cache: "no-store", credentials: "omit", ...options, headers: sent });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw unreachable();
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

/** The same for JSON objects; gives the object, and the answer's status and headers. */
export async function askJson(path, options) {
  const response = await ask(path, options);
  let body;
  try {
    body = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (error instanceof TypeError) throw unreachable();
    throw notUnderstood(`${path} did not answer with JSON`);
  }
  if (body === null || typeof body !== "object") throw notUnderstood(`${path} did not answer with an object`);
  return { body, status: response.status, headers: response.headers };
}
