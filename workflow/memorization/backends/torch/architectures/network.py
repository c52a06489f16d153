"""What the architectures beside the LSTM share: losses from states, and stepping models with rows of tensors as states.

Tensors are [R, T, B, .] as in lstm.py: replicate, time, batch. Weights have a leading replicate axis.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from memorization.backends.base import State
from memorization.backends.torch.products import project
from memorization.specs import ModelSpec
from memorization.vocabulary import Vocabulary

BITS_PER_NAT = 1 / math.log(2)

SCORE_TOKENS = 8_192
"""Tokens scored at once: what a convolution reads of them takes some tens of MB."""

Parameters = Mapping[str, Tensor]
Dropout = Callable[[Tensor], Tensor]


class Network(Protocol):
    """The training side of an architecture."""

    def losses(self, weights: Parameters, ids: Tensor, targets: Tensor, dropout: Dropout | None = None) -> Tensor:
        """Mean cross-entropy of each replicate in nats per token, [R], for int64[R, T, B] ids and targets.

        Nothing comes before a window: states, and what convolutions read to the left of it, are zero. `dropout` is
        applied to the input of every layer but the first, the output layer included.
        """
        ...


class StatesNetwork(ABC):
    """A network that says what its output layer reads."""

    def __init__(self, model: ModelSpec) -> None:
        self.spec = model

    @abstractmethod
    def states(self, weights: Parameters, ids: Tensor, dropout: Dropout | None = None) -> Tensor:
        """int64[R, T, B] ids -> what the output layer reads, [R, T, B, H]."""

    def logits(self, weights: Parameters, ids: Tensor, dropout: Dropout | None = None) -> Tensor:
        """[R, T, B, V]."""
        return dense(weights, "output", self.states(weights, ids, dropout))

    def losses(self, weights: Parameters, ids: Tensor, targets: Tensor, dropout: Dropout | None = None) -> Tensor:
        """As `Network.losses`."""
        logits = self.logits(weights, ids, dropout)
        costs = functional.cross_entropy(logits.flatten(0, 2), targets.flatten(), reduction="none")
        return costs.view(len(ids), -1).mean(1)


def dense(weights: Parameters, name: str, inputs: Tensor) -> Tensor:
    """Layer `name` on inputs [R, T, B, I]: [R, T, B, O]."""
    weight = weights[f"{name}.weight"]
    flat = project(inputs.flatten(1, 2), weight, weights[f"{name}.bias"])
    return flat.view(*inputs.shape[:-1], weight.shape[1])


def rows_of(table: Tensor, ids: Tensor) -> Tensor:
    """[R, T, B, E]: rows int64[R, T, B] `ids` of each replicate's table [R, V, E]."""
    shift = torch.arange(len(table), device=ids.device).view(-1, 1, 1) * table.shape[1]
    return functional.embedding(ids + shift, table.flatten(0, 1))


def token_table(weights: Parameters, name: str) -> Tensor:
    """[R, V, O]: what dense layer `name` makes of each token; without an embedding the input is one-hot."""
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    if "embedding.weight" in weights:
        return project(weights["embedding.weight"], weight, bias)
    return weight.transpose(1, 2) + bias[:, None]


@dataclass(frozen=True)
class Rows:
    """States of n sequences: tensors with n leading rows each."""

    parts: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.parts[0])

    def take(self, index: np.ndarray) -> "Rows":
        """The states at int[m] `index` (repeats allowed), copied."""
        rows = torch.as_tensor(np.asarray(index, dtype=np.int64), device=self.parts[0].device)
        return Rows(tuple(part.index_select(0, rows) for part in self.parts))


