"""`ekiden chat` as a person uses it: conversations at a real terminal, kept by a real service."""

import signal
from typing import Any

import pytest

from ekiden.protocol import Message
from tests.support import http
from tests.support.chat_command import COMMAND, chat, environment, person, running, states
from tests.support.client import next_answer
from tests.support.fake_engine import expected, expected_ids, text_of
from tests.support.nowhere import NOWHERE
from tests.support.processes import Api, Processes
from tests.support.terminal import CTRL_C, CTRL_D, Terminal, terminal
from tests.support.waiting import until

FEW = ("--max-tokens", "20")
CUT = "\n(cut at the length limit)"
"""What stands under each whole answer of the fake engine, which ends none by itself."""


def tell(program: Terminal, line: str, place: int) -> int:
    """Type a line; the place behind it."""
    program.type(f"{line}\n")
    return program.until(f"{line}\n", place)


def ask(program: Terminal, line: str, shown: str, place: int) -> int:
    """Type a line and see that exactly `shown` comes before the next prompt; the place behind that."""
    place = tell(program, line, place)
    end = program.until("\n> ", place)
    assert program.shown[place:end].replace(CUT, "") == f"{shown}\n> "
    return end


def leave(program: Terminal, place: int) -> str:
    """End the conversation; its id, as the last line names it."""
    program.type(CTRL_D)
    place = program.until("To go on: ekiden chat --url http://127.0.0.1:", place)
    assert program.end() == 0
    _, option, conversation = program.shown[place:].split()
    assert option == "--conversation"
    return conversation


def conversations(api: Api) -> list[dict[str, Any]]:
    """All of them, the newest change first."""
    listed: list[dict[str, Any]] = http.get(f"{api.http}/v1/conversations").json()["data"]
    return listed


def said(api: Api, conversation: str) -> list[tuple[str, str]]:
    turns = http.get(f"{api.http}/v1/conversations/{conversation}").json()["turns"]
    return [(turn["message"], turn["answer"]) for turn in turns]


def test_a_conversation_is_kept_and_ctrl_c_stops_only_an_answer(api: Api) -> None:
    with person(api, "--max-tokens", "1500") as program:
        place = tell(program, "Hello", program.until("> "))
        program.until("w", place)
        program.type(CTRL_C)
        end = program.until("> ", place)
        shown = program.shown[place : end - 2].replace("^C", "")
        assert shown.endswith("\n(stopped)\n")
        shown = shown.removesuffix("\n(stopped)\n")
        assert expected(1500).startswith(shown)
        assert shown
        assert states(api) == ["cancelled"]
        end = ask(program, "More", more := next_answer(1500, "Hello", shown, "More"), end)
        conversation = leave(program, end)
        assert states(api) == ["done", "cancelled"]
        assert said(api, conversation) == [("Hello", shown), ("More", more)]


def test_the_last_turn_is_answered_again_or_asked_anew(api: Api) -> None:
    hello, less = expected(20), next_answer(20, "Hello", expected(20), "Less")
    with person(api, *FEW) as program:
        place = ask(program, "/again", "There is nothing yet to answer again.", program.until("> "))
        place = ask(program, "Hello", hello, place)
        place = ask(program, "More", more := next_answer(20, "Hello", hello, "More"), place)
        place = ask(program, "/again", more, place)  # the same prompt and seed make the same answer
        assert len(states(api)) == 3
        assert [(each["turn_count"]) for each in conversations(api)] == [2]
        place = ask(program, "/edit  Less ", less, place)
        place = ask(program, "/again", less, place)
        place = ask(program, "And?", next_answer(20, "Hello", hello, "Less", less, "And?"), place)
        conversation = leave(program, place)
    assert [message for message, _ in said(api, conversation)] == ["Hello", "Less", "And?"]


def test_commands_are_explained_and_other_lines_are_said(api: Api) -> None:
    with person(api, *FEW) as program:
        place = tell(program, "/help", program.until("> "))
        place = program.until("/edit TEXT  asks the last turn anew, with another text\n", place)
        place = ask(program, "/agian", "There is no /agian; /help lists what there is.", program.until("> ", place))
        place = ask(program, "/edit", "/edit needs the new text of the last turn.", place)
        place = ask(program, "/usr/bin/env", answer := expected(20, "/usr/bin/env"), place)
        line = "/agian is no command"
        conversation = leave(program, ask(program, line, next_answer(20, "/usr/bin/env", answer, line), place))
    assert [message for message, _ in said(api, conversation)] == ["/usr/bin/env", line]


