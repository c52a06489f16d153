"""Keras' optimisers with torch.optim's semantics and constants.

Keras' legacy classes, because TF Privacy derives its own from them (private.py). One update from the same gradient is
that of torch.optim: SGD, plain or with momentum (whose velocity holds the rate, so that a drop of the rate acts on it
only step by step); RMSProp with decay 0.99 and epsilon outside the root; Adam with bias correction before epsilon is
added; Adagrad; Adadelta. Weight decay is added to the gradient (L2), after any clipping and noise.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from memorization.backends.tf.runtime import tf
from memorization.privacy_file import Mechanism
from memorization.specs import OptimisationSpec

DECAY, BETAS, EPSILON = 0.99, (0.9, 0.999), 1e-8
"""RMSProp's decay, Adam's decays, and what is added to the root: torch.optim's defaults."""
MOMENTUM, ADAGRAD_EPSILON, ADADELTA_DECAY, ADADELTA_EPSILON = 0.9, 1e-10, 0.9, 1e-6
"""As in backends/torch/optimizers.py."""

legacy = tf.keras.optimizers.legacy


class Adam(legacy.Adam):
    """Adam as in Kingma and Ba's Algorithm 1 and torch.optim.

    Keras adds epsilon to the root before the second moment's bias correction, so that early steps see it
    1/sqrt(1 - beta2^t) times larger (32 times in the first); scaling epsilon by that root undoes it.
    """

    def _prepare_local(self, var_device, var_dtype, apply_state):
        super()._prepare_local(var_device, var_dtype, apply_state)
        made = apply_state[(var_device, var_dtype)]
        made["epsilon"] = made["epsilon"] * tf.sqrt(1 - made["beta_2_power"])


CLASSES: dict[str, tuple[type, dict[str, Any]]] = {
    "sgd": (legacy.SGD, {}),
    "momentum": (legacy.SGD, {"momentum": MOMENTUM}),
    "rmsprop": (legacy.RMSprop, {"rho": DECAY, "epsilon": EPSILON}),
    "adam": (Adam, {"beta_1": BETAS[0], "beta_2": BETAS[1], "epsilon": EPSILON}),
    "adagrad": (legacy.Adagrad, {"initial_accumulator_value": 0.0, "epsilon": ADAGRAD_EPSILON}),
    "adadelta": (legacy.Adadelta, {"rho": ADADELTA_DECAY, "epsilon": ADADELTA_EPSILON}),
}


def plain_optimizer(training: OptimisationSpec) -> "legacy.Optimizer":
    """The specification's optimiser."""
    cls, options = CLASSES[training.optimizer]
    return cls(learning_rate=training.learning_rate, **options)


class Updater:
    """One replicate's variables with their optimiser."""

    def __init__(self, variables: Sequence["tf.Variable"], training: OptimisationSpec, mechanism: Mechanism | None):
        self.variables, self.weight_decay, self.mechanism = list(variables), training.weight_decay, mechanism
        if mechanism is None:
            self.optimizer = plain_optimizer(training)
        else:
            # TF Privacy takes seconds to import, which only private training needs.
            from memorization.backends.tf.private import private_optimizer

            self.optimizer = private_optimizer(training, mechanism)
        # Also the step counter and the moments, so that a checkpoint finds them before the first step.
        self.optimizer._create_all_weights(self.variables)
        self._compiled = tf.function(self._update)

    def set_rate(self, rate: float) -> None:
        """Go on with another learning rate."""
        self.optimizer.learning_rate = rate

    def apply(self, gradients: Sequence["tf.Tensor"], key: np.ndarray) -> None:
        """One update; under privacy from the batch's clipped sums, with the noise that int64[2] `key` decides."""
        self._compiled(list(gradients), tf.constant(key, tf.int64))

    def _update(self, gradients: list["tf.Tensor"], key: "tf.Tensor") -> None:
        if self.mechanism is not None:
            gradients = self.optimizer.noised_mean(gradients, self.mechanism.batch_size, key)
        if self.weight_decay:
            pairs = zip(gradients, self.variables, strict=True)
            gradients = [gradient + self.weight_decay * variable for gradient, variable in pairs]
        self.optimizer.apply_gradients(zip(gradients, self.variables, strict=True))

    def state(self) -> list[np.ndarray]:
        """What a checkpoint holds: the step counter and the moments."""
        return [np.array(value) for value in self.optimizer.get_weights()]

    def restore(self, state: Sequence[np.ndarray]) -> None:
        """The inverse of `state`."""
        self.optimizer.set_weights(state)
