"""Loads a Hugging Face causal LM into a Runtime."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils.hub import cached_file

from ekiden.settings import Settings
from ekiden_worker.engine.config import EngineConfig
from ekiden_worker.engine.engine import BatchEngine
from ekiden_worker.engine.interface import EngineError
from ekiden_worker.engine.linears import pack_linears
from ekiden_worker.hf_folder import converted
from ekiden_worker.model_files import model_path
from ekiden_worker.model_logs import quiet_libraries
from ekiden_worker.prompts import ModelTokenizer, PromptRules, UnusableFormat, UnusableTokenizer, choose_format
from ekiden_worker.runtime import ModelError, Runtime
from ekiden_worker.text import UnknownTokenizer, Vocabulary

log = structlog.get_logger()

LARGEST_SHARE = 0.9  # of a GPU's free memory, for weights


def load(settings: Settings) -> Runtime:
    """Read tokenizer and weights and build the engine, not started yet. Raises ModelError."""
    quiet_libraries()
    try:
        with _one_thread():
            model, tokenizer = load_model(settings)
            prompts = choose_format(tokenizer, settings)
            rules = PromptRules.of(settings)
            rules.check(prompts)
            vocabulary = Vocabulary.of(tokenizer.raw)
            pack_linears(model)
            with _explained(settings, "forward pass", "run"):
                engine = BatchEngine(model, _engine_config(settings))
    except (UnusableFormat, UnusableTokenizer, UnknownTokenizer, EngineError) as error:
        raise ModelError(str(error)) from None
    turn_end = prompts.turn_end()
    end_ids = _end_ids(model, tokenizer.fast) | ({turn_end} if turn_end is not None else set())
    log.info("model_loaded", model=settings.model_name, prompt_format=prompts.name, end_ids=sorted(end_ids))
    return Runtime(
        model=settings.model_name,
        engine=engine,
        prompts=prompts,
        rules=rules,
        vocabulary=vocabulary,
        end_ids=frozenset(end_ids),
        replace=settings.replace_output,
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Start no threads of OpenMP here: beside a second pool, even an idle one, the engine's waits in a slower way."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def load_model(settings: Settings) -> tuple[PreTrainedModel, ModelTokenizer]:
    """The model in evaluation mode on its device, and its tokenizer. Raises ModelError."""
    path = model_path(settings)
    if path.is_file():
        path = converted(path, settings.cache_dir)
    device = torch.device(settings.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"There is no CUDA device for EKIDEN_DEVICE={settings.device}.")
    # Code that comes with a model is never run, and nobody is asked whether it may.
    with _explained(settings, "config"):
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    with _explained(settings, "tokenizer"):
        file = cached_file(path, "tokenizer.json", _raise_exceptions_for_missing_entries=False)
        if file is None:
            raise ModelError(f"The model {settings.model} has no fast tokenizer (tokenizer.json).")
        fast = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        if not isinstance(fast, PreTrainedTokenizerFast):
            raise ModelError(f"The tokenizer of the model {settings.model} is not a fast one.")
        tokenizer = ModelTokenizer.of(fast, Path(file))
    with _explained(settings, "weights"):
        model = _weights(settings, path, _dtype(settings, device, config))
        if device.type == "cuda":
            check_room(settings, weight_bytes(model), torch.cuda.mem_get_info(device)[0])
        model.to(device)  # type: ignore[arg-type]
    model.requires_grad_(False)
    model.train(False)
    return model, tokenizer


def weight_bytes(model: PreTrainedModel) -> int:
    """What the weights take, those that layers share once."""
    return sum(tensor.numel() * tensor.element_size() for tensor in (*model.parameters(), *model.buffers()))


def check_room(settings: Settings, needed: int, free: int) -> None:
    """Raise ModelError with the numbers where weights of `needed` bytes leave too little of `free` for the rest."""
    if needed > LARGEST_SHARE * free:
        raise ModelError(
            f"The model {settings.model} is too large for {settings.device}: its weights take {needed / 2**30:.1f} GiB,"
            f" and {free / 2**30:.1f} GiB are free, of which a tenth stays for the KV cache and the computation."
            " EKIDEN_DTYPE chooses smaller numbers; a model is not spread over several GPUs."
        )


def _weights(settings: Settings, path: Path | str, dtype: torch.dtype) -> PreTrainedModel:
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        path, dtype=dtype, trust_remote_code=False, ignore_mismatched_sizes=True, output_loading_info=True
    )
    model: PreTrainedModel = loaded[0]
    report: dict[str, Any] = loaded[1]
    # transformers fills what is missing or has another shape with random numbers.
    wrong = sorted(report["missing_keys"]) + sorted(key for key, *_ in report["mismatched_keys"])
    if wrong:
        raise ModelError(
            f"The weights of the model {settings.model} do not fit its config: "
            f"{wrong[0]} is missing or has another shape ({len(wrong)} such tensors)."
        )
    looks_back = [module.is_causal for module in model.modules() if hasattr(module, "is_causal")]
    if looks_back and not any(looks_back):
        raise ModelError(f"The model {settings.model} is an encoder ({type(model).__name__}); it generates no text.")
    return model


@contextmanager
def _explained(settings: Settings, part: str, use: str = "read") -> Iterator[None]:
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


def _engine_config(settings: Settings) -> EngineConfig:
    return EngineConfig(
        max_running=settings.max_running,
        context_tokens=settings.context_tokens,
        kv_cache_tokens=settings.kv_cache_tokens,
        eager=settings.eager,
        threads=settings.threads,
    )


def _dtype(settings: Settings, device: torch.device, config: Any) -> torch.dtype:
    if settings.dtype != "auto":
        return getattr(torch, settings.dtype)  # type: ignore[no-any-return]
    if device.type == "cpu":
        return torch.float32
    return config.dtype if isinstance(config.dtype, torch.dtype) else torch.bfloat16


def _end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> set[int]:
    configured = model.generation_config.eos_token_id if model.generation_config else None
    ids = {configured} if isinstance(configured, int) else set(configured or ())
    return ids | ({tokenizer.eos_token_id} if tokenizer.eos_token_id is not None else set())
