"""`ekiden chat` as a person or a script runs it: a real program, a real service, a real terminal."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from ekiden.net import free_port
from ekiden.protocol import Message
from tests.support.fake_engine import expected_ids, text_of
from tests.support.processes import Api, Processes
from tests.support.terminal import CTRL_C, CTRL_D, terminal

PROGRAM = "import typer; from ekiden.chat_command import register; app = typer.Typer(); register(app); app()"
COMMAND = (sys.executable, "-c", PROGRAM)


def expected(count: int, *messages: Message, seed: int = 1) -> str:
    return text_of(expected_ids(messages or [Message("user", "Hello")], seed, count))


def environment(**extra: str) -> dict[str, str]:
    """Without the settings of whoever runs the tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith("EKIDEN_")} | extra


def chat(*arguments: str, stdin: str = "", **extra: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command, env = [*COMMAND, *arguments], environment(**extra)
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, env=env, check=False)


class Running:
    """The command in mid-answer: its first byte is on stdout."""

    def __init__(self, child: "subprocess.Popen[bytes]") -> None:
        assert child.stdout is not None
        assert child.stderr is not None
        self.child, self.out, self.err = child, child.stdout, child.stderr
        self.begun = self.out.read(1)

    def end(self) -> tuple[int, str, str]:
        """Wait for its end: status, everything on stdout, everything on stderr."""
        rest, notices = self.child.communicate(timeout=60)
        return self.child.returncode, (self.begun + rest).decode(), notices.decode()


@contextmanager
def running(api: Api, *arguments: str) -> Iterator[Running]:
    """The command in mid-answer for the length of a `with` block."""
    pipe, none = subprocess.PIPE, subprocess.DEVNULL
    command = [*COMMAND, "--url", api.http, *arguments]
    with subprocess.Popen(command, stdin=none, stdout=pipe, stderr=pipe, bufsize=0, env=environment()) as child:
        try:
            yield Running(child)
        finally:
            child.kill()


def states(api: Api) -> list[str]:
    """The states of all jobs, newest first."""
    return [job["state"] for job in httpx.get(f"{api.http}/admin/api/jobs").json()["jobs"]]


def test_a_message_is_answered_on_stdout_and_nothing_else_is(api: Api) -> None:
    done = chat("Hello", "--url", api.http, "--max-tokens", "30", "--seed", "1")
    assert (done.returncode, done.stdout, done.stderr) == (0, expected(30), "")


def test_options_and_environment_reach_the_service(fleet: Processes) -> None:
    fleet.worker()
    api = fleet.api(EKIDEN_API_KEYS="ann:right")
    options = ["--system", "Be brief", "--max-tokens", "20", "--seed", "3", "--temperature", "0.5", "--top-p", "0.5"]
    done = chat("Hello", *options, EKIDEN_URL=api.http, EKIDEN_API_KEY="right")
    prompt = [Message("system", "Be brief"), Message("user", "Hello")]
    assert (done.returncode, done.stdout) == (0, expected(20, *prompt, seed=3))
    wrong = chat("Hello", "--url", api.http, "--api-key", "wrong", EKIDEN_API_KEY="right")
    assert (wrong.returncode, wrong.stdout, wrong.stderr) == (1, "", "The API key is not known.\n")


def test_a_question_may_come_through_a_pipe(api: Api) -> None:
    options = ["--url", api.http, "--max-tokens", "20", "--seed", "1"]
    assert chat(*options, stdin="Hello\n").stdout == expected(20)
    empty = chat(*options, stdin="")
    assert (empty.returncode, empty.stdout) == (2, "")
    assert "nothing to ask" in empty.stderr


def test_what_goes_wrong_is_one_sentence_and_a_status(api: Api) -> None:
    for arguments, status, part in [
        (["Hello", "--url", f"http://127.0.0.1:{free_port()}"], 1, "cannot be reached"),
        (["Hello", "--url", api.http, "--model", "other"], 1, "No worker ever served this model here; there is"),
        (["Hello", "--url", api.http, "--temperature", "3"], 1, "params.temperature must be between 0 and 2."),
        (["--url", api.http, "--job", "none"], 1, "There is no such job."),
        (["Hello", "--url", "nonsense"], 3, "is not an http"),
    ]:
        done = chat(*arguments)
        assert (done.returncode, done.stdout) == (status, ""), arguments
        assert part in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr


