"""LASS, the search for critical samples (Arpit et al. 2017, section 4.1, Algorithm 1), for all replicates together.

As printed the algorithm is defective: its gradient stays at x, its k is undefined, and with the printed sign it walks
away from the boundary. What is done here is what code of the paper's first author does: the gradient is taken at the
current point, of the cross-entropy to the class predicted at x, and ascended; noise is drawn per element; a sample once
found critical stays so.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from memorization.classifier_specs import CriticalSpec

Logits = Callable[[Tensor], Tensor]
"""[R, N, ...] images -> [R, N, K] in evaluation mode; the weights ask for no gradient."""

AT_ONCE = 500
"""Images times replicates per forward pass of a measurement."""


class Critical(NamedTuple):
    """What the search found."""

    found: Tensor
    """bool[R, N]: an image within the radius is classified differently from x."""
    images: Tensor
    """[R, N, ...]: that image; where none was found, the one at which the search ended."""


def critical(
    logits: Logits,
    images: Tensor,
    radius: float,
    step: float,
    noise: float,
    iterations: int,
    generator: torch.Generator,
) -> Critical:
    """Search the box of `radius` around every image [R, N, ...] for one that its network classifies differently.

    radius, step (alpha) and noise (beta) are in the images' units, not on the paper's scale of 0 to 255.
    """
    # Deviation: no early stop of the whole set ("converged" in the paper, fewer than 20 new ones in the code): the
    # number of iterations is fixed, else the ratio would depend on how many images are searched.
    with torch.no_grad():
        predicted = logits(images).argmax(-1)
    found, point = torch.zeros_like(predicted, dtype=torch.bool), images
    for _ in range(iterations):
        point = point.detach().requires_grad_()
        scores = logits(point)
        found = found | (scores.detach().argmax(-1) != predicted)
        if bool(found.all()):
            break
        (gradient,) = torch.autograd.grad(_excess(scores, predicted).sum(), point)
        random = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
        point = point.detach()
        moved = point + step * gradient.sign() + noise * random
        moved = torch.maximum(torch.minimum(moved, images + radius), images - radius)
        point = torch.where(found.view(*found.shape, *[1] * (images.ndim - 2)), point, moved)
    point = point.detach()
    with torch.no_grad():
        found = found | (logits(point).argmax(-1) != predicted)
    return Critical(found, point)


def _excess(scores: Tensor, predicted: Tensor) -> Tensor:
    """[R, N]: log of the summed odds of the other classes.

    The cross-entropy to the predicted class is log(1 + exp(this)): its gradient has the same sign everywhere, but
    becomes 0 in float32 where the softmax saturates.
    """
    chosen = predicted[..., None]
    others = scores.scatter(-1, chosen, float("-inf"))
    return others.logsumexp(-1) - scores.gather(-1, chosen)[..., 0]


def count(
    logits: Logits, images: Tensor, spec: CriticalSpec, scale: float, generator: torch.Generator
) -> dict[float, Tensor]:
    """Radius -> int64[R]: how many of the `images` [R, N, ...] are critical to each network.

    scale: what one unit of the pixels' scale of 0 to 255 is in the input. Step and noise hold for the first radius; for
    others they are in proportion, so that every search crosses its box in equally many iterations.
    """
    counts = {}
    for radius in spec.radii:
        unit = scale * radius / spec.radii[0]
        search = (radius * scale, spec.step * unit, spec.noise * unit, spec.iterations, generator)
        parts = images.split(max(1, AT_ONCE // len(images)), dim=1)
        counts[radius] = sum(critical(logits, part, *search).found.sum(1) for part in parts)
    return counts
