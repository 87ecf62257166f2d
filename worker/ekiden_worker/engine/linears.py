"""Linear layers as products: those given the same rows become one, in the form that the device multiplies best.

On a CPU the weights lie in oneDNN's blocked order. torch's own matrix product reads a weight in the order it is stored
in, which takes several times as long for the rows of a decode step on many processors. The products are the same up to
the order of summation.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import nn
from transformers import PreTrainedModel

# oneDNN chooses the order for about so many rows; it stays good from one row to a whole chunk of a prompt.
_ROWS = 8

# Layers that transformers' models give the same rows: one product for all of them costs one call.
_SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


OneRow = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]
"""Row [1, in_features], weight [out_features, in_features] and bias → [1, out_features]."""


class Product(Protocol):
    """One or more linear layers, side by side."""

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """[..., in_features] → [..., out_features of all]."""
        ...


class LayersProduct(ABC):
    """A product that stands for layers of a model, whose weights are its own. One thread."""

    def __init__(self, linears: Sequence[nn.Linear]) -> None:
        self._sizes = [linear.out_features for linear in linears]
        self._rows: torch.Tensor | None = None
        self._parts: tuple[torch.Tensor, ...] = ()

    @property
    def layers(self) -> int:
        """How many layers it stands for."""
        return len(self._sizes)

    @abstractmethod
    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """[..., in_features] → [..., out_features of all]."""

    def part(self, rows: torch.Tensor, number: int) -> torch.Tensor:
        """[..., in_features] → [..., out_features] of one layer; computed once while layers are given the same rows."""
        if rows is not self._rows:
            self._rows, self._parts = rows, torch.split(self(rows), self._sizes, dim=-1)
        part = self._parts[number]
        if number == len(self._sizes) - 1:
            self._rows, self._parts = None, ()
        return part


class PackedProduct(LayersProduct):
    """A product whose weight oneDNN has packed; float32 or bfloat16 on the CPU."""

    def __init__(self, linears: Sequence[nn.Linear]) -> None:
        super().__init__(linears)
        weight = torch.cat([linear.weight.detach() for linear in linears])
        # These are the names that torch's own compiler uses; no public one keeps a weight packed.
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)  # noqa: SLF001
        self._bias = joined_bias(linears)

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(rows, self._weight, self._bias, "none", [], "")  # noqa: SLF001
        return found


class PackedLinear(nn.Module):
    """Stands in for a `torch.nn.Linear`; has no weight of its own."""

    def __init__(self, product: LayersProduct, number: int, linear: nn.Linear) -> None:
        super().__init__()
        # Models ask layers for the weight's type and shape; computing with it fails.
        self.weight = linear.weight.detach().to("meta")
        self.product = product
        self._number = number

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """[..., in_features] → [..., out_features]."""
        return self.product.part(rows, self._number)


class JoinedProduct:
    """A product in torch's own form. The layers go on in views of its weight, which lies in memory once."""

    def __init__(self, linears: Sequence[nn.Linear], one_row: OneRow | None = None) -> None:
        """`one_row`: multiplies a single row in a faster way."""
        self._one_row = one_row
        if len(linears) == 1:
            self._weight = linears[0].weight.detach()
        else:
            self._weight = torch.cat([linear.weight.detach() for linear in linears])
            parts = torch.split(self._weight, [linear.out_features for linear in linears])
            for linear, part in zip(linears, parts, strict=True):
                linear.weight = nn.Parameter(part, requires_grad=False)
        self._bias = joined_bias(linears)

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        if self._one_row and rows.shape[0] == 1:
            return self._one_row(rows, self._weight, self._bias)
        return F.linear(rows, self._weight, self._bias)


def product_of(*linears: nn.Module, one_row: OneRow | None = None) -> Product | None:
    """One product for layers that are given the same rows; None when they are not plain linear layers, all alike."""
    packed = [layer.product for layer in linears if isinstance(layer, PackedLinear)]
    if packed:
        return packed[0] if len(set(packed)) == 1 and packed[0].layers == len(packed) == len(linears) else None
    plain = [layer for layer in linears if type(layer) is nn.Linear]
    alike = len({layer.bias is None for layer in plain}) == 1
    return JoinedProduct(plain, one_row) if len(plain) == len(linears) and alike else None


@dataclass(frozen=True, slots=True)
class Group:
    """Linear layers of a model that are given the same rows."""

    parent: nn.Module
    names: tuple[str, ...]

    @property
    def linears(self) -> list[nn.Linear]:
        return [getattr(self.parent, name) for name in self.names]

    def replace(self, product: LayersProduct) -> None:
        """Have `product` stand for them, and let go of their weights."""
        for number, (name, linear) in enumerate(zip(self.names, self.linears, strict=True)):
            setattr(self.parent, name, PackedLinear(product, number, linear))


def groups_of(model: nn.Module) -> Iterator[Group]:
    """All plain linear layers of a model, each once; those behind may be replaced meanwhile."""
    for parent in list(model.modules()):
        for names in list(_names_of_groups(parent)):
            yield Group(parent, names)


def pack_linears(model: PreTrainedModel) -> None:
    """Replace the linear layers of a model on the CPU, one after the other, where oneDNN knows its type of numbers.

    Takes the memory of the weights in place of pages of the file that they were mapped from.
    """
    if model.device.type != "cpu" or not _packable(model.dtype):
        return
    for group in groups_of(model):
        group.replace(PackedProduct(group.linears))


def _packable(dtype: torch.dtype) -> bool:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    # Processors without instructions for bfloat16 would compute it in a slow way.
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001


def joined_bias(linears: Sequence[nn.Linear]) -> torch.Tensor | None:
    """The biases of all, one behind the other; None where they have none."""
    biases = [linear.bias.detach() for linear in linears if linear.bias is not None]
    return torch.cat(biases) if biases else None


def _names_of_groups(parent: nn.Module) -> Iterator[tuple[str, ...]]:
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
