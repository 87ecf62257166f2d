"""`ekiden detokenize` as a program: a line out for each line in, exact text, clear refusals."""

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from ekiden.exit_codes import CONFIG, FAILED, INTERRUPTED, PIPE_CLOSED, USAGE
from ekiden_worker.text import Detokenizer
from tests.support.data import data_file
from tests.support.seeded import generator
from tests.support.tokenizers import byte_level_tokenizer
from tests.unit.text.sequences import KINDS, kind

COMMAND = [sys.executable, "-m", "ekiden", "detokenize", "--tokenizer"]
TIMEOUT_S = 60


def detokenize(folder: Path, lines: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, folder], input=lines, capture_output=True, timeout=TIMEOUT_S, check=False)


def answers(folder: Path, *lines: bytes) -> list[dict[str, Any]]:
    """What the program answers to lines, one each; it ends well and says nothing else."""
    done = detokenize(folder, b"\n".join(lines))
    assert (done.returncode, done.stderr) == (0, b"")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(lines)
    return found


@contextmanager
def conversation(folder: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """The program's stdin and stdout while it runs."""
    with subprocess.Popen([*COMMAND, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin
        assert child.stdout
        yield child.stdin, child.stdout
        child.stdin.close()
        assert child.wait(TIMEOUT_S) == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with nothing but tokenizer.json."""
    byte_level_tokenizer().save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_every_step_of_the_llama_2_vectors_is_exact() -> None:
    vectors = json.loads(data_file("llama2/vectors/decode.json").read_text())["vectors"]
    lines = [json.dumps({"ids": case["ids"]}).encode() for case in vectors]
    for case, answer in zip(vectors, answers(data_file("llama2"), *lines), strict=True):
        assert answer["text"] == "".join(answer["deltas"]) == case["text"]
        assert len(answer["deltas"]) == len(case["ids"]) + 1
        for number, expected in enumerate(case["cumulative"], 1):
            assert expected is None or "".join(answer["deltas"][:number]) == expected


@pytest.mark.parametrize("name", KINDS)
def test_deltas_are_what_a_worker_streams(name: str, tmp_path: Path) -> None:
    kind(name).tokenizer.save(str(tmp_path / "tokenizer.json"))
    randomly = generator(f"lines of {name}")
    size = len(kind(name).vocabulary.pieces)
    sequences = [[i for i in kind(name).random_ids(randomly) if 0 <= i < size] for _ in range(500)]
    lines = [json.dumps({"ids": ids}).encode() for ids in sequences]
    for ids, answer in zip(sequences, answers(tmp_path, *lines), strict=True):
        detokenizer = Detokenizer(kind(name).vocabulary)
        deltas = [*map(detokenizer.push, ids), detokenizer.flush()]
        assert answer == {"deltas": deltas, "text": "".join(deltas)}


def test_what_is_held_is_an_empty_delta_and_the_last_is_the_flush(folder: Path) -> None:
    [first, second, _] = kind("byte-level").tokenizer.encode("駅").ids
    assert answers(folder, json.dumps({"ids": [first, second]}).encode(), b'{"ids": []}') == [
        {"deltas": ["", "", "\ufffd\ufffd"], "text": "\ufffd\ufffd"},
        {"deltas": [""], "text": ""},
    ]


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        (b"", "invalid_frame", "A line must be a JSON object."),
        (b"ids", "invalid_frame", "A line must be a JSON object."),
        (b"[1, 2]", "invalid_frame", "A line must be a JSON object."),
        (b"\xff\xfe", "invalid_frame", "A line must be a JSON object."),
        (b'"\xff"', "invalid_frame", "A line must be a JSON object."),
        (b'{"ids": [NaN]}', "invalid_frame", "A line must be a JSON object."),
        (b"[" * 200_000, "invalid_frame", "A line must be a JSON object."),
        (b"{}", "invalid_request", "A line must have ids, a list of integers, and nothing else."),
        (b'{"ids": null}', "invalid_request", "A line must have ids, a list of integers, and nothing else."),
        (b'{"ids": [], "id": 1}', "invalid_request", "A line must have ids, a list of integers, and nothing else."),
        (b'{"ids": [1, "2"]}', "invalid_request", "ids[1] must be an integer."),
        (b'{"ids": [true]}', "invalid_request", "ids[0] must be an integer."),
        (b'{"ids": [1.5]}', "invalid_request", "ids[0] must be an integer."),
        (b'{"ids": [1, -1]}', "out_of_range", "ids[1] must be between 0 and 500, the tokenizer's last id."),
        (b'{"ids": [501]}', "out_of_range", "ids[0] must be between 0 and 500, the tokenizer's last id."),
        (b'{"ids": [%d]}' % 10**40, "out_of_range", "ids[0] must be between 0 and 500, the tokenizer's last id."),
        (b'{"ids": [1e999]}', "out_of_range", "A number of the line is too large."),
    ],
)
def test_a_wrong_line_is_answered_by_an_error_and_the_next_is_read(
    folder: Path, line: bytes, code: str, message: str
) -> None:
    [refused, answered] = answers(folder, line, b'{"ids": [0]}')
    assert refused == {"error": {"code": code, "message": message}}
    assert answered == {"deltas": ["", ""], "text": ""}


def test_each_line_is_answered_at_once(folder: Path) -> None:
    with conversation(folder) as (lines, answers):
        for _ in range(3):
            lines.write(b'{"ids": [0]}\n')
            lines.flush()
            assert json.loads(answers.readline()) == {"deltas": ["", ""], "text": ""}


def test_no_lines_are_no_answers(folder: Path) -> None:
    done = detokenize(folder, b"")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_reader_that_goes_away_ends_it_quietly(folder: Path) -> None:
    child = subprocess.Popen([*COMMAND, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout
    child.stdout.close()
    child.stdout = None
    _, said = child.communicate(b'{"ids": [0]}\n' * 10, timeout=TIMEOUT_S)
    assert said == b""
    assert child.returncode == PIPE_CLOSED


def test_ctrl_c_ends_it_quietly(folder: Path) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([*COMMAND, folder], stdin=pipe, stdout=pipe, stderr=pipe) as child:
        assert child.stdin
        assert child.stdout
        child.stdin.write(b'{"ids": []}\n')
        child.stdin.flush()
        assert child.stdout.readline()
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=TIMEOUT_S)
    assert (child.returncode, said) == (INTERRUPTED, b"")


def test_a_token_that_only_the_config_adds_is_known_as_to_a_worker(folder: Path) -> None:
    size = byte_level_tokenizer().get_vocab_size()
    added = {str(size): {"content": "<|more|>", "special": False}}
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}))
    assert answers(folder, b'{"ids": [%d]}' % size) == [{"deltas": ["<|more|>", ""], "text": "<|more|>"}]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this machine has no /dev/full")
@pytest.mark.parametrize(
    ("redirection", "status", "sentence"),
    [
        (">/dev/full", FAILED, "The answers cannot be written: No space left on device."),
        (">&-", USAGE, "Standard input and output must be open."),
        ("<&-", USAGE, "Standard input and output must be open."),
    ],
)
def test_a_stream_that_cannot_be_used_is_one_sentence(
    folder: Path, redirection: str, status: int, sentence: str
) -> None:
    command = f"{shlex.join([*COMMAND, str(folder)])} {redirection}"
    done = subprocess.run(["sh", "-c", command], input=b'{"ids": []}\n', capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.decode()) == (status, f"{sentence}\n")


def test_a_folder_that_cannot_be_used_is_one_sentence_and_status_3(tmp_path: Path) -> None:
    missing = detokenize(tmp_path, b"")
    assert missing.returncode == CONFIG
    assert missing.stderr.decode() == f"The folder {tmp_path} has no tokenizer.json.\n"
    (tmp_path / "tokenizer.json").write_text('{"version": ')
    broken = detokenize(tmp_path, b"")
    assert broken.returncode == CONFIG
    assert broken.stderr.decode().startswith(f"The file {tmp_path / 'tokenizer.json'} cannot be read: ")
    assert broken.stderr.count(b"\n") == 1
    tokenizer = byte_level_tokenizer()
    tokenizer.decoder = None
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    unknown = detokenize(tmp_path, b"")
    assert (unknown.returncode, unknown.stdout) == (CONFIG, b"")
    assert unknown.stderr.decode().startswith("The tokenizer (BPE with no decoder) is of no kind")


def test_it_loads_no_model_library(folder: Path) -> None:
    program = [sys.executable, "-X", "importtime", *COMMAND[1:], folder]
    done = subprocess.run(program, input=b"{}", capture_output=True, timeout=TIMEOUT_S, check=True)
    loaded = {line.split(b"|")[-1].strip().decode() for line in done.stderr.splitlines()}
    assert "tokenizers" in loaded
    assert not {"torch", "transformers", "celery", "redis"} & loaded
