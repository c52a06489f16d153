"""A training step recorded once as a CUDA graph and replayed: a step of an LSTM is thousands of small kernels, and a
GPU computes each in less time than Python takes to ask for it.

Recorded is what leads from a mini-batch's windows to clipped gradients. A graph works on fixed addresses, so the
windows' numbers and the dropout masks are copied into buffers of its own before every replay, and its gradients lie
where they always lay. The optimiser's few kernels stay outside: its rate and its count of steps may change.

Rules of torch.cuda.graph that this keeps: some steps on a side stream before recording, on the same stream; gradients
None when recording starts, so that backward allocates them from the graph's memory; no generator inside (masks are
drawn outside, in the order in which an unrecorded step draws them); buffers of a network of its own, which nobody else
can make grow and so move.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

log = logging.getLogger(__name__)

Work = Callable[[], None]

WARM_UP = 3
"""Steps before recording, in which libraries choose and load their kernels."""


class Masks(Protocol):
    """Draws dropout masks, one after the other."""

    def __call__(self, states: Tensor) -> Tensor:
        """`states` under a new mask."""
        ...

    def draw(self, mask: Tensor) -> Tensor:
        """A new mask, written into `mask`."""
        ...


class CudaRecorder:
    """Records work on a GPU. Its recordings share one pool of memory, as they are replayed one after the other; the
    pool goes with them, so other weights need another recorder.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Work) -> Work:
        """Do `work` a few times, record it, and return what repeats it. Raises RuntimeError if it can't be recorded."""
        with torch.cuda.device(self._device):
            here, aside = torch.cuda.current_stream(), torch.cuda.Stream()
            aside.wait_stream(here)
            with torch.cuda.stream(aside):
                for _ in range(WARM_UP):
                    work()
            here.wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, stream=aside):
                work()
        return graph.replay


def recorder_for(device: torch.device) -> Callable[[Work], Work] | None:
    """What records work on `device`, if anything does."""
    return CudaRecorder(device) if device.type == "cuda" else None


class StaticMasks:
    """Dropout masks in buffers of their own, in the order in which a step asks for them."""

    def __init__(self) -> None:
        self._masks: list[Tensor] = []
        self._next = 0

    def begin(self) -> None:
        """A step begins: its first mask is the first buffer."""
        self._next = 0

    def __call__(self, states: Tensor) -> Tensor:
        """`states` under the next mask; a buffer is made where there is none yet."""
        if self._next == len(self._masks):
            self._masks.append(torch.ones_like(states, requires_grad=False))
        mask, self._next = self._masks[self._next], self._next + 1
        return states * mask

    def fill(self, source: Masks) -> None:
        """New masks, drawn in the order of their use."""
        for mask in self._masks:
            source.draw(mask)


Step = Callable[[Tensor, Sequence[StaticMasks | None]], Tensor]
"""(windows int64[R, B], masks) -> losses [R]; leaves clipped gradients in the parameters' `grad`."""


class Recording:
    """One step, for one number of windows."""

    def __init__(self, step: Step, parameters: Sequence[Tensor], rows: Tensor, masks: Sequence[Masks | None]):
        """`masks`: of every kind that the step takes, whether it is drawn."""
        self._step, self._parameters = step, parameters
        self._rows = rows.clone()
        self._masks = [StaticMasks() if source else None for source in masks]

    def record(self, recorder: Callable[[Work], Work]) -> None:
        """Record it. Weights do not change, but the parameters' gradients do."""
        self._replay = recorder(self._work)
        self._gradients = [parameter.grad for parameter in self._parameters]

    def _work(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None
        for masks in self._masks:
            if masks:
                masks.begin()
        self._losses = self._step(self._rows, self._masks)

    def __call__(self, rows: Tensor, sources: Sequence[Masks | None]) -> Tensor:
        """The step on other windows and masks; the losses [R] are valid until the next one."""
        self._rows.copy_(rows)
        for masks, source in zip(self._masks, sources, strict=True):
            if masks:
                masks.fill(source)
        self._replay()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        return self._losses


class GraphedSteps:
    """Steps of a group, recorded once per shape of a mini-batch (an epoch's last one may be smaller).

    Recordings belong to the tensors they were made with: a group whose weights are other tensors makes a new object.
    """

    def __init__(self, make_step: Callable[[], Step], parameters: Sequence[Tensor], recorder: Callable[[Work], Work]):
        """`make_step` gives a step with buffers of its own."""
        self._make_step, self._parameters, self._recorder = make_step, parameters, recorder
        self._recordings: dict[torch.Size, Recording] = {}

    def __call__(self, rows: Tensor, masks: Sequence[Masks | None]) -> Tensor | None:
        """Losses [R] of a step on windows int64[R, B], gradients left in the parameters; None if it can't be recorded,
        which is said once."""
        if self._recorder is None:
            return None
        if rows.shape not in self._recordings:
            recording = Recording(self._make_step(), self._parameters, rows, masks)
            try:
                recording.record(self._recorder)
            except RuntimeError as error:
                self._recorder, self._recordings = None, {}
                reason = str(error).strip().split("\n")[0]
                log.warning("training steps cannot be recorded as a CUDA graph and run unrecorded: %s", reason)
                return None
            self._recordings[rows.shape] = recording
        return self._recordings[rows.shape](rows, masks)

    @property
    def works(self) -> bool:
        """Whether no recording has failed."""
        return self._recorder is not None
