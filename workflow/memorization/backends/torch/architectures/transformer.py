"""A small causal transformer, pre-norm as nn.TransformerEncoder with norm_first, with sinusoidal positions.

No paper replicated here has one: it stands beside the architectures of Table 4 as ours. Positions are added to the
inputs and nothing bounds them, so that lines longer than a training window can be scored.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from memorization.backends.torch.architectures.network import (
    Dropout,
    Parameters,
    StatesNetwork,
    SteppedModel,
    dense,
    rows_of,
    token_table,
)
from memorization.backends.torch.products import project

LONGEST = 10_000.0
"""Wave length of the slowest position, over 2 pi (Vaswani et al. 2017)."""


def positions(first: int, count: int, like: Tensor) -> Tensor:
    """[count, H]: sines and cosines of positions first, first + 1, ..., in turn (Vaswani et al. 2017), H of `like`."""
    units = like.shape[-1]
    even = torch.arange(0, units, 2, device=like.device, dtype=torch.float64)
    places = torch.arange(first, first + count, device=like.device, dtype=torch.float64)
    angles = places[:, None] * LONGEST ** (-even / units)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :units].to(like.dtype)


def norm(weights: Parameters, name: str, inputs: Tensor) -> Tensor:
    """nn.LayerNorm of inputs [R, T, B, H], with each replicate's own scale and shift."""
    scale, shift = (weights[f"{name}.{part}"][:, None, None] for part in ("weight", "bias"))
    return functional.layer_norm(inputs, inputs.shape[-1:]) * scale + shift


def projections(weights: Parameters, layer: int, states: Tensor, heads: int) -> list[Tensor]:
    """Queries, keys and values of a layer for states [R, T, B, H]: [R, B, heads, T, H / heads] each."""
    name = f"encoder.layers.{layer}"
    inputs = norm(weights, f"{name}.norm1", states).flatten(1, 2)
    made = project(inputs, weights[f"{name}.self_attn.in_proj_weight"], weights[f"{name}.self_attn.in_proj_bias"])
    made = made.view(*states.shape[:-1], 3, heads, -1)
    return [part.permute(0, 2, 3, 1, 4) for part in made.unbind(3)]


def finish(weights: Parameters, layer: int, states: Tensor, attended: Tensor) -> Tensor:
    """The rest of a layer after its attention [R, B, heads, T, H / heads]: new states [R, T, B, H]."""
    name = f"encoder.layers.{layer}"
    together = attended.permute(0, 3, 1, 2, 4).flatten(3)
    states = states + dense(weights, f"{name}.self_attn.out_proj", together)
    hidden = dense(weights, f"{name}.linear1", norm(weights, f"{name}.norm2", states)).relu()
    return states + dense(weights, f"{name}.linear2", hidden)


class TransformerNetwork(StatesNetwork):
    """Every place attends to itself and to those before it in the window."""

    def states(self, weights: Parameters, ids: Tensor, dropout: Dropout | None = None) -> Tensor:
        """As `StatesNetwork.states`."""
        states = rows_of(token_table(weights, "input"), ids)
        states = states + positions(0, ids.shape[1], states)[:, None]
        for layer in range(self.spec.layers):
            states = dropout(states) if dropout and layer else states
            query, key, value = projections(weights, layer, states, self.spec.heads)
            attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
            states = finish(weights, layer, states, attended)
        states = norm(weights, "encoder.norm", states)
        return dropout(states) if dropout else states


@dataclass(frozen=True)
class Context:
    """What all states that began with the same text share: its tokens, and every layer's keys and values of them,
    [heads, t, H / heads] each."""

    tokens: tuple[int, ...]
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


@dataclass(frozen=True)
class Histories:
    """States of n sequences: the shared context and the tokens since, int64[n, s], of which the first `lengths` count.

    Keys and values of the tokens since are formed anew in every step: a state then takes a few bytes instead of
    hundreds of kilobytes, and a search that keeps thousands of them stays in memory.
    """

    context: Context
    tokens: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, index: np.ndarray) -> "Histories":
        """The states at int[m] `index` (repeats allowed), copied."""
        rows = torch.as_tensor(np.asarray(index, dtype=np.int64), device=self.tokens.device)
        return replace(self, tokens=self.tokens.index_select(0, rows), lengths=self.lengths.index_select(0, rows))

    def widened(self, width: int) -> "Histories":
        """Room for `width` tokens."""
        return replace(self, tokens=functional.pad(self.tokens, (0, width - self.tokens.shape[1])))


