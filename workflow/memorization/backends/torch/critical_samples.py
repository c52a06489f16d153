"""LASS, the search for critical samples (Arpit et al. 2017, section 4.1, Algorithm 1), for all replicates together.

As printed the algorithm is defective: its gradient stays at x, its k is undefined, and with the printed sign it walks
away from the boundary. What is done here is what code of the paper's first author does: the gradient is taken at the
current point, of the cross-entropy to the class predicted at x, and ascended; noise is drawn per element; a sample once
found critical stays so.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from memorization.backends.torch.classifiers import forward, generators, normal_like
from memorization.classifier_specs import ClassifierRunSpec, CriticalSpec
from memorization.data.labelled import LabelledData, own_examples
from memorization.streams import stream

Logits = Callable[[Tensor], Tensor]
"""[R, N, ...] images -> [R, N, K] in evaluation mode; the weights ask for no gradient."""

AT_ONCE = 250
"""Images of each replicate per forward pass of a measurement."""


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
    drawn_from: Sequence[torch.Generator],
) -> Critical:
    """Search the box of `radius` around every image [R, N, ...] for one that its network classifies differently.

    radius, step (alpha) and noise (beta) are in the images' units, not on the paper's scale of 0 to 255. There is a
    generator per replicate: what is found for one does not depend on the others.
    """
    # Deviation: no early stop of the whole set ("converged" in the paper, fewer than 20 new ones in the code): the
    # number of iterations is fixed, else the ratio would depend on how many images are searched.
    with torch.no_grad():
        predicted = logits(images).argmax(-1)
    found, point = torch.zeros_like(predicted, dtype=torch.bool), images.clone()
    for _ in range(iterations):
        noises = normal_like(images, drawn_from)  # of all images: what one is given does not depend on the others
        rows = _open(found)
        if not len(rows):
            continue
        at = point[:, rows].requires_grad_()
        scores = logits(at)
        found[:, rows] |= scores.detach().argmax(-1) != predicted[:, rows]
        (gradient,) = torch.autograd.grad(_excess(scores, predicted[:, rows]).sum(), at)
        at, centre = at.detach(), images[:, rows]
        moved = at + step * gradient.sign() + noise * noises[:, rows]
        moved = torch.maximum(torch.minimum(moved, centre + radius), centre - radius)
        stay = found[:, rows].view(len(found), len(rows), *[1] * (images.ndim - 2))
        point[:, rows] = torch.where(stay, at, moved)
    rows = _open(found)
    if len(rows):
        with torch.no_grad():
            found[:, rows] |= logits(point[:, rows]).argmax(-1) != predicted[:, rows]
    return Critical(found, point)


def _open(found: Tensor) -> Tensor:
    """Numbers of the images of which some network has found no critical one yet."""
    return (~found).any(0).nonzero()[:, 0]


def _excess(scores: Tensor, predicted: Tensor) -> Tensor:
    """[R, N]: log of the summed odds of the other classes.

    The cross-entropy to the predicted class is log(1 + exp(this)): its gradient has the same sign everywhere, but
    becomes 0 in float32 where the softmax saturates.
    """
    chosen = predicted[..., None]
    others = scores.scatter(-1, chosen, float("-inf"))
    return others.logsumexp(-1) - scores.gather(-1, chosen)[..., 0]


def search(
    logits: Logits, images: Tensor, spec: CriticalSpec, scale: float, drawn_from: Sequence[torch.Generator]
) -> dict[float, Tensor]:
    """Radius -> bool[R, N]: which of the `images` [R, N, ...] are critical to each network.

    scale: what one unit of the pixels' scale of 0 to 255 is in the input. Step and noise hold for the first radius; for
    others they are in proportion, so that every search crosses its box in equally many iterations.
    """
    found = {}
    for radius in spec.radii:
        unit = scale * radius / spec.radii[0]
        how = (radius * scale, spec.step * unit, spec.noise * unit, spec.iterations, drawn_from)
        parts = images.split(AT_ONCE, dim=1)
        found[radius] = torch.cat([critical(logits, part, *how).found for part in parts], dim=1)
    return found


def measures(
    logits: Logits,
    parts: Mapping[str, Tensor],
    spec: CriticalSpec,
    scale: float,
    drawn_from: Sequence[torch.Generator],
) -> dict[tuple[str, str], np.ndarray]:
    """(csr_<radius> or csr_count_<radius>, part) -> float64[R]: share and number of critical images [R, N, ...]; with
    `spec.each` also (critical_<radius>, part) -> float64[R, N]: which they are.
    """
    rows = {}
    for part, images in parts.items():
        for radius, found in search(logits, images, spec, scale, drawn_from).items():
            rows[f"csr_{radius:g}", part] = found.double().mean(1).cpu().numpy()
            rows[f"csr_count_{radius:g}", part] = found.sum(1).double().cpu().numpy()
            if spec.each:
                rows[f"critical_{radius:g}", part] = found.double().cpu().numpy()
    return rows


def measure(group, epoch: int) -> dict[tuple[str, str], np.ndarray]:
    """`measures` of all replicates of a ClassifierGroup as `spec.measure.critical` wants them, after epoch 0, 1, ..."""
    spec, shown = group.spec.measure.critical, group.shown
    parts = {part: _images(group.spec, shown.data, group.members, part).to(group.device) for part in spec.parts}
    drawn_from = generators(group.spec.seed, group.members, f"critical-{epoch}", group.device)
    return measures(_logits(group.spec, group.weights), parts, spec, shown.data.scale, drawn_from)


def _logits(spec: ClassifierRunSpec, weights: Mapping[str, Tensor]) -> Logits:
    fixed = {name: weight.detach() for name, weight in weights.items()}
    return lambda images: forward(spec.model, fixed, images)


def _images(spec: ClassifierRunSpec, data: LabelledData, members: Sequence[int], part: str) -> Tensor:
    """[R, N, ...]: the leading images of a part; of `train` those that each replicate is trained on."""
    count = spec.measure.critical.examples
    if part == "train":
        rows = np.stack([own_examples(spec, member, len(data.train))[:count] for member in members])
        return torch.from_numpy(data.train[rows])
    images = data.validation[:count]
    if part == "gaussian":
        images = data.gaussian.draw(count, stream(spec.data.noise.seed, 0, "critical-gaussian"))
    return torch.from_numpy(images).expand(len(members), *images.shape)


class Adversary:
    """Critical samples to train on (paper section 5), with a generator per replicate that is seeded per epoch."""

    def __init__(
        self, spec: ClassifierRunSpec, scale: float, members: Sequence[int], epoch: int, device: torch.device
    ) -> None:
        self.spec, self.weight, defaults = spec, spec.training.adversarial, CriticalSpec()
        how = (scale * n for n in (defaults.radii[0], defaults.step, defaults.noise))
        self._how = (*how, spec.training.adversarial_iterations)
        self._generators = generators(spec.seed, members, f"adversarial-{epoch}", device)

    def images(self, weights: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """What LASS with its default parameters (footnote 7) makes of images [R, B, ...]: critical ones, and where it
        finds none the end of its search. In evaluation mode: what is attacked is the network without its noise.
        """
        return critical(_logits(self.spec, weights), images, *self._how, self._generators).images
