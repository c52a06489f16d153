"""The character LSTM with a leading replicate axis: R models of one cell, trained as one block of numbers.

Tensors are [R, T, B, .]: replicate, time, batch. Weights have nn.LSTM's names, shapes and gate order (i, f, g, o).

One autograd function per layer. Its backward pass keeps the gate gradients of every time step, [R, T, B, 4H], and forms
the weight gradients in single products after the time loop; per-example gradients (DP-SGD) need the same block.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from memorization.backends.torch import words
from memorization.backends.torch.products import (
    Operand,
    adder,
    batch_product,
    differentiable_project,
    exact,
    project_into,
)
from memorization.weights import layer_count

Parameters = Mapping[str, Tensor]
Dropout = Callable[[Tensor], Tensor]


class Workspace:
    """Buffers of one layer, kept from one mini-batch to the next: fresh ones cost a page fault per 4 KiB.

    Whoever uses one must finish a backward pass before the next forward pass. `operand` is what the layer's products
    make of their operands (products.py).
    """

    def __init__(self, operand: Operand = exact) -> None:
        self.operand = operand
        self._buffers: dict[str, Tensor] = {}

    def get(self, like: Tensor, name: str, shape: tuple[int, ...]) -> Tensor:
        """An uninitialised tensor of `shape`, with the type and device of `like`."""
        count = math.prod(shape)
        kept = self._buffers.get(name)
        if kept is None or kept.numel() < count:
            kept = self._buffers[name] = torch.empty(count, dtype=like.dtype, device=like.device)
        return kept[:count].view(shape)


def gate_scale(units: int, like: Tensor) -> Tensor:
    """[4H]: 2 for the cell gate g, 1 elsewhere. A power of two, so scaling rounds nothing.

    tanh(x) = 2 sigmoid(2x) - 1: with g's pre-activation doubled, one sigmoid covers the contiguous block of all gates,
    which on a CPU is half the time of a sigmoid and a tanh over strided parts.
    """
    scale = torch.ones(4, units, dtype=like.dtype, device=like.device)
    scale[2] = 2
    return scale.reshape(-1)


def _squeeze(tensors: list[Tensor]) -> list[Tensor]:
    """Without the replicate axis when R = 1: plain products are quicker than batched ones on a CPU."""
    return [t[0] for t in tensors] if tensors[0].shape[0] == 1 else tensors


def input_table(weights: Parameters, operand: Operand = exact) -> Tensor:
    """[R, V, 4H]: what the first layer's gates take from each character: E W_ih' + b, for one-hot input W_ih' + b."""
    weight, bias = weights["lstm.weight_ih_l0"], weights["lstm.bias_ih_l0"]
    if "embedding.weight" in weights:
        return differentiable_project(weights["embedding.weight"], weight, bias, operand)
    return weight.transpose(1, 2).contiguous() + bias[:, None]


def _steps(tensor: Tensor) -> tuple[Tensor, ...]:
    return tensor.unbind(-3)


def recur(gates: Tensor, weight_hh: Tensor, workspace: Workspace) -> tuple[Tensor, ...]:
    """The time loop, from a zero state.

    `gates` [R, T, B, 4H] holds the inputs' pre-activations (g's doubled) and is overwritten by the sigmoid of the full
    ones. Returns cell gate, cell, tanh(cell) and hidden, [R, T, B, H] each.
    """
    units = weight_hh.shape[-1]
    shape = (*gates.shape[:-1], units)
    cell_gate, cell, squashed, hidden = (workspace.get(gates, name, shape) for name in ("g", "c", "tanh_c", "h"))
    operand = workspace.operand
    weight = operand(weight_hh * gate_scale(units, weight_hh)[:, None]).transpose(-1, -2)
    block, weight, g_, c_, tc_, h_ = _squeeze([gates, weight, cell_gate, cell, squashed, hidden])
    product = adder(weight)
    minus_one = torch.full((), -1.0, dtype=gates.dtype, device=gates.device)
    i_, f_, s_, o_ = (_steps(part) for part in block.split(units, dim=-1))
    a_, g_, c_, tc_, h_ = map(_steps, (block, g_, c_, tc_, h_))
    for t, a in enumerate(a_):
        if t:
            product(a, operand(h_[t - 1]), weight, out=a)
        torch.sigmoid(a, out=a)
        torch.add(minus_one, s_[t], alpha=2, out=g_[t])
        torch.mul(i_[t], g_[t], out=c_[t])
        if t:
            c_[t].addcmul_(f_[t], c_[t - 1])
        torch.tanh(c_[t], out=tc_[t])
        torch.mul(o_[t], tc_[t], out=h_[t])
    return cell_gate, cell, squashed, hidden


