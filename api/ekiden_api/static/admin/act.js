// Doing something: the button waits, what came of it is said, and a refusal stands next to what was tried.

import { html, useState } from "./html.js";
import { say } from "./notice.js";

/** { busy, problem, act }: `act(work)` runs `work`, which returns what is to be said, if anything. */
export function useAct() {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const act = async (work) => {
    setBusy(true);
    setProblem("");
    try {
      const said = await work();
      if (said) say(said);
    } catch (refusal) {
      setProblem(refusal.message);
    } finally {
      setBusy(false);
    }
  };
  return { busy, problem, act };
}

/** Why there are no buttons. */
export function ViewerNote({ me }) {
  return me.role === "admin" ? null : html`<p class="note">You may look; acting needs a key of role admin.</p>`;
}
