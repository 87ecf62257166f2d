// What was done, said once to everyone: shown for a while, and read out.

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
  return html`<div class="notice" role="status" data-empty=${!text}>${text}</div>`;
}

/** What went wrong, next to what was tried. */
export function Problem({ text }) {
  return text ? html`<p class="problem" role="alert">${text}</p>` : null;
}
