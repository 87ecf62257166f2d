// How the fleet does now, and how it did.

import { useAct } from "./act.js";
import { age, count, NONE, number, percent, span } from "./format.js";
import { html } from "./html.js";
import { useNow, useTopic, useWatch } from "./live.js";
import { Problem } from "./notice.js";
import { Plot } from "./plot.js";
import { PLOTS } from "./plot_kinds.js";
import { address } from "./route.js";
import { call } from "./server.js";
import { Store } from "./store.js";
import { Head } from "./table.js";

const OF_MODELS = ["Model", "Queue", "Queued", "Workers", "Context"];
const RANGES = { "15m": "15 min", "1h": "1 h", "24h": "24 h" };

export function Overview({ me, query }) {
  const { data, error } = useTopic("overview");
  return html`
    <h1 tabindex="-1">Overview</h1>
    <${Problem} text=${error?.message} />
    ${!data && !error && html`<p class="note">Asking the job store…</p>`}
    ${data && html`<${Warnings} store=${data.store} /><${Tiles} overview=${data} />`}
    <${History} range=${query.range in RANGES ? query.range : "15m"} />
    ${data && html`
      <${Models} models=${data.models} me=${me} />
      <${Store} store=${data.store} />
      <${Replicas} replicas=${data.replicas} />`}`;
}

function Warnings({ store }) {
  if (!store?.warnings?.length) return null;
  return html`
    <section class="warnings" aria-label="Warnings">
      <ul>${store.warnings.map((warning) => html`<li key=${warning}>${warning}</li>`)}</ul>
    </section>`;
}

function Tiles({ overview }) {
  const { states, rates, latency, workers } = overview;
  const usages = workers.map(({ kv_usage }) => kv_usage);
  const hits = workers.map(({ prefix_hit_ratio }) => prefix_hit_ratio).filter((ratio) => ratio !== null);
  const slots = workers.reduce((sum, { max_running }) => sum + max_running, 0);
  return html`
    <section aria-labelledby="now-title">
      <h2 id="now-title" class="unseen">Now</h2>
      <dl class="tiles">
        <${Tile} id="queued" title="Queued" value=${number(states.queued)} more=${`${number(states.parked)} parked`}
          link=${address("jobs", { state: "queued" })} />
        <${Tile} id="running" title="Running" value=${number(states.running)}
          more=${`${count(slots, "slot")} on ${count(workers.length, "worker")}`}
          link=${address("jobs", { state: "running" })} />
        <${Tile} id="tokens_per_s" title="Tokens a second" value=${number(rates.tokens_per_s)}
          more=${`${number(rates.jobs_per_s)} jobs a second`} />
        <${Latency} id="ttft" title="First token" of=${latency.ttft_ms} />
        <${Latency} id="itl" title="Between tokens" of=${latency.itl_ms} />
        <${Latency} id="queue" title="Wait in the queue" of=${latency.queue_ms} />
        <${Tile} id="failed" title="Failures a minute" value=${number(rates.failed_per_min)}
          more=${`${number(states.error)} failed are kept`} link=${address("jobs", { state: "error" })}
          alarm=${rates.failed_per_min > 0} />
        <${Tile} id="moved" title="Moves a minute" value=${number(rates.moved_per_min)} more="to another worker" />
        <${Tile} id="kv" title="KV cache in use" value=${percent(mean(usages))}
          more=${usages.length ? `most ${percent(Math.max(...usages))}` : "no worker"} />
        <${Tile} id="prefix" title="Prefix cache hits" value=${percent(mean(hits))} more="of the prompt tokens" />
      </dl>
    </section>`;
}

function mean(values) {
  return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;
}

function Tile({ id, title, value, more, link, alarm = false }) {
  return html`
    <div data-tile=${id} data-alarm=${alarm}>
      <dt>${link ? html`<a href=${link}>${title}</a>` : title}</dt>
      <dd class="figure">${value}</dd>
      <dd class="more">${more}</dd>
    </div>`;
}

