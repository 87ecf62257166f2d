// An answer again at the pace at which it came.

import { useAct } from "./act.js";
import { number, span } from "./format.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { Problem } from "./notice.js";
import { call } from "./server.js";

const SPEEDS = [0.5, 1, 2, 4, 8];

export function Replay({ job }) {
  const [replay, setReplay] = useState(null);
  const { busy, problem, act } = useAct();
  const load = () => act(async () => {
    const found = await call("GET", `jobs/${encodeURIComponent(job.id)}/replay`);
    setReplay(found);
    return found.times_ms.length ? "" : "Nothing was generated.";
  });
  return html`
    <section aria-labelledby="replay-title">
      <h2 id="replay-title">Replay</h2>
      ${!job.cursor && html`<p class="note">Nothing was generated yet.</p>`}
      ${job.cursor > 0 && !replay && html`
        <p class="note">The answer again, at the pace at which the job store was given it.</p>
        <button type="button" class="quiet small" disabled=${busy} aria-busy=${busy} onClick=${load}>
          Load the replay
        </button>`}
      <${Problem} text=${problem} />
      ${replay?.times_ms.length > 0 && html`<${Player} replay=${replay} />`}
    </section>`;
}

function Player({ replay }) {
  const { times_ms, cursors, texts } = replay;
  const first = times_ms[0];
  const end = times_ms.at(-1);
  const player = usePlayer(Math.max(0, first - 500), end);
  const shown = countBefore(times_ms, player.at);
  const tokens = shown ? cursors[shown - 1] : 0;
  return html`
    <div class="replay" data-playing=${player.playing}>
      <div class="buttons">
        <button type="button" class="small" onClick=${player.toggle}>
          ${player.playing ? "Pause" : player.at >= end ? "Play again" : "Play"}
        </button>
        <label class="inline">
          Speed
          <select class="small" value=${player.speed} onChange=${(event) => player.setSpeed(valueOf(event))}>
            ${SPEEDS.map((speed) => html`<option key=${speed} value=${speed}>${speed}×</option>`)}
          </select>
        </label>
        <span class="note">
          ${span(player.at)} of ${span(end)} · ${number(tokens)} of ${number(cursors.at(-1))} tokens
        </span>
      </div>
      <input type="range" aria-label="Place in the replay" min="0" max=${end} value=${player.at}
        aria-valuetext=${`${span(player.at)}, ${number(tokens)} tokens`}
        onInput=${(event) => player.seek(valueOf(event))} />
      ${texts && html`
        <pre class="tail" tabindex="0" role="region" aria-label="The replayed answer">
          ${texts.slice(0, shown).join("")}
        </pre>`}
      ${!texts && html`<progress aria-label="Tokens replayed" value=${tokens} max=${cursors.at(-1)}></progress>
        <p class="note">The words are hidden; the bar grows as they came.</p>`}
    </div>`;
}

function valueOf({ currentTarget }) {
  return Number(currentTarget.value);
}

/** How many of the ascending times are not after `at`. */
function countBefore(times, at) {
  let low = 0;
  let high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] <= at) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** A clock from `begin` to `end` in ms that can be stopped, moved and hurried. */
function usePlayer(begin, end) {
  const [at, setAt] = useState(begin);
  const [playing, setPlaying] = useState(false);
  const [speed, setSpeed] = useState(1);
  const place = useRef(begin);
  const move = (to) => {
    place.current = Math.min(to, end);
    setAt(place.current);
  };
  useEffect(() => {
    if (!playing) return undefined;
    let last = performance.now();
    let frame = 0;
    const step = (now) => {
      move(place.current + (now - last) * speed);
      last = now;
      if (place.current >= end) setPlaying(false);
      else frame = requestAnimationFrame(step);
    };
    frame = requestAnimationFrame(step);
    return () => cancelAnimationFrame(frame);
  }, [playing, speed, end]);
  const toggle = () => {
    if (!playing && place.current >= end) move(begin);
    setPlaying(!playing);
  };
  return { at, playing, speed, setSpeed, toggle, seek: move };
}
