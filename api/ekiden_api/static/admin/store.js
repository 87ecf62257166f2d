// How the job store does.

import { bytes, number, span } from "./format.js";
import { html } from "./html.js";

export function Store({ store }) {
  if (!store) return null;
  const limit = store.memory_limit_bytes ? `of ${bytes(store.memory_limit_bytes)}` : "no limit";
  const facts = [
    ["Server", store.server],
    ["Up", span(store.uptime_s * 1000)],
    ["Memory", `${bytes(store.memory_bytes)}, ${limit}`],
    ["Most memory", bytes(store.memory_peak_bytes)],
    ["When full", store.policy === "noeviction" ? "refuses writes (noeviction)" : `evicts (${store.policy})`],
    ["Append-only file", aof(store)],
    ["Operations a second", number(store.ops_per_s)],
    ["Clients", number(store.clients)],
    ["Keys", number(store.keys)],
  ];
  return html`
    <section aria-labelledby="store-title">
      <h2 id="store-title">Job store</h2>
      <dl class="facts">
        ${facts.map(([title, value]) => html`<div key=${title}><dt>${title}</dt><dd>${value}</dd></div>`)}
      </dl>
    </section>`;
}

function aof({ aof: on, aof_ok: ok, fsync }) {
  if (!on) return "off";
  return ok ? `on, fsync ${fsync}` : "on, and its last write failed";
}
