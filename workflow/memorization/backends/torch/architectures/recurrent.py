"""The LSTM of lstm.py as a network, and GRUs: PyTorch's own kernels in training, a table of inputs in stepping."""

import torch
from torch import Tensor
from torch.nn import functional

from memorization.backends.torch import lstm
from memorization.backends.torch.architectures.network import Dropout, Parameters, Rows, StatesNetwork, SteppedModel
from memorization.specs import ModelSpec

NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class LstmNetwork:
    """`Network` of the LSTM, with the buffers that it keeps from one mini-batch to the next."""

    def __init__(self, model: ModelSpec) -> None:
        self._workspaces = [lstm.Workspace() for _ in range(model.layers)]

    def losses(self, weights: Parameters, ids: Tensor, targets: Tensor, dropout: Dropout | None = None) -> Tensor:
        """As `Network.losses`."""
        return lstm.losses(weights, ids, targets, self._workspaces, dropout)


def layer_arrays(weights: Parameters, layer: int) -> list[Tensor]:
    """Input and recurrent weights and their biases, in nn.GRU's order."""
    return [weights[f"gru.{name}_l{layer}"] for name in NAMES]


class GruNetwork(StatesNetwork):
    """Gated recurrent units (Cho et al. 2014) with nn.GRU's equations: the reset gate acts on the recurrent product.

    Replicates follow one another: nn.GRU's kernels have no replicate axis.
    """

    def states(self, weights: Parameters, ids: Tensor, dropout: Dropout | None = None) -> Tensor:
        """As `StatesNetwork.states`."""
        inputs = self._inputs(weights, ids)
        for layer in range(self.spec.layers):
            arrays = layer_arrays(weights, layer)
            inputs = torch.stack([self._run(x, [a[k] for a in arrays]) for k, x in enumerate(inputs)])
            inputs = dropout(inputs) if dropout else inputs
        return inputs

    @staticmethod
    def _inputs(weights: Parameters, ids: Tensor) -> Tensor:
        if "embedding.weight" in weights:
            return torch.stack(
                [functional.embedding(i, w) for i, w in zip(ids, weights["embedding.weight"], strict=True)]
            )
        bias = weights["output.bias"]
        return functional.one_hot(ids, bias.shape[1]).to(bias.dtype)

    def _run(self, inputs: Tensor, arrays: list[Tensor]) -> Tensor:
        """[T, B, I] -> [T, B, H], from a zero state."""
        zero = inputs.new_zeros(1, inputs.shape[1], self.spec.units)
        # has_biases, layers, dropout, training (it keeps what the backward pass needs), bidirectional, batch_first
        return torch.gru(inputs, zero, arrays, True, 1, 0.0, torch.is_grad_enabled(), False, False)[0]


class GruModel(SteppedModel):
    """Stepping: a state is [n, layers, H]."""

    def _prepare(self) -> None:
        """The first layer's inputs become rows of a table."""
        self._layers = [layer_arrays(self._weights, layer) for layer in range(self._network.spec.layers)]
        w_ih, _, b_ih, _ = self._layers[0]
        embedding = self._weights.get("embedding.weight")
        self._table = w_ih.T + b_ih if embedding is None else functional.linear(embedding, w_ih, b_ih)

    def _zero(self, count: int) -> Rows:
        return Rows((torch.zeros(count, len(self._layers), self._network.spec.units, device=self._device),))

    def _advance(self, state: Rows, ids: Tensor) -> tuple[Rows, Tensor]:
        made: list[Tensor] = []
        for layer, (w_ih, w_hh, b_ih, b_hh) in enumerate(self._layers):
            before = state.parts[0][:, layer]
            inputs = functional.linear(made[-1], w_ih, b_ih) if layer else self._table.index_select(0, ids)
            made.append(_cell(inputs, functional.linear(before, w_hh, b_hh), before))
        return Rows((torch.stack(made, dim=1),)), made[-1]


def _cell(inputs: Tensor, recurrent: Tensor, before: Tensor) -> Tensor:
    """nn.GRU's step from both pre-activations [n, 3H] (reset, update, new) and the old states [n, H]."""
    i_reset, i_update, i_new = inputs.chunk(3, dim=1)
    h_reset, h_update, h_new = recurrent.chunk(3, dim=1)
    reset, update = torch.sigmoid(i_reset + h_reset), torch.sigmoid(i_update + h_update)
    new = torch.tanh(i_new + reset * h_new)
    return torch.lerp(new, before, update)
