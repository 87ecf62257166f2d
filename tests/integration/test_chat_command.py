"""`ekiden chat` as a script runs it: a real program, a real service, pipes and signals."""

import signal

from ekiden.protocol import Message
from tests.support import http
from tests.support.chat_command import chat, running, states
from tests.support.fake_engine import expected_ids, text_of
from tests.support.nowhere import NOWHERE
from tests.support.processes import Api, Processes

HOW = "It is given with EKIDEN_API_KEY or --api-key."
TAKEN = "The answer was cancelled by an operator, or by another client of yours.\n"


def expected(count: int, *messages: Message, seed: int = 1) -> str:
    return text_of(expected_ids(messages or [Message("user", "Hello")], seed, count))


def test_a_message_is_answered_on_stdout_and_nothing_else_is(api: Api) -> None:
    done = chat("Hello", "--url", api.http, "--max-tokens", "30", "--seed", "1")
    assert (done.returncode, done.stdout, done.stderr) == (0, expected(30), "(cut at the length limit)\n")


def test_options_and_environment_reach_the_service(fleet: Processes) -> None:
    fleet.worker()
    api = fleet.api(EKIDEN_API_KEYS="ann:right")
    options = ["--system", "Be brief", "--max-tokens", "20", "--seed", "3", "--temperature", "0.5", "--top-p", "0.5"]
    done = chat("Hello", *options, EKIDEN_URL=api.http, EKIDEN_API_KEY="right")
    prompt = [Message("system", "Be brief"), Message("user", "Hello")]
    assert (done.returncode, done.stdout) == (0, expected(20, *prompt, seed=3))
    wrong = chat("Hello", "--url", api.http, "--api-key", "wrong", EKIDEN_API_KEY="right")
    assert (wrong.returncode, wrong.stdout, wrong.stderr) == (1, "", f"The API key is not known. {HOW}\n")
    none = chat("Hello", "--url", api.http)
    assert (none.returncode, none.stdout, none.stderr) == (1, "", f"An API key is needed. {HOW}\n")


def test_a_question_may_come_through_a_pipe(api: Api) -> None:
    options = ["--url", api.http, "--max-tokens", "20", "--seed", "1"]
    assert chat(*options, stdin="Hello\n").stdout == expected(20)
    empty = chat(*options, stdin="")
    assert (empty.returncode, empty.stdout) == (2, "")
    assert "nothing to ask" in empty.stderr


def test_what_goes_wrong_is_one_sentence_and_a_status(api: Api) -> None:
    for arguments, status, part in [
        (["Hello", "--url", f"http://{NOWHERE[0]}"], 1, "cannot be reached"),
        (["Hello", "--url", api.http, "--model", "other"], 1, "No worker ever served this model here; there is"),
        (["Hello", "--url", api.http, "--temperature", "3"], 1, "params.temperature must be between 0 and 2."),
        (["--url", api.http, "--job", "none"], 1, "There is no such job."),
        (["Hello", "--url", "ftp://nonsense"], 3, "is not an http"),
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
    assert (status, notices) == (130, "(stopped)\n")
    assert expected(4000).startswith(text)
    assert states(api) == ["cancelled"]


def test_an_answer_that_an_operator_cancels_says_so_to_all_who_read_it(api: Api) -> None:
    with running(api, "Hello", "--max-tokens", "4000", "--seed", "1") as command:
        [job] = http.get(f"{api.http}/admin/api/jobs").json()["jobs"]
        with running(api, "--job", job["id"]) as follower:
            http.request("POST", f"{api.http}/admin/api/jobs/{job['id']}/cancel")
            for reader in (command, follower):
                status, text, notices = reader.end()
                assert (status, notices) == (1, TAKEN)
                assert expected(4000).startswith(text)


def test_a_closed_pipe_is_quiet_and_ends_the_job(api: Api) -> None:
    with running(api, "Hello", "--max-tokens", "4000") as command:
        command.out.close()
        assert command.child.wait(60) == 141
        assert command.err.read() == b""
    assert states(api) == ["cancelled"]


def test_a_running_job_can_be_followed_and_left(api: Api) -> None:
    with running(api, "Hello", "--max-tokens", "1500", "--seed", "1") as command:
        job = http.get(f"{api.http}/admin/api/jobs").json()["jobs"][0]["id"]
        with running(api, "--job", job) as leaving:
            leaving.child.send_signal(signal.SIGINT)
            assert leaving.end()[0] == 130
        followed = chat("--url", api.http, "--job", job)
        assert (followed.returncode, followed.stdout) == (0, expected(1500))
        assert command.end()[:2] == (0, expected(1500))
