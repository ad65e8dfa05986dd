// Secrets live in sessionStorage: in this tab, until it closes. Nowhere else.

const NAMES = { token: "pixeltier.admin-token", key: "pixeltier.api-key" };

const memory = new Map();

/** `token` opens the admin API, `key` is the API key of requests. */
export function secret(name) {
  try {
    return sessionStorage.getItem(NAMES[name]) ?? "";
  } catch {
    return memory.get(name) ?? "";
  }
}

export function keepSecret(name, value) {
  const clean = value.trim();
  try {
    if (clean) sessionStorage.setItem(NAMES[name], clean);
    else sessionStorage.removeItem(NAMES[name]);
  } catch {
    memory.set(name, clean);
  }
}
