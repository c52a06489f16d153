"""Recurrent states of many sequences at once, and how those of parents reach their children."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

SHARED = 2
"""Repeated states are kept once, with their row numbers, when there are at least this many takers per state."""


@dataclass(frozen=True)
class TorchState:
    """Recurrent states of n sequences: hidden and cell, float32[layers, m, H] each, and which of them each one is.

    Without `rows` n = m. With int64[n] `rows` several sequences share a state, as siblings in a tree do: what a step
    computes from the old state alone (more than half of its products) is then computed once for all of them.
    """

    hidden: Tensor
    cell: Tensor
    rows: Tensor | None = None

    def __len__(self) -> int:
        return self.hidden.shape[1] if self.rows is None else len(self.rows)

    def take(self, index: np.ndarray) -> "TorchState":
        """The states at int[m] `index` (repeats allowed); copied, or shared where many are the same."""
        rows = torch.as_tensor(np.asarray(index, dtype=np.int64), device=self.hidden.device)
        if self.rows is not None:
            rows = self.rows[rows]
        # Siblings follow one another in every walk, so looking for runs finds them.
        first, run = torch.unique_consecutive(rows, return_inverse=True)
        shared = len(rows) >= SHARED * len(first)
        kept = first if shared else rows
        return TorchState(self.hidden.index_select(1, kept), self.cell.index_select(1, kept), run if shared else None)


class Scattered:
    """Children in any order: rows are gathered. int64[n] `ids` are what they are fed."""

    each = 1

    def __init__(self, state: TorchState, ids: Tensor) -> None:
        self._rows, self._ids = state.rows, ids

    def spread(self, source: Tensor, block: slice, out: Tensor) -> Tensor:
        """Rows [m, .] of the parents for their children in `block`, written to [k, .] `out`."""
        return torch.index_select(source, 0, self._rows[block], out=out)

    def add(self, source: Tensor, table: Tensor, block: slice, out: Tensor) -> Tensor:
        """As `spread`, plus each child's row of [V, .] `table`."""
        return self.spread(source, block, out).add_(table.index_select(0, self._ids[block]))

    def multiply(self, factor: Tensor, source: Tensor, block: slice, out: Tensor) -> Tensor:
        """As `spread`, times [k, .] `factor`."""
        before = source[block] if self._rows is None else self.spread(source, block, out)
        return torch.mul(factor, before, out=out)


@dataclass(frozen=True)
class Siblings:
    """Children of whom every parent has the same `each`, int64[each] `tokens`, in order: broadcast, not gathered."""

    each: int
    tokens: Tensor

    @classmethod
    def of(cls, state: TorchState, ids: Tensor) -> "Siblings | None":
        """None where int64[n] `ids` of the state's rows are no such families."""
        parents = state.hidden.shape[1]
        if state.rows is None or len(ids) % parents:
            return None
        each = len(ids) // parents
        families, owners = ids.view(parents, each), state.rows.view(parents, each)
        number = torch.arange(parents, device=ids.device)[:, None]
        return cls(each, ids[:each]) if bool(((families == ids[:each]) & (owners == number)).all()) else None

    def spread(self, source: Tensor, block: slice, out: Tensor) -> Tensor:
        """See `Scattered.spread`."""
        self._families(out).copy_(self._parents(source, block))
        return out

    def add(self, source: Tensor, table: Tensor, block: slice, out: Tensor) -> Tensor:
        """See `Scattered.add`."""
        torch.add(self._parents(source, block), table.index_select(0, self.tokens), out=self._families(out))
        return out

    def multiply(self, factor: Tensor, source: Tensor, block: slice, out: Tensor) -> Tensor:
        """See `Scattered.multiply`."""
        torch.mul(self._families(factor), self._parents(source, block), out=self._families(out))
        return out

    def _parents(self, source: Tensor, block: slice) -> Tensor:
        """[parents of the block, 1, .]: a block begins and ends with a family."""
        return source[block.start // self.each : block.stop // self.each, None]

    def _families(self, rows: Tensor) -> Tensor:
        """[k, .] as [parents, each, .]."""
        return rows.unflatten(0, (-1, self.each))
