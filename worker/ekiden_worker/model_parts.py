"""What a model is besides its weights, for the loader of any engine: where it lies, how it is spoken to and read."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import torch
from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PreTrainedTokenizerFast
from transformers.utils.hub import cached_file

from ekiden.settings import Settings
from ekiden_worker.engine.interface import Engine, EngineError
from ekiden_worker.hf_folder import converted
from ekiden_worker.model_files import model_path
from ekiden_worker.prompts import ModelTokenizer, PromptRules, UnusableFormat, UnusableTokenizer, choose_format
from ekiden_worker.runtime import ModelError, Runtime
from ekiden_worker.text import UnknownTokenizer, Vocabulary

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ModelParts:
    """A model's folder, the device it is for, its config and its tokenizer."""

    path: Path
    device: torch.device
    config: Any
    tokenizer: ModelTokenizer

    def dtype(self, settings: Settings) -> torch.dtype:
        """The numbers to compute in."""
        if settings.dtype != "auto":
            return getattr(torch, settings.dtype)  # type: ignore[no-any-return]
        if self.device.type == "cpu":
            return torch.float32
        return self.config.dtype if isinstance(self.config.dtype, torch.dtype) else torch.bfloat16

    def runtime(self, settings: Settings, engine: Callable[[], Engine], generation: GenerationConfig | None) -> Runtime:
        """The Runtime around an engine, which is built last. Raises ModelError."""
        try:
            prompts = choose_format(self.tokenizer, settings)
            rules = PromptRules.of(settings)
            rules.check(prompts)
            vocabulary = Vocabulary.of(self.tokenizer.raw)
            with explained(settings, "forward pass", "run"):
                built = engine()
        except (UnusableFormat, UnusableTokenizer, UnknownTokenizer, EngineError) as error:
            raise ModelError(str(error)) from None
        turn_end = prompts.turn_end()
        end_ids = _end_ids(generation, self.tokenizer.fast) | ({turn_end} if turn_end is not None else set())
        log.info("model_loaded", model=settings.model_name, prompt_format=prompts.name, end_ids=sorted(end_ids))
        return Runtime(
            model=settings.model_name,
            engine=built,
            prompts=prompts,
            rules=rules,
            vocabulary=vocabulary,
            end_ids=frozenset(end_ids),
            replace=settings.replace_output,
        )


def read_parts(settings: Settings) -> ModelParts:
    """Find the model, or fetch it, and read all but its weights. Raises ModelError."""
    path = model_path(settings)
    if path.is_file():
        path = converted(path, settings.cache_dir)
    device = torch.device(settings.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"There is no CUDA device for EKIDEN_DEVICE={settings.device}.")
    # Code that comes with a model is never run, and nobody is asked whether it may.
    with explained(settings, "config"):
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    with explained(settings, "tokenizer"):
        file = cached_file(path, "tokenizer.json", _raise_exceptions_for_missing_entries=False)
        if file is None:
            raise ModelError(f"The model {settings.model} has no fast tokenizer (tokenizer.json).")
        fast = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        if not isinstance(fast, PreTrainedTokenizerFast):
            raise ModelError(f"The tokenizer of the model {settings.model} is not a fast one.")
        tokenizer = ModelTokenizer.of(fast, Path(file))
    return ModelParts(path, device, config, tokenizer)


@contextmanager
def explained(settings: Settings, part: str, use: str = "read") -> Iterator[None]:
    """Say in one sentence why a part of the model cannot be used. Raises ModelError."""
    try:
        yield
    except (ModelError, EngineError):
        raise
    except torch.cuda.OutOfMemoryError as error:
        raise ModelError(f"The model {settings.model} does not fit on {settings.device}: {error}") from None
    except Exception as error:  # noqa: BLE001 (libraries raise whatever a broken file leads them to)
        reason = next(iter(str(error).strip().splitlines()), "")
        kind = "" if isinstance(error, OSError | ValueError) and reason else f"{type(error).__name__}: "
        raise ModelError(f"The {part} of the model {settings.model} cannot be {use}: {kind}{reason}") from None


def _end_ids(generation: GenerationConfig | None, tokenizer: PreTrainedTokenizerFast) -> set[int]:
    configured = generation.eos_token_id if generation else None
    ids = {configured} if isinstance(configured, int) else set(configured or ())
    return ids | ({tokenizer.eos_token_id} if tokenizer.eos_token_id is not None else set())
