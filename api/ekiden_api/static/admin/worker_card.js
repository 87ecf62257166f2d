// One worker.

import { useAct } from "./act.js";
import { ConfirmDialog } from "./dialog.js";
import { KillDialog } from "./drill.js";
import { age, bytesOf, count, moment, NONE, number, percent } from "./format.js";
import { html, useId, useState } from "./html.js";
import { Problem, say } from "./notice.js";
import { address } from "./route.js";
import { call } from "./server.js";

const STATE_WORDS = { ready: "ready", draining: "draining", leaving: "leaving" };
const STATE_TONES = { ready: "done", draining: "parked", leaving: "cancelled" };

export function WorkerCard({ worker, now, me }) {
  const id = useId();
  const { incarnation, host, pid, state, model, device } = worker;
  return html`
    <article class="worker" data-worker=${incarnation} data-state=${state} aria-labelledby=${id}>
      <header>
        <h2 id=${id}>${host}:${pid}</h2>
        <span class="chip" data-state=${STATE_TONES[state]}>${STATE_WORDS[state] ?? state}</span>
      </header>
      <p class="note">${model} on ${device}</p>
      <${Meters} worker=${worker} />
      <${Facts} worker=${worker} now=${now} />
      ${me.role === "admin" && html`<${Actions} worker=${worker} me=${me} />`}
    </article>`;
}

function Meters({ worker: { running, max_running, kv_usage, gpu } }) {
  return html`
    <div class="meters">
      <${Meter} title="Slots" share=${running / max_running} words=${`${number(running)} of ${number(max_running)}`} />
      <${Meter} title="KV cache" share=${kv_usage} words=${percent(kv_usage)} />
      ${gpu && html`
        <${Meter} title="GPU memory" share=${gpu.memory_used / gpu.memory_total}
          words=${bytesOf(gpu.memory_used, gpu.memory_total)} />
        <${Meter} title="GPU busy" share=${asShare(gpu.utilization)} words=${percent(asShare(gpu.utilization))} />`}
    </div>`;
}

function asShare(utilization) {
  return utilization > 1 ? utilization / 100 : utilization;
}

function Meter({ title, share, words }) {
  return html`
    <div class="meter">
      <span>${title}</span><b>${words}</b>
      <div class="bar" aria-hidden="true"><i style=${{ width: `${Math.min(1, share ?? 0) * 100}%` }}></i></div>
    </div>`;
}

function Facts({ worker, now }) {
  const facts = [
    ["Tokens a second", number(worker.tokens_per_s)],
    ["Waiting in it", number(worker.waiting)],
    ["Prefix hits", percent(worker.prefix_hit_ratio)],
    ["Last beat", `${age(now - worker.beat)}${now - worker.beat < 1000 ? "" : " ago"}`],
    ["Batch", number(worker.batch_size)],
    ["Step", worker.step_ms === null || worker.step_ms === undefined ? NONE : `${number(worker.step_ms)} ms`],
    ["Preemptions", number(worker.preemptions)],
    ["Context", `${number(worker.context_tokens)} tokens`],
    ["Registered", moment(worker.registered)],
    ["Lease left", `${number(Math.max(0, worker.lease_ms_left) / 1000)} s`],
  ];
  if (worker.gpu) facts.push(["GPU", worker.gpu.name]);
  if (worker.slot) facts.push(["Slot", worker.slot]);
  if (worker.metrics_port) facts.push(["Metrics port", worker.metrics_port]);
  const versions = Object.entries({ ekiden: worker.version, ...worker.libraries });
  return html`
    <dl class="pairs">
      ${facts.map(([title, value]) => html`<div key=${title}><dt>${title}</dt><dd>${value}</dd></div>`)}
    </dl>
    <p class="versions">${versions.map(([name, version]) => html`<span key=${name}>${name} ${version}</span> `)}
      <a href=${address("jobs", { worker: worker.incarnation })}>Its jobs</a></p>`;
}

function Actions({ worker, me }) {
  const { busy, problem, act } = useAct();
  const [dialog, setDialog] = useState(null);
  const name = `${worker.host}:${worker.pid}`;
  const path = `workers/${encodeURIComponent(worker.incarnation)}`;
  const undrain = () => act(async () => {
    await call("POST", `${path}/undrain`);
    return `${name} takes jobs again.`;
  });
  return html`
    <div class="buttons">
      ${worker.state === "ready" && html`
        <button type="button" class="quiet small" aria-label=${`Drain ${name}`} onClick=${() => setDialog("drain")}>
          Drain…
        </button>`}
      ${worker.state === "draining" && html`
        <button type="button" class="quiet small" aria-label=${`Undrain ${name}`} disabled=${busy} onClick=${undrain}>
          Undrain
        </button>`}
      ${me.chaos_drills && html`
        <button type="button" class="danger small" aria-label=${`Kill ${name} now`} disabled=${!worker.chaos_drills}
          title=${worker.chaos_drills ? null : "This worker was started without EKIDEN_CHAOS_DRILLS=true."}
          onClick=${() => setDialog("kill")}>Kill this worker now…</button>`}
    </div>
    <${Problem} text=${problem} />
    ${dialog === "drain" && html`<${DrainDialog} worker=${worker} path=${path} onClose=${() => setDialog(null)} />`}
    ${dialog === "kill" && html`<${KillDialog} worker=${worker} onClose=${() => setDialog(null)} />`}`;
}

function DrainDialog({ worker: { host, pid, running }, path, onClose }) {
  const name = `${host}:${pid}`;
  const [move, setMove] = useState(false);
  const confirm = async () => {
    const { moved } = await call("POST", `${path}/drain`, { move });
    say(`${name} takes no more jobs${move ? `; ${count(moved, "job")} moved` : ""}.`);
  };
  return html`
    <${ConfirmDialog} title=${`Drain ${name}?`} confirm="Drain" onConfirm=${confirm} onClose=${onClose}>
      <p>It takes no more jobs until it is undrained. It runs ${count(running, "job")} now.</p>
      <label class="inline">
        <input type="checkbox" checked=${move} onChange=${() => setMove(!move)} />
        Move its jobs now; otherwise it finishes them
      </label>
    </${ConfirmDialog}>`;
}
