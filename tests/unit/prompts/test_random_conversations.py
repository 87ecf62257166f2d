"""Random conversations that try to forge turns, `ROUNDS` of them: as plain a loop as can be, seeded."""

import pytest

from tests.support.data import DATA
from tests.support.seeded import ROUNDS, generator
from tests.unit.prompts.families import encode
from tests.unit.prompts.forging import SUBJECTS, random_messages, subject_of
from tests.unit.prompts.llama2_reference import KINDS, random_conversation, reference_ids
from tests.unit.prompts.test_llama2 import format_of

# A fresh clone has no real tokenizer of Llama-2: the others then take its share.
KINDS_HERE = [name for name in KINDS if name != "real" or (DATA / "llama2").exists()]
SHARE = -(-ROUNDS // (len(SUBJECTS) + len(KINDS_HERE)))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", SUBJECTS)
def test_no_control_token_comes_from_a_message(name: str) -> None:
    randomly, subject = generator(f"conversations {name}"), subject_of(name)
    for _ in range(SHARE):
        subject.check(random_messages(randomly))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", KINDS)
def test_llama_2_gets_the_ids_of_the_reference(name: str) -> None:
    randomly, kind, prompts = generator(f"llama2 {name}"), KINDS[name](), format_of(name)
    for _ in range(SHARE):
        messages = random_conversation(randomly)
        prompts.check(messages)
        assert encode(prompts, messages) == reference_ids(kind.processor, messages), messages
