"""Loads a Hugging Face causal LM into a Runtime."""

import logging
import os
import warnings
from pathlib import Path
from typing import Any

import structlog
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from ekiden.settings import Settings
from ekiden_worker.engine.config import EngineConfig
from ekiden_worker.engine.engine import BatchEngine
from ekiden_worker.engine.interface import EngineError
from ekiden_worker.hf_folder import converted
from ekiden_worker.model_files import model_path
from ekiden_worker.prompts import UnusableTemplate, choose_format
from ekiden_worker.runtime import ModelError, Runtime
from ekiden_worker.text import AnswerText, UnknownTokenizer, Vocabulary

log = structlog.get_logger()


def load(settings: Settings) -> Runtime:
    """Read tokenizer and weights and build the engine, not started yet. Raises ModelError."""
    _quiet()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    model, tokenizer = load_model(settings)
    try:
        prompts = choose_format(tokenizer)
        vocabulary = Vocabulary.of(tokenizer.backend_tokenizer)
        engine = BatchEngine(model, _engine_config(settings))
    except (UnusableTemplate, UnknownTokenizer, EngineError) as error:
        raise ModelError(str(error)) from None
    turn_end = prompts.turn_end()
    end_ids = _end_ids(model, tokenizer) | ({turn_end} if turn_end is not None else set())
    log.info("model_loaded", model=settings.model_name, prompt_format=prompts.name, end_ids=sorted(end_ids))
    return Runtime(
        model=settings.model_name,
        engine=engine,
        encode_prompt=prompts.encode,
        answer_text=lambda stop: AnswerText(vocabulary, stop),
        end_ids=frozenset(end_ids),
    )


def load_model(settings: Settings) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """The model in evaluation mode on its device, and its fast tokenizer. Raises ModelError."""
    path = model_path(settings)
    if isinstance(path, Path) and path.is_file():
        path = converted(path, settings.cache_dir)
    device = torch.device(settings.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"There is no CUDA device for EKIDEN_DEVICE={settings.device}.")
    try:
        config = AutoConfig.from_pretrained(path)
        tokenizer = AutoTokenizer.from_pretrained(path)
        model = AutoModelForCausalLM.from_pretrained(path, dtype=_dtype(settings, device, config))
    except torch.cuda.OutOfMemoryError as error:
        raise ModelError(f"The model {settings.model} does not fit on {settings.device}: {error}") from None
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"The model {settings.model} cannot be loaded: {reason}") from None
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ModelError(f"The model {settings.model} has no fast tokenizer (tokenizer.json).")
    model.requires_grad_(False)
    model.to(device)  # type: ignore[arg-type]
    model.train(False)
    return model, tokenizer


def _engine_config(settings: Settings) -> EngineConfig:
    return EngineConfig(
        max_running=settings.max_running,
        context_tokens=settings.context_tokens,
        kv_cache_tokens=settings.kv_cache_tokens,
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


def _quiet() -> None:
    """Libraries' progress bars and advice are not for our log."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(transformers|torch|huggingface_hub)\.")