def test_a_conversation_is_gone_on_with_later(api: Api) -> None:
    hello, more = expected(20), next_answer(20, "Hello", expected(20), "More")
    with person(api, *FEW) as program:
        place = ask(program, "Hello", hello, program.until("> "))
        conversation = leave(program, ask(program, "More", more, place))
    with person(api, *FEW, "--conversation", conversation) as program:
        place = program.until(f"(turns before: 1)\n> More\n{more}\n")
        place = program.until("> ", place)
        place = ask(program, "/again", more, place)
        third = next_answer(20, "Hello", hello, "More", more, "Third")
        place = ask(program, "Third", third, place)
        assert leave(program, place) == conversation
    options = ["--url", api.http, "--seed", "1", *FEW, "--conversation", conversation]
    fourth = next_answer(20, *(lines := ["Hello", hello, "More", more, "Third", third, "Fourth"]))
    done = chat("Fourth", *options)
    assert (done.returncode, done.stdout, done.stderr) == (0, fourth, CUT.lstrip() + "\n")
    assert chat(*options, stdin="Fifth\n").stdout == next_answer(20, *lines, fourth, "Fifth")
    assert [each["turn_count"] for each in conversations(api)] == [5]


def test_a_script_can_begin_a_conversation(api: Api) -> None:
    options = ["--url", api.http, "--seed", "1", *FEW]
    begun = chat("Hello", *options, "--conversation", "new", "--system", "Be brief")
    answer = text_of(expected_ids([Message("system", "Be brief"), Message("user", "Hello")], 1, 20))
    assert (begun.returncode, begun.stdout) == (0, answer)
    [conversation] = conversations(api)
    assert (
        begun.stderr == f"{CUT.lstrip()}\nTo go on: ekiden chat --url {api.http} --conversation {conversation['id']}\n"
    )
    alone = chat("Hello", *options)
    assert (alone.stdout, alone.stderr) == (expected(20), CUT.lstrip() + "\n")
    assert len(conversations(api)) == 1


@pytest.mark.parametrize(
    ("line", "before"), [("Third", ("Hello", "More")), ("/edit Third", ("Hello",)), ("/again", ("Hello",))]
)
def test_a_conversation_that_the_service_lost_goes_on_as_a_new_one(
    api: Api, line: str, before: tuple[str, ...]
) -> None:
    answers = [expected(20), next_answer(20, "Hello", expected(20), "More")]
    with person(api, *FEW) as program:
        place = ask(program, "Hello", answers[0], program.until("> "))
        place = ask(program, "More", answers[1], place)
        [lost] = conversations(api)
        assert http.delete(f"{api.http}/v1/conversations/{lost['id']}").status_code == 200
        history = [
            message
            for asked, answer in zip(before, answers, strict=False)
            for message in (Message("user", asked), Message("assistant", answer))
        ]
        asked = "More" if line == "/again" else "Third"
        answer = text_of(expected_ids([*history, Message("user", asked)], 1, 20))
        notice = "The service no longer has this conversation; a new one goes on from here."
        place = ask(program, line, f"{notice}\n{answer}", place)
        following = ask(program, "/again", answer, place)
        assert leave(program, following) == conversations(api)[0]["id"] != lost["id"]


def test_a_busy_conversation_is_told_and_the_question_can_be_asked_again(api: Api) -> None:
    with person(api, *FEW) as program:
        place = ask(program, "Hello", expected(20), program.until("> "))
        [conversation] = conversations(api)
        with running(api, "--conversation", conversation["id"], "--max-tokens", "3000", "--seed", "1", "Long") as other:
            place = tell(program, "More", place)
            place = program.until("answer is still under way", place)
            place = program.until("\n> ", place)
            other.child.send_signal(signal.SIGINT)
            status, shown, _ = other.end()
        assert status == 130
        answer = next_answer(20, "Hello", expected(20), "Long", shown, "More")
        assert leave(program, ask(program, "/again", answer, place)) == conversation["id"]


def test_an_answer_under_way_in_a_conversation_is_shown_to_who_goes_on_with_it(api: Api) -> None:
    with running(api, "--conversation", "new", "--max-tokens", "600", "--seed", "1", "Long") as other:
        [conversation] = conversations(api)
        with person(api, *FEW, "--conversation", conversation["id"]) as program:
            program.until(f"> Long\n{(long := expected(600, 'Long'))}")
            place = program.until("commands.\n> ")
            place = ask(program, "More", next_answer(20, "Long", long, "More"), place)
            assert leave(program, place) == conversation["id"]
        assert other.end()[0] == 0


def test_an_answer_under_way_can_be_left_to_who_asked(api: Api) -> None:
    with running(api, "--conversation", "new", "--max-tokens", "3000", "--seed", "1", "Long") as other:
        [conversation] = conversations(api)
        with person(api, *FEW, "--conversation", conversation["id"]) as program:
            program.until("> Long\nw")
            program.type(CTRL_C)
            program.until(f"\nThe answer goes on: ekiden chat --url {api.http} --job {conversation['busy']}\n")
            program.until("commands.\n> ")
            program.type(CTRL_D)
            assert program.end() == 0
        assert states(api) == ["running"]
        other.child.kill()


