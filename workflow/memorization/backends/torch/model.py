"""A trained model as `backends.base.LanguageModel`: scoring and stepping, thousands of states at a time."""

import math
from collections.abc import Mapping, Sequence
from copy import copy

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from memorization.backends.torch import words
from memorization.backends.torch.lstm import Workspace, gate_scale
from memorization.backends.torch.states import Scattered, Siblings, TorchState
from memorization.vocabulary import Vocabulary
from memorization.weights import layer_count

BITS_PER_NAT = 1 / math.log(2)

CPU_ROWS = 512
"""States per block on a CPU: the gates of 512 states of 200 units (1.6 MB) stay in a core's cache."""

CPU_STATES = 2048
"""States of a walk's step on a CPU: a few blocks, so that what is done once per step does not count."""

MOST_STATES = 1 << 16
"""States of a walk's step on a GPU at most: the host looks at the children of these, and of more out of its cache."""

SCORE_ROWS = 4096
"""Sequences scored at once."""


LOGITS = 1 << 24
"""Logits at once: 64 MB. All states of a call but where the vocabulary is one of words."""


class TorchLanguageModel:
    """One replicate. Costs are -log2 of a log-softmax over the full vocabulary, summed in float64.

    Everything else is computed in the type of the weights: float32, or what `in_precision` made of it; a reduced type's
    softmax is float32.
    """

    def __init__(self, weights: Mapping[str, Tensor], vocabulary: Vocabulary):
        """`weights`: one replicate's arrays (weights.shapes), on the device to compute on; they are copied."""
        self.vocabulary = vocabulary
        with torch.inference_mode():
            self._prepare(weights)

    def _prepare(self, weights: Mapping[str, Tensor]) -> None:
        """Inputs of layer 0 become rows of a table, those of words stay rows of the embedding; other layers take one
        product with [input, hidden].
        """
        self._layers = layer_count(weights)
        self._units = weights["lstm.weight_hh_l0"].shape[1]
        scale = gate_scale(self._units, weights["output.bias"])
        self._table = None
        self._embedding = weights["embedding.weight"].clone() if words.many(weights) else None
        # What the sums and products below have rounded: with it `in_precision` starts from the weights as given.
        self._small = {n: w.clone() for n, w in weights.items() if n == "embedding.weight" and self._embedding is None}
        biases, products, self._inputs = [], [], []
        for layer in range(self._layers):
            w_ih, w_hh, b_ih, b_hh = (
                weights[f"lstm.{name}_l{layer}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            biases.append((b_ih + b_hh) * scale)
            if layer == 0 and self._embedding is None:
                self._table = self._input_table(weights.get("embedding.weight"), w_ih * scale[:, None], biases[0])
            parts = [w_hh] if layer == 0 and self._embedding is None else [w_ih, w_hh]
            self._inputs.append((w_ih * scale[:, None]).T.contiguous())
            self._small |= {f"lstm.bias_ih_l{layer}": b_ih.clone(), f"lstm.bias_hh_l{layer}": b_hh.clone()}
            products.append((torch.cat(parts, dim=1) * scale[:, None]).T.contiguous())
        self._biases, self._products = biases, products
        self._output = (weights["output.weight"].T.contiguous(), weights["output.bias"].clone())
        self._device, self._type = self._output[0].device, self._output[0].dtype
        self._workspace = Workspace()

    @torch.inference_mode()
    def in_precision(self, name: str) -> "TorchLanguageModel":
        """The same weights, cast to the floating-point type of that name ("float64", "bfloat16"), computing in it."""
        wanted = getattr(torch, name)
        if wanted == self._type:
            return self
        # Scaled by powers of two only, the large arrays are the weights as given; the sums are made again.
        twin, scale = copy(self), gate_scale(self._units, self._output[1]).to(wanted)
        twin._workspace, twin._type, small = Workspace(), wanted, {n: w.to(wanted) for n, w in self._small.items()}
        for name in ("_products", "_inputs", "_output"):
            setattr(twin, name, [array.to(wanted) for array in getattr(self, name)])
        pairs = [(small[f"lstm.bias_ih_l{i}"], small[f"lstm.bias_hh_l{i}"]) for i in range(self._layers)]
        twin._biases, twin._small = [(ih + hh) * scale for ih, hh in pairs], small
        if self._embedding is not None:
            twin._embedding = self._embedding.to(wanted)
        else:
            table = twin._inputs[0]
            twin._table = twin._biases[0] + (
                small["embedding.weight"] @ table if "embedding.weight" in small else table
            )
        return twin

    def states_at_once(self, children: int, slots: int) -> int:
        """How many states a walk of `slots` levels and `children` symbols per hole should step at once.

        On a GPU what fits into half of the free memory: a walk keeps up to three such chunks of states per slot, a step
        needs gates (twice), logits and their softmax.
        """
        if self._device.type != "cuda":
            return CPU_STATES
        free, _ = torch.cuda.mem_get_info(self._device)
        kept = 3 * slots * 2 * self._layers * self._units
        working = 8 * self._units * (self._layers + 1) + 2 * len(self._output[1]) + children
        fits = free // 2 // ((kept + working) * self._output[0].element_size())
        return max(CPU_STATES, min(MOST_STATES, fits))

    @staticmethod
    def _input_table(embedding: Tensor | None, weight: Tensor, bias: Tensor) -> Tensor:
        """[V, 4H]; without an embedding the input is one-hot."""
        return weight.T.contiguous() + bias if embedding is None else functional.linear(embedding, weight, bias)

    def _gates(self, layer: int, ids: Tensor, inputs: Tensor | None, hidden: Tensor) -> Tensor:
        """Pre-activations [n, 4H] of one layer from n old hidden states."""
        if inputs is None:
            return self._table.index_select(0, ids).addmm_(hidden, self._products[0])
        return torch.addmm(self._biases[layer], torch.cat([inputs, hidden], dim=1), self._products[layer])

    def _recurrent(self, state: TorchState) -> list[Tensor]:
        """What each layer's pre-activations take from the old states, bias included: [m, 4H], once per shared state."""
        own = [product[-self._units :] for product in self._products]
        parts = [torch.addmm(b, h, w) for b, h, w in zip(self._biases[1:], state.hidden[1:], own[1:], strict=True)]
        if self._embedding is None:  # the table holds the bias
            return [torch.mm(state.hidden[0], own[0]), *parts]
        return [torch.addmm(self._biases[0], state.hidden[0], own[0]), *parts]

    def _shared_gates(self, layer: int, ids: Tensor, inputs: Tensor | None, recurrent: Tensor) -> Tensor:
        """As `_gates`, with the part of the old states, [n, 4H] gathered from `_recurrent`, already there."""
        if inputs is None:
            return recurrent.add_(self._table.index_select(0, ids))
        return recurrent.addmm_(inputs, self._inputs[layer])

    def _advance_block(self, ids: Tensor, old: TorchState, new: TorchState, block: slice, recurrent) -> None:
        """Write the states after int64[n] `ids` into `new`, for one block of rows."""
        minus_one = self._output[1].new_full((), -1.0)
        inputs = None if self._embedding is None else self._embedding.index_select(0, ids[block])
        rows = None if old.rows is None else old.rows[block]
        for layer in range(self._layers):
            if rows is None:
                cell_before = old.cell[layer, block]
                gates = self._gates(layer, ids[block], inputs, old.hidden[layer, block])
            else:
                cell_before = old.cell[layer].index_select(0, rows)
                gates = self._shared_gates(layer, ids[block], inputs, recurrent[layer].index_select(0, rows))
            i, f, s, o = gates.sigmoid_().split(self._units, dim=1)
            cell = torch.mul(f, cell_before, out=new.cell[layer, block])
            cell.addcmul_(i, torch.add(minus_one, s, alpha=2))
            inputs = torch.mul(o, cell.tanh(), out=new.hidden[layer, block])

    def _advance(self, state: TorchState, ids: Tensor) -> TorchState:
        shape = (self._layers, len(ids), self._units)
        new = TorchState(self._output[0].new_empty(shape), self._output[0].new_empty(shape))
        recurrent = None if state.rows is None else self._recurrent(state)
        size = CPU_ROWS if self._device.type == "cpu" else max(1, len(ids))
        for first in range(0, len(ids), size):
            self._advance_block(ids, state, new, slice(first, first + size), recurrent)
        return new

    def _log_probabilities(self, hidden: Tensor) -> Tensor:
        """[n, V], nats, from the last layer's [n, H]; float32, or float64 of such weights."""
        weight, bias = self._output
        logits = torch.addmm(bias, hidden, weight)
        return functional.log_softmax(logits, dim=1, dtype=torch.promote_types(self._type, torch.float32))

    def _rows(self, most: int) -> int:
        """How many states' probabilities to compute at once, at most `most`."""
        return max(1, min(most, LOGITS // len(self._output[1])))

    def _tensor(self, ids: np.ndarray) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(ids, dtype=np.int64), device=self._device)

    def _zero(self, count: int) -> TorchState:
        shape = (self._layers, count, self._units)
        return TorchState(self._output[0].new_zeros(shape), self._output[0].new_zeros(shape))

    @torch.inference_mode()
    def log_perplexity(self, ids: np.ndarray) -> np.ndarray:
        """float64[n]: bits of int64[n, t] `ids`, tokens 1..t-1 given token 0. Secret Sharer Definition 1."""
        ids = np.atleast_2d(ids)
        rows = self._rows(SCORE_ROWS)
        blocks = [self._score(ids[first : first + rows]) for first in range(0, len(ids), rows)]
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
            costs = self._log_probabilities(state.hidden[-1]).expand(len(ids), -1).gather(1, tokens[t + 1][:, None])
            total -= costs[:, 0].double()
        return total.cpu().numpy() * BITS_PER_NAT

    @torch.inference_mode()
    def start(self, prefix: np.ndarray) -> tuple[np.ndarray, TorchState]:
        """Read int64[t >= 1] `prefix` from a zero state: (float64[1, V] log2 probabilities, State of 1)."""
        tokens, state = self._tensor(prefix), self._zero(1)
        for token in tokens:
            state = self._advance(state, token[None])
        return self._bits(self._log_probabilities(state.hidden[-1])), state

    @torch.inference_mode()
    def step(
        self, state: TorchState, ids: np.ndarray, columns: np.ndarray | None = None
    ) -> tuple[np.ndarray, TorchState]:
        """Feed int64[n] `ids`: (float64[n, V] log2 probabilities, or its `columns`, new State)."""
        new = self._advance(state, self._tensor(ids))
        wanted = slice(None) if columns is None else self._tensor(columns)
        blocks = new.hidden[-1].split(self._rows(max(1, len(ids))))
        bits = [self._bits(self._log_probabilities(block)[:, wanted]) for block in blocks]
        return bits[0] if len(bits) == 1 else np.concatenate(bits), new

    @torch.inference_mode()
    def last_step(self, state: TorchState, ids: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """float64[n, m] as of `step`, where nothing follows: no new states are kept, which nearly all of a walk needs.

        Blocks of rows pass through the same few buffers, so that they stay in a CPU's cache.
        """
        tokens, wanted = self._tensor(ids), self._tensor(columns)
        family = Siblings.of(state, tokens) or Scattered(state, tokens)
        recurrent = None if state.rows is None else self._recurrent(state)
        size = self._rows(CPU_ROWS if self._device.type == "cpu" else max(1, len(ids)))
        size = max(1, size // family.each) * family.each
        parts = []
        for first in range(0, len(ids), size):
            hidden = self._last_hidden(state, tokens, slice(first, first + size), recurrent, family)
            parts.append(self._log_probabilities(hidden).index_select(1, wanted))
        return self._bits(torch.cat(parts))

    def _last_hidden(
        self, old: TorchState, ids: Tensor, block: slice, recurrent: list[Tensor] | None, family: Siblings | Scattered
    ) -> Tensor:
        """[k, H] of the last layer after one block of `ids`, in a buffer that the next block takes over."""
        units, like, own = self._units, self._output[0], ids[block]
        inputs = None if self._embedding is None else self._embedding.index_select(0, own)
        gates, cell, spare, hidden = (
            self._workspace.get(like, name, (len(own), width * units))
            for name, width in (("gates", 4), ("cell", 1), ("spare", 1), ("hidden", 1))
        )
        minus_one = like.new_full((), -1.0)
        for layer in range(self._layers):
            if recurrent is None:
                gates = self._gates(layer, own, inputs, old.hidden[layer, block])
            elif inputs is None:
                family.add(recurrent[layer], self._table, block, gates)
            else:
                family.spread(recurrent[layer], block, gates).addmm_(inputs, self._inputs[layer])
            i, f, s, o = gates.sigmoid_().split(units, dim=1)
            family.multiply(f, old.cell[layer], block, cell).addcmul_(i, torch.add(minus_one, s, alpha=2, out=spare))
            inputs = torch.tanh(cell, out=hidden).mul_(o)
        return hidden

    @torch.inference_mode()
    def concatenate(self, states: Sequence[TorchState]) -> TorchState:
        """One State holding the given ones, in order; shared rows stay shared."""
        rows = None
        if any(state.rows is not None for state in states):
            own, first = [], 0
            for state in states:
                size = state.hidden.shape[1]
                own.append(first + (torch.arange(size, device=self._device) if state.rows is None else state.rows))
                first += size
            rows = torch.cat(own)
        hidden, cell = (torch.cat([getattr(s, name) for s in states], dim=1) for name in ("hidden", "cell"))
        return TorchState(hidden, cell, rows)

    @staticmethod
    def _bits(nats: Tensor) -> np.ndarray:
        return np.multiply(nats.cpu().numpy(), BITS_PER_NAT, dtype=np.float64)
