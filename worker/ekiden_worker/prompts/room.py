"""How the model's context is shared between a prompt and its answer."""

from dataclasses import dataclass

from ekiden.errors import PromptTooLong

DEFAULT_MAX_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Room:
    """The context, and the answer's length that was asked for; None: as many tokens as fit, up to 1,024."""

    context_tokens: int
    max_tokens: int | None

    @property
    def prompt_limit(self) -> int:
        """How many tokens a prompt with history may have, so that its answer has room."""
        if self.max_tokens is not None:
            return self.context_tokens - self.max_tokens
        return self.context_tokens - min(DEFAULT_MAX_TOKENS, self.context_tokens // 4)

    def answer_tokens(self, prompt_tokens: int) -> int:
        """How long the answer to a prompt may become. Raises PromptTooLong."""
        room = self.context_tokens - prompt_tokens
        if self.max_tokens is None and room >= 1:
            return min(DEFAULT_MAX_TOKENS, room)
        if self.max_tokens is None or self.max_tokens > room:
            asked = f" and max_tokens {self.max_tokens}" if self.max_tokens else ""
            raise PromptTooLong(
                f"The prompt's {prompt_tokens} tokens{asked} do not fit "
                f"the model's context of {self.context_tokens} tokens."
            )
        return self.max_tokens
