// The history as the page keeps it: the first answer whole, then the last steps alone.

const LENGTH_S = { "15m": 900, "1h": 3600, "24h": 86_400 };

/** `kept` with the steps of `fresh`, which take the place of those from its begin on. */
export function joinSeries(kept, fresh) {
  if (!kept || kept.range !== fresh.range || kept.step_s !== fresh.step_s || !fresh.times.length) return fresh;
  const begin = fresh.now_ms / 1000 - LENGTH_S[fresh.range] - fresh.step_s;
  const from = kept.times.findIndex((time) => time >= begin);
  const until = kept.times.findIndex((time) => time >= fresh.times[0]);
  const old = { from: from < 0 ? kept.times.length : from, until: until < 0 ? kept.times.length : until };
  const join = (before, after) => [
    ...(before ?? kept.times.map(() => null)).slice(old.from, old.until),
    ...(after ?? fresh.times.map(() => null)),
  ];
  return {
    ...fresh,
    times: join(kept.times, fresh.times),
    columns: joinColumns(kept.columns, fresh.columns, join),
    workers: joinWorkers(kept.workers, fresh.workers, join),
  };
}

function joinColumns(before, after, join) {
  const names = new Set([...Object.keys(before), ...Object.keys(after)]);
  return Object.fromEntries([...names].map((name) => [name, join(before[name], after[name])]));
}

/** One that ended stays as long as something of it is within the range. */
function joinWorkers(before, after, join) {
  const joined = {};
  for (const id of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const { name: _old, ...earlier } = before[id] ?? {};
    const { name: _new, ...later } = after[id] ?? {};
    const columns = joinColumns(earlier, later, join);
    if (Object.values(columns).some((column) => column.some((value) => value !== null))) {
      joined[id] = { name: (after[id] ?? before[id]).name, ...columns };
    }
  }
  return joined;
}
