"""A GGUF file as a Hugging Face folder: converted once, because transformers needs half a minute for it each time."""

from contextlib import redirect_stderr
from functools import partial
from io import StringIO
from pathlib import Path

from ekiden_worker.model_files import build_once, say
from ekiden_worker.runtime import ModelError, first_line


def converted(gguf: Path, cache_dir: Path) -> Path:
    """The folder with the same weights, as float32: loading it takes a second. Raises ModelError."""
    state = gguf.stat()
    folder = cache_dir / "converted" / f"{gguf.stem}-{state.st_size:x}-{state.st_mtime_ns:x}"
    return build_once(folder, "config.json", partial(_convert, gguf))


def _convert(gguf: Path, folder: Path) -> None:
    say(f"converting {gguf.name} once, about half a minute …")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from ekiden_worker.model_logs import quiet_libraries

    quiet_libraries()
    try:
        with redirect_stderr(StringIO()):  # the reader's progress bar knows no switch
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
            loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    except Exception as error:  # noqa: BLE001 (the reader raises whatever a broken file leads it to)
        raise ModelError(f"The file {gguf} cannot be read as GGUF: {first_line(error)}") from None
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    # A model read from GGUF refuses to be saved, though its weights are plain tensors: a fresh one takes them.
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    plain.load_state_dict(loaded.state_dict())
    plain.generation_config = loaded.generation_config
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
