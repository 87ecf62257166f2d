"""The cursor rule of the client, frame by frame."""

import json
from typing import Any

import pytest

from ekiden.client.follower import EVENT_COST, Follower
from ekiden.client.retry import Patience
from ekiden.errors import EngineFailed, Poison
from ekiden.protocol import Accepted, Attached, Delta, Done, Error, Park, Parked, Queued, Resume


def chat(buffer_chars: int = 10_000) -> Follower:
    return Follower("r1", Patience(None), buffer_chars, opening='{"type":"chat"}')


def sent(follower: Follower) -> dict[str, Any] | None:
    """What it asks for now."""
    frame = follower.next_frame()
    return None if frame is None else json.loads(frame)


def accepted(follower: Follower) -> None:
    assert sent(follower) == {"type": "chat"}
    follower.on_frame(Accepted(id="r1", job="j1"))


def attached(cursor: int) -> Attached:
    return Attached(id="r1", job="j1", state="running", attempt=1, cursor=cursor)


def delta(cursor: int, text: str = "") -> Delta:
    return Delta(job="j1", cursor=cursor, text=text or f"<{cursor}>")


def done(cursor: int) -> Done:
    return Done(job="j1", cursor=cursor, finish_reason="stop")


def text(follower: Follower) -> str:
    """All that can be read now."""
    texts = []
    while (event := follower.take()) is not None:
        texts.append(event.text if isinstance(event, Delta) else "")
    return "".join(texts)


def test_an_unacknowledged_chat_is_sent_again_and_an_accepted_one_attached() -> None:
    follower = chat()
    assert sent(follower) == {"type": "chat"}
    assert sent(follower) is None
    follower.restart()
    accepted(follower)
    follower.on_frame(delta(3))
    follower.restart()
    assert sent(follower) == {"type": "attach", "id": "r1", "job": "j1", "cursor": 3}
    assert sent(follower) is None


def test_a_resume_that_arrived_is_not_sent_again_on_another_connection() -> None:
    follower = chat()
    accepted(follower)
    follower.order(Resume)
    assert sent(follower) == {"type": "resume", "id": "r1", "job": "j1"}
    follower.restart()
    assert sent(follower) == {"type": "attach", "id": "r1", "job": "j1"}
    follower.on_frame(attached(0))
    assert sent(follower) == {"type": "resume", "id": "r1", "job": "j1"}
    follower.on_frame(delta(1))
    follower.restart()
    sent(follower)
    follower.on_frame(attached(1))
    assert sent(follower) is None


def test_a_park_is_wanted_until_it_is_told() -> None:
    follower = chat()
    accepted(follower)
    follower.order(Park)
    assert sent(follower) == {"type": "park", "id": "r1", "job": "j1"}
    follower.on_frame(delta(1))
    assert not follower.settled.is_set()
    follower.on_frame(Parked(job="j1"))
    assert follower.settled.is_set()
    follower.order(Park)
    follower.order(Resume)
    assert follower.settled.is_set()
    follower.on_frame(done(1))
    follower.order(Park)
    assert follower.settled.is_set()


def test_the_conversation_is_known_once_it_is_accepted_or_attached() -> None:
    follower = chat()
    sent(follower)
    assert follower.conversation is None
    follower.on_frame(Accepted(id="r1", job="j1", conversation="c1"))
    assert follower.conversation == "c1"
    attaching = Follower("r2", Patience(None), 10_000, job="j1")
    sent(attaching)
    attaching.on_frame(Attached(id="r2", job="j1", state="running", attempt=1, cursor=0, conversation="c1"))
    assert attaching.conversation == "c1"


def test_frames_of_an_earlier_attach_are_ignored() -> None:
    follower = chat()
    accepted(follower)
    follower.on_frame(delta(3))
    follower.restart()
    follower.on_frame(delta(5))
    sent(follower)
    follower.on_frame(delta(6))
    follower.on_frame(attached(3))
    follower.on_frame(delta(6, "<456>"))
    assert text(follower) == "<3><456>"


def test_a_full_buffer_pauses_and_resumes_at_the_cursor_that_was_buffered() -> None:
    follower = chat(buffer_chars=4 * EVENT_COST)
    accepted(follower)
    for cursor in range(1, 100):
        follower.on_frame(delta(cursor))
    assert follower.paused
    read, kept = text(follower), follower.cursor
    assert read == "".join(f"<{cursor}>" for cursor in range(1, kept + 1))
    assert 0 < kept < 5
    follower.resume()
    assert sent(follower) == {"type": "attach", "id": "r1", "job": "j1", "cursor": kept}
    follower.on_frame(attached(kept))
    follower.on_frame(delta(100, "rest" * 1000))
    assert not follower.paused
    follower.on_frame(done(100))
    assert text(follower) == "rest" * 1000
    assert follower.complete


def test_an_end_that_comes_while_paused_is_known_and_what_was_dropped_can_be_had() -> None:
    follower = chat(buffer_chars=2 * EVENT_COST)
    accepted(follower)
    for cursor in range(1, 10):
        follower.on_frame(delta(cursor))
    follower.on_frame(done(9))
    assert (follower.over, follower.finished.is_set(), follower.complete) == (True, True, False)
    read = text(follower)
    follower.resume()
    assert sent(follower) is not None
    follower.on_frame(attached(follower.cursor))
    follower.on_frame(delta(9, "the rest"))
    follower.on_frame(done(9))
    assert read + text(follower) == "<1>the rest"
    assert follower.complete


def test_unread_frames_without_text_are_bounded_too() -> None:
    follower = chat(buffer_chars=5 * EVENT_COST)
    accepted(follower)
    for position in range(1000):
        follower.on_frame(Queued(job="j1", position=position))
        follower.restart()
        sent(follower)
        follower.on_frame(attached(0))
    assert len(follower._events) < 10


def test_a_cancel_waits_for_the_jobs_name_and_is_repeated_on_the_next_connection() -> None:
    follower = chat()
    follower.cancel()
    assert sent(follower) == {"type": "chat"}
    assert sent(follower) is None
    follower.on_frame(Accepted(id="r1", job="j1"))
    assert sent(follower) == {"type": "cancel", "id": "r1", "job": "j1"}
    assert sent(follower) is None
    follower.restart()
    assert sent(follower) == {"type": "attach", "id": "r1", "job": "j1"}
    follower.on_frame(attached(0))
    assert sent(follower) == {"type": "cancel", "id": "r1", "job": "j1"}
    follower.on_frame(done(0))
    assert sent(follower) is None


@pytest.mark.parametrize(("code", "kind"), [("poison", Poison), ("engine_error", EngineFailed)])
def test_an_error_of_the_job_comes_after_the_text_before_it(code: str, kind: type[Exception]) -> None:
    follower = chat()
    accepted(follower)
    follower.on_frame(delta(2))
    follower.on_frame(Error(code=code, message="It broke.", job="j1", id="r1"))
    assert text(follower) == "<2>"
    assert isinstance(follower.error, kind)
    assert (follower.error.job, str(follower.error)) == ("j1", "It broke.")


def test_an_error_with_an_unknown_code_keeps_its_code() -> None:
    follower = chat()
    accepted(follower)
    follower.on_frame(Error(code="brand_new", message="New.", job="j1", retryable=True, retry_after_s=2.0))
    assert follower.error is not None
    assert (follower.error.code, follower.error.retryable, follower.error.retry_after_s) == ("brand_new", True, 2.0)
