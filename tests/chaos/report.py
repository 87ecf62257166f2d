"""Writes what a run measured into docs/reliability.md."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- figures: written by `make chaos` -->", "<!-- end of figures -->"

HEADER = ("fault", "times", "touched", "moved", "stall p50", "p99", "longest", "start p99")


def write(figures: Mapping[str, Any], page: Path) -> None:
    """Replace what stands between the page's two marks."""
    text = page.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    page.write_text(f"{before}{BEGIN}\n{table(figures)}{END}{after}")


def table(figures: Mapping[str, Any]) -> str:
    """The figures as Markdown: a sentence, and a row for each fault."""
    wrong = ", ".join(f"{figures[kind]} {kind}" for kind in ("lost", "doubled", "altered", "failed"))
    real = figures["real_model"]
    summary = (
        f"{figures['answers']:,} answers: {wrong}. With the real model: {real['answers']} answers, {real['moved']} of "
        f"them moved, {real['wrong']} differing ({real['ties']} at a tie)."
    )
    lines = [
        summary,
        "",
        _row(HEADER),
        _row(["---"] * 2 + ["---:"] * (len(HEADER) - 2)),
    ]
    for fault in figures["faults"]:
        stalls = [_seconds(fault[name]) for name in ("p50_ms", "p99_ms", "max_ms", "start_p99_ms")]
        lines.append(_row([fault["what"], fault["times"], fault["touched"], fault["moved"], *stalls]))
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _seconds(ms: int) -> str:
    return f"{ms / 1000:.2f} s" if ms else "–"
