"""A trained model as `backends.base.LanguageModel`: scoring and stepping, thousands of states at a time."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from memorization.backends.tf.runtime import tf
from memorization.vocabulary import Vocabulary
from memorization.weights import layer_count

BITS_PER_NAT = 1 / math.log(2)

ROWS = 4096
"""Sequences scored at once."""

SHARED = 2
"""Repeated states are kept once, with their row numbers, when there are at least this many takers per state."""


@dataclass(frozen=True)
class TFState:
    """Recurrent states of n sequences: hidden and cell, float32[layers, m, H] each, and which of them each one is.

    Without `rows` n = m. With int64[n] `rows` several sequences share a state, as siblings in a tree do: what a step
    computes from the old state alone is then computed once for all of them.
    """

    hidden: "tf.Tensor"
    cell: "tf.Tensor"
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        return self.hidden.shape[1] if self.rows is None else len(self.rows)

    def take(self, index: np.ndarray) -> "TFState":
        """The states at int[m] `index` (repeats allowed); copied, or shared where many are the same."""
        rows = np.asarray(index, dtype=np.int64)
        if self.rows is not None:
            rows = self.rows[rows]
        # Siblings follow one another in every walk, so looking for runs finds them.
        starts = np.flatnonzero(np.diff(rows, prepend=-1))
        shared = len(rows) >= SHARED * len(starts) > 0
        kept = rows[starts] if shared else rows
        run = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(rows))) if shared else None
        return TFState(tf.gather(self.hidden, kept, axis=1), tf.gather(self.cell, kept, axis=1), run)


def _cell(gates: "tf.Tensor", cell: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
    """[n, 4H] pre-activations and the old cells -> new hidden and cell, [n, H]."""
    i, f, g, o = tf.split(gates, 4, axis=1)
    cell = tf.sigmoid(f) * cell + tf.sigmoid(i) * tf.tanh(g)
    return tf.sigmoid(o) * tf.tanh(cell), cell


@functools.cache
def _advance_function(layers: int, shared: bool):
    """One step of n sequences: (parameters, hidden, cell, int32[n] ids, int64[n] rows) -> (hidden, cell, log-probs).

    With `shared` the recurrent products are formed once per old state and gathered by `rows`.
    """
    matrix, vector = tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([None], tf.float32)
    states = tf.TensorSpec([layers, None, None], tf.float32)
    parameters = {
        "table": matrix,
        "recurrent": [matrix] * layers,
        "inputs": [matrix] * (layers - 1),
        "biases": [vector] * (layers - 1),
        "output": matrix,
        "output_bias": vector,
    }
    indices = [tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.int64)]

    @tf.function(input_signature=[parameters, states, states, *indices])
    def advance(parameters, hidden, cell, ids, rows):
        made = []
        for layer in range(layers):
            gates, before = tf.matmul(hidden[layer], parameters["recurrent"][layer]), cell[layer]
            if shared:
                gates, before = tf.gather(gates, rows), tf.gather(before, rows)
            if layer == 0:
                gates += tf.gather(parameters["table"], ids)
            else:
                below = tf.matmul(made[-1][0], parameters["inputs"][layer - 1])
                gates += below + parameters["biases"][layer - 1]
            made.append(_cell(gates, before))
        logits = tf.matmul(made[-1][0], parameters["output"]) + parameters["output_bias"]
        return *(tf.stack(part) for part in zip(*made, strict=True)), tf.nn.log_softmax(logits)

    return advance


class TFLanguageModel:
    """One replicate. Costs are -log2 of a float32 log-softmax over the full vocabulary, summed in float64."""

    recurrent_name = "lstm"
    """What the names of its weights begin with."""

    def __init__(self, weights: Mapping[str, np.ndarray], vocabulary: Vocabulary, device: str = "/CPU:0"):
        """`weights`: one replicate's arrays (weights.shapes)."""
        self.vocabulary, self._device = vocabulary, device
        self._layers = layer_count(weights)
        self._units = weights[f"{self.recurrent_name}.weight_hh_l0"].shape[1]
        with tf.device(device):
            self._parameters = self._prepare(weights)

    def _prepare(self, weights: Mapping[str, np.ndarray]) -> dict:
        """Inputs of layer 0 become rows of a table: E W_ih' + b, or W_ih' + b where the input is one-hot."""
        layers = range(self._layers)
        kernels = [np.asarray(weights[f"lstm.weight_ih_l{k}"]).T for k in layers]
        biases = [np.asarray(weights[f"lstm.bias_ih_l{k}"]) + np.asarray(weights[f"lstm.bias_hh_l{k}"]) for k in layers]
        embedding = weights.get("embedding.weight")
        table = kernels[0] if embedding is None else np.asarray(embedding) @ kernels[0]
        tensor = functools.partial(tf.constant, dtype=tf.float32)
        return {
            "table": tensor(table + biases[0]),
            "recurrent": [tensor(np.asarray(weights[f"lstm.weight_hh_l{k}"]).T) for k in layers],
            "inputs": [tensor(kernel) for kernel in kernels[1:]],
            "biases": [tensor(bias) for bias in biases[1:]],
            "output": tensor(np.asarray(weights["output.weight"]).T),
            "output_bias": tensor(np.asarray(weights["output.bias"])),
        }

    def _zero(self, count: int) -> TFState:
        zero = tf.zeros([self._layers, count, self._units])
        return TFState(zero, zero)

    def _advance(self, state: TFState, ids: np.ndarray) -> tuple[TFState, "tf.Tensor"]:
        """Feed int[n] `ids`: the new states and float32[n, V] log-probabilities in nats."""
        shared = state.rows is not None
        rows = state.rows if shared else np.zeros(0, dtype=np.int64)
        run = _advance_function(self._layers, shared)
        with tf.device(self._device):
            hidden, cell, logs = run(
                self._parameters, state.hidden, state.cell, tf.constant(ids, tf.int32), tf.constant(rows, tf.int64)
            )
        return TFState(hidden, cell), logs

    def log_perplexity(self, ids: np.ndarray) -> np.ndarray:
        """float64[n]: bits of int64[n, t] `ids`, tokens 1..t-1 given token 0. Secret Sharer Definition 1."""
        ids = np.atleast_2d(ids)
        blocks = [self._score(ids[first : first + ROWS]) for first in range(0, len(ids), ROWS)]
        return np.concatenate(blocks) if blocks else np.zeros(0)

    def _score(self, ids: np.ndarray) -> np.ndarray:
        """The fixed text before the first hole is the same in every row: it is read once and its state shared."""
        same = (ids == ids[0]).all(axis=0)
        shared = ids.shape[1] if same.all() else int(np.argmin(same))
        state, total = self._zero(1 if shared else len(ids)), np.zeros(len(ids))
        for t in range(ids.shape[1] - 1):
            if t == shared and len(state) != len(ids):
                state = state.take(np.zeros(len(ids), dtype=np.int64))
            state, logs = self._advance(state, ids[: len(state), t])
            logs = np.broadcast_to(logs.numpy(), (len(ids), logs.shape[1]))
            total -= logs[np.arange(len(ids)), ids[:, t + 1]].astype(np.float64)
        return total * BITS_PER_NAT

    def start(self, prefix: np.ndarray) -> tuple[np.ndarray, TFState]:
        """Read int64[t >= 1] `prefix` from a zero state: (float64[1, V] log2 probabilities, State of 1)."""
        state = self._zero(1)
        for token in prefix:
            state, logs = self._advance(state, np.array([token]))
        return self._bits(logs), state

    def step(self, state: TFState, ids: np.ndarray, columns: np.ndarray | None = None) -> tuple[np.ndarray, TFState]:
        """Feed int64[n] `ids`: (float64[n, V] log2 probabilities, or its `columns`, new State)."""
        new, logs = self._advance(state, np.asarray(ids))
        return self._bits(logs if columns is None else tf.gather(logs, columns, axis=1)), new

    def concatenate(self, states: Sequence[TFState]) -> TFState:
        """One State holding the given ones, in order; shared rows stay shared."""
        rows = None
        if any(state.rows is not None for state in states):
            own, first = [], 0
            for state in states:
                size = state.hidden.shape[1]
                own.append(first + (np.arange(size) if state.rows is None else state.rows))
                first += size
            rows = np.concatenate(own)
        hidden, cell = (tf.concat([getattr(s, name) for s in states], axis=1) for name in ("hidden", "cell"))
        return TFState(hidden, cell, rows)

    @staticmethod
    def _bits(nats: "tf.Tensor") -> np.ndarray:
        return nats.numpy().astype(np.float64) * BITS_PER_NAT
