"""What greedy answers are held against: `model.generate`, prompt by prompt, where no two ids are equally good."""

import random
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from ekiden_worker.engine.attention import IMPLEMENTATION
from tests.unit.engine.conftest import VOCAB

TIE = 1e-4  # of two logits: more than rounding differs between batches

Prompts = list[list[int]]


def prompts(count: int, longest: int = 150, seed: int = 3) -> Prompts:
    """Random prompts of 1 to `longest` ids."""
    source = random.Random(seed)
    return [[source.randrange(3, VOCAB) for _ in range(source.randint(1, longest))] for _ in range(count)]


def prompt_of(length: int, seed: int) -> list[int]:
    """A random prompt of just so many ids."""
    source = random.Random(f"{length} {seed}")
    return [source.randrange(3, VOCAB) for _ in range(length)]


def hundred() -> Prompts:
    """Prompts of mixed length, some with a common beginning."""
    common = prompts(1, longest=70, seed=5)[0]
    return prompts(80, longest=70, seed=6) + [common + prompt for prompt in prompts(20, longest=20, seed=7)]


def generated(model: PreTrainedModel, cases: Prompts, tokens: int) -> list[list[int]]:
    """What transformers' `generate` makes of each by itself; no id ends an answer."""
    model.set_attn_implementation("sdpa")
    answers = []
    for prompt in cases:
        ids = torch.tensor([prompt], device=model.device)
        whole = model.generate(  # type: ignore[operator]
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=VOCAB,
        )
        answers.append(whole[0, len(prompt) :].tolist())
    model.set_attn_implementation(IMPLEMENTATION)
    return answers


@torch.inference_mode()
def assert_greedy(model: PreTrainedModel, prompt: list[int], answer: list[int]) -> None:
    """Each id is the reference's best, or one within TIE of it, on the prompt and the ids before."""
    model.set_attn_implementation("sdpa")
    logits = model(torch.tensor([prompt + answer], device=model.device)).logits[0, len(prompt) - 1 : -1]
    for position, token in enumerate(answer):
        best = logits[position].max()
        assert best - logits[position, token] <= TIE, f"id {position} of {answer}"
    model.set_attn_implementation(IMPLEMENTATION)


def assert_equal_but_for_ties(
    model: PreTrainedModel, cases: Prompts, expected: Sequence[list[int]], answers: Sequence[list[int]]
) -> None:
    """Each answer is the one expected, or parts from it where two ids are equally good. The engine rests meanwhile."""
    for prompt, wanted, answer in zip(cases, expected, answers, strict=True):
        assert len(answer) == len(wanted)
        if answer != wanted:
            assert_greedy(model, prompt, answer)
