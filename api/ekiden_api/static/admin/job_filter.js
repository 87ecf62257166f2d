// The filter bar. What it holds stands in the address.

import { localInput } from "./format.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { filterBy } from "./job_page.js";
import { STATES } from "./job_words.js";
import { useTopic } from "./live.js";
import { useWorkerNames } from "./worker_names.js";

const TYPING_MS = 300;
const WORDS = {
  state: "State", user: "User", model: "Model", worker: "Worker", code: "Error code", id: "Job id",
  from_ms: "Created from", to_ms: "Created until",
};
const FIELDS = Object.keys(WORDS);

/** The part of an address's query that filters; moments are numbers. */
export function filterOf(query) {
  const filter = {};
  for (const name of FIELDS) {
    const value = name.endsWith("_ms") ? Number(query[name]) : query[name];
    if (value) filter[name] = value;
  }
  return filter;
}

/** A filter in words, for those who confirm what is done with all that match. */
export function filterWords(filter) {
  const parts = Object.entries(filter).map(([name, value]) => `${WORDS[name].toLowerCase()} ${wordOf(name, value)}`);
  return parts.length ? parts.join(", ") : "no filter: all jobs that are kept";
}

function wordOf(name, value) {
  return name.endsWith("_ms") ? new Date(value).toLocaleString("en") : value;
}

export function Filter({ filter }) {
  const { data } = useTopic("overview");
  const models = (data?.models ?? []).map(({ model }) => [model, model]);
  const workers = useWorkerChoices(data?.workers ?? [], filter.worker);
  const set = (name, value) => {
    filterBy(filterOf({ ...filter, [name]: value }));
  };
  const some = Object.keys(filter).length > 0;
  return html`
    <form class="filter" aria-label="Filter jobs" onSubmit=${(event) => event.preventDefault()}>
      <${Choice} name="state" filter=${filter} options=${STATES.map((state) => [state, state])} set=${set} />
      <${Words} name="user" filter=${filter} set=${set} />
      <${Choice} name="model" filter=${filter} options=${models} set=${set} />
      <${Choice} name="worker" filter=${filter} options=${workers} set=${set} />
      <${Words} name="code" filter=${filter} set=${set} />
      <${Words} name="id" filter=${filter} set=${set} />
      <${Moment} name="from_ms" filter=${filter} set=${set} />
      <${Moment} name="to_ms" filter=${filter} set=${set} />
      <button type="button" class="quiet" disabled=${!some} onClick=${() => filterBy({})}>Clear filter</button>
    </form>`;
}

/** The workers that live; one that is gone is among them while it is filtered by. */
function useWorkerChoices(workers, wanted) {
  const names = useWorkerNames();
  const { data } = useTopic("jobs");
  const choices = workers.map(({ incarnation, host, pid }) => [incarnation, `${host}:${pid}`]);
  if (!wanted || choices.some(([incarnation]) => incarnation === wanted)) return choices;
  const known = data?.jobs.find(({ worker }) => worker === wanted)?.worker_name;
  return [...choices, [wanted, names(wanted, known).text]];
}

/** One of a list; what the address names is in the list in any case. */
function Choice({ name, filter, options, set }) {
  const value = filter[name] ?? "";
  const all = options.some(([option]) => option === value) || !value ? options : [...options, [value, value]];
  return html`
    <label>
      ${WORDS[name]}
      <select name=${name} value=${value} onChange=${({ currentTarget }) => set(name, currentTarget.value)}>
        <option value="">any</option>
        ${all.map(([option, title]) => html`<option key=${option} value=${option}>${title}</option>`)}
      </select>
    </label>`;
}

/** Words that count once the typing rests. */
function Words({ name, filter, set }) {
  const [text, setText] = useState(filter[name] ?? "");
  const timer = useRef(0);
  const latest = useRef(set);
  latest.current = set; // the other fields may change while this one is typed in
  useEffect(() => setText(filter[name] ?? ""), [filter[name]]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const type = ({ currentTarget }) => {
    const { value } = currentTarget;
    setText(value);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => latest.current(name, value.trim()), TYPING_MS);
  };
  return html`
    <label>
      ${WORDS[name]}
      <input name=${name} type="text" value=${text} onInput=${type} autocomplete="off" autocapitalize="off"
        spellcheck="false" />
    </label>`;
}

function Moment({ name, filter, set }) {
  const change = ({ currentTarget }) => {
    set(name, new Date(currentTarget.value).getTime());
  };
  return html`
    <label>
      ${WORDS[name]}
      <input name=${name} type="datetime-local" value=${localInput(filter[name])} onChange=${change} />
    </label>`;
}
