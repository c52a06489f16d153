"""Per-example clipping for the character LSTM (Abadi et al. 2016) in one forward and one backward pass.

The backward pass keeps the gate gradients of every layer and time step and forms no weight gradient. From them come the
norms of every example's gradient (`norms`), from the norms a factor per example, and with it one ordinary product per
weight gives the clipped sum: the factor scales what the weight reads, the narrower side of the product.

Beyond an ordinary step this holds at most the first layer's gate gradients once more (`_Characters`), the embedded
inputs, and for the norms `norms.NUMBERS` numbers, whatever the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from memorization.backends.torch.lstm import (
    Dropout,
    Parameters,
    Workspace,
    gate_scale,
    input_table,
    recur,
    recur_backward,
    recurrent_gradient,
    table_gates,
    weight_gradient,
)
from memorization.backends.torch.norms import Map, squared_norms
from memorization.backends.torch.products import batch_product
from memorization.weights import trained


@dataclass(frozen=True)
class Clipped:
    """Per trained array the sum of clipped gradients, [R, ...]; per example the mean loss in nats and the gradient's
    norm before clipping, [R, B]."""

    gradients: dict[str, Tensor]
    losses: Tensor
    norms: Tensor


@dataclass
class _Pass:
    """One layer: what it read ([R, T, B, I]; None for characters), its states, and its gates or their gradients."""

    inputs: Tensor | None
    hidden: Tensor
    gates: Tensor
    saved: Sequence[Tensor]


@dataclass
class _Outer:
    """The output layer: what it reads [R, T, B, H] and the logits' gradients [R, T, B, V]."""

    states: Tensor
    logits: Tensor


def _layer(layer: int, name: str) -> str:
    return f"lstm.{name}_l{layer}"


