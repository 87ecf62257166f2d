"""Models of the Hugging Face hub: fetched into its own cache, weights as safetensors only, with progress in lines."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ekiden_worker.model_files import say, size_of
from ekiden_worker.runtime import ModelError, first_line

# No code, and no pickles.
PATTERNS = ["*.json", "*.jinja", "*.model", "*.txt", "*.safetensors"]
SAY_EVERY_S = 2.0


def hub_folder(model: str) -> Path:
    """The folder of a model with a hub id, fetched unless it is in the hub's cache. Raises ModelError."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    import huggingface_hub
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        missing = _missing_bytes(model)
        with _progress(model, missing, Path(HF_HUB_CACHE)):
            folder = Path(huggingface_hub.snapshot_download(model, allow_patterns=PATTERNS))
    except HFValidationError:
        raise ModelError(f"There is no folder {model}, and it is no id of a model on the hub.") from None
    except HfHubHTTPError as error:
        raise ModelError(f"The hub does not give the model {model}: {first_line(error)}") from None
    except OSError as error:
        raise ModelError(
            f"The model {model} is not in the cache, and the hub cannot be reached: {first_line(error)}"
        ) from None
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"The model {model} has no weights as safetensors.")
    return folder


def _missing_bytes(model: str) -> int:
    """How much is to be fetched; 0 also when the hub cannot be asked, as the cache may have it all."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import DryRunError

    try:
        files = snapshot_download(model, allow_patterns=PATTERNS, dry_run=True)
    except DryRunError:
        return 0
    return sum(file.file_size or 0 for file in files if file.will_download)


@contextmanager
def _progress(model: str, missing: int, cache: Path) -> Iterator[None]:
    """Say how far a fetch is, from a thread of its own; nothing when there is nothing to fetch."""
    if not missing:
        yield
        return
    say(f"fetching {model} from the hub ({missing >> 20} MiB) …")
    before = size_of(cache)
    done = threading.Event()

    def watch() -> None:
        while not done.wait(SAY_EVERY_S):
            say(f"  {min(size_of(cache) - before, missing) >> 20} of {missing >> 20} MiB")

    thread = threading.Thread(target=watch, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
