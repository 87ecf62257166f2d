// What may be done with one job now.

import { useAct } from "./act.js";
import { ConfirmDialog } from "./dialog.js";
import { shortId } from "./format.js";
import { html, useState } from "./html.js";
import { ACTIONS } from "./job_words.js";
import { Problem, say } from "./notice.js";
import { PriorityInput } from "./priority.js";
import { address } from "./route.js";
import { call } from "./server.js";

const SAID = {
  cancel: (runs) => (runs ? "Cancel requested; the worker ends it at its next token." : "The job is cancelled."),
  park: (runs) => (runs ? "Park requested; the worker holds it at its next token." : "The job is parked."),
  resume: () => "The job goes on.",
};

export function JobActions({ job, me }) {
  const { busy, problem, act } = useAct();
  const [asksPriority, setAsksPriority] = useState(false);
  if (me.role !== "admin") return null;
  const path = `jobs/${encodeURIComponent(job.id)}`;
  const run = (action) => act(async () => {
    const answer = await call("POST", `${path}/${action}`);
    if (!answer.job) return SAID[action](answer.state === "running");
    location.hash = address(`jobs/${answer.job}`);
    return `Asked again as job ${shortId(answer.job)}.`;
  });
  const fitting = Object.entries(ACTIONS).filter(([, { fits }]) => fits(job));
  if (!fitting.length && !problem) return null;
  return html`
    <section class="act" aria-label="Act on this job">
      <div class="buttons">
        ${fitting.map(([action, { word }]) => html`
          <button key=${action} type="button" class=${action === "cancel" ? "small" : "quiet small"} disabled=${busy}
            onClick=${() => (action === "priority" ? setAsksPriority(true) : run(action))}>${word}</button>`)}
        ${job.asked === "cancel" && html`<button type="button" class="small" disabled>Cancel requested</button>`}
      </div>
      <${Problem} text=${problem} />
      ${asksPriority && html`<${Priority} job=${job} path=${path} onClose=${() => setAsksPriority(false)} />`}
    </section>`;
}

function Priority({ job, path, onClose }) {
  const [value, setValue] = useState(String(job.priority));
  const confirm = async () => {
    await call("POST", `${path}/priority`, { priority: Number(value) });
    say(`The job has priority ${value}.`);
  };
  return html`
    <${ConfirmDialog} title="Another priority" confirm="Set the priority" onConfirm=${confirm} onClose=${onClose}>
      <p>It counts where the job waits: now, or when it comes back to the queue.</p>
      <${PriorityInput} value=${value} onValue=${setValue} />
    </${ConfirmDialog}>`;
}
