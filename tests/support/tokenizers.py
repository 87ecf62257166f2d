"""Small tokenizers of both kinds, trained on the project's own licence text: they need no download."""

from functools import cache
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

CORPUS = Path(__file__).parents[2] / "LICENSE"


@cache
def _lines() -> list[str]:
    return CORPUS.read_text().splitlines()


def byte_level_tokenizer(extra: tuple[str, ...] = ("<tool_call>",)) -> Tokenizer:
    """Byte-level BPE with ChatML's control tokens and `extra` merely added ones."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_lines(), trainer)
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in extra])
    return tokenizer


def sentencepiece_tokenizer() -> Tokenizer:
    """BPE with byte fallback and Llama-2's leading-space rules."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(_lines(), trainer)
    description = tokenizer.to_str()
    # The trainer marks byte pieces as special; in Llama-2 only the first three are.
    return _only_special(description, {"<unk>", "<s>", "</s>"})


def _only_special(description: str, special: set[str]) -> Tokenizer:
    import json

    parsed = json.loads(description)
    parsed["added_tokens"] = [token for token in parsed["added_tokens"] if token["content"] in special]
    return Tokenizer.from_str(json.dumps(parsed))
