"""A training that is interrupted, for the tests of resuming."""

from collections.abc import Callable
from typing import Any

import pytest

from memorization.backends.training import Trainer


def interrupt(monkeypatch: pytest.MonkeyPatch, train: Callable[[], Any], after: int = 2) -> None:
    """Call `train()`, whose Trainer is stopped as by Ctrl-C when `after` epochs are done; raises if it is not."""
    original = Trainer._run_epoch

    def failing(self: Trainer) -> None:
        if self.epoch == after:
            raise KeyboardInterrupt
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_run_epoch", failing)
        with pytest.raises(KeyboardInterrupt):
            train()
