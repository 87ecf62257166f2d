"""Prompt ids as a worker builds them, for tests that compare what is generated behind them."""

from collections.abc import Sequence

from ekiden.protocol import Message
from ekiden.settings import load_settings
from ekiden_worker.prompts import ModelTokenizer, choose_format


def prompt_of(tokenizer: ModelTokenizer, messages: Sequence[Message]) -> list[int]:
    """The ids of a request that brings its history, with default settings."""
    prompts = choose_format(tokenizer, load_settings())
    prompts.check(messages)
    return prompts.encode(prompts.parts(messages))
