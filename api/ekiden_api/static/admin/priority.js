// Where a job stands in the queue.

import { html } from "./html.js";

export function PriorityInput({ value, onValue }) {
  return html`
    <label>
      Priority, from −10 (last) to 10 (first)
      <input type="number" min="-10" max="10" step="1" required value=${value} autofocus
        onInput=${({ currentTarget }) => onValue(currentTarget.value)} />
    </label>`;
}
