// Which plots there are, and what of the history each shows. A line: { name, tone, dash, values }.

import { number, percent, span } from "./format.js";

const SOLID = [];
const DASHED = [6, 3];
const DOTTED = [2, 3];
const TONES = 6;

const perMinute = (counts, step_s) => counts?.map((count) => (count === null ? null : (count * 60) / step_s));

/** Lines of columns: [name, column, tone, dash]. */
function columns(...lines) {
  return ({ columns: found }) => lines.map(([name, column, tone, dash = SOLID]) => (
    { name, tone, dash, values: found[column] ?? [] }));
}

/** The same for what is counted in a step. */
function rates(...lines) {
  return ({ columns: found, step_s }) => lines.map(([name, column, tone, dash = SOLID]) => (
    { name, tone, dash, values: perMinute(found[column], step_s) ?? [] }));
}

function percentiles(prefix) {
  return columns(["p50", `${prefix}_p50`, 0], ["p95", `${prefix}_p95`, 1, DASHED], ["p99", `${prefix}_p99`, 2, DOTTED]);
}

function workers(column) {
  return ({ workers: found }) => Object.entries(found)
    .sort(([, one], [, other]) => one.name.localeCompare(other.name))
    .map(([id, { name, [column]: values = [] }], place) => (
      { id, name, tone: place % TONES, dash: place < TONES ? SOLID : DASHED, values }));
}

/**
 * `show` writes a value; `top`: where the scale ends at least; `stacked`: each line stands on those before it;
 * `counted`: a value is of all of its step, so that of a step that goes on is too low.
 */
export const PLOTS = [
  {
    id: "states", title: "Jobs by state", show: number, top: 4, stacked: true, wide: true,
    lines: columns(["Running", "running", 0], ["Queued", "queued", 1], ["Parked", "parked", 2]),
  },
  {
    id: "tokens", title: "Tokens a second", show: number, top: 10, counted: true,
    lines: columns(["Generated", "tokens_per_s", 0], ["Prompt", "prompt_tokens_per_s", 1, DASHED]),
  },
  { id: "ttft", title: "Time to first token", show: span, top: 10, lines: percentiles("ttft") },
  { id: "itl", title: "Time between tokens", show: span, top: 10, lines: percentiles("itl") },
  { id: "queue", title: "Wait in the queue", show: span, top: 10, lines: percentiles("queue") },
  {
    id: "ended", title: "Jobs ended a minute", show: number, top: 4, counted: true,
    lines: rates(["Done", "done", 0], ["Cancelled", "cancelled", 1, DASHED]),
  },
  {
    id: "losses", title: "Failures and moves a minute", show: number, top: 4, counted: true,
    lines: rates(["Failed", "failed", 0], ["Moved", "moved", 1, DASHED]),
  },
  { id: "kv", title: "KV cache in use", show: percent, top: 1, lines: workers("kv_usage") },
  { id: "prefix", title: "Prefix cache hits", show: percent, top: 1, lines: workers("prefix_hit_ratio") },
];
