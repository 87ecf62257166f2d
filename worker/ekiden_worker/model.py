"""Loads a Hugging Face causal LM into a Runtime."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from ekiden.settings import Settings
from ekiden_worker.engine.config import EngineConfig
from ekiden_worker.engine.engine import BatchEngine
from ekiden_worker.engine.linears import pack_linears
from ekiden_worker.engine.quantized import quantize_linears, saved_bytes
from ekiden_worker.engine.speculation import PROPOSED
from ekiden_worker.model_logs import quiet_libraries
from ekiden_worker.model_parts import ModelParts, explained, read_parts
from ekiden_worker.prompts import ModelTokenizer
from ekiden_worker.runtime import ModelError, Runtime

LARGEST_SHARE = 0.9  # of a GPU's free memory, for weights


def load(settings: Settings) -> Runtime:
    """Read tokenizer and weights and build the engine, not started yet. Raises ModelError."""
    quiet_libraries()
    with _one_thread():
        parts = read_parts(settings)
        model = _on_device(settings, parts)

        def engine() -> BatchEngine:
            pack_linears(model)
            return BatchEngine(model, _engine_config(settings))

        return parts.runtime(settings, engine, model.generation_config)


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
    parts = read_parts(settings)
    return _on_device(settings, parts), parts.tokenizer


def _on_device(settings: Settings, parts: ModelParts) -> PreTrainedModel:
    quantized = settings.quantization != "none"
    with explained(settings, "weights"):
        model = _weights(settings, parts.path, parts.dtype(settings))
        if parts.device.type == "cuda":
            needed = weight_bytes(model) - (saved_bytes(model) if quantized else 0)
            check_room(settings, needed, torch.cuda.mem_get_info(parts.device)[0])
        if quantized:
            _quantize(settings, model, parts.device)
        model.to(parts.device)  # type: ignore[arg-type]
    model.requires_grad_(False)
    model.train(False)
    return model


def weight_bytes(model: PreTrainedModel) -> int:
    """What the weights take, those that layers share once."""
    return sum(tensor.numel() * tensor.element_size() for tensor in (*model.parameters(), *model.buffers()))


def check_room(settings: Settings, needed: int, free: int) -> None:
    """Raise ModelError with the numbers where weights of `needed` bytes leave too little of `free` for the rest."""
    if needed > LARGEST_SHARE * free:
        raise ModelError(
            f"The model {settings.model} is too large for {settings.device}: its weights take {needed / 2**30:.1f} GiB,"
            f" and {free / 2**30:.1f} GiB are free, of which a tenth stays for the KV cache and the computation."
            " EKIDEN_QUANTIZATION and EKIDEN_DTYPE choose smaller numbers; a model is not spread over several GPUs."
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


def _quantize(settings: Settings, model: PreTrainedModel, device: torch.device) -> None:
    try:
        quantize_linears(model, settings.quantization, device)
    except ValueError as error:
        raise ModelError(f"EKIDEN_QUANTIZATION={settings.quantization} cannot be had: {error}.") from None


def _engine_config(settings: Settings) -> EngineConfig:
    return EngineConfig(
        max_running=settings.max_running,
        context_tokens=settings.context_tokens,
        kv_cache_tokens=settings.kv_cache_tokens,
        kv_cache_dtype=settings.kv_cache_dtype,
        eager=settings.eager,
        threads=settings.threads,
        speculate=PROPOSED if settings.speculate == "ngram" else 0,
    )
