// A key for a session: the browser keeps a cookie that no script can read.

import { html, useState } from "./html.js";
import { Mark } from "./mark.js";
import { Problem } from "./notice.js";
import { call } from "./server.js";

export function Login({ onDone }) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const submit = async (event) => {
    event.preventDefault();
    const key = new FormData(event.currentTarget).get("key").trim();
    setBusy(true);
    try {
      await call("POST", "login", { key });
      onDone();
    } catch (refusal) {
      setProblem(refusal.message);
      setBusy(false);
    }
  };
  return html`
    <main class="gate">
      <${Mark} size=${52} />
      <h1>Sign in to the dashboard</h1>
      <form onSubmit=${submit}>
        <label>
          API key
          <input name="key" type="password" required autocomplete="current-password" autofocus spellcheck="false" />
        </label>
        <${Problem} text=${problem} />
        <button type="submit" disabled=${busy} aria-busy=${busy}>Sign in</button>
      </form>
      <p class="note">A key of role viewer or admin. An operator makes one with <code>ekiden keys</code>.</p>
    </main>`;
}

/** In place of everything, where this key or machine may not see the dashboard. */
export function Shut({ message, onLogout }) {
  return html`
    <main class="gate">
      <${Mark} size=${52} />
      <h1>Ekiden dashboard</h1>
      <p role="alert">${message}</p>
      <button type="button" class="quiet" onClick=${onLogout}>Use another key</button>
    </main>`;
}
