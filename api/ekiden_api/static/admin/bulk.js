// What is done with many jobs at once: with the chosen ones, or with all that match, counted by the server before.

import { ConfirmDialog } from "./dialog.js";
import { count } from "./format.js";
import { html, useState } from "./html.js";
import { filterWords } from "./job_filter.js";
import { ACTIONS } from "./job_words.js";
import { Problem, say } from "./notice.js";
import { PriorityInput } from "./priority.js";
import { call } from "./server.js";

const AT_ONCE = 4;

export function Bulk({ filter, jobs, chosen, onChosen }) {
  const [all, setAll] = useState(false);
  const [asked, setAsked] = useState(null); // { action, count, fits }, and the jobs or what confirms the count
  const [problem, setProblem] = useState("");
  const selected = jobs.filter(({ id }) => chosen.has(id));
  const ask = async (action) => {
    setProblem("");
    if (!all) {
      const jobs = selected.filter(ACTIONS[action].fits);
      return setAsked({ action, jobs, count: selected.length, fits: jobs.length });
    }
    try {
      const priority = action === "priority" ? 0 : null;
      setAsked({ action, ...(await call("POST", "bulk", { action, filter: filter, priority, confirm: null })) });
    } catch (refusal) {
      setProblem(refusal.message);
    }
  };
  const fitting = (action) => all || selected.some(ACTIONS[action].fits);
  return html`
    <section class="bulk" aria-label="Act on many jobs">
      <p role="status">${all ? "All chosen" : `${count(selected.length, "job")} chosen`}</p>
      <label class="inline">
        <input type="checkbox" role="switch" checked=${all} onChange=${() => setAll(!all)} /> All that match the filter
      </label>
      <div class="buttons">
        ${Object.entries(ACTIONS).map(([action, { word }]) => html`
          <button key=${action} type="button" class="quiet small" disabled=${!fitting(action)}
            onClick=${() => ask(action)}>${word}</button>`)}
      </div>
      <${Problem} text=${problem} />
      ${asked && html`
        <${Ask} asked=${asked} filter=${filter} onClose=${() => setAsked(null)} onDone=${() => onChosen(new Set())} />`}
    </section>`;
}

function Ask({ asked, filter, onClose, onDone }) {
  const { action, jobs, fits } = asked;
  const [priority, setPriority] = useState(action === "priority" ? "0" : null);
  const plain = ACTIONS[action].word.replace("…", "");
  const these = count(fits, "job");
  const rest = asked.count - fits;
  const confirm = async () => {
    const given = priority === null ? null : Number(priority);
    const { acted, skipped, why } = jobs
      ? await actOnEach(action, jobs, given)
      : await call("POST", "bulk", { action, filter: filter, priority: given, confirm: asked.confirm });
    const left = skipped ? `; ${skipped} left as they were` : "";
    say(`${plain} sent to ${count(acted, "job")}${left}.${why ? ` ${why}` : ""}`);
    onDone();
  };
  return html`
    <${ConfirmDialog} title=${priority === null ? `${plain} ${these}?` : `Another priority for ${these}?`}
      confirm=${priority === null ? `${plain} ${these}` : "Set the priority"} ready=${fits > 0} onConfirm=${confirm}
      onClose=${onClose}>
      <p>${jobs ? "The jobs that are chosen on this page." : `The jobs that match now: ${filterWords(filter)}.`}</p>
      ${rest > 0 && html`
        <p class="note">
          Of the ${count(asked.count, "job")}, ${rest} ${rest === 1 ? "is" : "are"} in a state that this does not fit, and
          left out.
        </p>`}
      ${priority !== null && html`<${PriorityInput} value=${priority} onValue=${setPriority} />`}
    </${ConfirmDialog}>`;
}

/** One call a job, a few at a time. */
async function actOnEach(action, jobs, priority) {
  const left = [...jobs];
  const outcome = { acted: 0, skipped: 0, why: "" };
  const work = async () => {
    for (let job = left.shift(); job; job = left.shift()) {
      try {
        await call("POST", `jobs/${encodeURIComponent(job.id)}/${action}`, priority === null ? null : { priority });
        outcome.acted++;
      } catch (refusal) {
        outcome.skipped++;
        outcome.why = refusal.message;
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return outcome;
}
