"""Recurrent architectures: the LSTM of lstm.py as a network, and GRUs."""

import torch
from torch import Tensor
from torch.nn import functional

from memorization.backends.torch import lstm
from memorization.backends.torch.architectures.network import (
    Dropout,
    Parameters,
    Rows,
    RowsModel,
    StatesNetwork,
    rows_of,
)
from memorization.backends.torch.gru import Recurrence
from memorization.backends.torch.products import Operand, exact, project
from memorization.specs import ModelSpec

NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class LstmNetwork:
    """`Network` of the LSTM, with the buffers that it keeps from one mini-batch to the next."""

    def __init__(self, model: ModelSpec, operand: Operand = exact) -> None:
        """`operand` is what its products make of their operands (products.py)."""
        self._workspaces = [lstm.Workspace(operand) for _ in range(model.layers)]

    def losses(self, weights: Parameters, ids: Tensor, targets: Tensor, dropout: Dropout | None = None) -> Tensor:
        """As `Network.losses`."""
        return lstm.losses(weights, ids, targets, self._workspaces, dropout)


def layer_arrays(weights: Parameters, layer: int) -> list[Tensor]:
    """Input and recurrent weights and their biases, in nn.GRU's order."""
    return [weights[f"gru.{name}_l{layer}"] for name in NAMES]


class GruNetwork(StatesNetwork):
    """Gated recurrent units (Cho et al. 2014) with nn.GRU's equations."""

    def states(self, weights: Parameters, ids: Tensor, dropout: Dropout | None = None) -> Tensor:
        """As `StatesNetwork.states`. The first layer's inputs are rows of a table."""
        states = ids
        for layer in range(self.spec.layers):
            w_ih, w_hh, b_ih, b_hh = layer_arrays(weights, layer)
            if layer == 0:
                inputs = rows_of(_input_table(weights.get("embedding.weight"), w_ih, b_ih), ids)
            else:
                inputs = project(states.flatten(1, 2), w_ih, b_ih).view(*states.shape[:-1], -1)
            states = Recurrence.apply(inputs, w_hh, b_hh)
            states = dropout(states) if dropout else states
        return states


def _input_table(embedding: Tensor | None, weight: Tensor, bias: Tensor) -> Tensor:
    """[R, V, 3H]; without an embedding the input is one-hot."""
    return weight.transpose(1, 2) + bias[:, None] if embedding is None else project(embedding, weight, bias)


class GruModel(RowsModel):
    """Stepping: a state is [n, layers, H]."""

    def _prepare(self) -> None:
        """The first layer's inputs become rows of a table."""
        self._layers = [layer_arrays(self._weights, layer) for layer in range(self._network.spec.layers)]
        w_ih, _, b_ih, _ = layer_arrays(self._stacked, 0)
        self._table = _input_table(self._stacked.get("embedding.weight"), w_ih, b_ih)[0]

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
