"""The protocol in which back ends meet: everything downstream of it is NumPy and shared.

All costs are in bits (-log2 probability), under the softmax over the full vocabulary, summed over tokens in float64.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from memorization.data.corpora import TrainingCorpus
from memorization.specs import RunSpec
from memorization.vocabulary import Vocabulary


class State(Protocol):
    """Recurrent states of n sequences. Immutable from the caller's side: `step` never writes into its argument."""

    def __len__(self) -> int: ...

    def take(self, index: np.ndarray) -> "State":
        """The states at int[m] `index` (repeats allowed), copied."""
        ...


class LanguageModel(Protocol):
    """One trained model (one replicate), as seen by scoring, exposure and extraction."""

    vocabulary: Vocabulary

    def log_perplexity(self, ids: np.ndarray) -> np.ndarray:
        """float64[n]: bits of int64[n, t] `ids`, summed over tokens 1..t-1 given token 0 (the context newline).

        Secret Sharer Definition 1: a sum, base 2, not divided by the length.
        """
        ...

    def start(self, prefix: np.ndarray) -> tuple[np.ndarray, State]:
        """From a zero state, read int64[t >= 1] `prefix`: (float64[1, V] log2 probabilities, State of 1)."""
        ...

    def step(self, state: State, ids: np.ndarray, columns: np.ndarray | None = None) -> tuple[np.ndarray, State]:
        """Feed one token to each of n states: int64[n] ids -> (float64[n, V] log2 probabilities, new State).

        With int[m] `columns` only those columns come back, float64[n, m]; the softmax is over all V either way.
        """
        ...

    def concatenate(self, states: Sequence[State]) -> State:
        """One State holding the given ones, in order."""
        ...


class Backend(Protocol):
    """What `backends.load(name)` returns: a module (or object) with these functions."""

    def train(self, spec: RunSpec, corpora: Sequence[TrainingCorpus], run_dir: Path, device: str = "auto") -> None:
        """Train all replicates of `spec` together; write model.npz, curves.csv, measures.csv into `run_dir`."""
        ...

    def load(self, run_dir: Path, spec: RunSpec, vocabulary: Vocabulary) -> list[LanguageModel]:
        """The trained models of a finished run, one per replicate."""
        ...
