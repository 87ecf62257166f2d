"""Whatever is lost, doubled or early: with snapshots in between, the client gets the exact text once."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ekiden.jobs import State
from ekiden.protocol import Delta, Done, Error, Moved, Parked, Queued, ServerFrame, Started, Usage
from ekiden.store.types import Snapshot
from ekiden.wire import AnyFrame, ChangedFrame, DeltaFrame, EndedFrame, MovedFrame, Record, StartedFrame
from ekiden_api.feed import Feed

JOB = "j"


def history(texts: list[str], cuts: list[int], moves: set[int]) -> list[AnyFrame]:
    """All frames of a job whose records have these texts, flushed at `cuts`, moved before some flushes."""
    frames: list[AnyFrame] = [StartedFrame(JOB, 1, 0)]
    attempt, at = 1, 0
    for number, end in enumerate(sorted({*cuts, len(texts)})):
        if number in moves:
            attempt += 1
            frames.append(MovedFrame(JOB, attempt))
        records = [Record(index, text) for index, text in enumerate(texts[at:end], at)]
        frames.append(DeltaFrame(JOB, attempt, at, records))
        at = end
    frames.append(ended(len(texts), attempt))
    return frames


def ended(cursor: int, attempt: int) -> EndedFrame:
    return EndedFrame(JOB, "done", attempt, cursor, "stop", None, None, 3, 0, 1, 2, 3)


def snapshot(texts: list[str], frames: list[AnyFrame], seen: int, cursor: int) -> Snapshot:
    """The store after the first `seen` frames, read from `cursor` on."""
    past = frames[:seen]
    n = max((f.start + len(f.records) for f in past if isinstance(f, DeltaFrame)), default=0)
    end = past[-1] if past and isinstance(past[-1], EndedFrame) else None
    attempt = max((f.attempt for f in past), default=0)
    return Snapshot(
        job=JOB,
        client_id="c",
        state=State.DONE if end else State.RUNNING,
        attempt=attempt,
        cursor=n,
        started=bool(past),
        dropped_turns=0,
        position=0,
        expired=False,
        ended=end,
        records=[Record(i, text) for i, text in enumerate(texts)][min(cursor, n) : n],
    )


def waiting(state: State, parks: int, attempt: int = 0) -> Snapshot:
    """A job without a token."""
    found = snapshot([], [], 0, 0)
    return replace(found, state=state, position=4, parks=parks, attempt=attempt, started=attempt > 0)


QUEUED, PARKED = Queued(job=JOB, position=4), Parked(job=JOB)


def test_a_held_job_is_told_once_a_time_and_goes_on_in_the_queue() -> None:
    feed = Feed(JOB, "c")
    out = feed.on_snapshot(waiting(State.QUEUED, 0))
    for state, parks in [("parked", 1), ("parked", 1), ("queued", 1), ("parked", 2), ("queued", 2)]:
        out += feed.on_snapshot(waiting(State(state), parks))
        assert not feed.gap
    assert out == [QUEUED, PARKED, QUEUED, PARKED, QUEUED]


def test_a_job_that_was_held_and_went_on_unseen_is_told_to_have_been_held() -> None:
    feed = Feed(JOB, "c")
    assert feed.on_snapshot(waiting(State.QUEUED, 1)) == [PARKED, QUEUED]
    feed.told(1, started=True, parks=1)
    assert feed.on_snapshot(waiting(State.RUNNING, 1, 1)) == []
    assert feed.on_snapshot(waiting(State.RUNNING, 2, 2)) == [PARKED, Moved(job=JOB, attempt=2)]


def test_a_snapshot_older_than_a_move_does_not_tell_of_a_hold_that_is_over() -> None:
    feed = Feed(JOB, "c")
    feed.told(1, started=True)
    assert feed.on_frame(MovedFrame(JOB, 2)) == [Moved(job=JOB, attempt=2)]
    assert feed.on_snapshot(waiting(State.PARKED, 1, 1)) == []
    assert feed.gap
    assert feed.on_snapshot(waiting(State.RUNNING, 1, 2)) == [PARKED]
    assert not feed.gap


def test_a_change_heard_while_a_snapshot_is_on_its_way_is_asked_about_again() -> None:
    feed = Feed(JOB, "c")
    feed.on_frame(ChangedFrame(JOB))
    assert feed.gap
    feed.changed = False  # the store is asked
    feed.on_frame(ChangedFrame(JOB))
    feed.on_snapshot(waiting(State.PARKED, 1))
    assert feed.gap
    feed.changed = False
    assert feed.on_snapshot(waiting(State.QUEUED, 1)) == [QUEUED]
    assert not feed.gap


@given(st.data())
def test_the_text_is_exact_and_ends_once(data: st.DataObject) -> None:
    texts = data.draw(st.lists(st.sampled_from(["", "a", "bc", "é "]), max_size=12))
    cuts = data.draw(st.lists(st.integers(0, len(texts)), max_size=5))
    frames = history(texts, cuts, data.draw(st.sets(st.integers(0, 4))))
    start = data.draw(st.integers(0, len(texts)))
    feed = Feed(JOB, "c", start)  # of a client that knows nothing yet, though it may want only the rest
    out: list[ServerFrame] = []
    seen = 0
    for _ in range(data.draw(st.integers(0, 30))):
        seen = data.draw(st.integers(seen, len(frames)))
        event = data.draw(st.sampled_from(["live", "early", "ask"]))
        if event == "ask":
            out += feed.on_snapshot(snapshot(texts, frames, seen, feed.cursor))
        elif event == "live" and seen:
            out += feed.on_frame(frames[seen - 1])
        elif seen < len(frames):
            out += feed.on_frame(frames[seen])
    while not feed.ended:  # a poll asks until it is over
        out += feed.on_snapshot(snapshot(texts, frames, len(frames), feed.cursor))
    deltas = [frame for frame in out if isinstance(frame, Delta)]
    assert "".join(frame.text for frame in deltas) == "".join(texts[start:])
    cursors = [frame.cursor for frame in deltas]
    assert cursors == sorted(set(cursors))
    for frame in deltas:
        assert "".join(texts[start : frame.cursor]).startswith("".join(d.text for d in deltas[: deltas.index(frame)]))
    assert [type(frame) for frame in out].count(Done) == 1
    assert isinstance(out[-1], Done)
    assert not any(isinstance(frame, Delta | Done) for frame in out[: [type(f) for f in out].index(Started)])
    attempts = [frame.attempt for frame in out if isinstance(frame, Started | Moved)]
    moves = [frame.attempt for frame in out if isinstance(frame, Moved)]
    assert attempts == sorted(attempts)
    assert moves == sorted(set(moves))
    assert sum(isinstance(frame, Started) for frame in out) == 1


def test_a_gap_is_asked_about_and_a_cursor_beyond_the_log_waits_for_the_excess() -> None:
    feed = Feed(JOB, None, 3)
    feed.told(1, started=True)
    assert feed.on_frame(DeltaFrame(JOB, 1, 0, [Record(0, "a"), Record(1, "b")])) == []
    assert not feed.gap
    [delta] = feed.on_frame(DeltaFrame(JOB, 1, 2, [Record(2, "c"), Record(3, "d")]))
    assert delta == Delta(job=JOB, cursor=4, text="d")
    assert feed.on_frame(DeltaFrame(JOB, 1, 5, [Record(5, "f")])) == []
    assert feed.gap


def test_an_error_carries_the_clients_id_and_whether_a_retry_may_help() -> None:
    feed = Feed(JOB, "mine")
    end = EndedFrame(JOB, "error", 1, 0, None, "queue_timeout", "Too late.", 0, 0, None, None, 9)
    feed.told(1, started=True)
    [frame] = feed.on_frame(end)
    assert frame == Error(code="queue_timeout", message="Too late.", id="mine", job=JOB, retryable=True)
    assert feed.on_frame(end) == []


def test_an_end_whose_text_is_gone_is_an_end_all_the_same() -> None:
    end = ended(3, 1)
    gone = replace(snapshot([], [end], 1, 0), cursor=3, expired=True)
    feed = Feed(JOB, "mine", 1)
    [error] = feed.on_snapshot(gone)
    assert (error.code, error.id, error.job, feed.ended) == ("expired", "mine", JOB, True)  # type: ignore[attr-defined]
    whole = Feed(JOB, "mine", 3)
    whole.told(1, started=True)
    assert [type(frame) for frame in whole.on_snapshot(gone)] == [Done]


def test_the_usage_is_told_with_the_end() -> None:
    feed = Feed(JOB, "mine")
    feed.told(1, started=True)
    [done] = feed.on_frame(EndedFrame(JOB, "done", 1, 0, "stop", None, None, 31, 24, 1, 2, 3, 5))
    assert isinstance(done, Done)
    assert done.usage == Usage(prompt_tokens=31, completion_tokens=0, cached_tokens=24, retokenized_tokens=5)


def test_an_end_without_a_start_is_asked_about() -> None:
    feed = Feed(JOB, "mine")
    end = EndedFrame(JOB, "done", 1, 0, "stop", None, None, 3, 0, None, None, 9)
    assert feed.on_frame(end) == []
    assert feed.gap
    frames = feed.on_snapshot(snapshot([], [StartedFrame(JOB, 1, 0), end], 2, 0))
    assert [type(frame) for frame in frames] == [Started, Done]


def test_a_snapshot_older_than_a_heard_frame_leaves_the_gap() -> None:
    feed = Feed(JOB, "mine")
    feed.told(1, started=True)
    assert feed.on_frame(DeltaFrame(JOB, 1, 1, [Record(1, "b")])) == []
    feed.on_snapshot(snapshot(["a", "b"], [StartedFrame(JOB, 1, 0)], 1, 0))
    assert feed.gap
    feed.on_snapshot(snapshot(["a", "b"], history(["a", "b"], [], set()), 2, 0))
    assert not feed.gap
