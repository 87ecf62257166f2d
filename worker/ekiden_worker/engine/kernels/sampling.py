"""Choosing ids on a GPU without looking at anything from the host, so that it can be part of a CUDA graph.

The same choices as `engine.sampler`. What filters keep is found without sorting: the scores, as integers of the same
order, are cut at several places at once until the score is found below which nothing is kept. Weights are summed in
float64 where that decides.
"""

import torch
import triton
import triton.language as tl

FIELDS = 11  # of a row, int32, floats by their bits: see `choose`
_BLOCK = 2048
_CUT_BLOCK, _WAYS = 1024, 16

# Bits of a score, as float32, that are always the same.
_UNUSED_BITS = {torch.bfloat16: 16, torch.float16: 13, torch.float32: 0}


@triton.jit
def _scores(logits, seen, slot, penalty, ids, vocab):  # type: ignore[no-untyped-def]
    """float32 of some ids, those outside the vocabulary below all others; `slot` 0: without a penalty."""
    known = ids < vocab
    score = tl.load(logits + ids, mask=known, other=-float("inf")).to(tl.float32)
    said = tl.load(seen + ids, mask=known & (slot > 0), other=0) != 0
    score = tl.where(said, tl.where(score > 0, score / penalty, score * penalty), score)
    return tl.where(score == 0, 0.0, score)  # of both signs the one


@triton.jit
def _key(score, shift):  # type: ignore[no-untyped-def]
    """An int32 in the order of scores."""
    bits = score.to(tl.int32, bitcast=True)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)) >> shift


