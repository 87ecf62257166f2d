// The relay of one answer: which worker ran which tokens.

import { moment, number } from "./format.js";
import { html } from "./html.js";
import { Head } from "./table.js";

const TONES = 6;

export function Attempts({ job }) {
  const { attempts, cursor } = job;
  return html`
    <section aria-labelledby="attempts-title">
      <h2 id="attempts-title">Attempts</h2>
      ${!attempts?.length && html`<p class="note">No worker has taken it yet.</p>`}
      ${attempts?.length > 0 && html`
        ${cursor > 0 && html`<${Relay} attempts=${attempts} cursor=${cursor} />`}
        <table class="cards">
          <caption class="unseen">Attempts and the tokens that each made</caption>
          <${Head} columns=${["Attempt", "Worker", "Tokens", ["How many", "figure"], "Taken"]} />
          <tbody>
            ${attempts.map((attempt, place) => html`
              <tr key=${attempt.attempt} data-attempt=${attempt.attempt}>
                <th scope="row"><i class="swatch" data-tone=${place % TONES}></i>${attempt.attempt}</th>
                <td data-label="Worker">${attempt.name}</td>
                <td data-label="Tokens">${range(attempt)}</td>
                <td data-label="How many" class="figure">${number(attempt.to - attempt.from)}</td>
                <td data-label="Taken">${moment(attempt.claimed_ms)}</td>
              </tr>`)}
          </tbody>
        </table>`}
    </section>`;
}

function range({ from, to }) {
  return to > from ? `${number(from + 1)} … ${number(to)}` : "none";
}

function Relay({ attempts, cursor }) {
  const made = attempts.map((attempt, place) => ({ ...attempt, place })).filter(({ from, to }) => to > from);
  const words = made.map((one) => `attempt ${one.attempt} made tokens ${range(one)} on ${one.name}`);
  return html`
    <div class="bar relay" role="img" aria-label=${words.join("; ")}>
      ${made.map(({ place, attempt, from, to, name }) => html`
        <i key=${attempt} data-tone=${place % TONES} title=${`${name}: ${from + 1} … ${to}`}
          style=${{ width: `${((to - from) / cursor) * 100}%` }}></i>`)}
    </div>`;
}
