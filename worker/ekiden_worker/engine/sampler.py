"""Chooses the next ids from logits, each row by its own parameters and its own random number.

Counter-based: the uniform of a row depends on (seed, position) alone, so a choice is the same alone, in a batch, or
after a move to another worker. The filters' order and what each keeps are those of transformers' logits processors.
"""

from collections.abc import Sequence as AbstractSequence

import torch

from ekiden_worker.engine.interface import SamplingParams

# splitmix64 (Steele, Lea, Flood 2014), as signed 64-bit numbers
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)

# Sorting a whole vocabulary is slow: filters rarely keep more than this many ids, and a row that does is sorted whole.
_CANDIDATES = 1024

COLDEST = 1e-30  # temperature; a smaller one would divide beyond what numbers hold, and choose no differently


def _shift_right(bits: torch.Tensor, count: int) -> torch.Tensor:
    return (bits >> count) & ((1 << (64 - count)) - 1)


def _mix(bits: torch.Tensor) -> torch.Tensor:
    bits = (bits ^ _shift_right(bits, 30)) * _MIX_1
    bits = (bits ^ _shift_right(bits, 27)) * _MIX_2
    return bits ^ _shift_right(bits, 31)


def uniform(seeds: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """One float64 in [0, 1) for each (seed, position), both int64 [rows]; equal on every device."""
    return _shift_right(_mix(_mix(seeds + _GOLDEN) + positions * _GOLDEN), 11).double() * 2.0**-53


def penalize(logits: torch.Tensor, seen: torch.Tensor, penalties: torch.Tensor) -> torch.Tensor:
    """Repetition penalty for the ids of `seen` [rows, vocab_size], bool; `penalties` [rows]."""
    factor = penalties[:, None]
    return torch.where(seen, torch.where(logits > 0, logits / factor, logits * factor), logits)


@torch.inference_mode()
def sample(
    logits: torch.Tensor, params: AbstractSequence[SamplingParams], positions: AbstractSequence[int]
) -> torch.Tensor:
    """The next id of each row of `logits` [rows, vocab_size], penalties already applied: int64 [rows]."""
    chosen = logits.argmax(-1)
    random_rows = [row for row, p in enumerate(params) if p.temperature > 0]
    filtered = [row for row in random_rows if _filters(params[row])]
    free = [row for row in random_rows if not _filters(params[row])]
    for rows, choose in ((filtered, _choose_filtered), (free, _choose_any)):
        if rows:
            index = torch.tensor(rows, device=logits.device)
            some = [params[row] for row in rows]
            draws = uniform(_longs([p.seed for p in some], logits), _longs([positions[row] for row in rows], logits))
            temperatures = _doubles([max(p.temperature, COLDEST) for p in some], logits)
            chosen[index] = choose(logits[index].double() / temperatures[:, None], some, draws)
    return chosen


def _filters(params: SamplingParams) -> bool:
    return params.top_k > 0 or params.top_p < 1 or params.min_p > 0


def _choose_any(scaled: torch.Tensor, _params: list[SamplingParams], draws: torch.Tensor) -> torch.Tensor:
    cumulative = scaled.softmax(-1).cumsum(-1)
    return _inverse(cumulative, draws)


def _inverse(cumulative: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """First column whose cumulative mass is above draw · total mass; never one without mass behind the last."""
    total = cumulative[:, -1:]
    found = (cumulative <= draws[:, None] * total).sum(-1)
    last = (cumulative < total).sum(-1)
    return torch.minimum(found, last)


def _choose_filtered(scaled: torch.Tensor, params: list[SamplingParams], draws: torch.Tensor) -> torch.Tensor:
    width = min(_CANDIDATES, scaled.shape[1])
    chosen, enough = _choose_among(scaled, width, params, draws)
    if width < scaled.shape[1] and not enough.all():
        rows = (~enough).nonzero()[:, 0]
        kept = [params[row] for row in rows.tolist()]
        chosen[rows], _ = _choose_among(scaled[rows], scaled.shape[1], kept, draws[rows])
    return chosen


def _choose_among(
    scaled: torch.Tensor, width: int, params: list[SamplingParams], draws: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose among the `width` likeliest ids. Also tells for which rows these are surely all that matter."""
    values, ids = _largest(scaled, width)
    rank = torch.arange(width, device=scaled.device)
    top_k = _longs([p.top_k if p.top_k > 0 else scaled.shape[1] for p in params], scaled)[:, None]
    top_p = _doubles([p.top_p for p in params], scaled)[:, None]
    min_p = _doubles([p.min_p for p in params], scaled)[:, None]
    within_k = rank < top_k
    # Top-p counts the mass of what top-k left, top-k first, as transformers does.
    rest = scaled.logsumexp(-1, keepdim=True)
    in_k = torch.where(within_k, values, -torch.inf).logsumexp(-1, keepdim=True)
    probabilities = (values - torch.where(top_k <= width, in_k, rest)).exp()
    probabilities = torch.where(within_k, probabilities, 0.0)
    cumulative = probabilities.cumsum(-1)
    keep = within_k & (cumulative - probabilities < top_p) & (probabilities >= min_p * probabilities[:, :1])
    keep[:, 0] = True
    # What a top-k beyond `width` leaves, of which top-p is a share, is not known here.
    enough = (top_k[:, 0] <= width) | (~keep[:, -1] & (top_k[:, 0] >= scaled.shape[1]))
    # In the order of ids: the noise of another batch may swap neighbours in likelihood, and would change the choice.
    ids, by_id = ids.sort(-1)
    mass = torch.where(keep, probabilities, 0.0).gather(-1, by_id)
    choice = _inverse(mass.cumsum(-1), draws)
    return ids.gather(-1, choice[:, None])[:, 0], enough


def _largest(scaled: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest values in falling order, equal ones by rising id, whatever order the device finds them in."""
    ids = scaled.topk(width, dim=-1, sorted=False).indices.sort(-1).values
    values, order = scaled.gather(-1, ids).sort(dim=-1, descending=True, stable=True)
    return values, ids.gather(-1, order)


def _longs(values: list[int], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.long, device=like.device)


def _doubles(values: list[float], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.double, device=like.device)