@triton.jit
def _score_of(key, shift):  # type: ignore[no-untyped-def]
    """The score that has a key, an int64."""
    ones = tl.where(key < 0, (1 << shift) - 1, 0)
    whole = ((key << shift) | ones).to(tl.int32)
    return (whole ^ ((whole >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def _largest(logits, seen, slot, penalty, vocab, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """The largest score, and the first id that has it."""
    n = tl.arange(0, BLOCK)
    best = tl.full([BLOCK], -float("inf"), tl.float32)
    at = n
    for start in range(0, vocab, BLOCK):
        score = _scores(logits, seen, slot, penalty, start + n, vocab)
        better = score > best
        best = tl.where(better, score, best)
        at = tl.where(better, start + n, at)
    largest = tl.max(best, 0)
    return largest, tl.min(tl.where(best == largest, at, vocab), 0)


@triton.jit
def _cut(  # type: ignore[no-untyped-def]
    logits, seen, slot, penalty, vocab, largest, cold, shift, low, high, target,
    COUNT: tl.constexpr, BLOCK: tl.constexpr, WAYS: tl.constexpr,
):  # fmt: skip
    """The largest key so that ids of this key and above are, or weigh, at least `target`; and how much those above it.

    `low` is known to be such a key, `high` to be none. COUNT: each id weighs 1.
    """
    n = tl.arange(0, BLOCK)
    way = tl.arange(0, WAYS).to(tl.int64)
    above = 0.0
    while high - low > 1:
        step = (high - low + WAYS) // (WAYS + 1)
        places = tl.minimum(low + (way + 1) * step, high)
        found = tl.zeros([BLOCK, WAYS], tl.float32)
        for start in range(0, vocab, BLOCK):
            score = _scores(logits, seen, slot, penalty, start + n, vocab)
            if COUNT:
                weight = tl.where(start + n < vocab, 1.0, 0.0)
            else:
                weight = tl.exp((score - largest) * cold.to(tl.float32))
            reached = _key(score, shift)[:, None] >= places.to(tl.int32)[None, :]
            found += tl.where(reached, weight[:, None], 0.0)
        weights = tl.sum(found, 0)
        enough = weights >= target
        low = tl.maximum(low, tl.max(tl.where(enough, places, low), 0))
        least = tl.minimum(high, tl.min(tl.where(enough, high, places), 0))
        above = tl.where(least < high, tl.max(tl.where(places == least, weights, 0.0), 0), above)
        high = least
    return low, above


@triton.jit
def _end_of_ties(logits, seen, slot, penalty, vocab, shift, cut, equals, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """The id behind the first `equals` that have the key `cut`."""
    n = tl.arange(0, BLOCK)
    ties = 0
    end = vocab
    for start in range(0, vocab, BLOCK):
        tied = (_key(_scores(logits, seen, slot, penalty, start + n, vocab), shift) == cut).to(tl.int32)
        here = tl.sum(tied, 0)
        if (ties < equals) & (ties + here >= equals):
            reached = ties + tl.cumsum(tied, 0) >= equals
            end = tl.min(tl.where(reached, start + n + 1, vocab), 0)
        ties += here
    return end


@triton.jit
def _kept(  # type: ignore[no-untyped-def]
    logits, seen, slot, penalty, ids, vocab, largest, cold, shift, cut, end, least
):
    """Weights, float64, of the ids above `cut`, and at it before `end`, that weigh at least `least`; else 0."""
    score = _scores(logits, seen, slot, penalty, ids, vocab)
    key = _key(score, shift)
    weight = tl.exp((score.to(tl.float64) - largest) * cold)
    kept = ((key > cut) | ((key == cut) & (ids < end))) & (ids < vocab)
    return tl.where(kept & (weight >= least), weight, 0.0)


@triton.jit
def _draw(  # type: ignore[no-untyped-def]
    logits, seen, slot, penalty, vocab, largest, cold, shift, cut, end, least, draw, BLOCK: tl.constexpr
):
    """Of what is `_kept` the first id, in the order of ids, with more than the share `draw` of the weight up to it."""
    n = tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float64)
    for start in range(0, vocab, BLOCK):
        total += _kept(logits, seen, slot, penalty, start + n, vocab, largest, cold, shift, cut, end, least)
    target = draw * tl.sum(total, 0)
    chosen = vocab
    last = tl.zeros([BLOCK], tl.int32)
    before = tl.full([], 0.0, tl.float64)
    for start in range(0, vocab, BLOCK):
        ids = start + n
        weight = _kept(logits, seen, slot, penalty, ids, vocab, largest, cold, shift, cut, end, least)
        upto = before + tl.sum(weight, 0)
        if (chosen == vocab) & (upto > target):
            reached = (weight > 0) & (before + tl.cumsum(weight, 0) > target)
            chosen = tl.min(tl.where(reached, ids, vocab), 0)
        last = tl.where(weight > 0, ids, last)
        before = upto
    # Rounding may leave nothing above a draw near 1.
    return tl.where(chosen < vocab, chosen, tl.max(last, 0))


@triton.jit
def _double(field):  # type: ignore[no-untyped-def]
    """Two fields, the lower half first."""
    low = tl.load(field).to(tl.int64) & 0xFFFFFFFF
    return ((tl.load(field + 1).to(tl.int64) << 32) | low).to(tl.float64, bitcast=True)


@triton.jit
def _weigh(  # type: ignore[no-untyped-def]
    logits, seen, slot, penalty, vocab, largest, cold, shift, cut, BLOCK: tl.constexpr
):
    """Weights, float64, of the ids above a key and of those that have it; the next key above it and below it."""
    n = tl.arange(0, BLOCK)
    above = tl.zeros([BLOCK], tl.float64)
    at = tl.zeros([BLOCK], tl.float64)
    higher = tl.full([BLOCK], 0x7FFFFFFF, tl.int32)
    lower = tl.full([BLOCK], -0x80000000, tl.int32)
    for start in range(0, vocab, BLOCK):
        score = _scores(logits, seen, slot, penalty, start + n, vocab)
        key = _key(score, shift)
        weight = tl.where(start + n < vocab, tl.exp((score.to(tl.float64) - largest) * cold), 0.0)
        above += tl.where(key > cut, weight, 0.0)
        at += tl.where(key == cut, weight, 0.0)
        higher = tl.minimum(higher, tl.where(key > cut, key, higher))
        lower = tl.maximum(lower, tl.where(key < cut, key, lower))
    return tl.sum(above, 0), tl.sum(at, 0), tl.min(higher, 0), tl.max(lower, 0)


@triton.jit
def _settled(  # type: ignore[no-untyped-def]
    logits, seen, slot, penalty, vocab, largest, cold, shift, cut, floor, target, BLOCK: tl.constexpr
):
    """The key near `cut`, from `floor` on, at which the weight from the top down reaches `target`; what is above it."""
    went = 0
    above, at, higher, lower = _weigh(logits, seen, slot, penalty, vocab, largest, cold, shift, cut, BLOCK)
    while ((above >= target) & (went >= 0)) | ((above + at < target) & (lower >= floor) & (went <= 0)):
        went = tl.where(above >= target, 1, -1)
        cut = tl.where(above >= target, higher, lower).to(tl.int64)
        above, at, higher, lower = _weigh(logits, seen, slot, penalty, vocab, largest, cold, shift, cut, BLOCK)
    return cut, above


@triton.jit
def _filtered(  # type: ignore[no-untyped-def]
    logits, seen, slot, penalty, vocab, largest, cold, shift, low, high, top_k, top_p,
    BLOCK: tl.constexpr, WAYS: tl.constexpr,
):  # fmt: skip
    """The lowest key that top-k and then top-p keep, and how many ids that have it."""
    cut = low
    equals = vocab
    if (top_k > 0) & (top_k < vocab):
        cut, above = _cut(
            logits, seen, slot, penalty, vocab, largest, cold, shift, low, high, top_k.to(tl.float32),
            True, BLOCK, WAYS,
        )  # fmt: skip
        equals = top_k - above.to(tl.int32)
    if top_p < 1:
        # Of what top-k left, as transformers does.
        floor = cut
        above, _, _, _ = _weigh(logits, seen, slot, penalty, vocab, largest, cold, shift, floor, BLOCK)
        target = top_p * (above + equals * tl.exp((_score_of(floor, shift).to(tl.float64) - largest) * cold))
        cut, _ = _cut(
            logits, seen, slot, penalty, vocab, largest, cold, shift, floor, high, target.to(tl.float32),
            False, BLOCK, WAYS,
        )  # fmt: skip
        cut, above = _settled(
            logits, seen, slot, penalty, vocab, largest, cold, shift, cut, floor, target, BLOCK
        )  # fmt: skip
        one = tl.exp((_score_of(cut, shift).to(tl.float64) - largest) * cold)
        needed = tl.ceil((target - above) / one)
        needed = tl.minimum(tl.maximum(needed, 1.0), vocab.to(tl.float64)).to(tl.int32)
        equals = tl.where(cut > floor, needed, tl.minimum(needed, equals))
    return cut, equals


@triton.jit
def _choose(  # type: ignore[no-untyped-def]
    logits, fields, seen, out, logits_row, seen_row, vocab,
    UNUSED: tl.constexpr, FIELDS: tl.constexpr, BLOCK: tl.constexpr, CUT_BLOCK: tl.constexpr, WAYS: tl.constexpr,
):  # fmt: skip
    """A row's next id."""
    row = tl.program_id(0).to(tl.int64)
    logits += row * logits_row
    field = fields + row * FIELDS
    slot = tl.load(field)
    top_k = tl.load(field + 1)
    penalty = tl.where(slot > 0, tl.load(field + 2).to(tl.float32, bitcast=True), 1.0)
    temperature = _double(field + 3)
    top_p = _double(field + 5)
    min_p = _double(field + 7)
    seen += tl.maximum(slot - 1, 0).to(tl.int64) * seen_row
    largest, chosen = _largest(logits, seen, slot, penalty, vocab, BLOCK)
    if temperature > 0:
        cold = 1 / temperature
        shift = tl.where(slot > 0, 0, UNUSED)
        cut = _key(tl.full([], -float("inf"), tl.float32), shift).to(tl.int64)
        high = _key(largest, shift).to(tl.int64) + 1
        end = vocab
        if ((top_k > 0) & (top_k < vocab)) | (top_p < 1):
            cut, equals = _filtered(
                logits, seen, slot, penalty, vocab, largest, cold, shift, cut, high, top_k, top_p,
                CUT_BLOCK, WAYS,
            )  # fmt: skip
            end = _end_of_ties(logits, seen, slot, penalty, vocab, shift, cut, equals, BLOCK)
        draw = _double(field + 9)
        chosen = _draw(logits, seen, slot, penalty, vocab, largest, cold, shift, cut, end, min_p, draw, BLOCK)
    tl.store(out + row, chosen.to(tl.int64))


def choose(logits: torch.Tensor, fields: torch.Tensor, seen: torch.Tensor, out: torch.Tensor) -> None:
    """Write the next id of each row of `logits` [rows, vocab_size] to `out` [rows], int64.

    `fields` [rows, FIELDS], int32, are slot, top_k, by its bits as float32 the repetition penalty, and as float64, each
    two fields, temperature (0: the largest), top_p, min_p and a uniform in [0, 1). A slot s > 0 has row s - 1 of `seen`
    [slots, vocab_size], bool, penalized; 0 has no penalty.
    """
    rows, vocab = logits.shape
    _choose[(rows,)](
        logits, fields, seen, out, logits.stride(0), seen.stride(0), vocab, UNUSED=_UNUSED_BITS[logits.dtype],
        FIELDS=FIELDS, BLOCK=_BLOCK, CUT_BLOCK=min(_BLOCK, _CUT_BLOCK), WAYS=_WAYS, num_warps=8,
    )  # fmt: skip
