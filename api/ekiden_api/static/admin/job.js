// One job, whole.

import { ViewerNote } from "./act.js";
import { Answer } from "./answer.js";
import { Attempts } from "./attempts.js";
import { age, moment, NONE, number, span } from "./format.js";
import { html } from "./html.js";
import { JobActions } from "./job_actions.js";
import { isOpen, PhaseBar, StateChip } from "./job_words.js";
import { useNow, useTopic, useWatch } from "./live.js";
import { Problem } from "./notice.js";
import { Replay } from "./replay.js";
import { address } from "./route.js";

const NOT_FOUND = "There is no such job, or it is not kept any more.";

export function Job({ me, id }) {
  useWatch("job", id);
  const { data, error } = useTopic("job");
  const job = data?.id === id ? data : null;
  return html`
    <p class="back"><a href=${address("jobs")}>All jobs</a></p>
    <h1 tabindex="-1">Job <code>${id}</code></h1>
    <${Problem} text=${error?.code === "job_not_found" ? NOT_FOUND : error?.message} />
    ${!job && !error && html`<p class="note">Reading the job…</p>`}
    ${job && html`<${Found} job=${job} me=${me} />`}`;
}

function Found({ job, me }) {
  const now = useNow();
  return html`
    <div class="headline">
      <${StateChip} job=${job} />
      <span>${headline(job, now)}</span>
    </div>
    ${job.error_message && html`<p class="failure">${job.error_message}</p>`}
    <${JobActions} job=${job} me=${me} />
    <${ViewerNote} me=${me} />
    <section aria-labelledby="time-title">
      <h2 id="time-title">Time</h2>
      <${PhaseBar} job=${job} now=${now} legend />
    </section>
    <${Attempts} job=${job} />
    <${Facts} job=${job} now=${now} />
    <${Answer} job=${job} />
    <${Replay} job=${job} />`;
}

function headline(job, now) {
  if (job.asked) return `The worker was asked to ${job.asked} it and has not said yet that it did.`;
  if (job.state === "queued") return `At place ${number(job.position)} of the queue for ${age(now - job.created_ms)}.`;
  if (job.state === "running") return `${number(job.cursor)} tokens so far, asked ${age(now - job.created_ms)} ago.`;
  if (job.state === "parked") return `Held at ${number(job.cursor)} tokens until it is resumed.`;
  const why = job.finish_reason ? ` (${job.finish_reason})` : "";
  return `Ended at ${moment(job.ended_ms)}${why} with ${number(job.cursor)} tokens.`;
}

function Facts({ job, now }) {
  const { usage, timings, params } = job;
  return html`
    <div class="columns">
      <${List} title="About it" facts=${about(job, now)} />
      <${List} title="Usage and timings" facts=${[
        ["Prompt tokens", number(usage?.prompt_tokens)],
        ["of them from the cache", number(usage?.cached_tokens)],
        ["Generated tokens", number(usage?.completion_tokens)],
        ["Tokenized again", number(usage?.retokenized_tokens)],
        ["In the queue", span(timings?.queue_ms)],
        ["To the first token", span(timings?.ttft_ms)],
        ["In all", span(timings?.total_ms)],
      ]} />
      <${List} title="Parameters" none="Its request is not kept any more."
        facts=${params && Object.entries(params).map(([name, value]) => [name, paramWord(value), true])} />
    </div>`;
}

function about(job, now) {
  const facts = [
    ["User", job.user || "anonymous"],
    ["Model", job.model],
    ["Priority", job.priority],
    ["Attempts", job.attempt],
    ["Deaths in a row", job.deaths],
    ["Created", moment(job.created_ms)],
    ["When nobody watches", job.on_disconnect],
  ];
  if (isOpen(job)) facts.push(["Watched by", `${number(job.watchers)} API process${job.watchers === 1 ? "" : "es"}`]);
  if (job.conversation) facts.push(["Conversation", job.conversation]);
  if (job.retry_of) facts.push(["Asks again", html`<a href=${address(`jobs/${job.retry_of}`)}>${job.retry_of}</a>`]);
  if (job.abandon_ms && isOpen(job)) facts.push(["Is given up in", span(job.abandon_ms - now)]);
  return facts;
}

function paramWord(value) {
  if (value === null || value === undefined) return NONE;
  return Array.isArray(value) ? value.map((item) => JSON.stringify(item)).join(" ") || NONE : String(value);
}

function List({ title, facts, none = "" }) {
  return html`
    <section aria-label=${title}>
      <h2>${title}</h2>
      ${!facts && html`<p class="note">${none}</p>`}
      ${facts && html`
        <dl class="pairs">
          ${facts.map(([name, value, code]) => html`
            <div key=${name}><dt>${code ? html`<code>${name}</code>` : name}</dt><dd>${value}</dd></div>`)}
        </dl>`}
    </section>`;
}
