// What was done, and by whom. The newest entries are live; older ones are read page by page.

import { useAct } from "./act.js";
import { moment, NONE, shortId } from "./format.js";
import { html, useState } from "./html.js";
import { ACTIONS } from "./job_words.js";
import { useTopic, useWatch } from "./live.js";
import { Problem } from "./notice.js";
import { address } from "./route.js";
import { call, withQuery } from "./server.js";
import { Head } from "./table.js";
import { useWorkerNames } from "./worker_names.js";

const LIMIT = 50;
const OF_WORKERS = ["drain", "undrain", "kill"];

export function Audit() {
  useWatch("audit", true);
  const { data, error } = useTopic("audit");
  const [older, setOlder] = useState({ entries: [], next: null, begun: false });
  const { busy, problem, act } = useAct();
  const known = new Set((data?.entries ?? []).map(({ id }) => id));
  const entries = [...(data?.entries ?? []), ...older.entries.filter(({ id }) => !known.has(id))];
  const next = older.begun ? older.next : data?.next ?? null;
  const more = () => act(async () => {
    // What was at the end of the live page moves out of it as entries come, so the first page beyond begins with that.
    const page = await call("GET", withQuery("audit", { limit: LIMIT, cursor: next }));
    setOlder(({ entries: before }) => ({
      entries: [...(before.length ? before : data.entries), ...page.entries], next: page.next, begun: true }));
    return `${page.entries.length} older entries.`;
  });
  return html`
    <h1 tabindex="-1">Audit</h1>
    <p class="note">
      Everything that was done here, over the API and by <code>ekiden keys</code>; the last 10,000 entries.
    </p>
    <${Problem} text=${error?.message} />
    ${!data && !error && html`<p class="note">Reading the audit log…</p>`}
    ${data && !entries.length && html`<p class="note empty">Nothing was done yet.</p>`}
    ${entries.length > 0 && html`<${Table} entries=${entries} />`}
    <${Problem} text=${problem} />
    ${next !== null && html`<button type="button" class="quiet" disabled=${busy} onClick=${more}>Older</button>`}`;
}

function Table({ entries }) {
  const workerName = useWorkerNames();
  return html`
    <table class="cards audit">
      <caption class="unseen">What was done, the newest first</caption>
      <${Head} columns=${["When", "Who", "Did", "To", "Detail", "Outcome"]} />
      <tbody>
        ${entries.map((entry) => html`
          <tr key=${entry.id} data-entry=${entry.id}>
            <th scope="row">${moment(entry.at_ms)}</th>
            <td data-label="Who">${entry.user || "anonymous"}${entry.key && html` <code>${entry.key}</code>`}</td>
            <td data-label="Did">${entry.action.replaceAll("_", " ")}</td>
            <td data-label="To" class="long"><${Target} entry=${entry} workerName=${workerName} /></td>
            <td data-label="Detail" class="long">${entry.detail || NONE}</td>
            <td data-label="Outcome">${entry.outcome}</td>
          </tr>`)}
      </tbody>
    </table>`;
}

function Target({ entry: { action, target }, workerName }) {
  if (action in ACTIONS) return html`<a href=${address(`jobs/${target}`)}><code>${shortId(target)}</code></a>`;
  return OF_WORKERS.includes(action) ? workerName(target) : target || NONE;
}
