// The runner with the sash.

import { html } from "./html.js";

export function Mark({ size }) {
  return html`
    <svg class="mark" width=${size} height=${size} viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="9" /><circle cx="16" cy="9" r="4" />
      <path d="M7 27v-5.5a7 7 0 0 1 7-7h4a7 7 0 0 1 7 7V27z" /><path class="band" d="M8 12.5 26 30.5" />
    </svg>`;
}
