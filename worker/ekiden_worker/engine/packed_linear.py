"""Linear layers whose weights lie in oneDNN's blocked order: on a CPU the fast way to multiply a few rows by a matrix.

torch's own matrix product reads a float32 weight in the order it is stored in, which takes several times as long for
the rows of a decode step on many processors. The products are the same up to the order of summation.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

# oneDNN chooses the order for about so many rows; it stays good from one row to a whole chunk of a prompt.
_ROWS = 8

# Layers that transformers' models give the same rows: one product for all of them costs one call.
_SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


class PackedProduct:
    """Multiplies rows by the weights of one or more linear layers, side by side; float32 on the CPU. One thread."""

    def __init__(self, linears: Sequence[nn.Linear]) -> None:
        weight = torch.cat([linear.weight.detach() for linear in linears])
        # These are the names that torch's own compiler uses; no public one keeps a weight packed.
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)  # noqa: SLF001
        biases = [linear.bias.detach() for linear in linears if linear.bias is not None]
        self._bias = torch.cat(biases) if biases else None
        self._sizes = [linear.out_features for linear in linears]
        self._rows: torch.Tensor | None = None
        self._parts: tuple[torch.Tensor, ...] = ()

    def part(self, rows: torch.Tensor, number: int) -> torch.Tensor:
        """[..., in_features] → [..., out_features] of one layer; computed once while layers are given the same rows."""
        if rows is not self._rows:
            product = torch.ops.mkldnn._linear_pointwise(rows, self._weight, self._bias, "none", [], "")  # noqa: SLF001
            self._rows, self._parts = rows, product.split(self._sizes, dim=-1)
        part = self._parts[number]
        if number == len(self._sizes) - 1:
            self._rows, self._parts = None, ()
        return part


class PackedLinear(nn.Module):
    """Stands in for a `torch.nn.Linear`; has no weight of its own."""

    def __init__(self, product: PackedProduct, number: int, linear: nn.Linear) -> None:
        super().__init__()
        # Models ask layers for the weight's type and shape; computing with it fails.
        self.weight = linear.weight.detach().to("meta")
        self._product = product
        self._number = number

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """[..., in_features] → [..., out_features]."""
        return self._product.part(rows, self._number)


def pack_linears(model: PreTrainedModel) -> None:
    """Replace the linear layers of a float32 model on the CPU, one after the other; any other model stays as it is.

    Takes the memory of the weights in place of pages of the file that they were mapped from.
    """
    fits = model.device.type == "cpu" and model.dtype == torch.float32
    if not fits or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return
    for parent in list(model.modules()):
        for names in _groups(parent):
            linears = [getattr(parent, name) for name in names]
            product = PackedProduct(linears)
            for number, (name, linear) in enumerate(zip(names, linears, strict=True)):
                setattr(parent, name, PackedLinear(product, number, linear))


def _groups(parent: nn.Module) -> Iterator[tuple[str, ...]]:
    """Names of the linear layers right below a module, those together that can be one product."""
    linears = {name: child for name, child in parent.named_children() if type(child) is nn.Linear}
    for names in _SIBLINGS:
        if all(name in linears for name in names):
            kinds = {(linears[name].in_features, linears[name].bias is None) for name in names}
            if len(kinds) == 1:
                yield names
                for name in names:
                    del linears[name]
    yield from ((name,) for name in linears)
