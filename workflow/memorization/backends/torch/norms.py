"""Norms of per-example gradients of maps that are used at every time step, without forming the gradients.

One example's gradient of a weight is sum_t g_t x_t', so its squared norm is sum_ts (g_t . g_s)(x_t . x_s): two Gram
matrices over time (Goodfellow 2015 for one step; Li et al. 2021 for sequences). The Gram matrix of g serves the input's
weight, the recurrent weight and the bias; that of a layer's hidden states serves its own recurrence, one step shifted,
and whatever reads them. Where sequences are long and layers narrow, forming each example's gradient costs less.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NUMBERS = 2**20
"""At most this many numbers (4 MB in float32, about a core's cache) are held at once for norms: examples are taken in
chunks. A single example that needs more gets it."""


@dataclass(frozen=True)
class Map:
    """`weight @ input + weight_hh @ previous hidden + bias` at every time step.

    `gradients` [T, B, O] is the loss gradient of its output; `inputs` [T, B, I] and `hidden` [T, B, H], or None, are
    what it reads, the latter from the step before (zero in the first). Two maps that read the same tensor object share
    its Gram matrix.
    """

    gradients: Tensor
    inputs: Tensor | None = None
    hidden: Tensor | None = None

    @property
    def read(self) -> list[Tensor]:
        return [x for x in (self.inputs, self.hidden) if x is not None]


class _Grams:
    """Gram matrices over time, [b, T, T], of one chunk of examples; each is formed once."""

    def __init__(self, chunk: slice) -> None:
        self._chunk = chunk
        self._kept: dict[int, Tensor] = {}

    def __call__(self, block: Tensor) -> Tensor:
        if id(block) not in self._kept:
            rows = block[:, self._chunk].transpose(0, 1)
            self._kept[id(block)] = torch.bmm(rows, rows.transpose(1, 2))
        return self._kept[id(block)]


def _total(product: Tensor) -> Tensor:
    return product.sum((1, 2))


def _through_grams(one: Map, grams: _Grams) -> list[Tensor]:
    over = grams(one.gradients)
    squares = [] if one.inputs is None else [_total(over * grams(one.inputs))]
    if one.hidden is not None:
        squares.append(_total(over[:, 1:, 1:] * grams(one.hidden)[:, :-1, :-1]))
    return [*squares, _total(over)]


def _formed(one: Map, chunk: slice) -> list[Tensor]:
    """From the gradients themselves, [b, O, I]."""
    rows = one.gradients[:, chunk].permute(1, 2, 0)
    squares = []
    if one.inputs is not None:
        squares.append(_total(torch.bmm(rows, one.inputs[:, chunk].transpose(0, 1)).square_()))
    if one.hidden is not None:
        squares.append(_total(torch.bmm(rows[..., 1:], one.hidden[:-1, chunk].transpose(0, 1)).square_()))
    return [*squares, rows.sum(2).square_().sum(1)]


def through_grams(maps: Sequence[Map]) -> list[bool]:
    """For each map whether Gram matrices take fewer multiplications than its gradients; a shared one counts once."""
    there: set[int] = set()
    result = []
    for one in maps:
        steps, _, width = one.gradients.shape
        new = {id(x): x.shape[2] for x in one.read if id(x) not in there}
        result.append(steps * (width + sum(new.values())) <= width * sum(x.shape[2] for x in one.read))
        there |= new.keys() if result[-1] else set()
    return result


def _numbers(maps: Sequence[Map], grams: Sequence[bool]) -> int:
    """Numbers that one example's norms take: every Gram matrix and a product, or the largest gradient."""
    blocks = {id(x) for one, gram in zip(maps, grams, strict=True) if gram for x in (one.gradients, *one.read)}
    gradients = [
        one.gradients.shape[2] * x.shape[2] for one, gram in zip(maps, grams, strict=True) if not gram for x in one.read
    ]
    return (len(blocks) + 1) * len(maps[0].gradients) ** 2 + max(gradients, default=0)


def squared_norms(maps: Sequence[Map], grams: Sequence[bool] | None = None) -> list[Tensor]:
    """Per map [P, B]: squared norms of each example's gradient of its P arrays: inputs' weight, weight_hh, bias.

    An array that is not there has no row. `grams` overrides `through_grams`.
    """
    grams = through_grams(maps) if grams is None else grams
    batch = maps[0].gradients.shape[1]
    size = max(1, NUMBERS // _numbers(maps, grams))
    result = [one.gradients.new_zeros(len(one.read) + 1, batch) for one in maps]
    for first in range(0, batch, size):
        chunk = slice(first, first + size)
        kept = _Grams(chunk)
        for one, gram, rows in zip(maps, grams, result, strict=True):
            squares = _through_grams(one, kept) if gram else _formed(one, chunk)
            rows[:, chunk] = torch.stack(squares).clamp_(min=0)
    return result
