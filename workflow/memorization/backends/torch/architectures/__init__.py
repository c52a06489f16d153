"""What the back end can train, by the name that `model.architecture` gives it.

A network computes losses over a block of replicates; a model steps through one replicate's sequences, thousands at a
time. To add an architecture: its arrays in architectures.py (of the package), its network and its model here.
"""

from collections.abc import Mapping

from torch import Tensor

from memorization.backends.base import LanguageModel
from memorization.backends.torch.architectures.convolutional import CnnModel, CnnNetwork, WaveNetModel, WaveNetNetwork
from memorization.backends.torch.architectures.network import Network
from memorization.backends.torch.architectures.recurrent import GruModel, GruNetwork, LstmNetwork
from memorization.backends.torch.architectures.transformer import TransformerModel, TransformerNetwork
from memorization.backends.torch.model import TorchLanguageModel
from memorization.backends.torch.products import rounded
from memorization.specs import ModelSpec
from memorization.vocabulary import Vocabulary

__all__ = ["ARCHITECTURES", "Network", "language_model", "make_network"]

ARCHITECTURES = {
    "lstm": (LstmNetwork, None),
    "gru": (GruNetwork, GruModel),
    "cnn": (CnnNetwork, CnnModel),
    "wavenet": (WaveNetNetwork, WaveNetModel),
    "transformer": (TransformerNetwork, TransformerModel),
}
"""Architecture -> (network, model); the LSTM's model needs no network."""


def make_network(model: ModelSpec, precision: str = "float32") -> Network:
    """What trains models of this specification; `precision` is training.precision (bfloat16: of the LSTM only)."""
    if precision == "bfloat16":
        return LstmNetwork(model, rounded)
    return ARCHITECTURES[model.architecture][0](model)


def language_model(model: ModelSpec, weights: Mapping[str, Tensor], vocabulary: Vocabulary) -> LanguageModel:
    """One replicate, for measuring. `weights` (of that replicate) are copied."""
    network, stepped = ARCHITECTURES[model.architecture]
    if stepped is None:
        return TorchLanguageModel(weights, vocabulary)
    return stepped(network(model), weights, vocabulary)
