// What was done, said once to everyone: read out, and shown for a while or until it is taken away.

import { html, useEffect, useState } from "./html.js";

const SHOWN_MS = 6000;

let show = () => {};

export function say(text) {
  show(text);
}

export function Notice() {
  const [text, setText] = useState("");
  useEffect(() => {
    show = setText;
    return () => (show = () => {});
  }, []);
  useEffect(() => {
    const timer = setTimeout(() => setText(""), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [text]);
  return html`
    <div class="notice" data-empty=${!text}>
      <p role="status">${text}</p>
      ${text && html`<button type="button" aria-label="Take the notice away" onClick=${() => setText("")}></button>`}
    </div>`;
}

/** What went wrong, next to what was tried. */
export function Problem({ text }) {
  return text ? html`<p class="problem" role="alert">${text}</p>` : null;
}
