"""How near the pieces of a step come to what a device can do: products, attention, whole decode steps of the 7B model.

Run it with `python -m tests.benchmarks.gpu.bench_roofline`. Each piece is computed by the engine's own objects, on
weights and caches that take turns, so that no cache keeps them; operations and bytes are counted from the shapes. The
roofs are the best that a copy of memory, a large product or a piece reached in the same run. `--figures` is where the
measurements are kept as JSON, and `--draw` reads them there: the machine that draws needs matplotlib (`pip install -e
'.[bench]'`), the one that is measured does not. `TRITON_INTERPRET=1 … --device cpu --tiny --layers 2` tries the
benchmark itself.
"""

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.common import report
from tests.benchmarks.gpu.roofline_plot import draw, roofs
from tests.benchmarks.gpu.workload import Size, add_size

IMAGE = Path(__file__).parents[3] / "docs" / "images" / "roofline.svg"
LEAST_S = 0.1
TRY = 32  # by how much a try on a CPU is smaller


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """The figures, as `--figures` keeps them."""
    from tests.benchmarks.gpu.pieces import Pieces, Timer  # Triton, of which drawing has no need

    on_cpu = options.device == "cpu"
    pieces = Pieces(options.device, Size.of(options), Timer(options.device, options.least_s), TRY if on_cpu else 1)
    return {
        "model": "a tiny model" if options.tiny else "Llama-2-7B's shape",
        "device": "a CPU, with Triton's interpreter" if on_cpu else torch.cuda.get_device_name(),
        "dtype": "float32" if on_cpu else "bfloat16",
        "torch": torch.__version__,
        "layers": options.layers,
        "copy_bytes_per_s": pieces.copy_bytes_per_s(),
        "matmul_flops_per_s": pieces.matmul_flops_per_s(),
        "pieces": [asdict(piece) for piece in pieces.all()],
    }


def tell(figures: Mapping[str, Any]) -> None:
    """The figures as a table."""
    copied, product = figures["copy_bytes_per_s"], figures["matmul_flops_per_s"]
    print(f"copy {copied / 1e12:.3f} TB/s, product {product / 1e12:.1f} TFLOP/s")
    moved, computed = roofs(figures)
    for piece in figures["pieces"]:
        flops, rate = piece["flops"] / piece["seconds"], piece["bytes"] / piece["seconds"]
        share = flops / min(computed, piece["flops"] / piece["bytes"] * moved)
        rates = f"{flops / 1e12:8.2f} TFLOP/s {rate / 1e12:6.3f} TB/s {share:5.0%} of the roof"
        print(f"{piece['kind']:>18} {piece['name']:>18} {piece['seconds'] * 1e6:10.1f} µs {rates}")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--figures", type=Path, help="the measurements, as JSON")
    parser.add_argument("--draw", action="store_true", help="measure nothing: draw what --figures holds")
    parser.add_argument("--out", type=Path, default=IMAGE, help="the picture; its ending says of what kind")
    parser.add_argument("--least-s", type=float, default=LEAST_S, help="how long each piece is repeated")
    add_size(parser)
    options = parser.parse_args()
    if options.draw and not options.figures:
        parser.error("--draw needs --figures")
    if options.device == "cpu" and not options.draw and "TRITON_INTERPRET" not in os.environ:
        parser.error("on a CPU the kernels need TRITON_INTERPRET=1")
    return options


def main() -> None:
    options = parsed()
    figures = json.loads(options.figures.read_text()) if options.draw else measured(options)
    if options.figures and not options.draw:
        options.figures.parent.mkdir(parents=True, exist_ok=True)
        options.figures.write_text(json.dumps(figures, indent=1) + "\n")
    tell(figures)
    drawn = find_spec("matplotlib") is not None
    if drawn:
        draw(figures, options.out)
    else:
        print("matplotlib is not installed: nothing was drawn")
    report({"benchmark": "gpu_roofline", **figures, "drawn": str(options.out) if drawn else None}, [])


if __name__ == "__main__":
    main()