class Clipper:
    """Clipped sums for one model shape; keeps its buffers from one mini-batch to the next."""

    def __init__(self, layers: int) -> None:
        self._workspaces = [Workspace() for _ in range(layers)]
        self._outer = Workspace()

    @torch.no_grad()
    def __call__(
        self,
        weights: Parameters,
        ids: Tensor,
        targets: Tensor,
        clip: float,
        dropout: Dropout | None = None,
        included: Tensor | None = None,
    ) -> Clipped:
        """For int64[R, T, B] ids and targets: the sum over examples of their gradients, each scaled to norm <= `clip`.

        One example's gradient is that of its mean loss over its T characters. `included` [R, B] of zeros and ones
        leaves examples out (batches of different sizes side by side). With B = 0 sums are zero.
        """
        if ids.shape[2] == 0:
            return self._empty(weights, ids)
        passes, states, masks = self._forward(weights, ids, dropout)
        logits, losses = self._logits(weights, states, targets)
        self._backward(weights, passes, logits, masks)
        outer, characters = _Outer(states, logits), _Characters(ids, passes[0].gates, weights)
        norms = _norms(ids, weights, passes, outer, characters)
        factor = clip / norms.clamp(min=clip)
        factor = factor if included is None else factor * included
        return Clipped(_sums(weights, passes, outer, characters, factor), losses, norms)

    @staticmethod
    def _empty(weights: Parameters, ids: Tensor) -> Clipped:
        none = next(iter(weights.values())).new_zeros(len(ids), 0)
        zeros = {name: torch.zeros_like(w) for name, w in weights.items() if trained(name)}
        return Clipped(zeros, none, none.clone())

    def _forward(self, weights: Parameters, ids: Tensor, dropout: Dropout | None):
        """All layers' passes, what the output layer reads, and each layer's dropout mask (None without dropout)."""
        passes, masks, states = [], [], None
        for layer, workspace in enumerate(self._workspaces):
            weight_hh = weights[_layer(layer, "weight_hh")]
            if layer == 0:
                gates, _ = table_gates(ids, input_table(weights), workspace)
            else:
                gates = self._gates(weights, layer, states, workspace)
            *saved, hidden = recur(gates, weight_hh, workspace)
            passes.append(_Pass(states, hidden, gates, saved))
            masks.append(dropout(torch.ones_like(hidden)) if dropout else None)
            states = hidden if masks[-1] is None else hidden * masks[-1]
        return passes, states, masks

    @staticmethod
    def _gates(weights: Parameters, layer: int, inputs: Tensor, workspace: Workspace) -> Tensor:
        weight, bias = weights[_layer(layer, "weight_ih")], weights[_layer(layer, "bias_ih")]
        scale = gate_scale(weight.shape[1] // 4, weight)
        gates = workspace.get(inputs, "gates", (*inputs.shape[:-1], weight.shape[1]))
        _project_into(gates, inputs, weight * scale[:, None], bias * scale)
        return gates

    def _logits(self, weights: Parameters, states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of the logits, [R, T, B, V], each example's mean loss its own aim; and those losses [R, B]."""
        weight, bias = weights["output.weight"], weights["output.bias"]
        logits = self._outer.get(states, "logits", (*states.shape[:-1], weight.shape[1]))
        _project_into(logits, states, weight, bias)
        logs = functional.log_softmax(logits, dim=-1)
        losses = -logs.gather(-1, targets[..., None])[..., 0].mean(1)
        gradients = torch.exp(logs, out=logits)
        gradients.scatter_add_(-1, targets[..., None], torch.full_like(gradients[..., :1], -1.0))
        return gradients.mul_(1 / targets.shape[1]), losses

    def _backward(self, weights: Parameters, passes: list[_Pass], logits: Tensor, masks: list[Tensor | None]) -> None:
        """Turn every pass's gates into gate gradients."""
        gradients, weight = logits, weights["output.weight"]
        for layer in reversed(range(len(passes))):
            one = passes[layer]
            grad = self._outer.get(gradients, f"states{layer}", one.hidden.shape)
            for own, from_above, matrix in zip(grad, gradients, weight, strict=True):
                torch.mm(from_above.flatten(0, 1), matrix, out=own.flatten(0, 1))
            if masks[layer] is not None:
                grad.mul_(masks[layer])
            gradients = recur_backward(grad, weights[_layer(layer, "weight_hh")], one.gates, one.saved)
            weight = weights[_layer(layer, "weight_ih")]


def _project_into(out: Tensor, inputs: Tensor, weight: Tensor, bias: Tensor) -> None:
    """out[R, T, B, O] = inputs [R, T, B, I] @ weight [R, O, I]' + bias [R, O]."""
    for own, x, w, b in zip(out, inputs, weight, bias, strict=True):
        torch.addmm(b, x.flatten(0, 1), w.T, out=own.flatten(0, 1))


class _Characters:
    """The first layer's gate gradients, summed over the places where one example has the same character.

    `sums` [U, 4H] has a row for each of U (replicate, example, character), in that order: per example the gradient of
    the input table's rows, from which those of the embedding (for one-hot input, of weight_ih) follow.
    """

    def __init__(self, ids: Tensor, gradients: Tensor, weights: Parameters) -> None:
        self.replicates, _, self.batch = ids.shape
        self.vocabulary = weights["output.bias"].shape[1]
        examples = self.replicates * self.batch
        first = torch.arange(examples, device=ids.device).view(self.replicates, 1, self.batch) * self.vocabulary
        keys = (ids + first).flatten()
        if ids.device.type == "cpu":
            self.keys, rows = torch.unique(keys, return_inverse=True)
        else:  # A row for every character, seen or not: counting them would wait for the device.
            self.keys, rows = torch.arange(examples * self.vocabulary, device=ids.device), keys
        self.sums = _summed(gradients.flatten(0, 2), rows, len(self.keys))
        self.example = self.keys // self.vocabulary

    def _embedding(self, weight_ih: Tensor) -> Tensor:
        """[U, E]: the rows' gradients of the embedding."""
        if self.replicates == 1:
            return self.sums @ weight_ih[0]
        of_replicate = torch.bincount(self.example // self.batch, minlength=self.replicates).tolist()
        return torch.cat([rows @ w for rows, w in zip(self.sums.split(of_replicate), weight_ih, strict=True)])

    def squares(self, weights: Parameters) -> Tensor:
        """[R, B]: squared norm of each example's gradient of the embedding; of weight_ih_l0 for one-hot input."""
        rows = self._embedding(weights["lstm.weight_ih_l0"]) if "embedding.weight" in weights else self.sums
        total = rows.new_zeros(self.replicates * self.batch)
        return total.index_add_(0, self.example, torch.linalg.vecdot(rows, rows)).view(self.replicates, self.batch)

    def table(self, factor: Tensor) -> Tensor:
        """[R, V, 4H]: gradient of the input table, each example weighted by `factor` [R, B]."""
        scaled = self.sums * factor.flatten()[self.example][:, None]
        rows = self.example // self.batch * self.vocabulary + self.keys % self.vocabulary
        count = self.replicates * self.vocabulary
        return _summed(scaled, rows, count).view(self.replicates, self.vocabulary, -1)


def _summed(values: Tensor, rows: Tensor, count: int) -> Tensor:
    """[count, K]: `values` [n, K] added up by int64[n] `rows`. On a CPU many times quicker than index_add_."""
    return torch.ops.aten.embedding_dense_backward(values, rows, count, -1, False)


def _norms(ids: Tensor, weights: Parameters, passes: list[_Pass], outer: "_Outer", characters: _Characters) -> Tensor:
    """[R, B]: the norm of every example's gradient over all trained arrays."""
    total = characters.squares(weights)
    embedding = weights.get("embedding.weight")
    for r, squares in enumerate(total):
        # One tensor object per block: that is how maps are seen to read the same.
        seen = {id(block): block[r] for block in _read(passes, outer)}
        inputs = [None if embedding is None else embedding[r][ids[r]], *(seen[id(p.inputs)] for p in passes[1:])]
        maps = [Map(p.gates[r], x, seen[id(p.hidden)]) for p, x in zip(passes, inputs, strict=True)]
        maps.append(Map(outer.logits[r], seen[id(outer.states)]))
        squares += sum(rows.sum(0) for rows in squared_norms(maps))
    return total.sqrt_()


def _read(passes: list[_Pass], outer: "_Outer") -> list[Tensor]:
    """Every block of states that some weight reads, once."""
    blocks = [outer.states, *(p.hidden for p in passes), *(p.inputs for p in passes[1:])]
    return list({id(block): block for block in blocks}.values())


def _sums(
    weights: Parameters, passes: list[_Pass], outer: "_Outer", characters: _Characters, factor: Tensor
) -> dict[str, Tensor]:
    """Weighted by `factor` [R, B], the sum over examples of every trained array's gradient. Spoils the states."""
    for block in _read(passes, outer):
        block.mul_(factor[:, None, :, None])
    steps = outer.logits.shape[1]
    per_row = factor[:, None].expand(-1, steps, -1).reshape(len(factor), 1, -1)

    def bias(gradients: Tensor) -> Tensor:
        return batch_product(per_row, gradients.flatten(1, 2))[:, 0]

    table = characters.table(factor)
    result = {_layer(0, "bias_ih"): table.sum(1)}
    if "embedding.weight" in weights:
        result["embedding.weight"] = batch_product(table, weights[_layer(0, "weight_ih")])
        result[_layer(0, "weight_ih")] = batch_product(table.transpose(1, 2), weights["embedding.weight"])
    else:
        result[_layer(0, "weight_ih")] = table.transpose(1, 2).contiguous()
    for layer, one in enumerate(passes):
        result[_layer(layer, "weight_hh")] = recurrent_gradient(one.gates, one.hidden)
        if layer:
            result[_layer(layer, "weight_ih")] = weight_gradient(one.gates, one.inputs)
            result[_layer(layer, "bias_ih")] = bias(one.gates)
    return result | {"output.weight": weight_gradient(outer.logits, outer.states), "output.bias": bias(outer.logits)}