def test_an_answer_goes_on_after_the_api_died_and_the_reader_is_told(fleet: Processes) -> None:
    fleet.worker(EKIDEN_TEST_STEP_S="0.01")
    api = fleet.api()
    with running(api, "Hello", "--max-tokens", "300", "--seed", "1") as command:
        api.end(signal.SIGKILL)
        fleet.api(EKIDEN_PORT=str(api.port))
        status, text, notices = command.end()
    assert (status, text) == (0, expected(300))
    assert "The connection was lost. Trying again.\n" in notices


def test_ctrl_c_ends_the_job_of_a_single_question(api: Api) -> None:
    with running(api, "Hello", "--max-tokens", "4000", "--seed", "1") as command:
        command.child.send_signal(signal.SIGINT)
        status, text, notices = command.end()
    assert (status, notices) == (130, "")
    assert expected(4000).startswith(text)
    assert states(api) == ["cancelled"]


def test_a_closed_pipe_is_quiet_and_ends_the_job(api: Api) -> None:
    with running(api, "Hello", "--max-tokens", "4000") as command:
        command.out.close()
        assert command.child.wait(60) == 141
        assert command.err.read() == b""
    assert states(api) == ["cancelled"]


def test_a_running_job_can_be_followed_and_left(api: Api) -> None:
    with running(api, "Hello", "--max-tokens", "1500", "--seed", "1") as command:
        job = httpx.get(f"{api.http}/admin/api/jobs").json()["jobs"][0]["id"]
        with running(api, "--job", job) as leaving:
            leaving.child.send_signal(signal.SIGINT)
            assert leaving.end()[0] == 130
        followed = chat("--url", api.http, "--job", job)
        assert (followed.returncode, followed.stdout) == (0, expected(1500))
        assert command.end()[:2] == (0, expected(1500))


def test_a_conversation_keeps_its_history_and_ctrl_c_stops_only_an_answer(api: Api) -> None:
    command = [*COMMAND, "--url", api.http, "--max-tokens", "1500", "--seed", "1"]
    with terminal(command, environment()) as person:
        place = person.until("> ")
        person.type("Hello\n")
        place = person.until("Hello\n", place)
        person.until("w", place)
        person.type(CTRL_C)
        end = person.until("> ", place)
        shown = person.shown[place : end - 2].replace("^C", "")
        assert shown.endswith("\n(stopped)\n")
        shown = shown.removesuffix("\n(stopped)\n")
        assert expected(1500).startswith(shown)
        assert shown
        assert states(api) == ["cancelled"]
        person.type("More\n")
        place = person.until("More\n", end)
        history = [Message("user", "Hello"), Message("assistant", shown), Message("user", "More")]
        answer = expected(1500, *history)
        person.until(answer + "\n> ", place, timeout_s=60)
        person.type(CTRL_D)
        assert person.end() == 0
        assert states(api) == ["done", "cancelled"]


def test_an_error_does_not_end_a_conversation_and_ctrl_c_at_the_prompt_does(api: Api) -> None:
    command = [*COMMAND, "--url", api.http, "--max-tokens", "20", "--seed", "1"]
    with terminal(command, environment()) as person:
        place = person.until("> ")
        person.type("[FORGED]\n")
        place = person.until("A message holds a tag that the test forbids.\n> ", place)
        person.type("\n")
        place = person.until("> ", place)
        person.type("Hello\n")
        person.until(expected(20) + "\n> ", place)  # what failed is no part of the history
        person.type(CTRL_C)
        assert person.end() == 0


def test_a_conversation_does_not_begin_without_the_service() -> None:
    with terminal([*COMMAND, "--url", f"http://127.0.0.1:{free_port()}"], environment()) as person:
        assert person.end() == 1
        assert "cannot be reached" in person.shown
        assert "> " not in person.shown