def test_lines_that_are_pasted_together_are_one_message(api: Api) -> None:
    with person(api, *FEW, term="xterm") as program:
        place = program.until("> ")
        pasted = "one\ntwo"
        program.type(f"\x1b[200~{pasted}\x1b[201~\n")
        place = program.until(f"{expected(20, pasted)}{CUT}\n", place)
        program.until("> ", place)
        assert [message for message, _ in said(api, leave(program, place))] == ["one\ntwo"]


def test_an_answer_that_met_its_limit_says_so(api: Api) -> None:
    with person(api, *FEW) as program:
        tell(program, "Hello", program.until("> "))
        program.until(f"{expected(20)}{CUT}\n> ")


def test_an_answer_that_an_operator_cancels_says_so_and_the_conversation_goes_on(api: Api) -> None:
    with person(api, "--max-tokens", "1500") as program:
        place = tell(program, "Hello", program.until("> "))
        program.until("w", place)
        [job] = http.get(f"{api.http}/admin/api/jobs").json()["jobs"]
        http.request("POST", f"{api.http}/admin/api/jobs/{job['id']}/cancel")
        taken = "\nThe answer was cancelled by an operator, or by another client of yours.\n"
        end = program.until(f"{taken}> ", place)
        shown = program.shown[place:end].removesuffix(f"{taken}> ")
        assert expected(1500).startswith(shown)
        end = ask(program, "More", next_answer(1500, "Hello", shown, "More"), end)
        leave(program, end)


def test_a_question_that_was_stopped_too_early_is_what_again_is_about(fleet: Processes) -> None:
    api = fleet.api()
    with person(api, *FEW) as program:
        place = tell(program, "Hello", program.until("> "))
        until(lambda: states(api) == ["queued"], what="the job")
        program.type(CTRL_C)
        place = program.until("(stopped before it began)\n> ", place)
        fleet.worker()
        place = ask(program, "/edit Hi", hi := expected(20, "Hi"), place)
        conversation = leave(program, place)
    assert said(api, conversation) == [("Hi", hi)]


def test_a_question_that_was_stopped_before_its_first_token_leaves_no_turn(api: Api) -> None:
    with person(api, *FEW) as program:
        place = ask(program, "Hello", hello := expected(20), program.until("> "))
        place = tell(program, "WAIT", place)
        until(lambda: prompt_tokens(api) > 0, what="the start of the job")
        program.type(CTRL_C)
        place = program.until("(stopped before it began)\n> ", place)
        place = ask(program, "/edit Hi", hi := next_answer(20, "Hello", hello, "Hi"), place)
        conversation = leave(program, place)
    assert said(api, conversation) == [("Hello", hello), ("Hi", hi)]


def prompt_tokens(api: Api) -> int:
    """Of the answer that is under way: none before a worker has built the prompt."""
    busy = [each["busy"] for each in conversations(api) if each["busy"]]
    return http.get(f"{api.http}/v1/jobs/{busy[0]}").json()["usage"]["prompt_tokens"] if busy else 0


def test_an_error_does_not_end_a_conversation_and_ctrl_c_at_the_prompt_does(api: Api) -> None:
    with person(api, *FEW) as program:
        place = ask(program, "[FORGED]", "A message holds a tag that the test forbids.", program.until("> "))
        program.type("\n")
        place = program.until("> ", place)
        place = ask(program, "Hello", expected(20), place)  # what failed is no part of the history
        program.type(CTRL_C + "\n")  # a signal just before Python waits for keys is noticed with the next one
        assert program.end() == 0


def test_what_cannot_go_together_is_refused(api: Api) -> None:
    for arguments, part in [
        (["--job", "j", "--conversation", "c"], "--job follows an answer"),
        (["--job", "j", "Hello"], "--job follows an answer"),
        (["--conversation", "c", "--system", "Be brief", "Hello"], "--system is for a new conversation"),
    ]:
        done = chat("--url", api.http, *arguments)
        assert (done.returncode, done.stdout) == (2, ""), arguments
        assert part in done.stderr


def test_a_conversation_does_not_begin_without_the_service() -> None:
    with terminal([*COMMAND, "--url", f"http://{NOWHERE[0]}"], environment()) as program:
        assert program.end() == 1
        assert "cannot be reached" in program.shown
        assert "> " not in program.shown


def test_a_conversation_that_is_not_there_is_not_gone_on_with(api: Api) -> None:
    with person(api, "--conversation", "none") as program:
        assert program.end() == 1
        assert program.shown == "There is no such conversation.\n"
    done = chat("Hello", "--url", api.http, "--conversation", "none")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "There is no such conversation.\n")
