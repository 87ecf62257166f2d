// One plot: the canvas, a legend with the figures under the pointer or of the last whole step, and all of it as a table
// for those who do not see it.

import { moment, NONE } from "./format.js";
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./html.js";
import { Head } from "./table.js";

const HEIGHT_PX = 168;
const TABLE_ROWS = 24;
const CLOCK = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };

const clock = (time) => new Date(time * 1000).toLocaleTimeString("en", CLOCK);

/** `kind`: of PLOTS; `series`: the history. */
export function Plot({ kind, series }) {
  const [index, setIndex] = useState(null);
  const lines = useMemo(() => kind.lines(series), [kind, series]);
  const told = settled(kind, lines, series);
  const at = index !== null && index < series.times.length ? index : lastKnown(told);
  return html`
    <figure class=${kind.wide ? "plot wide" : "plot"} data-plot=${kind.id} aria-label=${kind.title}>
      <figcaption>
        <h3>${kind.title}</h3>
        <ul class="legend">
          ${lines.map((line) => html`
            <li key=${line.id ?? line.name} data-tone=${line.tone} data-dash=${line.dash.length ? line.dash[0] : 0}>
              ${line.name} <b>${at === null ? NONE : kind.show(line.values[at])}</b>
            </li>`)}
          ${!lines.length && html`<li class="none">nothing yet</li>`}
        </ul>
      </figcaption>
      <${Canvas} kind=${kind} times=${series.times} lines=${lines} onIndex=${setIndex} />
      <p class="unseen">${summary(kind, told)}</p>
      <${Table} kind=${kind} times=${series.times} lines=${lines} />
    </figure>`;
}

/** Without the step that goes on, where what is counted in a step is told: it would be too low until its end. */
function settled({ counted = false }, lines, { times, step_s, now_ms }) {
  const end = counted ? times.findLastIndex((time) => time + step_s <= now_ms / 1000) + 1 : times.length;
  return lines.map((line) => ({ ...line, values: line.values.slice(0, end) }));
}

function lastKnown(lines) {
  const last = Math.max(-1, ...lines.map(({ values }) => values.findLastIndex((value) => value !== null)));
  return last < 0 ? null : last;
}

function summary(kind, lines) {
  const parts = lines.map(({ name, values }) => {
    const known = values.filter((value) => value !== null && value !== undefined);
    if (!known.length) return `${name}: nothing.`;
    const [least, most] = [Math.min(...known), Math.max(...known)];
    return `${name}: last ${kind.show(known.at(-1))}, from ${kind.show(least)} to ${kind.show(most)}.`;
  });
  return parts.join(" ");
}

/** Every so many steps, the newest first; written when it is opened. */
function Table({ kind, times, lines }) {
  const [open, setOpen] = useState(false);
  return html`
    <details onToggle=${({ currentTarget }) => setOpen(currentTarget.open)}>
      <summary>As a table</summary>
      ${open && html`
        <div class="scroll" tabindex="0" role="region" aria-label=${`${kind.title}, table`}>
          <table>
            <caption class="unseen">${kind.title}</caption>
            <${Head} columns=${["Time", ...lines.map(({ name }) => name)]} />
            <tbody>
              ${sampled(times).map((place) => html`
                <tr>
                  <th scope="row">${moment(times[place] * 1000)}</th>
                  ${lines.map(({ values }) => html`<td>${kind.show(values[place])}</td>`)}
                </tr>`)}
            </tbody>
          </table>
        </div>`}
    </details>`;
}

function sampled(times) {
  const stride = Math.max(1, Math.ceil(times.length / TABLE_ROWS));
  return times.map((_, place) => times.length - 1 - place).filter((_, place) => place % stride === 0);
}

/** uPlot on a canvas; made anew when the lines or the colours are others, else only given the new data. */
function Canvas({ kind, times, lines, onIndex }) {
  const host = useRef();
  const plot = useRef(null);
  const [colours, setColours] = useState(0);
  const shape = JSON.stringify(lines.map(({ id, name, tone, dash }) => [id, name, tone, dash]));
  useEffect(() => {
    const change = () => setColours((before) => before + 1);
    addEventListener("themechange", change);
    return () => removeEventListener("themechange", change);
  }, []);
  useLayoutEffect(() => {
    const made = new uPlot(options(kind, lines, host.current, onIndex), data(kind, times, lines), host.current);
    plot.current = made;
    const fit = ([{ contentRect: { width } }]) => made.setSize({ width, height: HEIGHT_PX });
    const resize = new ResizeObserver(fit);
    resize.observe(host.current);
    return () => {
      resize.disconnect();
      made.destroy();
    };
  }, [shape, colours]);
  useLayoutEffect(() => plot.current.setData(data(kind, times, lines)), [times, lines]);
  return html`<div class="canvas" ref=${host} aria-hidden="true"></div>`;
}

/** Stacked lines are drawn from the top of the pile down, so that each covers what lies under it. */
function data(kind, times, lines) {
  const columns = lines.map(({ values }) => times.map((_, place) => values[place] ?? null));
  if (!kind.stacked) return [times, ...columns];
  const piled = columns.map((_, line) => times.map((_time, place) => pile(columns, line, place)));
  return [times, ...piled.reverse()];
}

function pile(columns, line, place) {
  const values = columns.slice(0, line + 1).map((column) => column[place]);
  return values.every((value) => value === null) ? null : values.reduce((sum, value) => sum + (value ?? 0), 0);
}

function options(kind, lines, host, onIndex) {
  const colour = (value) => resolved(host, value);
  const axis = {
    stroke: colour("var(--quiet)"),
    grid: { stroke: colour("var(--line)"), width: 1 },
    ticks: { show: false },
    font: `11px ${getComputedStyle(host).fontFamily}`,
  };
  const drawn = lines.map(({ tone, dash }) => ({
    stroke: colour(`var(--tone-${tone})`), width: 1.6, dash, points: { size: 3 },
    // Opaque, as what lies on top is drawn first.
    fill: kind.stacked ? colour(`color-mix(in srgb, var(--tone-${tone}) 42%, var(--raised))`) : undefined,
  }));
  return {
    width: host.clientWidth || 320,
    height: HEIGHT_PX,
    legend: { show: false },
    padding: [8, 18, 0, 0],
    cursor: { sync: { key: "ekiden" }, drag: { x: false, y: false }, y: false, points: { size: 6 } },
    scales: { y: { range: (_plot, _least, most) => [0, Math.max(most * 1.08, kind.top)] } },
    axes: [
      { ...axis, values: (_plot, splits) => splits.map(clock), space: 64, size: 28 },
      { ...axis, values: (_plot, splits) => splits.map((value) => kind.show(value)), size: 58, space: 34 },
    ],
    series: [{}, ...(kind.stacked ? drawn.reverse() : drawn)],
    hooks: { setCursor: [({ cursor }) => onIndex(cursor.idx ?? null)] },
  };
}

/** A canvas knows no variables. */
function resolved(host, value) {
  host.style.color = value;
  const found = getComputedStyle(host).color;
  host.style.color = "";
  return found;
}
