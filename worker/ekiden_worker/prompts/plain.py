"""The `plain` format, for models without a chat template: the last user message alone."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerFast

from ekiden.protocol import Message
from ekiden_worker.prompts.literal import LiteralEncoder


class PlainFormat:
    """The last message's text, behind what the tokenizer itself puts in front of a text."""

    name = "plain"

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._encoder = LiteralEncoder(tokenizer.backend_tokenizer)
        framed = tokenizer.backend_tokenizer.encode("x").ids
        bare = tokenizer.backend_tokenizer.encode("x", add_special_tokens=False).ids
        start = next((at for at in range(len(framed)) if framed[at : at + len(bare)] == bare), 0)
        self._begin = framed[:start]
        # What a blank message of a tokenizer that begins with nothing becomes: a model needs something to go on from.
        ends = (tokenizer.bos_token_id, tokenizer.eos_token_id, 0)
        self._blank = [next(token_id for token_id in ends if token_id is not None)]

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Prompt ids of the last message; never none."""
        return [*self._begin, *self._encoder.encode([messages[-1].content])] or self._blank

    def turn_end(self) -> int | None:
        """Nothing but the model's own end ids ends an answer."""
        return None
