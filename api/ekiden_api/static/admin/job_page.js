// One page of jobs: what /admin/live says of it, and where that search stopped short, what a search beyond it finds.

import { useEffect, useRef, useState } from "./html.js";
import { useTopic, useWatch } from "./live.js";
import { address, parseRoute, replaceAddress } from "./route.js";
import { call, withQuery } from "./server.js";

const LIMIT = 50;
const ROUNDS = 40; // of searching on by itself; then a person says whether it is worth it

const stacks = new Map(); // the filter → cursors of the pages that were left for older ones, the newest page first

/** { jobs: null until known, loading, problem, searching, moreSearch, newer, older }; the last two turn the page. */
export function useJobPage(filter, cursor) {
  const key = JSON.stringify([filter, cursor]);
  const { jobs, next, current, problem } = useLivePage(filter, cursor, key);
  const beyond = useSearchOn(filter, key, current && jobs.length < LIMIT ? next : null, LIMIT - (jobs?.length ?? 0));
  const known = new Set((jobs ?? []).map(({ id }) => id));
  const all = jobs && [...jobs, ...beyond.jobs.filter(({ id }) => !known.has(id))];
  const following = beyond.begun ? beyond.next : next;
  return {
    jobs: all,
    loading: !current,
    problem: problem || beyond.problem,
    searching: beyond.busy,
    moreSearch: !beyond.busy && following !== null && (all?.length ?? 0) < LIMIT,
    newer: cursor === null ? null : () => turnBack(filter),
    older: following === null || beyond.busy ? null : () => turnOn(filter, cursor, following),
  };
}

/** The rows before stay until the first answer to the new question is there. */
function useLivePage(filter, cursor, key) {
  useWatch("jobs", { ...filter, limit: LIMIT, cursor: cursor === null ? null : Number(cursor) });
  const { data, error } = useTopic("jobs");
  const answered = useRef(null);
  const before = useRef(data);
  const asked = useRef(null);
  if (asked.current !== key) {
    asked.current = key;
    before.current = data; // an answer to the question before
  }
  if (data && data !== before.current) answered.current = key;
  const current = answered.current === key;
  return { jobs: data?.jobs ?? null, next: data?.next ?? null, current, problem: error?.message ?? "" };
}

/** Go on from `from` until `wanted` jobs are found; null: there is nothing to go on from. */
function useSearchOn(filter, key, from, wanted) {
  const nothing = { jobs: [], next: null, busy: false, begun: false, problem: "" };
  const [found, setFound] = useState(nothing);
  const begin = from !== null;
  useEffect(() => {
    setFound(nothing);
    if (!begin) return undefined;
    const search = { ended: false };
    searchOn(filter, from, wanted, search, setFound);
    return () => (search.ended = true);
  }, [key, begin]);
  return found;
}

async function searchOn(filter, from, wanted, search, show) {
  let jobs = [];
  let next = from;
  let problem = "";
  for (let round = 0; round < ROUNDS && next !== null && jobs.length < wanted && !problem && !search.ended; round++) {
    show({ jobs, next, busy: true, begun: true, problem });
    try {
      const page = await call("GET", withQuery("jobs", { ...filter, limit: LIMIT, cursor: next }));
      jobs = [...jobs, ...page.jobs];
      next = page.next;
    } catch (refusal) {
      problem = refusal.message;
    }
  }
  if (!search.ended) show({ jobs, next, busy: false, begun: true, problem });
}

function turnOn(filter, cursor, following) {
  const key = JSON.stringify(filter);
  stacks.set(key, [...(stacks.get(key) ?? []), cursor]);
  location.hash = address("jobs", { ...filter, cursor: following });
  scrollTo(0, 0);
}

/** Back the way that was come; from a shared link, to the newest page. */
function turnBack(filter) {
  const key = JSON.stringify(filter);
  const stack = [...(stacks.get(key) ?? [])];
  const cursor = stack.pop() ?? null;
  stacks.set(key, stack);
  location.hash = address("jobs", { ...filter, cursor });
  scrollTo(0, 0);
}

/** Show the list with another filter, from its newest page on. */
export function filterBy(filter) {
  stacks.delete(JSON.stringify(filter));
  if (parseRoute(location.hash).path[0] === "jobs") replaceAddress(address("jobs", filter));
}
