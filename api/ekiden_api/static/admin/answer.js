// The messages and the answer as it grows, where role and setting let this person read them.

import { html, useLayoutEffect, useRef } from "./html.js";
import { isOpen } from "./job_words.js";

const FOLLOW_PX = 40; // this near to the end the reader is taken to read along

export function Answer({ job }) {
  const { text } = job;
  return html`
    <section aria-labelledby="text-title">
      <h2 id="text-title">Prompt and answer</h2>
      ${!text?.shown && html`
        <p class="note">
          Hidden. They are shown to the role admin alone, and only where <code>EKIDEN_ADMIN_SHOW_TEXT=true</code> is
          set.
        </p>`}
      ${text?.shown && html`
        <${Messages} messages=${text.messages} />
        <${Tail} text=${text.answer} open=${isOpen(job)} />`}
    </section>`;
}

function Messages({ messages }) {
  if (!messages) return html`<p class="note">The prompt is not kept any more.</p>`;
  return html`
    <details class="messages">
      <summary>Messages (${messages.length})</summary>
      ${messages.map(({ role, content }, place) => html`
        <div key=${place} class="message"><b>${role}</b><pre>${content}</pre></div>`)}
    </details>`;
}

function Tail({ text, open }) {
  const box = useRef();
  const follows = useRef(true);
  useLayoutEffect(() => {
    if (follows.current && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [text]);
  if (text === null) return html`<p class="note">The answer is not kept any more.</p>`;
  const onScroll = ({ currentTarget: { scrollHeight, scrollTop, clientHeight } }) => {
    follows.current = scrollHeight - scrollTop - clientHeight < FOLLOW_PX;
  };
  return html`
    <pre class="tail" ref=${box} tabindex="0" role="region" aria-label="The end of the answer" data-open=${open}
      onScroll=${onScroll}>${text || "Nothing yet."}</pre>`;
}
