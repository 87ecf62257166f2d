"""An engine that says the last message again, one byte a token: a test chooses every character of an answer.

Loaded by a real worker process with EKIDEN_ENGINE=tests.browser.echo_engine:load. EKIDEN_TEST_STEP_S: length of a step.
"""

import os

from ekiden.settings import Settings
from ekiden_worker.engine.interface import Finish, Output
from ekiden_worker.prompts import PromptRules
from ekiden_worker.runtime import Runtime
from ekiden_worker.text import Vocabulary
from tests.support.bytes_format import BytesFormat
from tests.support.fake_engine import FakeEngine

END = 0
VOCABULARY = Vocabulary(
    pieces=(None, *(bytes([byte]) for byte in range(256))), strip_leading_space=False, control_breaks=False
)


class EchoEngine(FakeEngine):
    """One id of its own prompt for every running request a step."""

    def _advance(self, name: str) -> None:
        running = self._running[name]
        prompt = running.request.prompt_ids
        position = running.request.params.max_tokens - running.left
        running.left -= 1
        finish = Finish.STOP if position + 1 == len(prompt) else Finish.LENGTH if running.left == 0 else None
        if finish:
            del self._running[name]
        self._outputs.append(Output(name, (prompt[position],), finish))


def load(settings: Settings) -> Runtime:
    """What EKIDEN_ENGINE names."""
    step_s = float(os.environ.get("EKIDEN_TEST_STEP_S", "0.002"))
    return Runtime(
        model=settings.model_name,
        engine=EchoEngine(step_s, settings.max_running, context_tokens=settings.context_tokens or 4096),
        prompts=BytesFormat(single_turn=True),
        rules=PromptRules.of(settings),
        vocabulary=VOCABULARY,
        end_ids=frozenset({END}),
    )
