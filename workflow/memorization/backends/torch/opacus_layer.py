"""The LSTM as a module that Opacus can train privately, by per-example gradients or by their norms alone.

    engine = PrivacyEngine()
    model, optimizer, loader = engine.make_private(module=CharacterLSTM(...), ..., grad_sample_mode="hooks")

Opacus' own DPLSTM calls a hook at every time step. Here one call per layer runs the backward recurrence and forms every
example's gradient in one batched product (`grad_sample_mode="hooks"`), or only its norm ("ghost"). The runs of this
project go further and need no second backward pass (private.py); this is for use with Opacus' engine elsewhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from opacus.grad_sample import register_grad_sampler, register_norm_sampler
from torch import Tensor, nn

from memorization.backends.torch.lstm import (
    Workspace,
    gate_scale,
    recur,
    recur_backward,
    recurrent_gradient,
    weight_gradient,
)
from memorization.backends.torch.norms import Map, squared_norms
from memorization.backends.torch.products import batch_product, project
from memorization.weights import layer_count


@dataclass(frozen=True)
class _Forward:
    """What a layer's backward pass needs: inputs [1, T, B, I], states [1, T, B, H], gates [1, T, B, 4H] and more."""

    inputs: Tensor
    hidden: Tensor
    gates: Tensor
    saved: tuple[Tensor, ...]

    @classmethod
    def run(cls, inputs: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor) -> "_Forward":
        """[B, T, I] inputs; buffers of its own, as a graph may be kept."""
        inputs = inputs.detach().transpose(0, 1).contiguous()[None]
        scale = gate_scale(weight_hh.shape[1], weight_hh)
        rows = project(inputs.flatten(1, 2), (weight_ih * scale[:, None])[None], (bias * scale)[None])
        gates = rows.view(*inputs.shape[:-1], len(weight_ih))
        *saved, hidden = recur(gates, weight_hh[None], Workspace())
        return cls(inputs, hidden, gates, tuple(saved))

    def gate_gradients(self, grad: Tensor, weight_hh: Tensor) -> Tensor:
        """[1, T, B, 4H] from the loss gradient [B, T, H] of the states. Works on copies: it may be asked again."""
        grad = grad.transpose(0, 1).contiguous()[None]
        return recur_backward(grad, weight_hh[None], self.gates.clone(), [s.clone() for s in self.saved])


class _Recurrence(torch.autograd.Function):
    """One layer over all time steps; may be differentiated more than once (ghost clipping does it twice)."""

    @staticmethod
    def forward(ctx, inputs: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor, layer: "LSTMLayer") -> Tensor:
        """[B, T, I] inputs -> states [B, T, H]."""
        made = _Forward.run(inputs, weight_ih, weight_hh, bias)
        layer.last = (inputs.data_ptr(), made) if layer.training else None
        ctx.made = made
        ctx.save_for_backward(weight_ih, weight_hh)
        return made.hidden[0].transpose(0, 1).contiguous()

    @staticmethod
    def backward(ctx, grad: Tensor):
        weight_ih, weight_hh = ctx.saved_tensors
        made = ctx.made
        gradients = made.gate_gradients(grad, weight_hh)
        rows = gradients.flatten(1, 2)
        d_inputs = None
        if ctx.needs_input_grad[0]:
            d_inputs = batch_product(rows, weight_ih[None]).view(made.inputs.shape)[0].transpose(0, 1)
        d_weights = weight_gradient(gradients, made.inputs)[0], recurrent_gradient(gradients, made.hidden)[0]
        return d_inputs, *d_weights, rows[0].sum(0), None


class LSTMLayer(nn.Module):
    """One LSTM layer from a zero state: [B, T, input_size] -> [B, T, hidden_size].

    Weights as in nn.LSTM (gate order i, f, g, o), with one bias vector per gate instead of two.
    """

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__()
        bound = hidden_size**-0.5

        def uniform(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))

        self.weight_ih = uniform(4 * hidden_size, input_size)
        self.weight_hh = uniform(4 * hidden_size, hidden_size)
        self.bias = uniform(4 * hidden_size)
        self.last: tuple[int, _Forward] | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        return _Recurrence.apply(inputs, self.weight_ih, self.weight_hh, self.bias, self)

    def gate_gradients(self, inputs: Tensor, grad: Tensor) -> tuple[_Forward, Tensor]:
        """The forward pass over `inputs` (the last one's, where it was that) and its gate gradients."""
        place, made = self.last or (None, None)
        if place != inputs.data_ptr() or made.inputs.shape[1:3] != inputs.shape[1::-1]:
            made = _Forward.run(inputs, self.weight_ih, self.weight_hh, self.bias)
        return made, made.gate_gradients(grad, self.weight_hh)


@register_grad_sampler(LSTMLayer)
@torch.no_grad()
def per_example_gradients(layer: LSTMLayer, activations: list[Tensor], backprops: Tensor) -> dict[nn.Parameter, Tensor]:
    """Opacus' grad sampler: parameter -> [B, ...], from inputs [B, T, I] and the states' gradients [B, T, H]."""
    made, gradients = layer.gate_gradients(activations[0], backprops)
    rows = gradients[0].permute(1, 2, 0)
    result = {layer.bias: rows.sum(2)}
    result[layer.weight_ih] = torch.bmm(rows, made.inputs[0].transpose(0, 1))
    result[layer.weight_hh] = torch.bmm(rows[..., 1:], made.hidden[0, :-1].transpose(0, 1))
    return {parameter: value for parameter, value in result.items() if parameter.requires_grad}


@register_norm_sampler(LSTMLayer)
@torch.no_grad()
def per_example_norms(layer: LSTMLayer, activations: list[Tensor], backprops: Tensor) -> dict[nn.Parameter, Tensor]:
    """Opacus' norm sampler: parameter -> [B], without forming gradients where Gram matrices are cheaper."""
    made, gradients = layer.gate_gradients(activations[0], backprops)
    squares = squared_norms([Map(gradients[0], made.inputs[0], made.hidden[0])])[0]
    norms = zip((layer.weight_ih, layer.weight_hh, layer.bias), squares.sqrt(), strict=True)
    return {parameter: norm for parameter, norm in norms if parameter.requires_grad}


class CharacterLSTM(nn.Module):
    """int64[B, T] characters -> logits [B, T, V] of the next ones; each sequence from a zero state."""

    def __init__(self, vocabulary: int, units: int, layers: int = 1, embedding: int = 32, dropout: float = 0.0):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.layers = nn.ModuleList(LSTMLayer(units if k else embedding, units) for k in range(layers))
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(units, vocabulary)

    def forward(self, ids: Tensor) -> Tensor:
        states = self.embedding(ids)
        for layer in self.layers:
            states = self.dropout(layer(states))
        return self.output(states)

    @classmethod
    def of(cls, weights: Mapping[str, np.ndarray]) -> "CharacterLSTM":
        """From one replicate's arrays as in model.npz (weights.shapes), with an embedding."""
        vocabulary, embedding = weights["embedding.weight"].shape
        model = cls(vocabulary, weights["output.weight"].shape[1], layer_count(weights), embedding)
        arrays = {name: array for name, array in weights.items() if not name.startswith("lstm.")}
        for k in range(layer_count(weights)):
            arrays |= {f"layers.{k}.{name}": weights[f"lstm.{name}_l{k}"] for name in ("weight_ih", "weight_hh")}
            arrays[f"layers.{k}.bias"] = weights[f"lstm.bias_ih_l{k}"] + weights[f"lstm.bias_hh_l{k}"]
        model.load_state_dict({name: torch.as_tensor(array) for name, array in arrays.items()})
        return model
