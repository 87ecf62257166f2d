// The heads of tables.

import { html } from "./html.js";

/** A column is its title, or [title, class]. */
export function Head({ columns, before = null }) {
  const cells = columns.map((column) => (Array.isArray(column) ? column : [column, null]));
  return html`
    <thead>
      <tr>${before}${cells.map(([title, name]) => html`<th key=${title} scope="col" class=${name}>${title}</th>`)}</tr>
    </thead>`;
}
