// The HTTP side of the admin API.

const PATIENCE_MS = 15_000;

/** What was answered in place of a result; `code` is null when nothing answered. */
export class Refusal extends Error {
  constructor({ code = null, message = "The server does not answer; try again." } = {}) {
    super(message);
    this.code = code;
  }
}

/** What follows a call that is refused for want of a session. */
export const session = { onLost: () => {} };

/** The body of the answer to a call of /admin/api. Throws Refusal. */
export async function call(method, path, body = null) {
  const options = { method, cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) };
  // Without a body too: this is what no form of another page can send.
  if (method !== "GET") options.headers = { "Content-Type": "application/json" };
  if (body) options.body = JSON.stringify(body);
  let response;
  let answer = null;
  try {
    response = await fetch(`/admin/api/${path}`, options);
    if (response.status !== 204) answer = await response.json();
  } catch {
    throw new Refusal(); // away, or something else answered in its place
  }
  if (response.ok) return answer;
  const refusal = new Refusal(answer?.error);
  if (refusal.code === "unauthorized" && path !== "login" && path !== "me") session.onLost();
  throw refusal;
}

/** A path with parameters; those without a value are left out. */
export function withQuery(path, query) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}
