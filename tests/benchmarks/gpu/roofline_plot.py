"""The picture of a roofline: what pieces reach of what memory and units allow (Williams, Waterman, Patterson 2009)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Colour and marker by kind. The colours are told apart also by those who see few (Okabe, Ito 2008).
STYLES = {
    "qkv": ("#0072B2", "o"),
    "o": ("#56B4E9", "s"),
    "gate_up": ("#009E73", "^"),
    "down": ("#E69F00", "v"),
    "lm_head": ("#CC79A7", "D"),
    "decode attention": ("#D55E00", "P"),
    "prefill attention": ("#000000", "X"),
    "decode step": ("#7F7F7F", "*"),
}


def roofs(figures: Mapping[str, Any]) -> tuple[float, float]:
    """What memory and units allow, bytes and operations a second: what the large copy and product reached, or a piece.

    A copy writes as much as it reads. Pieces read, which is faster, and some of them pass it by half.
    """
    pieces: Sequence[Mapping[str, Any]] = figures["pieces"]
    moved = max(figures["copy_bytes_per_s"], *(piece["bytes"] / piece["seconds"] for piece in pieces))
    computed = max(figures["matmul_flops_per_s"], *(piece["flops"] / piece["seconds"] for piece in pieces))
    return moved, computed


def draw(figures: Mapping[str, Any], out: Path) -> None:
    """Write it as the kind of file that the name of `out` says. `figures`: see `bench_roofline`. Needs matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "ekiden"  # the same figures give the same file
    mpl.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot as plt

    moved, computed = roofs(figures)
    pieces: Sequence[Mapping[str, Any]] = figures["pieces"]
    intensities = [piece["flops"] / piece["bytes"] for piece in pieces]
    speeds = [piece["flops"] / piece["seconds"] / 1e12 for piece in pieces]
    figure, axes = plt.subplots(figsize=(10, 6.5), layout="constrained")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    left, right = min(intensities) / 2, max(*intensities, 4 * computed / moved)
    ridge = computed / moved
    axes.plot([left, ridge, right], [left * moved / 1e12, computed / 1e12, computed / 1e12], color="#444444", zorder=1)
    at = 6 * left
    axes.annotate(
        f"memory: {moved / 1e12:.3g} TB/s", (at, at * moved / 1e12), xytext=(-6, 8),
        textcoords="offset points", ha="right",
    )  # fmt: skip
    axes.annotate(
        f"matrix units: {computed / 1e12:.3g} TFLOP/s", (right, computed / 1e12), xytext=(0, 6),
        textcoords="offset points", ha="right",
    )  # fmt: skip
    for kind, (colour, marker) in STYLES.items():
        chosen = [number for number, piece in enumerate(pieces) if piece["kind"] == kind]
        x, y = [intensities[number] for number in chosen], [speeds[number] for number in chosen]
        axes.plot(x, y, marker, color=colour, label=kind, markersize=11 if marker == "*" else 7, alpha=0.85)
    _name_rows(axes, pieces, intensities, speeds)
    axes.set_xlim(left, right * 1.3)
    axes.set_ylim(min(speeds) / 2.5, computed / 1e12 * 2)
    axes.set_xlabel("operations for each byte of memory (FLOP/byte)")
    axes.set_ylabel("TFLOP/s")
    axes.set_title(f"{figures['model']}, {figures['dtype']}, on {figures['device']}")
    axes.grid(which="major", color="#DDDDDD", linewidth=0.6)
    axes.legend(loc="lower right", ncols=2)
    axes.xaxis.set_major_formatter(lambda value, _at: f"{value:g}")
    axes.yaxis.set_major_formatter(lambda value, _at: f"{value:g}")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)
    plt.close(figure)


def _name_rows(
    axes: Any, pieces: Sequence[Mapping[str, Any]], intensities: Sequence[float], speeds: Sequence[float]
) -> None:
    """Below the products of so many rows, which stand above each other: how many."""
    below: dict[str, tuple[float, float]] = {}
    for piece, x, y in zip(pieces, intensities, speeds, strict=True):
        if piece["kind"] in ("qkv", "o", "gate_up", "down", "lm_head"):
            known = below.get(piece["name"], (x, y))
            below[piece["name"]] = min(known, (x, y), key=lambda place: place[1])
    for name, place in below.items():
        text = {"1": "1 row", "1024": "1,024", "2048": "2,048"}.get(name, f"{name} rows")
        aside = {"1024": "right", "2048": "left"}.get(name, "center")  # these two are near each other
        axes.annotate(text, place, xytext=(0, -16), textcoords="offset points", ha=aside, fontsize=9)
