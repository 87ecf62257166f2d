"""A tokenizer is understood exactly, or refused when it is loaded."""

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from tokenizers.decoders import Decoder

from ekiden_worker.text import UnknownTokenizer, Vocabulary
from tests.support.tokenizers import byte_level_tokenizer

REPLACE, BYTES, FUSE = decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()
STRIP = decoders.Strip(" ", 1, 0)
PIECES = ["<unk>", "<s>", "</s>", "<0x0A>", "<0xE9>", "▁", "▁a", "b", "▁▁▁", "a▁b"]


def bpe(decoder: Decoder | None, pieces: list[str] = PIECES, **options: object) -> Tokenizer:
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], **({"unk_token": "<unk>", "byte_fallback": True} | options)))
    tokenizer.decoder = decoder
    tokenizer.add_special_tokens([piece for piece in ("<unk>", "<s>", "</s>") if piece in pieces])
    return tokenizer


def unigram(decoder: Decoder, *, byte_fallback: bool = True) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram([(piece, -1.0) for piece in PIECES], 0, byte_fallback))
    tokenizer.decoder = decoder
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return tokenizer


EXPECTED = (" \u2047 ".encode(), None, None, b"\n", b"\xe9", " ", " a", "b", "   ", "a b")


@pytest.mark.parametrize(
    ("decoder", "strips"),
    [
        (decoders.Sequence([REPLACE, BYTES, FUSE, STRIP]), True),
        (decoders.Sequence([REPLACE, BYTES, FUSE]), False),
        (decoders.Metaspace(prepend_scheme="always"), True),
        (decoders.Metaspace(prepend_scheme="first"), True),
        (decoders.Metaspace(prepend_scheme="never"), False),
        (decoders.Sequence([decoders.Metaspace(prepend_scheme="always"), BYTES, FUSE]), True),
        (decoders.Sequence([REPLACE]), False),
    ],
)
def test_the_decoders_of_sentencepiece_tell_whether_a_leading_space_is_the_tokenizers_own(
    decoder: Decoder, strips: bool
) -> None:
    for tokenizer in (bpe(decoder), unigram(decoder)):
        assert Vocabulary.of(tokenizer) == Vocabulary(EXPECTED, strip_leading_space=strips, control_breaks=True)


@pytest.mark.parametrize(
    "decoder",
    [
        None,
        decoders.WordPiece(),
        decoders.BPEDecoder(),
        decoders.CTC(),
        decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
        decoders.Sequence([]),
        decoders.Sequence([BYTES, FUSE]),
        decoders.Sequence([decoders.Replace("_", " "), BYTES, FUSE]),
        decoders.Sequence([decoders.Replace("▁", ""), BYTES, FUSE]),
        decoders.Sequence([REPLACE, BYTES, STRIP, FUSE]),  # strips each piece
        decoders.Sequence([REPLACE, BYTES, FUSE, decoders.Strip("_", 1, 0)]),
        decoders.Sequence([REPLACE, BYTES, FUSE, decoders.Strip(" ", 2, 0)]),
        decoders.Sequence([REPLACE, BYTES, FUSE, decoders.Strip(" ", 1, 1)]),
        decoders.Sequence([REPLACE, REPLACE, BYTES, FUSE]),
        decoders.Sequence([decoders.Sequence([REPLACE, BYTES, FUSE])]),
        decoders.Metaspace(replacement="_"),
        decoders.Sequence([decoders.ByteLevel(), STRIP]),
    ],
    ids=str,
)
def test_a_decoder_that_is_not_understood_is_refused(decoder: Decoder | None) -> None:
    with pytest.raises(UnknownTokenizer, match="is of no kind whose text is known to be exact"):
        Vocabulary.of(bpe(decoder))


def test_a_replacement_by_a_pattern_is_refused() -> None:
    from tokenizers import Regex

    with pytest.raises(UnknownTokenizer):
        Vocabulary.of(bpe(decoders.Sequence([decoders.Replace(Regex("▁"), " "), BYTES, FUSE])))


