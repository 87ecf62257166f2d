// Dialogs: Escape and a click beside them close, and the focus goes back to where it was.

import { html, useId, useLayoutEffect, useRef, useState } from "./html.js";
import { Problem } from "./notice.js";

export function Dialog({ title, onClose, children }) {
  const dialog = useRef();
  const id = useId();
  useLayoutEffect(() => {
    const node = dialog.current;
    node.showModal();
    return () => node.close();
  }, []);
  const beside = ({ target }) => target === dialog.current && onClose();
  const escape = (event) => {
    event.preventDefault(); // the view takes the dialog away
    onClose();
  };
  return html`
    <dialog ref=${dialog} aria-labelledby=${id} onCancel=${escape} onPointerDown=${beside}>
      <article>
        <h2 id=${id}>${title}</h2>
        ${children}
      </article>
    </dialog>`;
}

/**
 * Asks before something is done. `confirm`: what the button says; `onConfirm`: does it, and its Refusal is shown here;
 * `ready`: false as long as it cannot be confirmed.
 */
export function ConfirmDialog({ title, confirm, onConfirm, onClose, ready = true, children }) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      await onConfirm();
      onClose();
    } catch (refusal) {
      setProblem(refusal.message);
      setBusy(false);
    }
  };
  return html`
    <${Dialog} title=${title} onClose=${onClose}>
      <form onSubmit=${submit}>
        ${children}
        <${Problem} text=${problem} />
        <div class="buttons">
          <button type="button" class="quiet" onClick=${onClose}>Leave it</button>
          <button type="submit" disabled=${busy || !ready} aria-busy=${busy}>${confirm}</button>
        </div>
      </form>
    </${Dialog}>`;
}