class TransformerModel(SteppedModel):
    """Stepping: attention of the tokens since `start` to the shared context and among themselves."""

    def _prepare(self) -> None:
        spec = self._network.spec
        self._heads, self._layers = spec.heads, range(spec.layers)
        self._table = token_table(self._stacked, "input")
        nothing = torch.zeros(spec.heads, 0, spec.units // spec.heads, device=self._device)
        self._empty = Context((), (nothing,) * spec.layers, (nothing,) * spec.layers)

    def _inputs(self, tokens: Tensor, first: int) -> Tensor:
        """[1, s, n, H]: int64[n, s] tokens at positions first, first + 1, ..."""
        states = rows_of(self._table, tokens.T[None])
        return states + positions(first, tokens.shape[1], states)[:, None]

    @torch.inference_mode()
    def start(self, prefix: np.ndarray) -> tuple[np.ndarray, Histories]:
        """Read int64[t >= 1] `prefix` from nothing: (float64[1, V] log2 probabilities, State of 1)."""
        tokens = self._tensor(prefix)[None]
        states, keys, values = self._inputs(tokens, 0), [], []
        for layer in self._layers:
            query, key, value = projections(self._stacked, layer, states, self._heads)
            keys.append(key[0, 0])
            values.append(value[0, 0])
            attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
            states = finish(self._stacked, layer, states, attended)
        read = norm(self._stacked, "encoder.norm", states)[0, -1]
        context = Context(tuple(tokens[0].tolist()), tuple(keys), tuple(values))
        nothing = torch.zeros(1, 0, dtype=torch.int64, device=self._device)
        return self._bits(read), Histories(context, nothing, torch.zeros(1, dtype=torch.int64, device=self._device))

    def _advance(self, state: Histories, ids: Tensor) -> tuple[Histories, Tensor]:
        """As `SteppedModel._advance`. What stands behind a shorter history's end is never attended to."""
        width = int(state.lengths.max()) + 1 if len(state) else 1
        tokens = state.tokens[:, : width - 1]
        tokens = functional.pad(tokens, (0, width - tokens.shape[1]))
        tokens = tokens.scatter(1, state.lengths[:, None], ids[:, None])
        context, states = state.context, self._inputs(tokens, len(state.context.tokens))
        for layer in self._layers:
            query, key, value = (p[0] for p in projections(self._stacked, layer, states, self._heads))
            attended = _attend(query, key, value, context.keys[layer], context.values[layer])
            states = finish(self._stacked, layer, states, attended[None])
        last = states[:, state.lengths, torch.arange(len(ids), device=self._device)]
        read = norm(self._stacked, "encoder.norm", last[:, None])[0, 0]
        return Histories(context, tokens, state.lengths + 1), read

    @torch.inference_mode()
    def concatenate(self, states: Sequence[Histories]) -> Histories:
        """One State holding the given ones, in order; of different beginnings the contexts become part of them."""
        if len({state.context.tokens for state in states}) > 1:
            states = [self._whole(state) for state in states]
        width = max(state.tokens.shape[1] for state in states)
        tokens = torch.cat([state.widened(width).tokens for state in states])
        return Histories(states[0].context, tokens, torch.cat([state.lengths for state in states]))

    def _whole(self, state: Histories) -> Histories:
        own = torch.tensor(state.context.tokens, dtype=torch.int64, device=self._device).expand(len(state), -1)
        tokens = torch.cat([own, state.tokens], dim=1)
        return Histories(self._empty, tokens, state.lengths + own.shape[1])


def _attend(query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention of [n, heads, s, h] queries to the shared [heads, t, h] keys and causally to their own.

    The shared part is one product for all sequences, without a copy of it for each.
    """
    scale, count = query.shape[-1] ** -0.5, query.shape[2]
    shared = torch.einsum("nhsd,htd->nhst", query, keys)
    later = torch.ones(count, count, dtype=torch.bool, device=query.device).triu(1)
    own = (query @ key.transpose(-1, -2)).masked_fill(later, -torch.inf)
    weights = torch.softmax(torch.cat([shared, own], dim=-1) * scale, dim=-1)
    split = keys.shape[1]
    return torch.einsum("nhst,htd->nhsd", weights[..., :split], values) + weights[..., split:] @ value
