/** What the server answered in place of a result; `code` is null when nothing answered. */
class Refusal extends Error {
  constructor({ code = null, message = "The server does not answer.", retryable = true } = {}) {
    super(message);
    Object.assign(this, { code, retryable });
  }
}

/** The HTTP side of the contract. */
class Server {
  key = "";

  /** The body of the answer. Throws Refusal. */
  async call(method, path, body = null) {
    const headers = this.key ? { Authorization: `Bearer ${this.key}` } : {};
    const options = { method, headers, cache: "no-store", signal: AbortSignal.timeout(SILENCE_MS) };
    if (body) Object.assign(options, { body: JSON.stringify(body) });
    let response, answer;
    try {
      response = await fetch(path, options);
      answer = await response.json();
    } catch {
      throw new Refusal(); // away, or something else answered in its place
    }
    if (!response.ok) throw new Refusal(answer?.error);
    return answer;
  }
}
