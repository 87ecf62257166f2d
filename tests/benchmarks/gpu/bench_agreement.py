"""How often greedy answers are the same: alone and in a batch of 64, by the engine and by `model.generate`.

Run it with `python -m tests.benchmarks.gpu.bench_agreement`, with `--device cpu` where there is no GPU. In float32 all
are equal but for ties. In bfloat16 sums are rounded to 8 bits, in another order for each size of a batch, so an answer
may part where its two likeliest ids are near each other, and goes on otherwise from there. Nothing is asked: these
figures say what a user may expect. Without the default model (or that of `--model`) the random one of the workload is
taken, whose logits are far nearer to each other than those of a model that has learned.
"""

import argparse
import gc
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from statistics import mean

import torch
from transformers import PreTrainedModel

from ekiden.settings import DEFAULT_MODEL, Settings, load_settings
from ekiden_worker.engine.config import EngineConfig
from ekiden_worker.engine.engine import BatchEngine
from ekiden_worker.engine.linears import pack_linears
from ekiden_worker.model import load_model
from ekiden_worker.prompts import choose_format
from ekiden_worker.runtime import ModelError
from tests.benchmarks.chats import Chats, prompt_of
from tests.benchmarks.common import report
from tests.benchmarks.gpu.workload import Size, add_size, requests
from tests.benchmarks.gpu.workload import model as random_model
from tests.benchmarks.real_model import Alone

Ids = list[list[int]]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of two ways to the same answers. `first_difference`: after how many equal ids, on average, those that part do."""

    answers: int
    equal_share: float
    first_difference: float | None

    @classmethod
    def of(cls, ours: Ids, theirs: Ids) -> "Agreement":
        parted = [
            next(at for at, (one, other) in enumerate(zip(a, b, strict=True)) if one != other)
            for a, b in zip(ours, theirs, strict=True)
            if a != b
        ]
        share = round(1 - len(parted) / len(ours), 3)
        return cls(len(ours), share, round(mean(parted), 1) if parted else None)


@dataclass(frozen=True, slots=True)
class Subject:
    """A model that can be made again, and prompts for it."""

    name: str
    make: Callable[[], PreTrainedModel]
    prompts: Ids


def subject(options: argparse.Namespace) -> Subject:
    """The real model if there is one, else the random one."""
    settings = load_settings(model=options.model, device=options.device, dtype=options.dtype)
    if not options.random:
        try:
            return _real(settings, options)
        except ModelError as reason:
            print(f"{reason} So the model is a random one.")
    dtype: torch.dtype = getattr(torch, options.dtype)
    prompts = [request.prompt[: options.prompt_tokens] for request in requests(max(2, options.batch))]
    return Subject("random", lambda: random_model(options.device, dtype, Size.of(options)), prompts)


def _real(settings: Settings, options: argparse.Namespace) -> Subject:
    prompts = choose_format(load_model(settings)[1], settings)
    chats = Chats(prompts)
    ids = [prompt_of(prompts, chats.chat(options.prompt_tokens)) for _ in range(options.batch)]
    return Subject(settings.model_name, lambda: load_model(settings)[0], ids)


@torch.inference_mode()
def by_generate(model: PreTrainedModel, prompts: Ids, tokens: int) -> Ids:
    """transformers' own loop, prompt by prompt; no id ends an answer."""
    model.set_attn_implementation("sdpa")
    answers = []
    for prompt in prompts:
        ids = torch.tensor([prompt], device=model.device)
        end = model.config.get_text_config().vocab_size
        given = {"attention_mask": torch.ones_like(ids), "pad_token_id": 0, "eos_token_id": end}
        whole = model.generate(ids, max_new_tokens=tokens, do_sample=False, **given)  # type: ignore[operator]
        answers.append(whole[0, len(prompt) :].tolist())
    return answers


def by_engine(model: PreTrainedModel, prompts: Ids, tokens: int, *, together: bool) -> Ids:
    """A new engine, whose prefix cache is empty, on prompts at once or one after the other."""
    room = 2 * sum(len(prompt) + tokens for prompt in prompts)
    engine = BatchEngine(model, EngineConfig(max_running=len(prompts), kv_cache_tokens=room))
    with closing(Alone(engine)) as alone:
        groups: Sequence[Ids] = [prompts] if together else [[prompt] for prompt in prompts]
        return [track.ids for group in groups for track in alone.answers(group, tokens)]


def measured(chosen: Subject, tokens: int) -> dict[str, Agreement]:
    """All three ways, in pairs."""
    reference = by_generate(chosen.make(), chosen.prompts, tokens)
    gc.collect()  # the reference's weights: two of a large model are more than a GPU has
    model = chosen.make()
    pack_linears(model)  # as a worker does
    batch = by_engine(model, chosen.prompts, tokens, together=True)
    alone = by_engine(model, chosen.prompts, tokens, together=False)
    return {
        "alone, in a batch": Agreement.of(alone, batch),
        "alone, generate": Agreement.of(alone, reference),
        "in a batch, generate": Agreement.of(batch, reference),
    }


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--random", action="store_true", help="take the random model in any case")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--device", default="cuda", help="EKIDEN_DEVICE")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--prompt-tokens", type=int, default=40)
    parser.add_argument("--answer-tokens", type=int, default=64)
    add_size(parser)
    return parser.parse_args()


def main() -> None:
    options = parsed()
    chosen = subject(options)
    found = measured(chosen, options.answer_tokens)
    print(f"{chosen.name}, {options.dtype}, {options.device}: {options.batch} answers of {options.answer_tokens} ids")
    for name, agreement in found.items():
        print(f"{name:>22}: {agreement.equal_share:.1%} equal, the others after {agreement.first_difference} ids")
    figures = {name: asdict(agreement) for name, agreement in found.items()}
    report({"benchmark": "gpu_agreement", **vars(options), "model": chosen.name, "agreement": figures}, [])


if __name__ == "__main__":
    main()
