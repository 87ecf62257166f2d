// The chaos drill: kills a worker now, and counts what became of its jobs.

import { ConfirmDialog } from "./dialog.js";
import { count, moment, number, shortId, span } from "./format.js";
import { html } from "./html.js";
import { StateChip } from "./job_words.js";
import { useTopic, useWatch } from "./live.js";
import { Problem, say } from "./notice.js";
import { address } from "./route.js";
import { call } from "./server.js";
import { Head } from "./table.js";

export function DrillNote({ me }) {
  if (me.chaos_drills || me.role !== "admin") return null;
  return html`
    <p class="note">
      Chaos drills are off. With <code>EKIDEN_CHAOS_DRILLS=true</code> for API and workers, a worker can be killed from
      here.
    </p>`;
}

export function KillDialog({ worker, onClose }) {
  const name = `${worker.host}:${worker.pid}`;
  const confirm = async () => {
    await call("POST", "drills", { worker: worker.incarnation });
    say(`${name} is killed; the scorecard shows what becomes of its jobs.`);
    document.getElementById("drills-title")?.scrollIntoView({ block: "start" });
  };
  return html`
    <${ConfirmDialog} title=${`Kill ${name} now?`} confirm="Kill it now" onConfirm=${confirm} onClose=${onClose}>
      <p>
        Its process gets <code>kill -9</code>, with ${count(worker.running, "job")} under way. What it had goes on
        elsewhere, or waits for a worker where there is none. A supervisor starts the worker again; without one it stays
        away.
      </p>
    </${ConfirmDialog}>`;
}

export function Drills() {
  useWatch("drills", true);
  const { data, error } = useTopic("drills");
  const drills = data?.drills ?? [];
  const [newest, ...older] = drills;
  return html`
    <section aria-labelledby="drills-title">
      <h2 id="drills-title">Chaos drills</h2>
      <${Problem} text=${error?.message} />
      ${!newest && html`<p class="note">No worker was killed from here yet.</p>`}
      ${newest && html`<${Scorecard} key=${newest.id} drill=${newest} />`}
      ${older.length > 0 && html`<${Older} drills=${older} />`}
    </section>`;
}

function Scorecard({ drill }) {
  const scores = [
    ["jobs", "Under way", number(drill.jobs)],
    ["moved", "Moved", number(drill.moved)],
    ["ended", "Ended", number(drill.ended)],
    ["waiting", "Waiting", number(drill.waiting)],
    ["stall_p50", "Stall, p50", span(drill.stall_p50_ms)],
    ["stall_max", "Stall, longest", span(drill.stall_max_ms)],
    ["lost", "Lost", number(drill.lost)],
  ];
  return html`
    <article class="scorecard" data-drill=${drill.id} data-ended=${drill.ended_ms !== null}
      aria-label="Survival scorecard">
      <p><b>${drill.name}</b> was killed at ${moment(drill.started_ms)}${drill.by && ` by ${drill.by}`}.
        ${" "}<span role="status">${verdict(drill)}</span></p>
      <dl class="tiles">
        ${scores.map(([id, title, value]) => html`
          <div key=${id} data-score=${id} data-alarm=${id === "lost" && drill.lost > 0}
            data-good=${id === "lost" && drill.lost === 0}>
            <dt>${title}</dt><dd class="figure">${value}</dd>
          </div>`)}
      </dl>
      ${drill.rows.length > 0 && html`<${Rows} rows=${drill.rows} />`}
    </article>`;
}

function verdict({ ended_ms, jobs, lost, waiting }) {
  if (ended_ms === null) return waiting ? `${count(waiting, "job")} without the next token yet.` : "The drill goes on.";
  if (lost) return `${count(lost, "job")} lost.`;
  return jobs ? "Every job survived." : "It had no jobs.";
}

function Rows({ rows }) {
  return html`
    <details>
      <summary>Job by job</summary>
      <div class="scroll" tabindex="0" role="region" aria-label="The killed worker's jobs">
        <table>
          <caption class="unseen">The killed worker's jobs</caption>
          <${Head} columns=${["Job", "State", ["Tokens when killed", "figure"], ["Stall", "figure"],
            ["Attempt", "figure"]]} />
          <tbody>
            ${rows.map((row) => html`
              <tr key=${row.job}>
                <th scope="row"><a href=${address(`jobs/${row.job}`)}><code>${shortId(row.job)}</code></a></th>
                <td><${StateChip} job=${row} /></td>
                <td class="figure">${number(row.tokens)}</td>
                <td class="figure">${span(row.stall_ms)}</td>
                <td class="figure">${number(row.attempt)}</td>
              </tr>`)}
          </tbody>
        </table>
      </div>
    </details>`;
}

function Older({ drills }) {
  return html`
    <h3>Earlier drills</h3>
    <table class="cards">
      <caption class="unseen">Earlier drills</caption>
      <${Head} columns=${["Killed", "Worker", ["Jobs", "figure"], ["Moved", "figure"], ["Longest stall", "figure"],
        ["Lost", "figure"]]} />
      <tbody>
        ${drills.map((drill) => html`
          <tr key=${drill.id} data-drill=${drill.id}>
            <th scope="row">${moment(drill.started_ms)}</th>
            <td data-label="Worker">${drill.name}</td>
            <td data-label="Jobs" class="figure">${number(drill.jobs)}</td>
            <td data-label="Moved" class="figure">${number(drill.moved)}</td>
            <td data-label="Longest stall" class="figure">${span(drill.stall_max_ms)}</td>
            <td data-label="Lost" class="figure">${number(drill.lost)}</td>
          </tr>`)}
      </tbody>
    </table>`;
}
