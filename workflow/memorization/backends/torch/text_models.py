"""Many character LSTMs at once, each the row of one matrix: `flat_models.FlatModels` for language models, so that
dummy gradients, penalties and baselines are the same code for both.

An example is a character: a passage of n windows shows every model some n * T characters (all, or chosen ones), and
logits and labels are [M, characters].
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from memorization import weights as weight_files
from memorization.backends.torch.flat_models import Joined, LogitGradient
from memorization.backends.torch.lstm import Workspace, hidden_states
from memorization.backends.torch.products import project
from memorization.federated_text_specs import LstmSpec

WINDOWS = 16
"""Windows whose own gradients are formed at a time."""


@dataclass(frozen=True)
class Passage:
    """Windows that are shown to models, and which of their characters are asked about.

    ids      int64[M, n, T], a model's own windows each
    chosen   int64[M, k]: places in the n * T characters; None: all of them
    """

    ids: Tensor
    chosen: Tensor | None = None

    @property
    def count(self) -> int:
        """How many characters are asked about."""
        return self.ids[0].numel() if self.chosen is None else self.chosen.shape[1]


class TextModels(Joined):
    """Computes with matrices [M, parameters], one model a row; holds no parameters itself."""

    def __init__(self, model: LstmSpec, classes: int) -> None:
        """`classes`: symbols of the vocabulary."""
        self.spec, self.classes = model, classes
        super().__init__(_places(model, classes))
        self._workspaces = [Workspace() for _ in range(model.layers)]

    def initial(self, rng: np.random.Generator) -> np.ndarray:
        """One model before training, float32[parameters]."""
        arrays = weight_files.initial_weights(self.spec, self.classes, rng)
        return np.concatenate([arrays[name].ravel() for name, _, _ in self.places])

    def arrays(self, rows: Tensor) -> dict[str, Tensor]:
        """What model.npz holds of [M, parameters]: also the biases that are not trained, all 0."""
        found = {name: rows[:, where].unflatten(1, shape) for name, where, shape in self.places}
        shapes = weight_files.shapes(self.spec, self.classes)
        return {name: found.get(name, rows.new_zeros(len(rows), *shape)) for name, shape in shapes.items()}

    def joined(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """The inverse of `arrays`: float32[M, parameters]."""
        return np.concatenate([arrays[name].reshape(len(arrays[name]), -1) for name, _, _ in self.places], axis=1)

    def leaves(self, rows: Tensor) -> dict[str, Tensor]:
        """The trained arrays as parts of `rows` that take gradients: changing them changes `rows`."""
        return {
            name: rows[:, where].unflatten(1, shape).detach().requires_grad_() for name, where, shape in self.places
        }

    def outputs(self, arrays: Mapping[str, Tensor], passage: Passage) -> Tensor:
        """[M, characters, classes] by `leaves` or `arrays`."""
        states = hidden_states(arrays, passage.ids.transpose(1, 2).contiguous(), self._workspaces)
        states = states.transpose(1, 2).flatten(1, 2)
        if passage.chosen is not None:
            states = states.gather(1, passage.chosen.unsqueeze(2).expand(-1, -1, states.shape[2]))
        return project(states, arrays["output.weight"], arrays["output.bias"])

    @torch.no_grad()
    def logits(self, rows: Tensor, inputs: Passage) -> Tensor:
        """[M, characters, classes]."""
        return self.outputs(self.leaves(rows), inputs)

    @torch.no_grad()
    def losses(self, rows: Tensor, inputs: Passage, labels: Tensor, block: int = 128) -> np.ndarray:
        """float64[M]: nats per character over all windows; labels int64[M, n, T]."""
        total, leaves = torch.zeros(len(rows), dtype=torch.float64, device=rows.device), self.leaves(rows)
        for first in range(0, inputs.ids.shape[1], block):
            part = slice(first, first + block)
            found = self.outputs(leaves, Passage(inputs.ids[:, part]))
            costs = functional.cross_entropy(found.flatten(0, 1), labels[:, part].flatten(), reduction="none")
            total += costs.view(len(rows), -1).sum(1, dtype=torch.float64)
        return (total / labels[0].numel()).cpu().numpy()

    def gradient(self, rows: Tensor, inputs: Passage, by_logits: LogitGradient) -> Tensor:
        """[M, parameters]: gradient of the objective whose derivative at the logits is `by_logits`."""
        leaves = self.leaves(rows)
        logits = self.outputs(leaves, inputs)
        logits.backward(by_logits(logits.detach()))
        return torch.cat([leaf.grad.flatten(1) for leaf in leaves.values()], 1)

    def absolute_gradients(self, rows: Tensor, inputs: Passage, by_logits: LogitGradient) -> Tensor:
        """[M, parameters]: sum over the windows of the absolute value of each one's own gradient.

        Deviation: a window, not a character, is the unit here: its characters share one state.
        """
        wanted = by_logits(self.logits(rows, inputs)).unflatten(1, inputs.ids.shape[1:])
        found = torch.zeros_like(rows)
        for own, row, ids, deltas in zip(found, rows, inputs.ids, wanted, strict=True):
            for first in range(0, len(ids), WINDOWS):
                part = slice(first, first + WINDOWS)
                single = row.expand(len(ids[part]), -1)
                own += self.gradient(single, Passage(ids[part, None]), lambda _, d=deltas[part]: d).abs().sum(0)
        return found


def _places(model: LstmSpec, classes: int) -> Iterator[tuple[str, slice, tuple[int, ...]]]:
    """Of the trained arrays."""
    first = 0
    for name, shape in weight_files.shapes(model, classes).items():
        if weight_files.trained(name):
            last = first + int(np.prod(shape))
            yield name, slice(first, last), shape
            first = last
