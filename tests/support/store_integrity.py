"""What must be true of a store whose jobs have all ended: every key is known, and none stays that nobody needs."""

import re
from collections import Counter
from typing import Any

from ekiden.jobs import State
from ekiden.keys import Keys
from ekiden.wire import decode_record

KINDS = re.compile(
    r"(?P<job>(job|request|prompt|log|times|idem|watchers):.+)"
    r"|(?P<conversation>(conv|turns):.+|user:.*:convs)"
    r"|(?P<live>queue:.+|user:.*:(live|running|lanes)|replica:.+:jobs|worker:.+:(jobs|cancel|park))"
    r"|(?P<worker>worker:[^:]+)"
    r"|(?P<history>stat:.+|by:.+|replica:.+:info)"
    r"|(?P<session>session:.+)"
    r"|(?P<index>jobs|ended|workers|replicas|models|fleet|seq|slots|totals|keys|audit|drills|paused)"
    r"|(?P<celery>celery:(_kombu\.binding.+|unacked.*))"
)
"""`live` keys exist only while a job is queued or running, or a worker was asked something."""

NO_EXPIRY = {"index", "celery"}
"""What stays for ever: a bounded number of keys. The trimmed indexes name what the others hold."""


def check_integrity(redis: Any, keys: Keys) -> Counter[str]:
    """Raise AssertionError unless the idle store is consistent; returns how many keys there are of each kind."""
    found = Counter[str]()
    names = list(redis.scan_iter(match=f"{keys.prefix}*", count=1000))
    with redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.ttl(name)
        expiries = pipe.execute()
    for name, ttl in zip(names, expiries, strict=True):
        kind = KINDS.fullmatch(name.decode().removeprefix(keys.prefix))
        assert kind, f"a key of no known kind: {name!r}"
        assert kind.lastgroup
        assert kind.lastgroup != "live", f"nothing is live, and there is {name!r}"
        assert ttl != -1 or kind.lastgroup in NO_EXPIRY, f"a key without expiry: {name!r}"
        found[kind.lastgroup] += 1
    jobs, ended = (set(redis.zrange(keys.prefix + index, 0, -1)) for index in ("jobs", "ended"))
    assert jobs == ended, f"{len(jobs - ended)} jobs have not ended"
    return found


def check_log(redis: Any, keys: Keys, job: str, ids: list[int], text: str) -> None:
    """Raise AssertionError unless a job is done, with a log of these ids and this text."""
    state, length = redis.hmget(keys.job(job), "state", "n")
    assert state is not None, f"{job}: no record"
    assert State(state.decode()) is State.DONE, f"{job} is {state!r}"
    records = [decode_record(record) for record in redis.lrange(keys.log(job), 0, -1)]
    assert (int(length), [record.token_id for record in records]) == (len(ids), ids), f"{job}: another log"
    assert "".join(record.text for record in records) == text, f"{job}: another text"