@pytest.mark.parametrize("options", [{"continuing_subword_prefix": "##"}, {"end_of_word_suffix": "</w>"}])
def test_pieces_that_mark_their_place_in_a_word_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(UnknownTokenizer):
        Vocabulary.of(bpe(decoders.ByteLevel(), **options))


def test_another_model_is_refused() -> None:
    tokenizer = Tokenizer(models.WordPiece({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece()
    with pytest.raises(UnknownTokenizer, match="WordPiece"):
        Vocabulary.of(tokenizer)


def test_byte_pieces_that_nothing_joins_are_refused() -> None:
    with pytest.raises(UnknownTokenizer, match="single bytes"):
        Vocabulary.of(unigram(decoders.Metaspace(), byte_fallback=False))


def test_only_sentencepieces_own_spelling_is_a_byte() -> None:
    pieces = ["<unk>", "<0xe9>", "<0xE>", "<0x+9>", "<0xE9>x", "<0xG0>", "<0xE9>"]
    vocabulary = Vocabulary.of(bpe(decoders.Sequence([REPLACE, BYTES, FUSE]), pieces))
    assert vocabulary.pieces[1:] == (*pieces[1:6], b"\xe9")


def test_a_piece_that_comes_twice_has_both_its_ids() -> None:
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), ("▁a", -1.0), ("b", -1.0), ("▁a", -2.0)], 0, False))
    tokenizer.decoder = decoders.Metaspace()
    assert Vocabulary.of(tokenizer).pieces[1:] == (" a", "b", " a")


def test_sentencepiece_without_an_unknown_token_is_understood() -> None:
    vocabulary = Vocabulary.of(bpe(decoders.Sequence([REPLACE, BYTES, FUSE]), ["▁a", "b"], unk_token=None))
    assert vocabulary.pieces == (" a", "b")


class TestAddedTokens:
    """Control tokens say nothing; those merely added stand for their content, as when text is encoded."""

    def test_of_sentencepiece_have_its_spelling_of_spaces(self) -> None:
        tokenizer = bpe(decoders.Sequence([REPLACE, BYTES, FUSE, STRIP]))
        tokenizer.add_tokens(["<tool_call>", "▁▁", AddedToken("<think>", special=False, lstrip=True)])
        tokenizer.add_special_tokens(["<|im_end|>"])
        assert Vocabulary.of(tokenizer).pieces[len(PIECES) :] == ("<tool_call>", "  ", "<think>", None)

    def test_of_byte_level_are_not_spelled_in_its_alphabet(self) -> None:
        contents = ("<tool_call>", "café", "    ", "õ", "駅")
        tokenizer = byte_level_tokenizer(contents)
        for content in contents:
            [token_id] = tokenizer.encode(content).ids
            assert Vocabulary.of(tokenizer).pieces[token_id] == content.encode()

    def test_take_the_place_of_pieces(self) -> None:
        tokenizer = bpe(decoders.Sequence([REPLACE, BYTES, FUSE]))
        tokenizer.add_special_tokens(["b"])
        assert Vocabulary.of(tokenizer).pieces[PIECES.index("b")] is None


def test_byte_level_pieces_are_the_bytes_that_the_tokenizer_spells_so() -> None:
    tokenizer = Tokenizer(models.BPE({}, []))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = bpe(decoders.ByteLevel(add_prefix_space=True), [*alphabet, "Ġthe", "▁", "é▁"], unk_token=None)
    vocabulary = Vocabulary.of(tokenizer)
    assert not vocabulary.strip_leading_space
    assert {*vocabulary.pieces[:256]} == {bytes([byte]) for byte in range(256)}
    # Outside the alphabet a piece is its own characters.
    assert vocabulary.pieces[256:] == (b" the", "▁".encode(), "é▁".encode())
    spell = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for code in (*range(1, 0x800), *range(0x800, 0xD800, 61), *range(0x10000, 0x110000, 4001)):
        [(spelled, _)] = spell.pre_tokenize_str(chr(code))
        found = [vocabulary.pieces[tokenizer.token_to_id(character)] for character in spelled]
        assert b"".join(piece for piece in found if isinstance(piece, bytes)) == chr(code).encode()
