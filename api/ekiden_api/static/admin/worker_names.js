// What a worker is called.

import { NONE, shortId } from "./format.js";
import { useTopic } from "./live.js";

/**
 * From an incarnation, and a name that it is known by, to { text, title, gone }. The text is host:pid where that is
 * known, else the begin of its incarnation.
 */
export function useWorkerNames() {
  const { data } = useTopic("overview");
  const names = new Map((data?.workers ?? []).map(({ incarnation, host, pid }) => [incarnation, `${host}:${pid}`]));
  return (incarnation, known = null) => {
    if (!incarnation) return { text: NONE, title: null, gone: false };
    const text = names.get(incarnation) ?? known;
    const gone = data !== null && !names.has(incarnation);
    return {
      text: text ?? (gone ? `gone (${shortId(incarnation)}…)` : shortId(incarnation)),
      title: gone ? `Gone; its incarnation was ${incarnation}` : incarnation,
      gone,
    };
  };
}
