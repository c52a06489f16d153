"""Causal convolutions: a plain stack (cnn), and WaveNet's dilated gated ones with residual and skip connections.

Convolutions are products with what each place reads, [.., kernel * inputs], oldest input first, as in nn.Conv1d after
padding with zeros on the left. Stepping keeps each layer's last inputs in a buffer that moves by one.
"""

import torch
from torch import Tensor
from torch.nn import functional

from memorization.architectures import dilation
from memorization.backends.torch.architectures.network import (
    Dropout,
    Parameters,
    Rows,
    RowsModel,
    StatesNetwork,
    dense,
    rows_of,
    token_table,
)
from memorization.backends.torch.products import project


def _kernel_last(weight: Tensor) -> Tensor:
    """nn.Conv1d's [.., O, I, K] as [.., O, K * I]: columns in the order of `_read`."""
    return weight.transpose(-1, -2).flatten(-2)


def _read(inputs: Tensor, kernel: int, step: int) -> Tensor:
    """[R, T, B, kernel * I]: what each place reads of inputs [R, T, B, I], zeros before the first."""
    length = inputs.shape[1]
    padded = functional.pad(inputs, (0, 0, 0, 0, (kernel - 1) * step, 0))
    return torch.cat([padded[:, k * step : k * step + length] for k in range(kernel)], dim=-1)


def _convolve(weights: Parameters, name: str, inputs: Tensor, step: int = 1) -> Tensor:
    """Causal convolution `name` of inputs [R, T, B, I] with dilation `step`: [R, T, B, O]."""
    weight = weights[f"{name}.weight"]
    read = _read(inputs, weight.shape[-1], step)
    flat = project(read.flatten(1, 2), _kernel_last(weight), weights[f"{name}.bias"])
    return flat.view(*inputs.shape[:-1], weight.shape[1])


def tap_table(weights: Parameters) -> Tensor:
    """[R, K * (V + 1), O]: what each token adds to the first convolution at each of its places, oldest first.

    The last row of each place, for nothing before the window, is zero.
    """
    weight = weights["convolutions.0.weight"]
    if "embedding.weight" in weights:
        weight = torch.einsum("rve,roek->rkvo", weights["embedding.weight"], weight)
    else:
        weight = weight.permute(0, 3, 2, 1)
    return functional.pad(weight, (0, 0, 0, 1)).flatten(1, 2)


class CnnNetwork(StatesNetwork):
    """Causal convolutions with ReLU. The first reads tokens, so that it is a sum of table rows."""

    def states(self, weights: Parameters, ids: Tensor, dropout: Dropout | None = None) -> Tensor:
        """As `StatesNetwork.states`."""
        states = self._first(weights, ids)
        for layer in range(1, self.spec.layers):
            states = dropout(states) if dropout else states
            states = _convolve(weights, f"convolutions.{layer}", states).relu()
        return dropout(states) if dropout else states

    def _first(self, weights: Parameters, ids: Tensor) -> Tensor:
        table, bias = tap_table(weights), weights["convolutions.0.bias"]
        kernel = self.spec.kernel
        size = table.shape[1] // kernel
        padded = functional.pad(ids, (0, 0, kernel - 1, 0), value=size - 1)
        places = [padded[:, k : k + ids.shape[1]] + k * size for k in range(kernel)]
        rows = torch.stack(places, dim=-1).flatten(1, 2)
        sums = torch.stack([functional.embedding_bag(i, t, mode="sum") for i, t in zip(rows, table, strict=True)])
        return (sums + bias[:, None]).relu().view(*ids.shape, -1)


