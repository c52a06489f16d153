"""A trained model as `backends.base.LanguageModel`: scoring and stepping, thousands of states at a time."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from memorization.backends.torch.lstm import gate_scale
from memorization.vocabulary import Vocabulary
from memorization.weights import layer_count

BITS_PER_NAT = 1 / math.log(2)

CPU_ROWS = 512
"""States per block on a CPU: the gates of 512 states of 200 units (1.6 MB) stay in a core's cache."""

SCORE_ROWS = 4096
"""Sequences scored at once."""


@dataclass(frozen=True)
class TorchState:
    """Recurrent states of n sequences: hidden and cell, float32[layers, n, H] each."""

    hidden: Tensor
    cell: Tensor

    def __len__(self) -> int:
        return self.hidden.shape[1]

    def take(self, index: np.ndarray) -> "TorchState":
        """The states at int[m] `index` (repeats allowed), copied."""
        rows = torch.as_tensor(np.asarray(index, dtype=np.int64), device=self.hidden.device)
        return TorchState(self.hidden.index_select(1, rows), self.cell.index_select(1, rows))


class TorchLanguageModel:
    """One replicate. Costs are -log2 of a float32 log-softmax over the full vocabulary, summed in float64."""

    def __init__(self, weights: Mapping[str, Tensor], vocabulary: Vocabulary):
        """`weights`: one replicate's arrays (weights.shapes), on the device to compute on; they are copied."""
        self.vocabulary = vocabulary
        with torch.inference_mode():
            self._prepare(weights)

    def _prepare(self, weights: Mapping[str, Tensor]) -> None:
        """Inputs of layer 0 become rows of a table; other layers take one product with [input, hidden]."""
        self._layers = layer_count(weights)
        self._units = weights["lstm.weight_hh_l0"].shape[1]
        scale = gate_scale(self._units, weights["output.bias"])
        biases, products = [], []
        for layer in range(self._layers):
            w_ih, w_hh, b_ih, b_hh = (
                weights[f"lstm.{name}_l{layer}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            biases.append((b_ih + b_hh) * scale)
            if layer == 0:
                self._table = functional.linear(weights["embedding.weight"], w_ih * scale[:, None], biases[0])
            parts = [w_ih, w_hh] if layer else [w_hh]
            products.append((torch.cat(parts, dim=1) * scale[:, None]).T.contiguous())
        self._biases, self._products = biases, products
        self._output = (weights["output.weight"].T.contiguous(), weights["output.bias"].clone())
        self._device = self._table.device

    def _advance_block(self, ids: Tensor, old: TorchState, new: TorchState, rows: slice) -> None:
        """Write the states after int64[n] `ids` into `new`, for one block of rows."""
        minus_one = torch.full((), -1.0, device=self._device)
        inputs = None
        for layer in range(self._layers):
            hidden = old.hidden[layer, rows]
            if layer == 0:
                gates = self._table.index_select(0, ids[rows]).addmm_(hidden, self._products[0])
            else:
                gates = torch.addmm(self._biases[layer], torch.cat([inputs, hidden], dim=1), self._products[layer])
            i, f, s, o = gates.sigmoid_().split(self._units, dim=1)
            cell = torch.mul(f, old.cell[layer, rows], out=new.cell[layer, rows])
            cell.addcmul_(i, torch.add(minus_one, s, alpha=2))
            inputs = torch.mul(o, cell.tanh(), out=new.hidden[layer, rows])

    def _advance(self, state: TorchState, ids: Tensor) -> TorchState:
        new = TorchState(torch.empty_like(state.hidden), torch.empty_like(state.cell))
        size = CPU_ROWS if self._device.type == "cpu" else max(1, len(ids))
        for first in range(0, len(ids), size):
            self._advance_block(ids, state, new, slice(first, first + size))
        return new

    def _log_probabilities(self, state: TorchState) -> Tensor:
        """float32[n, V], nats."""
        weight, bias = self._output
        return functional.log_softmax(torch.addmm(bias, state.hidden[-1], weight), dim=1)

    def _tensor(self, ids: np.ndarray) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(ids, dtype=np.int64), device=self._device)

    def _zero(self, count: int) -> TorchState:
        shape = (self._layers, count, self._units)
        return TorchState(torch.zeros(shape, device=self._device), torch.zeros(shape, device=self._device))

    @torch.inference_mode()
    def log_perplexity(self, ids: np.ndarray) -> np.ndarray:
        """float64[n]: bits of int64[n, t] `ids`, tokens 1..t-1 given token 0. Secret Sharer Definition 1."""
        ids = np.atleast_2d(ids)
        blocks = [self._score(ids[first : first + SCORE_ROWS]) for first in range(0, len(ids), SCORE_ROWS)]
        return np.concatenate(blocks) if blocks else np.zeros(0)

    def _score(self, ids: np.ndarray) -> np.ndarray:
        """The fixed text before the first hole is the same in every row: it is read once and its state shared."""
        same = (ids == ids[0]).all(axis=0)
        shared = ids.shape[1] if same.all() else int(np.argmin(same))
        tokens, state = self._tensor(ids.T), self._zero(1 if shared else len(ids))
        total = torch.zeros(len(ids), dtype=torch.float64, device=self._device)
        for t in range(ids.shape[1] - 1):
            if t == shared:
                state = state.take(np.zeros(len(ids), dtype=np.int64)) if len(state) != len(ids) else state
            state = self._advance(state, tokens[t, : len(state)])
            costs = self._log_probabilities(state).expand(len(ids), -1).gather(1, tokens[t + 1][:, None])
            total -= costs[:, 0].double()
        return total.cpu().numpy() * BITS_PER_NAT

    @torch.inference_mode()
    def start(self, prefix: np.ndarray) -> tuple[np.ndarray, TorchState]:
        """Read int64[t >= 1] `prefix` from a zero state: (float64[1, V] log2 probabilities, State of 1)."""
        tokens, state = self._tensor(prefix), self._zero(1)
        for token in tokens:
            state = self._advance(state, token[None])
        return self._bits(self._log_probabilities(state)), state

    @torch.inference_mode()
    def step(
        self, state: TorchState, ids: np.ndarray, columns: np.ndarray | None = None
    ) -> tuple[np.ndarray, TorchState]:
        """Feed int64[n] `ids`: (float64[n, V] log2 probabilities, or its `columns`, new State)."""
        new = self._advance(state, self._tensor(ids))
        logs = self._log_probabilities(new)
        return self._bits(logs if columns is None else logs[:, self._tensor(columns)]), new

    @torch.inference_mode()
    def concatenate(self, states: Sequence[TorchState]) -> TorchState:
        """One State holding the given ones, in order."""
        return TorchState(
            torch.cat([state.hidden for state in states], dim=1), torch.cat([state.cell for state in states], dim=1)
        )

    @staticmethod
    def _bits(nats: Tensor) -> np.ndarray:
        return nats.cpu().numpy().astype(np.float64) * BITS_PER_NAT
