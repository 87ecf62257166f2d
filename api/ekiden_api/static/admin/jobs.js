// The list of jobs: filtered and paged by the server, live, and with what can be done with many at once.

import { ViewerNote } from "./act.js";
import { Bulk } from "./bulk.js";
import { age, number, shortId, span } from "./format.js";
import { html, useEffect, useState } from "./html.js";
import { Filter, filterOf } from "./job_filter.js";
import { useJobPage } from "./job_page.js";
import { phases, PhaseBar, StateChip } from "./job_words.js";
import { useNow } from "./live.js";
import { Problem } from "./notice.js";
import { address } from "./route.js";
import { Head } from "./table.js";
import { useWorkerNames } from "./worker_names.js";

const COLUMNS = [
  "State", "Job", "User", "Model", ["Priority", "figure"], "Worker", ["Attempts", "figure"], ["Tokens", "figure"],
  ["Age", "figure"], "Queue, prefill, decode",
];

export function Jobs({ me, query }) {
  const filter = filterOf(query);
  const key = JSON.stringify(filter);
  const page = useJobPage(filter, query.cursor ?? null);
  const [chosen, setChosen] = useState(new Set());
  useEffect(() => setChosen(new Set()), [key, query.cursor]);
  const choosable = me.role === "admin";
  return html`
    <h1 tabindex="-1">Jobs</h1>
    <${Filter} filter=${filter} />
    ${choosable && html`
      <${Bulk} key=${key} filter=${filter} jobs=${page.jobs ?? []} chosen=${chosen} onChosen=${setChosen} />`}
    <${ViewerNote} me=${me} />
    <${Problem} text=${page.problem} />
    <${Table} page=${page} chosen=${chosen} onChosen=${setChosen} choosable=${choosable} />
    <${Pager} page=${page} />`;
}

function Table({ page, chosen, onChosen, choosable }) {
  const now = useNow();
  const names = useWorkerNames();
  const { jobs } = page;
  if (jobs === null) return html`<p class="note" aria-busy="true">Looking for jobs…</p>`;
  const all = jobs.length > 0 && jobs.every(({ id }) => chosen.has(id));
  const chooseAll = () => onChosen(new Set(all ? [] : jobs.map(({ id }) => id)));
  const choose = (id) => {
    const next = new Set(chosen);
    if (!next.delete(id)) next.add(id);
    onChosen(next);
  };
  return html`
    <table class="cards jobs" aria-busy=${page.loading}>
      <caption class="unseen">Jobs, the newest first</caption>
      <${Head} columns=${COLUMNS} before=${choosable && html`
        <th scope="col" class="choose">
          <input type="checkbox" aria-label="Choose all on this page" checked=${all} onChange=${chooseAll} />
        </th>`} />
      <tbody>
        ${jobs.map((job) => html`
          <${Row} key=${job.id} job=${job} now=${now} worker=${names(job.worker, job.worker_name)} choosable=${choosable}
            chosen=${chosen.has(job.id)} onChoose=${choose} />`)}
      </tbody>
    </table>
    ${!jobs.length && html`<p class="note empty">${page.searching ? "Searching older jobs…" : "No job matches."}</p>`}`;
}

function Row({ job, now, worker, choosable, chosen, onChoose }) {
  const whole = phases(job, now).reduce((sum, [, ms]) => sum + ms, 0);
  return html`
    <tr data-job=${job.id} data-state=${job.state}>
      ${choosable && html`
        <td class="choose">
          <input type="checkbox" aria-label=${`Choose job ${shortId(job.id)}`} checked=${chosen}
            onChange=${() => onChoose(job.id)} />
        </td>`}
      <td class="state"><${StateChip} job=${job} /></td>
      <th scope="row"><a href=${address(`jobs/${job.id}`)}><code>${shortId(job.id)}</code></a></th>
      <td data-label="User">${job.user || html`<span class="note">anonymous</span>`}</td>
      <td data-label="Model" class="long">${job.model}</td>
      <td data-label="Priority" class="figure">${job.priority}</td>
      <td data-label="Worker" class=${worker.gone ? "long gone" : "long"} title=${worker.title}>${worker.text}</td>
      <td data-label="Attempts" class="figure">${job.attempt}</td>
      <td data-label="Tokens" class="figure">${number(job.cursor)}</td>
      <td data-label="Age" class="figure">${age(now - job.created_ms)}</td>
      <td class="time"><${PhaseBar} job=${job} now=${now} /><span class="whole">${span(whole)}</span></td>
    </tr>`;
}

function Pager({ page }) {
  const { newer, older, jobs, searching, moreSearch } = page;
  if (jobs === null) return null;
  return html`
    <nav class="pager" aria-label="Pages of jobs">
      <button type="button" class="quiet" disabled=${!newer} onClick=${newer}>Newer</button>
      <p class="note" role="status">
        ${searching && "The search goes on in older jobs…"}
        ${!searching && moreSearch && "The search has not seen all older jobs yet."}
      </p>
      <button type="button" class="quiet" disabled=${!older} onClick=${older}>
        ${moreSearch ? "Search on" : "Older"}
      </button>
    </nav>`;
}
