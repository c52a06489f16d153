"""What the back end can train, told by the names of the weights: LSTMs and GRUs."""

from collections.abc import Collection, Mapping
from types import ModuleType

import numpy as np

from memorization.backends.tf import gru, lstm
from memorization.backends.tf.gru_model import TFGruModel
from memorization.backends.tf.model import TFLanguageModel
from memorization.vocabulary import Vocabulary

NETWORKS: dict[str, tuple[ModuleType, type[TFLanguageModel]]] = {
    "lstm": (lstm, TFLanguageModel),
    "gru": (gru, TFGruModel),
}
"""First part of the recurrent weights' names -> module with `logits` and `gradients`, and the stepping model."""


def _entry(names: Collection[str]) -> tuple[ModuleType, type[TFLanguageModel]]:
    return next(entry for name, entry in NETWORKS.items() if f"{name}.weight_hh_l0" in names)


def network_of(names: Collection[str]) -> ModuleType:
    """The module that trains weights of these names."""
    return _entry(names)[0]


def language_model(weights: Mapping[str, np.ndarray], vocabulary: Vocabulary, device: str) -> TFLanguageModel:
    """One replicate, for measuring."""
    return _entry(weights)[1](weights, vocabulary, device)
