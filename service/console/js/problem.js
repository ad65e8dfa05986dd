// Everything that can go wrong with a request, as one kind of error with the service's own words.

export class Problem extends Error {
  constructor({ type, title, detail, help = "", status = 0, errors = [], retryAfter = null, requestId = "", extra = {} }) {
    super(detail);
    Object.assign(this, { name: "Problem", type, title, detail, help, status, errors, retryAfter, requestId, extra });
  }

  /** Whether the same request may well succeed a little later. */
  get passing() {
    return this.type === "unreachable" || this.status === 503 || this.status === 429 || this.status === 502;
  }
}

export const unreachable = () =>
  new Problem({ type: "unreachable", title: "The service cannot be reached", detail: "the service does not answer; it may be restarting" });

export const notUnderstood = (what) =>
  new Problem({ type: "not-understood", title: "An answer this page does not understand", detail: what });

function seconds(value) {
  const number = Number(value);
  return value !== null && value !== "" && Number.isFinite(number) ? Math.min(300, Math.max(0, number)) : null;
}

/** The problem an answer states (RFC 9457), or the best that can be said of any other failure. */
export async function problemOf(response) {
  const retryAfter = seconds(response.headers.get("retry-after"));
  let body = null;
  try {
    body = await response.json();
  } catch {
    // Something between us and the service answered.
  }
  if (body === null || typeof body !== "object" || typeof body.detail !== "string") {
    return new Problem({
      type: `http-${response.status}`,
      title: `The answer was HTTP ${response.status}`,
      detail: `the answer was HTTP ${response.status} ${response.statusText}`.trim(),
      status: response.status,
      retryAfter,
    });
  }
  const { type, title, detail, help, errors, request_id: requestId, ...extra } = body;
  return new Problem({
    type: String(type ?? "about:blank"),
    title: String(title ?? `HTTP ${response.status}`),
    detail,
    help: typeof help === "string" ? help : "",
    status: response.status,
    errors: Array.isArray(errors) ? errors.filter((one) => one && typeof one === "object") : [],
    retryAfter,
    requestId: String(requestId ?? ""),
    extra,
  });
}