/** p50 of the last minute, and what is worse. */
function Latency({ id, title, of }) {
  const more = `p95 ${span(of.p95)} · p99 ${span(of.p99)}`;
  return html`<${Tile} id=${id} title=${title} value=${span(of.p50)} more=${more} />`;
}

function History({ range }) {
  useWatch("series", range);
  const { data, error } = useTopic("series");
  const ready = data?.range === range;
  return html`
    <section aria-labelledby="history-title">
      <div class="heading">
        <h2 id="history-title">History</h2>
        <nav class="ranges" aria-label="Range of the history">
          ${Object.entries(RANGES).map(([value, title]) => html`
            <a key=${value} href=${address("overview", { range: value })}
              aria-current=${value === range ? "true" : null}>${title}</a>`)}
        </nav>
      </div>
      <${Problem} text=${error?.message} />
      ${!ready && !error && html`<p class="note plots-wait">Reading the history…</p>`}
      ${ready && html`
        <div class="plots">${PLOTS.map((kind) => html`<${Plot} key=${kind.id} kind=${kind} series=${data} />`)}</div>`}
    </section>`;
}

function Models({ models, me }) {
  return html`
    <section aria-labelledby="models-title">
      <h2 id="models-title">Models</h2>
      ${!models.length && html`<p class="note">No worker has registered a model yet.</p>`}
      ${models.length > 0 && html`
        <table class="cards">
          <caption class="unseen">Models and their queues</caption>
          <${Head} columns=${me.role === "admin" ? [...OF_MODELS, ["Act", "untitled"]] : OF_MODELS} />
          <tbody>${models.map((model) => html`<${Model} key=${model.model} model=${model} me=${me} />`)}</tbody>
        </table>`}
    </section>`;
}

function Model({ model: { model, queued, paused, context_tokens, workers }, me }) {
  const { busy, problem, act } = useAct();
  const toggle = () => act(async () => {
    await call("POST", `models/${paused ? "resume" : "pause"}`, { model });
    return paused ? `The queue of ${model} goes on.` : `The queue of ${model} is paused; what runs goes on.`;
  });
  return html`
    <tr data-model=${model}>
      <th scope="row">${model}</th>
      <td data-label="Queue">
        <span class="chip" data-state=${paused ? "parked" : "done"}>${paused ? "paused" : "open"}</span>
      </td>
      <td data-label="Queued"><a href=${address("jobs", { state: "queued", model })}>${number(queued)}</a></td>
      <td data-label="Workers">${number(workers)}</td>
      <td data-label="Context">${context_tokens ? `${number(context_tokens)} tokens` : NONE}</td>
      ${me.role === "admin" && html`
        <td class="act">
          <button type="button" class="quiet small" disabled=${busy} onClick=${toggle}
            aria-label=${`${paused ? "Resume" : "Pause"} the queue of ${model}`}>
            ${paused ? "Resume queue" : "Pause queue"}
          </button>
          <${Problem} text=${problem} />
        </td>`}
    </tr>`;
}

function Replicas({ replicas }) {
  const now = useNow();
  return html`
    <section aria-labelledby="replicas-title">
      <h2 id="replicas-title">API processes</h2>
      <table class="cards">
        <caption class="unseen">API processes</caption>
        <${Head} columns=${["Process", "Version", "Up", "Seen", "Connections", "Watched jobs", "Dashboards"]} />
        <tbody>
          ${replicas.map((replica) => html`
            <tr key=${replica.id} data-replica=${replica.id}>
              <th scope="row">${replica.host}:${replica.pid}</th>
              <td data-label="Version">${replica.version}</td>
              <td data-label="Up">${span(now - replica.started_ms)}</td>
              <td data-label="Seen">${age(now - replica.seen_ms)}</td>
              <td data-label="Connections">${number(replica.connections)}</td>
              <td data-label="Watched jobs">${number(replica.watched_jobs)}</td>
              <td data-label="Dashboards">${number(replica.dashboards)}</td>
            </tr>`)}
        </tbody>
      </table>
    </section>`;
}
