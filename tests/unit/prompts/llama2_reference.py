"""Meta's rule for Llama-2 prompts, written with SentencePiece itself; shares nothing with the code under test."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import NoReturn

from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers import Tokenizer, decoders, models, normalizers

from ekiden.protocol import Message
from ekiden_worker.prompts import ModelTokenizer
from tests.support.data import data_file
from tests.support.tokenizers import CORPUS

BOS, EOS = 1, 2
TAGS = ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>")


def reference_ids(processor: SentencePieceProcessor, messages: Sequence[Message]) -> list[int]:
    """The prompt as the reference's chat_completion builds it."""
    texts = [message.content for message in messages]
    if messages[0].role == "system":
        system, question, *rest = texts
        texts = [f"<<SYS>>\n{system}\n<</SYS>>\n\n{question}", *rest]
    ids: list[int] = []
    for question, answer in zip(texts[:-1:2], texts[1::2], strict=True):
        ids += [BOS, *processor.encode(f"[INST] {question.strip()} [/INST] {answer.strip()} "), EOS]
    return [*ids, BOS, *processor.encode(f"[INST] {texts[-1].strip()} [/INST]")]


@dataclass(frozen=True)
class Kind:
    """One vocabulary, as SentencePiece and as `tokenizers` have it."""

    processor: SentencePieceProcessor
    tokenizer: ModelTokenizer


@cache
def real() -> Kind:
    """Llama-2's own; skips the test where it is not."""
    processor = SentencePieceProcessor(model_file=str(data_file("llama2/tokenizer.model")))
    return Kind(processor, ModelTokenizer.from_folder(data_file("llama2")))


@cache
def trained() -> Kind:
    """A small one of the same kind, trained on the licence."""
    model = BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter([*CORPUS.read_text().splitlines(), "[INST] <<SYS>> <</SYS>> [/INST]"]),
        model_writer=model,
        model_type="bpe",
        vocab_size=700,
        byte_fallback=True,
        character_coverage=1.0,
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    processor = SentencePieceProcessor(model_proto=model.getvalue())
    return Kind(processor, ModelTokenizer(_converted(processor), None, _nothing_to_load))


KINDS: dict[str, Callable[[], Kind]] = {"real": real, "trained": trained}


def _converted(processor: SentencePieceProcessor) -> Tokenizer:
    """The same pieces for `tokenizers`: two pieces merge where their text is a piece, the best piece first."""
    vocab = {processor.id_to_piece(token_id): token_id for token_id in range(processor.vocab_size())}
    merges = [
        (piece[:at], piece[at:])
        for piece, token_id in sorted(vocab.items(), key=lambda item: item[1])
        if not processor.is_byte(token_id)
        for at in range(1, len(piece))
        if piece[:at] in vocab and piece[at:] in vocab
    ]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


def _nothing_to_load() -> NoReturn:
    raise AssertionError("this format needs no tokenizer of transformers")


PIECES = (
    "a", "Z", "the License", " ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", " \n ", "\u3000", "\u00a0", "\x85", "\x1c",
    "駅", "日本の首都", "。", "👍🏽", "👩\u200d👩\u200d👧", "é", "e\u0301", "ﬁ", "𝔘", "\ufeff", "\u200b", "\u2581",
    "\u2581\u2581", "\x00", "\x7f", "\ufffd", "\ue000", "\U0010ffff", "<s>", "</s>", "<unk>", "<0x0A>", "<s>[INS",
    "[INST", "INST]", "<<SYS", "SYS>>", "<</SYS>", "[ INST]", "0", "1997年", "James", "def f(x):\n    return x",
    "http://", "'", '"', "\\n", "{{ x }}",
)  # fmt: skip


def random_text(randomly: random.Random) -> str:
    """Pieces in any order, white space and the spelling of control tokens among them, but no tag."""
    while True:
        text = "".join(randomly.choices(PIECES, k=randomly.randrange(7)))
        if randomly.random() < 0.1:
            text += chr(randomly.choice((randomly.randrange(0xD800), randomly.randrange(0xE000, 0x110000))))
        if not any(tag in text for tag in TAGS):
            return text


def random_conversation(randomly: random.Random) -> list[Message]:
    """One to seven turns, now and then with a system message."""
    count = randomly.randrange(0, 4) * 2 + 1
    turns = [Message(("user", "assistant")[number % 2], random_text(randomly)) for number in range(count)]
    return [Message("system", random_text(randomly)), *turns] if randomly.random() < 0.4 else turns
