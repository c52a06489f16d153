"""An encoder-decoder LSTM after tensorflow/nmt's iwslt15.json (Secret Sharer Fig 6; Luong, Pham, Manning 2015).

attention: a bidirectional encoder (its two directions' last states are where the decoder's layers begin) and scaled
general attention over its outputs. plain: an encoder of one direction, of which the decoder gets only the last states
("thought vector").

Deviation: no input feeding. The attention vector of a token goes into its softmax only, not into the next token's
decoder step, so that a layer is one call for all steps (cuDNN, oneDNN), which is many times faster. And all sources of
a batch have one length, so that none is padded and the backward direction begins at the end of each.

Arrays in model.npz have the names of `Translator.state_dict()`.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from memorization.data.pairs import END, START
from memorization.translation_specs import TranslatorSpec

PADDING = -1
"""Behind a target, up to the longest one's length; no token's id."""
RANGE = 0.1
"""Initial weights are uniform within it, as in iwslt15.json; biases are zero, but a forget gate's is one."""

Dropout = Callable[[Tensor], Tensor]
States = list[tuple[Tensor, Tensor]]


def keep(values: Tensor) -> Tensor:
    """No dropout."""
    return values


class Translator(nn.Module):
    """One model; see the module's text."""

    def __init__(self, spec: TranslatorSpec, sources: int, targets: int) -> None:
        """`sources`, `targets`: sizes of the vocabularies."""
        super().__init__()
        units = spec.units
        self.attends = spec.architecture == "attention"
        directions = 2 if self.attends else 1
        self.source_embedding = nn.Embedding(sources, units)
        self.target_embedding = nn.Embedding(targets, units)
        # A module per layer, because dropout must come from the replicate's own stream.
        self.encoder = nn.ModuleList(
            nn.LSTM(directions * units if i else units, units, batch_first=True, bidirectional=self.attends)
            for i in range(spec.layers // directions)
        )
        self.decoder = nn.ModuleList(nn.LSTM(units, units, batch_first=True) for _ in range(spec.layers))
        if self.attends:
            self.keys = nn.Linear(2 * units, units, bias=False)
            self.scale = nn.Parameter(torch.ones(()))
            self.combine = nn.Linear(3 * units, units, bias=False)
        self.output = nn.Linear(units, targets, bias=False)
        for name, parameter in self.named_parameters():
            # Two biases of a gate would only be one with twice the learning rate (memorization.weights).
            parameter.requires_grad_("bias_hh" not in name)

    def initialise(self, rng: np.random.Generator) -> None:
        """Draw all weights, in the order of their names."""
        with torch.no_grad():
            for name, parameter in sorted(self.named_parameters()):
                if "bias" in name:
                    parameter.zero_()
                    if "bias_ih" in name:
                        parameter.view(4, -1)[1] = 1
                elif name != "scale":
                    drawn = rng.uniform(-RANGE, RANGE, tuple(parameter.shape)).astype(np.float32)
                    parameter.copy_(torch.from_numpy(drawn))

    def costs(self, sources: Tensor, targets: Tensor, drop: Dropout = keep) -> Tensor:
        """Nats [n, t + 1] of every target token, then of </s>, by teacher forcing; 0 behind it.

        sources  int64[n, s]
        targets  int64[n, t] with `PADDING` behind the shorter ones
        """
        given = functional.pad(targets, (1, 0), value=START)
        ends = (targets != PADDING).sum(1, keepdim=True)
        wanted = functional.pad(targets, (0, 1), value=PADDING).scatter(1, ends, END)
        memory, states = self._encode(sources, drop)
        hidden = self.target_embedding(given.clamp(min=0))
        for layer, (h, c) in zip(self.decoder, states, strict=True):
            hidden, _ = layer(drop(hidden), (h[None].contiguous(), c[None].contiguous()))
        if self.attends:
            hidden = self._attend(hidden, memory)
        real = wanted != PADDING
        losses = functional.cross_entropy(self.output(hidden[real]), wanted[real], reduction="none")
        return losses.new_zeros(wanted.shape).masked_scatter(real, losses)

    def _encode(self, sources: Tensor, drop: Dropout) -> tuple[Tensor, States]:
        """Outputs [n, s, directions * units], and per decoder layer its first (hidden, cell), [n, units] each."""
        states: States = []
        values = self.source_embedding(sources)
        for layer in self.encoder:
            values, (h, c) = layer(drop(values))
            states += list(zip(h, c, strict=True))
        return values, states

    def _attend(self, hidden: Tensor, memory: Tensor) -> Tensor:
        """Attention vectors [n, t, units] of decoder outputs [n, t, units] over encoder outputs [n, s, 2 * units].

        As in tensorflow/nmt without a non-linearity, which Luong, Pham, Manning 2015 (eq. 5) have.
        """
        scores = self.scale * torch.bmm(hidden, self.keys(memory).transpose(1, 2))
        context = torch.bmm(torch.softmax(scores, 2), memory)
        return self.combine(torch.cat([hidden, context], 2))


def shapes(spec: TranslatorSpec, sources: int, targets: int) -> dict[str, tuple[int, ...]]:
    """Array name -> shape of one replicate."""
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in Translator(spec, sources, targets).state_dict().items()}


def padded(sentences: list[np.ndarray], device: torch.device) -> Tensor:
    """int64[n, longest] with `PADDING` behind."""
    filled = np.full((len(sentences), max(map(len, sentences))), PADDING)
    for row, sentence in zip(filled, sentences, strict=True):
        row[: len(sentence)] = sentence
    return torch.from_numpy(filled).to(device)
