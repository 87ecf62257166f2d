// The workers, and what may be done with one.

import { ViewerNote } from "./act.js";
import { DrillNote, Drills } from "./drill.js";
import { count } from "./format.js";
import { html } from "./html.js";
import { useNow, useTopic } from "./live.js";
import { Problem } from "./notice.js";
import { WorkerCard } from "./worker_card.js";

export function Workers({ me }) {
  const { data, error } = useTopic("overview");
  const now = useNow();
  const workers = data?.workers;
  return html`
    <h1 tabindex="-1">Workers</h1>
    <${Problem} text=${error?.message} />
    ${!data && !error && html`<p class="note">Asking the job store…</p>`}
    ${workers && html`
      <p class="note">
        ${count(workers.length, "worker")} with a valid lease. One that dies is gone from here within seconds, and its
        jobs move.
      </p>
      <${ViewerNote} me=${me} />
      <${DrillNote} me=${me} />
      <div class="workers">
        ${workers.map((worker) => html`
          <${WorkerCard} key=${worker.incarnation} worker=${worker} now=${now} me=${me} />`)}
      </div>`}
    <${Drills} />`;
}
