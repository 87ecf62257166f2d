"""A worker on a GPU: the same path, and at float32 the same answers as the reference on that GPU."""

import asyncio
from collections.abc import Callable

import pytest
import torch

from ekiden.protocol import Message
from ekiden.settings import DEFAULT_ENGINE, Settings, load_settings
from ekiden_worker.model import load_model
from tests.support.data import data_file
from tests.support.processes import Processes
from tests.support.prompts import prompt_of
from tests.support.socket import connected

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.timeout(300),
]

PROMPTS = [
    "Once upon a time",
    "The little dog",
    "Tom and Lily went to",
    "One day, a bird",
    "She was very happy because",
]
MAX_TOKENS = 60


def reference(settings: Settings) -> list[str]:
    """Greedy answers of transformers' own loop on the GPU, one by one."""
    model, tokenizer = load_model(settings)
    answers = []
    for prompt in PROMPTS:
        ids = torch.tensor([prompt_of(tokenizer, [Message("user", prompt)])], device=settings.device)
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=MAX_TOKENS, do_sample=False)  # type: ignore[operator]
        whole = tokenizer.fast.decode(out[0], skip_special_tokens=True)
        answers.append(whole[len(tokenizer.fast.decode(ids[0], skip_special_tokens=True)) :].strip())
    return answers


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_worker_on_cuda_answers(
    dtype: str, make_settings: Callable[..., Settings], fleet_of: Callable[[Settings], Processes]
) -> None:
    model = str(data_file("stories260K"))
    settings = make_settings(model=model)
    fleet = fleet_of(settings)
    named = {"EKIDEN_ENGINE": DEFAULT_ENGINE, "EKIDEN_MODEL": model}
    fleet.worker(**named, EKIDEN_DEVICE="cuda", EKIDEN_DTYPE=dtype)
    api = fleet.api(**named)

    async def run() -> list[str]:
        async with connected(api.socket) as client:
            params = {"temperature": 0, "max_tokens": MAX_TOKENS}
            jobs = [await client.chat(prompt, params=params) for prompt in PROMPTS]
            return [(await client.answer(job)).strip() for job in jobs]

    answers = asyncio.run(run())
    assert all(answers)
    if dtype == "float32":  # bfloat16 may choose otherwise in a batch; it is promised to answer, not to agree
        assert answers == reference(load_settings(model=model, device="cuda", dtype=dtype))
