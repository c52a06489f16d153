"""What a language model over very many symbols does otherwise: words, where every product with the whole vocabulary
counts.

A character model multiplies its few embeddings by the first layer's weights once per batch and keeps all logits; with
267,735 words (WikiText-103) the one would cost more than all the rest, and the other 9 GB for a batch of 60 windows of
140. Here only the batch's own rows are looked up, and the loss is computed, with its gradient, in blocks of tokens.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from memorization.backends.torch.products import Operand, adder, exact, product

MANY = 1024
"""Symbols from which on a vocabulary is treated so. Character vocabularies have fewer."""

BLOCK = {"cpu": 1 << 19, "cuda": 1 << 27}
"""Logits at once: on a CPU they stay in a core's cache (2 MB), on a GPU they take 512 MB."""


def many(weights: Mapping[str, Tensor]) -> bool:
    """Whether a model with an embedding has so many symbols; `weights` may have a leading replicate axis."""
    return "embedding.weight" in weights and weights["output.bias"].shape[-1] >= MANY


def embed(ids: Tensor, embedding: Tensor) -> Tensor:
    """int64[R, ...] ids, [R, V, E] embedding -> [R, ..., E]: each replicate's own rows."""
    replicates, size, _ = embedding.shape
    shift = torch.arange(replicates, device=ids.device).view(-1, *[1] * (ids.dim() - 1)) * size
    return functional.embedding(ids + shift, embedding.flatten(0, 1))


class _MeanCrossEntropy(torch.autograd.Function):
    """The gradient is known with the loss, so both come from one pass, and no block of logits is kept."""

    @staticmethod
    def forward(
        ctx, states: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, wanted: bool, operand: Operand
    ) -> Tensor:
        """[R, N, H] states, [R, V, H] weight, [R, V] bias, int64[R, N] targets -> [R]; `wanted`: the gradient."""
        gradients = [torch.zeros_like(part) for part in (states, weight, bias)] if wanted else []
        losses = torch.zeros(len(states), dtype=torch.float64, device=states.device)
        count, size = states.shape[1], weight.shape[1]
        states, weight = operand(states), operand(weight)
        add = adder(weight[0])
        rows = max(1, BLOCK["cpu" if states.device.type == "cpu" else "cuda"] // size)
        for replicate in range(len(states)):
            for first in range(0, count, rows):
                block = slice(first, first + rows)
                own, wrong = states[replicate, block], targets[replicate, block, None]
                logs = product(own, weight[replicate].T, bias[replicate]).log_softmax(1)
                losses[replicate] -= logs.gather(1, wrong).sum()
                if wanted:
                    share = logs.exp_().scatter_add_(1, wrong, torch.full_like(wrong, -1, dtype=logs.dtype))
                    share /= count
                    factor = operand(share)
                    gradients[0][replicate, block] = product(factor, weight[replicate])
                    add(gradients[1][replicate], factor.T, own, out=gradients[1][replicate])
                    gradients[2][replicate] += share.sum(0)
        ctx.gradients = gradients
        return (losses / count).to(bias.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor):
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError("this loss's backward pass can run only once: it works in place")
        return (*(part.mul_(grad.view(-1, *[1] * (part.dim() - 1))) for part in gradients), None, None, None)


def mean_cross_entropy(
    states: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, operand: Operand = exact
) -> Tensor:
    """Mean cross-entropy of each replicate in nats per token, [R], under the softmax over the whole vocabulary.

    [R, N, H] states, [R, V, H] weight, [R, V] bias, int64[R, N] targets.
    """
    wanted = torch.is_grad_enabled() and any(part.requires_grad for part in (states, weight, bias))
    return _MeanCrossEntropy.apply(states, weight, bias, targets, wanted, operand)
