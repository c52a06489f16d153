"""Loss-sensitivity of training examples through unrolled SGD (A Closer Look, section 3.2): exact, in little memory.

g_x^t = || dL_t / dx ||: L_t is a mean loss after t updates, x an example that those updates were made on. The
derivative goes through all of them (Maclaurin, Duvenaud, Adams 2015); it is not the gradient of a loss at x. With the
updates theta_{s+1} = theta_s - rate_s * grad l(B_s; theta_s) and lambda = dL_t/dtheta_s, going back from s = t:

    G[x]   -= rate_s * d/dx < grad_theta l(B_s; theta_s), lambda >     for x in B_s
    lambda -= rate_s * H(B_s; theta_s) lambda

Both are gradients of one number, the derivative of l along lambda, so one forward tangent and one backward pass give
them (Pearlmutter 1994). Written out for MLPs with ReLU, whose second derivative is 0 almost everywhere: all measured
times, all terms of the loss and all replicates go back together, J = times x terms adjoints per replicate.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Layers = list[tuple[Tensor, Tensor]]
"""Per layer its weight [..., in, out] and bias [..., out]; the leading axes are those of what is computed."""


@dataclass(frozen=True)
class Unrolled:
    """An SGD training of R replicates to differentiate through: where it starts, and every mini-batch of it."""

    start: Layers
    """Weights [R, in, out] and biases [R, out]."""
    images: Tensor
    """[N, D], floating: the training examples."""
    labels: Tensor
    """int64[N]"""
    batches: Sequence[Tensor]
    """T mini-batches: int64[R, B_s] rows of `images`, none twice in a mini-batch."""
    rates: Sequence[float]
    """T learning rates."""

    def rows(self, chosen: slice) -> "Unrolled":
        """The same training of some replicates only."""
        start = [(weight[chosen], bias[chosen]) for weight, bias in self.start]
        return Unrolled(start, self.images, self.labels, [batch[chosen] for batch in self.batches], self.rates)


# --- the network --------------------------------------------------------------------------------------------------


def forward(layers: Layers, images: Tensor) -> tuple[list[Tensor], Tensor]:
    """Every layer's input [..., B, in], the images first, and the logits [..., B, K]."""
    inputs = [images]
    for weight, bias in layers[:-1]:
        inputs.append((inputs[-1] @ weight + bias.unsqueeze(-2)).relu())
    weight, bias = layers[-1]
    return inputs, inputs[-1] @ weight + bias.unsqueeze(-2)


def _errors(layers: Layers, inputs: list[Tensor], top: Tensor) -> list[Tensor]:
    """Gradients by every layer's output before its ReLU, [..., B, out], from those by the logits."""
    errors = [top]
    for (weight, _), states in zip(layers[:0:-1], inputs[:0:-1], strict=True):
        errors.insert(0, (errors[0] @ weight.mT) * (states > 0))
    return errors


def gradients(layers: Layers, images: Tensor, labels: Tensor, weights: Tensor) -> tuple[Layers, Tensor]:
    """Gradients of sum_b weights_b * crossentropy_b, by the parameters and by the images [..., B, D].

    images [..., B, D], labels int64[..., B], weights [..., B]; leading axes broadcast against those of `layers`.
    """
    inputs, logits = forward(layers, images)
    errors = _errors(layers, inputs, _loss_errors(logits.softmax(-1), labels) * weights.unsqueeze(-1))
    by_parameters = [(a.mT @ e, e.sum(-2)) for a, e in zip(inputs, errors, strict=True)]
    return by_parameters, errors[0] @ layers[0][0].mT


def _loss_errors(shares: Tensor, labels: Tensor) -> Tensor:
    """Gradient of the cross-entropy by the logits: softmax minus one at the label."""
    return shares.scatter_add(-1, labels.unsqueeze(-1).expand(*shares.shape[:-1], 1), -torch.ones_like(shares[..., :1]))


def updated(layers: Layers, images: Tensor, labels: Tensor, rate: float) -> Layers:
    """The parameters after one step of plain SGD on the mean loss of images [R, B, D], labels int64[R, B]."""
    share = torch.full(labels.shape, 1 / labels.shape[-1], dtype=images.dtype, device=images.device)
    steps, _ = gradients(layers, images, labels, share)
    return [(w - rate * dw, b - rate * db) for (w, b), (dw, db) in zip(layers, steps, strict=True)]


# --- one step back ------------------------------------------------------------------------------------------------