def _gate_factors(gates: Tensor, saved: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Everything in the backward pass that needs no recurrence, for all time steps at once.

    Overwrites `gates` with what turns dL/d(cell) (for o: dL/d(hidden)) into gate gradients, and returns
    d(hidden)/d(cell) and the forget gate, [R, T, B, H] each, in buffers of `saved`.
    """
    cell_gate, cell, squashed = saved
    i, f, s, o = gates.split(cell.shape[-1], dim=-1)
    sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
    tanh_backward = torch.ops.aten.tanh_backward.grad_input
    tanh_backward(i, cell_gate, grad_input=s)
    sigmoid_backward(cell_gate, i, grad_input=i)
    through = tanh_backward(o, squashed, grad_input=cell_gate)
    sigmoid_backward(squashed, o, grad_input=o)
    forget = squashed.copy_(f)
    sigmoid_backward(cell[:, :-1], f[:, 1:], grad_input=f[:, 1:])
    f[:, 0] = 0
    return through, forget


def recur_backward(
    grad: Tensor, weight_hh: Tensor, gates: Tensor, saved: Sequence[Tensor], operand: Operand = exact
) -> Tensor:
    """Gate gradients dL/d(pre-activation), [R, T, B, 4H], written over `gates`.

    `grad` [R, T, B, H] is the loss gradient of the hidden states as seen by the next layer.
    """
    units = weight_hh.shape[-1]
    through, forget = _gate_factors(gates, saved)
    block, weight, grad, through, forget = _squeeze([gates, operand(weight_hh), grad, through, forget])
    product = adder(weight)
    from_cell, from_hidden = block.unflatten(-1, (4, units)).split([3, 1], dim=-2)
    from_cell, from_hidden = from_cell.unbind(-4), from_hidden.squeeze(-2).unbind(-3)
    block, grad, through, forget = map(_steps, (block, grad, through, forget))
    buffer, d_cell = torch.empty_like(grad[0]), torch.zeros_like(grad[0])
    d_cell_once_per_gate = d_cell.unsqueeze(-2)
    last = len(block) - 1
    for t in range(last, -1, -1):
        d_hidden = grad[t] if t == last else product(grad[t], operand(block[t + 1]), weight, out=buffer)
        d_cell.addcmul_(d_hidden, through[t])
        from_cell[t].mul_(d_cell_once_per_gate)
        from_hidden[t].mul_(d_hidden)
        d_cell.mul_(forget[t])
    return gates


def weight_gradient(gate_gradients: Tensor, inputs: Tensor) -> Tensor:
    """[R, 4H, I]: the sum over time and batch, one product per replicate."""
    return batch_product(gate_gradients.flatten(1, 2).transpose(1, 2), inputs.flatten(1, 2))


def recurrent_gradient(gate_gradients: Tensor, hidden: Tensor) -> Tensor:
    """dL/d(weight_hh), [R, 4H, H]; the first step had a zero state."""
    if hidden.shape[1] == 1:
        shape = (hidden.shape[0], gate_gradients.shape[-1], hidden.shape[-1])
        return hidden.new_zeros(shape, dtype=torch.promote_types(hidden.dtype, torch.float32))
    return weight_gradient(gate_gradients[:, 1:], hidden[:, :-1])


def _taken(ctx) -> Tensor:
    """The forward pass's gates, once: the backward pass overwrites them."""
    gates, ctx.gates = ctx.gates, None
    if gates is None:
        raise RuntimeError("an LSTM layer's backward pass can run only once: it works in place")
    return gates


def table_gates(ids: Tensor, table: Tensor, workspace: Workspace) -> tuple[Tensor, Tensor]:
    """The first layer's inputs to the gates, [R, T, B, 4H] (g's doubled), and the flat row of `table` of each."""
    replicates, vocabulary, width = table.shape
    shift = torch.arange(replicates, device=ids.device).view(-1, 1, 1) * vocabulary
    rows = (ids + shift).flatten()
    gates = workspace.get(table, "gates", (*ids.shape, width))
    scaled = (table * gate_scale(width // 4, table)).flatten(0, 1)
    torch.index_select(scaled, 0, rows, out=gates.view(-1, width))
    return gates, rows


class EmbeddedLayer(torch.autograd.Function):
    """The first layer. Its input is a character, so its projection is a row of `input_table`, [R, V, 4H]."""

    @staticmethod
    def forward(ctx, ids: Tensor, table: Tensor, weight_hh: Tensor, workspace: Workspace) -> Tensor:
        """int64[R, T, B] ids -> hidden states [R, T, B, H]."""
        gates, rows = table_gates(ids, table, workspace)
        *ctx.saved, hidden = recur(gates, weight_hh, workspace)
        ctx.gates, ctx.vocabulary, ctx.operand = gates, table.shape[1], workspace.operand
        hidden = hidden.detach()
        ctx.save_for_backward(rows, weight_hh, hidden)
        return hidden

    @staticmethod
    def backward(ctx, grad: Tensor):
        rows, weight_hh, hidden = ctx.saved_tensors
        gate_gradients = recur_backward(grad, weight_hh, _taken(ctx), ctx.saved, ctx.operand)
        replicates, width = weight_hh.shape[:2]
        d_table = torch.ops.aten.embedding_dense_backward(
            gate_gradients.flatten(0, 2), rows, replicates * ctx.vocabulary, -1, False
        ).view(replicates, ctx.vocabulary, width)
        return None, d_table, recurrent_gradient(ctx.operand(gate_gradients), ctx.operand(hidden)), None


class Layer(torch.autograd.Function):
    """Every other layer: the projection of all time steps is one product."""

    @staticmethod
    def forward(
        ctx, inputs: Tensor, weight_ih: Tensor, bias: Tensor, weight_hh: Tensor, workspace: Workspace
    ) -> Tensor:
        """[R, T, B, I] inputs -> hidden states [R, T, B, H]."""
        width = weight_ih.shape[1]
        scale = gate_scale(width // 4, bias)
        ctx.operand = workspace.operand
        inputs, weight_ih = ctx.operand(inputs), ctx.operand(weight_ih)
        gates = workspace.get(bias, "gates", (*inputs.shape[:-1], width))
        rows = gates.view(len(inputs), -1, width)
        project_into(rows, inputs.flatten(1, 2), weight_ih * scale[:, None].to(weight_ih.dtype), bias * scale)
        *ctx.saved, hidden = recur(gates, weight_hh, workspace)
        ctx.gates, hidden = gates, hidden.detach()
        ctx.save_for_backward(inputs, weight_ih, weight_hh, hidden)
        return hidden

    @staticmethod
    def backward(ctx, grad: Tensor):
        inputs, weight_ih, weight_hh, hidden = ctx.saved_tensors
        gate_gradients = recur_backward(grad, weight_hh, _taken(ctx), ctx.saved, ctx.operand)
        factors = ctx.operand(gate_gradients)
        d_inputs = batch_product(factors.flatten(1, 2), weight_ih).view(inputs.shape)
        d_weight, d_bias = weight_gradient(factors, inputs), gate_gradients.flatten(1, 2).sum(1)
        return d_inputs, d_weight, d_bias, recurrent_gradient(factors, ctx.operand(hidden)), None


def _first_states(weights: Parameters, ids: Tensor, workspace: Workspace) -> Tensor:
    """Hidden states of the first layer, [R, T, B, H]; of very many symbols only those in `ids` are looked up."""
    names = ("lstm.weight_ih_l0", "lstm.bias_ih_l0", "lstm.weight_hh_l0")
    if words.many(weights):
        inputs = words.embed(ids, weights["embedding.weight"])
        return Layer.apply(inputs, *(weights[n] for n in names), workspace)
    return EmbeddedLayer.apply(ids, input_table(weights, workspace.operand), weights[names[-1]], workspace)


def hidden_states(
    weights: Parameters, ids: Tensor, workspaces: Sequence[Workspace], dropout: Dropout | None = None
) -> Tensor:
    """int64[R, T, B] ids -> the last layer's hidden states [R, T, B, H], each sequence from a zero state.

    `dropout` is applied to the input of every layer but the first, the output layer included (non-recurrent
    connections only, Zaremba et al. 2014).
    """
    states = _first_states(weights, ids, workspaces[0])
    for layer in range(1, layer_count(weights)):
        names = (f"lstm.weight_ih_l{layer}", f"lstm.bias_ih_l{layer}", f"lstm.weight_hh_l{layer}")
        inputs = dropout(states) if dropout else states
        states = Layer.apply(inputs, *(weights[n] for n in names), workspaces[layer])
    return dropout(states) if dropout else states


def losses(
    weights: Parameters,
    ids: Tensor,
    targets: Tensor,
    workspaces: Sequence[Workspace],
    dropout: Dropout | None = None,
) -> Tensor:
    """Mean cross-entropy of each replicate in nats per token, [R], for int64[R, T, B] ids and targets."""
    states = hidden_states(weights, ids, workspaces, dropout).flatten(1, 2)
    weight, bias, operand = weights["output.weight"], weights["output.bias"], workspaces[0].operand
    if words.many(weights):
        return words.mean_cross_entropy(states, weight, bias, targets.flatten(1), operand)
    logits = differentiable_project(states, weight, bias, operand)
    costs = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return costs.view(len(ids), -1).mean(1)
