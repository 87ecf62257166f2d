// What the page says of a job, and what may be done with one.

import { html } from "./html.js";
import { span } from "./format.js";

export const STATES = ["queued", "running", "parked", "done", "cancelled", "error"];

/** Each action: its word, and which jobs it is for. */
export const ACTIONS = {
  cancel: { word: "Cancel", fits: (job) => isOpen(job) && job.asked !== "cancel" },
  park: { word: "Park", fits: ({ state, asked }) => ["queued", "running"].includes(state) && !asked },
  resume: { word: "Resume", fits: ({ state }) => state === "parked" },
  priority: { word: "Priority…", fits: (job) => isOpen(job) },
  retry: { word: "Retry", fits: (job) => job.state === "cancelled" || (job.state === "error" && !isPoison(job)) },
  requeue: { word: "Requeue", fits: isPoison },
};

export function isOpen({ state }) {
  return ["queued", "running", "parked"].includes(state);
}

function isPoison({ state, error_code }) {
  return state === "error" && error_code === "poison";
}

/** "running", or what was requested of the worker and is not acknowledged yet. */
export function StateChip({ job }) {
  const words = job.asked ? `${job.asked} requested` : job.error_code ?? job.state;
  const state = job.asked ? "asked" : job.state;
  return html`<span class="chip" data-state=${state} title=${job.error_message || null}>${words}</span>`;
}

/** Where a job's time went: [name, ms] of the queue, the prefill and the decode, as far as it came. */
export function phases(job, now) {
  const { created_ms, claimed_ms, first_ms } = job;
  const end = job.ended_ms ?? now;
  const found = [["queue", (claimed_ms ?? end) - created_ms]];
  if (claimed_ms) found.push(["prefill", (first_ms ?? end) - claimed_ms]);
  if (first_ms) found.push(["decode", end - first_ms]);
  return found.map(([name, ms]) => [name, Math.max(0, ms)]);
}

/** Queue, prefill and decode as shares of one bar; `legend`: the figures beside it, in sight. */
export function PhaseBar({ job, now, legend = false }) {
  const found = phases(job, now);
  const whole = found.reduce((sum, [, ms]) => sum + ms, 0) || 1;
  const words = found.map(([name, ms]) => `${name} ${span(ms)}`).join(", ");
  return html`
    <div class="phases" title=${words}>
      <div class="bar" role="img" aria-label=${words}>
        ${found.map(([name, ms]) => html`
          <i key=${name} data-phase=${name} style=${{ width: `${(ms / whole) * 100}%` }}></i>`)}
      </div>
      ${legend && html`
        <ul class="legend" aria-hidden="true">
          ${found.map(([name, ms]) => html`<li key=${name} data-phase=${name}>${name} <b>${span(ms)}</b></li>`)}
        </ul>`}
    </div>`;
}