class CnnModel(RowsModel):
    """Stepping: a state holds the last kernel - 1 tokens [n, K - 1], and every other layer's inputs [n, K - 1, H]."""

    def _prepare(self) -> None:
        self._table = tap_table(self._stacked)[0]
        spec = self._network.spec
        self._kernel, self._units = spec.kernel, spec.units
        self._size = len(self._table) // spec.kernel
        self._shift = torch.arange(spec.kernel, device=self._device) * self._size
        self._layers = [
            (_kernel_last(self._weights[f"convolutions.{k}.weight"]), self._weights[f"convolutions.{k}.bias"])
            for k in range(spec.layers)
        ]

    def _zero(self, count: int) -> Rows:
        tokens = torch.full((count, self._kernel - 1), self._size - 1, device=self._device)
        shape = (count, self._kernel - 1, self._units)
        return Rows((tokens, *(torch.zeros(shape, device=self._device) for _ in self._layers[1:])))

    def _advance(self, state: Rows, ids: Tensor) -> tuple[Rows, Tensor]:
        tokens = torch.cat([state.parts[0], ids[:, None]], dim=1)
        kept = [tokens[:, 1:]]
        read = functional.embedding_bag(tokens + self._shift, self._table, mode="sum")
        read = (read + self._layers[0][1]).relu()
        for buffer, (weight, bias) in zip(state.parts[1:], self._layers[1:], strict=True):
            inputs = torch.cat([buffer, read[:, None]], dim=1)
            kept.append(inputs[:, 1:])
            read = functional.linear(inputs.flatten(1), weight, bias).relu()
        return Rows(tuple(kept)), read


class WaveNetNetwork(StatesNetwork):
    """WaveNet (van den Oord et al. 2016): layer l reads `kernel` inputs that are 2^l apart."""

    def states(self, weights: Parameters, ids: Tensor, dropout: Dropout | None = None) -> Tensor:
        """As `StatesNetwork.states`; dropout also on what the skip connections add up to."""
        states = rows_of(token_table(weights, "input"), ids)
        skipped = 0
        for layer in range(self.spec.layers):
            name = f"layers.{layer}"
            gated = _gated(_convolve(weights, f"{name}.dilated", states, dilation(layer)))
            skipped = skipped + dense(weights, f"{name}.skip", gated)
            if layer < self.spec.layers - 1:
                states = states + dense(weights, f"{name}.residual", gated)
                states = dropout(states) if dropout else states
        skipped = dropout(skipped) if dropout else skipped
        return dense(weights, "post", skipped.relu()).relu()


def _gated(both: Tensor) -> Tensor:
    """tanh of the filter times the sigmoid of the gate, [.., 2H] -> [.., H]."""
    filtered, gate = both.chunk(2, dim=-1)
    return torch.tanh(filtered) * torch.sigmoid(gate)


class WaveNetModel(RowsModel):
    """Stepping: a state holds every layer's last (kernel - 1) 2^l inputs, [n, ., H]."""

    def _prepare(self) -> None:
        self._table = token_table(self._stacked, "input")[0]
        spec = self._network.spec
        self._steps = [dilation(layer) for layer in range(spec.layers)]
        self._dilated = [_kernel_last(self._weights[f"layers.{k}.dilated.weight"]) for k in range(spec.layers)]

    def _dense(self, name: str, inputs: Tensor) -> Tensor:
        return functional.linear(inputs, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _zero(self, count: int) -> Rows:
        spec = self._network.spec
        lengths = [(spec.kernel - 1) * step for step in self._steps]
        return Rows(tuple(torch.zeros(count, length, spec.units, device=self._device) for length in lengths))

    def _advance(self, state: Rows, ids: Tensor) -> tuple[Rows, Tensor]:
        now, kept = self._table.index_select(0, ids), []
        skipped = torch.zeros_like(now)
        for layer, (buffer, step) in enumerate(zip(state.parts, self._steps, strict=True)):
            inputs = torch.cat([buffer, now[:, None]], dim=1)
            kept.append(inputs[:, 1:])
            bias = self._weights[f"layers.{layer}.dilated.bias"]
            gated = _gated(functional.linear(inputs[:, ::step].flatten(1), self._dilated[layer], bias))
            skipped = skipped + self._dense(f"layers.{layer}.skip", gated)
            if layer < len(self._steps) - 1:
                now = now + self._dense(f"layers.{layer}.residual", gated)
        return Rows(tuple(kept)), self._dense("post", skipped.relu()).relu()
