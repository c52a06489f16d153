"""The protocol in which back ends meet: everything downstream of it is NumPy and shared.

All costs are in bits (-log2 probability), under the softmax over the full vocabulary, summed over tokens in float64.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

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
    """One trained model (one replicate), as seen by scoring, exposure and extraction.

    Three more methods are used where a model has them, by exact ranks: `in_precision(name)`, the same weights computing
    in "float64" (or None), makes ranks exact where they would be intervals; `last_step(state, ids, columns)`, the
    probabilities of `step` alone, and `states_at_once(children, slots)`, how many states to step together, make them
    quicker.
    """

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


class Group(Protocol):
    """Some replicates of a cell in training, as `backends.training.Trainer` drives them; it hands out only NumPy."""

    members: list[int]
    """Numbers of the replicates that are still trained, in the order of every result's leading axis R."""
    batches: int
    """Mini-batches per epoch."""
    unit: str
    """What losses are given in, for people: "nats/character"."""
    epoch_loss: np.ndarray
    """float64[R]: mean training loss of the last finished epoch, in nats."""

    def train_epoch(self, epoch: int, batches: int) -> Iterator[Sequence[np.ndarray]]:
        """Train on the first `batches` mini-batches of epoch 1, 2, ...; yields after each, per replicate, int64[B]: the
        examples in it. Every random decision comes from a stream named after the epoch, so an epoch can be repeated.
        """
        ...

    def evaluate(self, role: str) -> Mapping[str, np.ndarray]:
        """`loss_nats` and `accuracy` (NaN where it is not measured), float64[R] each, on "validation" or "test"."""
        ...

    def weights_of(self, member: int) -> dict[str, np.ndarray]:
        """A copy of one replicate's arrays, by the names of model.npz."""
        ...

    def model(self, member: int) -> "LanguageModel":
        """One replicate as it is now, for measuring."""
        ...

    def drop(self, finished: set[int]) -> None:
        """Stop training these replicates."""
        ...

    def state(self) -> dict[str, Any]:
        """Plain values and NumPy arrays from which `restore` continues to the same numbers."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        ...


class ImageClassifier(Protocol):
    """One trained image classifier (one replicate), as seen by scoring."""

    def losses(self, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float64[n]: cross-entropy in nats (natural logarithm), and bool[n]: the most likely class is the label.

        images  float32[n, 28, 28] in [0, 1]
        labels  int64[n]
        """
        ...


class Backend(Protocol):
    """What `backends.load(name)` returns: a module (or object) with these functions.

    For image classifiers both take an ImageRunSpec; instead of `corpora` train is given ImageData, and load returns
    ImageClassifiers.
    """

    def train(self, spec: RunSpec, corpora: Sequence[TrainingCorpus], run_dir: Path, device: str = "auto") -> None:
        """Train all replicates of `spec` together; write model.npz, curves.csv, measures.csv into `run_dir`."""
        ...

    def load(self, run_dir: Path, spec: RunSpec, vocabulary: Vocabulary) -> list[LanguageModel]:
        """The trained models of a finished run, one per replicate."""
        ...
