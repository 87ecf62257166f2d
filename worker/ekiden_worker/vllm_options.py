"""What we say to vLLM: what to build, and how to sample."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError

from ekiden_worker.engine.interface import EngineError, EngineRequest
from ekiden_worker.runtime import first_line

if TYPE_CHECKING:
    import vllm

CPU_CACHE_BYTES = 1 << 30
LARGEST_BLOCK = 256  # tokens; what vLLM takes depends on the kind of attention that it chooses


@dataclass(frozen=True, slots=True)
class VllmOptions:
    """What the settings say to vLLM. A limit of 0 is none: the model's own context, as much cache as vLLM takes."""

    model: str
    device: torch.device
    dtype: torch.dtype
    max_running: int
    context_tokens: int = 0
    kv_cache_tokens: int = 0
    eager: bool = False


def sampling(request: EngineRequest, vocab_size: int) -> "vllm.SamplingParams":
    """The same in vLLM's words. Raises EngineError `out_of_range` where it takes less than we do."""
    import vllm
    from vllm.exceptions import VLLMClientError
    from vllm.sampling_params import RequestOutputKind

    params = request.params
    try:
        return vllm.SamplingParams(
            max_tokens=max(1, params.max_tokens - len(request.generated_ids)),
            temperature=params.temperature,
            top_k=params.top_k,
            top_p=params.top_p,
            min_p=params.min_p,
            repetition_penalty=params.repetition_penalty,
            seed=params.seed,
            stop_token_ids=sorted(token for token in request.stop_ids if 0 <= token < vocab_size),
            ignore_eos=True,  # those that end an answer are among the stop ids
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
    except VLLMClientError as error:
        raise EngineError("out_of_range", first_line(error)) from None


def build(options: VllmOptions, figures: Callable[[Any, int], object]) -> "vllm.LLMEngine":
    """vLLM's engine, of this thread; `figures` makes its stat logger. Raises EngineError and what vLLM raises."""
    # In a process of its own it would step on while held.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    try:
        from vllm import EngineArgs, LLMEngine
        from vllm.platforms import current_platform
    except ImportError as error:
        raise EngineError("not_supported", f"vLLM cannot be loaded: {error}. It is the extra ekiden[vllm].") from None
    if current_platform.device_type != options.device.type:
        what = current_platform.device_type or "nothing here"
        raise EngineError("not_supported", f"The installed vLLM runs on {what}, not on {options.device.type}.")
    arguments = EngineArgs(
        model=options.model,
        skip_tokenizer_init=True,
        generation_config="vllm",  # not the model's own: requests say how to sample
        dtype=str(options.dtype).removeprefix("torch."),
        max_num_seqs=options.max_running,
        device_ids=None if options.device.index is None else [options.device.index],
        enable_prefix_caching=True,
        enforce_eager=options.eager,
        use_tqdm_on_load=False,
    )
    config = _config(arguments)
    limit = min(filter(None, (options.context_tokens, options.kv_cache_tokens)), default=0)
    if 0 < limit < config.model_config.max_model_len:  # a longer one than the model's own is an error to vLLM
        arguments.max_model_len = limit
        config = _config(arguments)
    if size := _cache_bytes(options, config):
        config.cache_config.kv_cache_memory_bytes = size
    return LLMEngine.from_vllm_config(config, stat_loggers=[figures])


def _config(arguments: "vllm.EngineArgs") -> Any:
    try:
        return arguments.create_engine_config()
    except ValidationError as error:  # its first line says only how many there are
        raise EngineError("not_supported", f"vLLM does not take it: {error.errors()[0]['msg']}") from None


def _cache_bytes(options: VllmOptions, config: Any) -> int | None:
    """The KV cache's size where it is ours to say: of the settings, and on a CPU, of which vLLM takes nearly all."""
    model, parallel = config.model_config, config.parallel_config
    vectors = 1 if model.use_mla else 2
    heads: int = model.get_num_layers(parallel) * model.get_num_kv_heads(parallel)
    token: int = vectors * heads * model.get_head_size() * options.dtype.itemsize

    def size(tokens: int) -> int:
        """Whole blocks, and one more that holds no request."""
        return token * LARGEST_BLOCK * (math.ceil(tokens / LARGEST_BLOCK) + 1)

    if options.kv_cache_tokens:
        return size(options.kv_cache_tokens)
    return max(CPU_CACHE_BYTES, size(model.max_model_len)) if options.device.type == "cpu" else None