def step_back(layers: Layers, adjoints: Layers, images: Tensor, labels: Tensor) -> tuple[Layers, Tensor]:
    """Hessian times adjoint, and d/dx < gradient, adjoint >, both of the mean loss of a mini-batch.

    layers: [R, 1, in, out] and [R, 1, out]; adjoints: [R, J, in, out] and [R, J, out]; images [R, 1, B, D]; labels
    int64[R, 1, B]. Returns arrays like `adjoints`, and [R, J, B, D].
    """
    inputs, logits = forward(layers, images)
    shares = logits.softmax(-1)
    errors = _errors(layers, inputs, _loss_errors(shares, labels) / labels.shape[-1])
    # Forward: how every layer's input moves when the parameters move along the adjoint.
    moved: list[Tensor | None] = [None]
    for number, ((weight, _), (along, along_bias)) in enumerate(zip(layers, adjoints, strict=True)):
        out = inputs[number] @ along + along_bias.unsqueeze(-2)
        if moved[-1] is not None:
            out = out + moved[-1] @ weight
        moved.append(out if number == len(layers) - 1 else out * (inputs[number + 1] > 0))
    # Backward: how the gradients by the logits and below move with it.
    change = moved.pop()
    change = shares * (change - (shares * change).sum(-1, keepdim=True)) / labels.shape[-1]
    products: Layers = []
    for number in range(len(layers) - 1, -1, -1):
        product = inputs[number].mT @ change
        if moved[number] is not None:
            product = product + moved[number].mT @ errors[number]
        products.insert(0, (product, change.sum(-2)))
        change = change @ layers[number][0].mT + errors[number] @ adjoints[number][0].mT
        if number:
            change = change * (inputs[number] > 0)
    return products, change


# --- the whole training -------------------------------------------------------------------------------------------


class Replay:
    """The parameters of a training before every update, in descending order of updates.

    Only every `stride`-th set is kept; the ones between are computed again from it, by the same operations.
    """

    def __init__(self, run: Unrolled) -> None:
        self.run, self.stride = run, max(1, round(len(run.batches) ** 0.5))
        self.kept: list[Layers] = []
        layers = run.start
        for s in range(len(run.batches)):
            if s % self.stride == 0:
                self.kept.append(layers)
            layers = self.step(layers, s)
        self.last = layers
        """The parameters after the last update."""

    def batch(self, s: int) -> tuple[Tensor, Tensor]:
        """Images [R, B, D] and labels int64[R, B] of update s."""
        rows = self.run.batches[s]
        return self.run.images[rows], self.run.labels[rows]

    def step(self, layers: Layers, s: int) -> Layers:
        """The parameters after update s from those before it."""
        return updated(layers, *self.batch(s), self.run.rates[s])

    def backwards(self) -> Iterator[tuple[int, Layers]]:
        """(t, parameters after t updates) for t = T, T - 1, ..., 0."""
        yield len(self.run.batches), self.last
        for first in range(len(self.kept) - 1, -1, -1):
            segment = [self.kept[first]]
            for s in range(first * self.stride, min((first + 1) * self.stride, len(self.run.batches)) - 1):
                segment.append(self.step(segment[-1], s))
            for offset in range(len(segment) - 1, -1, -1):
                yield first * self.stride + offset, segment[offset]


def derivatives(run: Unrolled, times: Sequence[int], terms: Tensor, *, direct: bool = True) -> Tensor:
    """dL_t/dx for every training example: [R, C, K, N, D].

    times: K numbers of updates, increasing, from 0 to T. terms [C, N]: loss c is sum_n terms[c, n] * crossentropy_n,
    with 1/N everywhere the mean loss. direct: L_t also depends on x itself (total derivative); False leaves that out.
    Raises ValueError for other times.
    """
    counts = list(times)
    if counts != sorted(set(counts)) or counts[0] < 0 or counts[-1] > len(run.batches):
        raise ValueError(f"times: increasing numbers from 0 to {len(run.batches)}, found {counts}")
    replicates, (examples, pixels) = len(run.start[0][0]), run.images.shape
    classes = len(terms)
    found = run.images.new_zeros(replicates, len(counts) * classes, examples, pixels)
    adjoints = [tuple(p.new_zeros(replicates, found.shape[1], *p.shape[1:]) for p in pair) for pair in run.start]
    replay, active = Replay(run), 0
    for t, layers in replay.backwards():
        layers = [(weight.unsqueeze(1), bias.unsqueeze(1)) for weight, bias in layers]
        if active:  # the adjoints stand after update t: take them back through it
            images, labels = replay.batch(t)
            mine = [(a[:, -active:], b[:, -active:]) for a, b in adjoints]
            products, mixed = step_back(layers, mine, images.unsqueeze(1), labels.unsqueeze(1))
            for (a, b), (da, db) in zip(mine, products, strict=True):
                a.add_(da, alpha=-run.rates[t])
                b.add_(db, alpha=-run.rates[t])
            for k, rows in enumerate(run.batches[t]):
                found[k, -active:].index_add_(1, rows, mixed[k], alpha=-run.rates[t])
        if t in counts:
            place = slice(found.shape[1] - active - classes, found.shape[1] - active)
            by_parameters, by_images = gradients(layers, run.images, run.labels, terms)
            for (a, b), (da, db) in zip(adjoints, by_parameters, strict=True):
                a[:, place], b[:, place] = da, db
            if direct:
                found[:, place] += by_images
            active += classes
    return found.unflatten(1, (len(counts), classes)).transpose(1, 2)