class SteppedModel(ABC):
    """One replicate as `backends.base.LanguageModel`. Costs are -log2 of a float32 log-softmax over the vocabulary.

    A subclass says what it keeps of the weights (`_prepare`), how a text begins (`start`), and what one more token
    makes of a state (`_advance`).
    """

    def __init__(self, network: StatesNetwork, weights: Mapping[str, Tensor], vocabulary: Vocabulary) -> None:
        """`weights`: one replicate's arrays (weights.shapes), on the device to compute on; they are copied."""
        self.vocabulary, self._network = vocabulary, network
        self._device = weights["output.bias"].device
        with torch.inference_mode():
            self._stacked = {name: array.detach().clone()[None] for name, array in weights.items()}
            self._weights = {name: array[0] for name, array in self._stacked.items()}
            self._output = (self._weights["output.weight"].T.contiguous(), self._weights["output.bias"])
            self._prepare()

    @abstractmethod
    def _prepare(self) -> None:
        """Whatever saves work in every step."""

    @abstractmethod
    def start(self, prefix: np.ndarray) -> tuple[np.ndarray, State]:
        """Read int64[t >= 1] `prefix` from nothing: (float64[1, V] log2 probabilities, State of 1)."""

    @abstractmethod
    def concatenate(self, states: Sequence[State]) -> State:
        """One State holding the given ones, in order."""

    @abstractmethod
    def _advance(self, state: State, ids: Tensor) -> tuple[State, Tensor]:
        """Feed int64[n] `ids`: the new states, and what the output layer reads, [n, H]."""

    def _tensor(self, ids: np.ndarray) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(ids, dtype=np.int64), device=self._device)

    def _bits(self, states: Tensor, columns: np.ndarray | None = None) -> np.ndarray:
        """float64[n, V]: log2 probabilities from what the output layer reads, or their `columns`."""
        weight, bias = self._output
        logs = functional.log_softmax(torch.addmm(bias, states, weight), dim=1)
        logs = logs if columns is None else logs[:, self._tensor(columns)]
        return logs.cpu().numpy().astype(np.float64) * BITS_PER_NAT

    @torch.inference_mode()
    def log_perplexity(self, ids: np.ndarray) -> np.ndarray:
        """float64[n]: bits of int64[n, t] `ids`, tokens 1..t-1 given token 0. Secret Sharer Definition 1."""
        ids = np.atleast_2d(ids)
        if ids.shape[1] < 2:
            return np.zeros(len(ids))
        size = max(1, SCORE_TOKENS // ids.shape[1])
        blocks = [self._score(self._tensor(ids[first : first + size].T)) for first in range(0, len(ids), size)]
        return np.concatenate(blocks) if blocks else np.zeros(0)

    def _score(self, ids: Tensor) -> np.ndarray:
        """The same for int64[t, n] `ids`, in one pass of the network."""
        logs = functional.log_softmax(self._network.logits(self._stacked, ids[None, :-1])[0], dim=-1)
        costs = -logs.gather(2, ids[1:, :, None])[..., 0]
        return costs.double().sum(0).cpu().numpy() * BITS_PER_NAT

    @torch.inference_mode()
    def step(self, state: State, ids: np.ndarray, columns: np.ndarray | None = None) -> tuple[np.ndarray, State]:
        """Feed int64[n] `ids`: (float64[n, V] log2 probabilities, or its `columns`, new State)."""
        new, read = self._advance(state, self._tensor(ids))
        return self._bits(read, columns), new


class RowsModel(SteppedModel):
    """A model whose states are `Rows`; a subclass says what they are before the first token (`_zero`)."""

    @abstractmethod
    def _zero(self, count: int) -> Rows:
        """States before the first token."""

    @torch.inference_mode()
    def start(self, prefix: np.ndarray) -> tuple[np.ndarray, Rows]:
        """Read int64[t >= 1] `prefix` from nothing: (float64[1, V] log2 probabilities, State of 1)."""
        state = self._zero(1)
        for token in self._tensor(prefix):
            state, read = self._advance(state, token[None])
        return self._bits(read), state

    @torch.inference_mode()
    def concatenate(self, states: Sequence[Rows]) -> Rows:
        """One State holding the given ones, in order."""
        return Rows(tuple(torch.cat(parts) for parts in zip(*(state.parts for state in states), strict=True)))
