// What a worker is called.

import { NONE, shortId } from "./format.js";
import { useTopic } from "./live.js";

/** From an incarnation to a name: host:pid while the worker lives, else the begin of its incarnation. */
export function useWorkerNames() {
  const { data } = useTopic("overview");
  const names = new Map((data?.workers ?? []).map(({ incarnation, host, pid }) => [incarnation, `${host}:${pid}`]));
  return (incarnation) => (incarnation ? names.get(incarnation) ?? shortId(incarnation) : NONE);
}
