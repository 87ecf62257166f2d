"""A GGUF file as a Hugging Face folder: converted once, because transformers needs half a minute for it each time."""

import logging
import shutil
import tempfile
import warnings
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

from ekiden_worker.model_files import _lock, _say
from ekiden_worker.runtime import ModelError


def converted(gguf: Path, cache_dir: Path) -> Path:
    """The folder with the same weights, as float32: loading it takes a second. Raises ModelError."""
    state = gguf.stat()
    folder = cache_dir / "converted" / f"{gguf.stem}-{state.st_size:x}-{state.st_mtime_ns:x}"
    if folder.exists():
        return folder
    with _lock(folder.parent / f"{folder.name}.lock"):
        if not folder.exists():
            _say(f"converting {gguf.name} once, about half a minute …")
            with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
                staged = Path(temporary) / "staged"
                _convert(gguf, staged)
                shutil.move(staged, folder)
    return folder


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        # Progress bars and advice about training are not for the person who waits.
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            logging.getLogger("transformers").setLevel(logging.ERROR)
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
            loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    except (ValueError, OSError, KeyError, RuntimeError) as error:
        raise ModelError(f"transformers cannot read {gguf}: {error}") from None
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    # A model read from GGUF refuses to be saved, though its weights are plain tensors: a fresh one takes them.
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    plain.load_state_dict(loaded.state_dict())
    plain.generation_config = loaded.generation_config
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
