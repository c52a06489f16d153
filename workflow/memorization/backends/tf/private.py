"""TF Privacy's private versions of our optimisers."""

from collections.abc import Sequence

from tensorflow_privacy.privacy.dp_query.gaussian_query import GaussianSumQuery
from tensorflow_privacy.privacy.optimizers.dp_optimizer_keras import make_keras_generic_optimizer_class
from tensorflow_privacy.privacy.optimizers.dp_optimizer_keras_vectorized import make_vectorized_keras_optimizer_class

from memorization.backends.tf.optimizers import CLASSES, legacy
from memorization.backends.tf.runtime import tf
from memorization.privacy_file import Mechanism
from memorization.specs import OptimisationSpec


class ResumableQuery(GaussianSumQuery):
    """TF Privacy's Gaussian sum query, except that each step's noise is a function of a key.

    TF Privacy draws from TensorFlow's global generator. Its state can be neither stored nor set without dropping every
    compiled function, so an interrupted training could not end with the same numbers.
    """

    key: "tf.Tensor"
    """int64[2]: decides the next result's noise; a new one for every step."""

    def get_noised_result(self, sample_state, global_state):
        """As the base class: N(0, stddev^2) on every number of the list `sample_state`."""

        def noised(number, part):
            key = tf.stack([self.key[0], self.key[1] + number])
            return part + tf.random.stateless_normal(tf.shape(part), key, stddev=global_state.stddev)

        # The base class also gives the event to be accounted for.
        _, global_state, event = super().get_noised_result([], global_state)
        return [noised(number, part) for number, part in enumerate(sample_state)], global_state, event


def fast_clipping(cls: type) -> type:
    """TF Privacy's private version of optimiser class `cls`, for sums that are already clipped (clipping.py).

    Query, state and update are TF Privacy's; only its loop over examples is not used.
    """

    class FastClipping(make_keras_generic_optimizer_class(cls)):
        def noised_mean(self, clipped_sums: Sequence["tf.Tensor"], batch_size: int, key) -> list["tf.Tensor"]:
            """(clipped sums + N(0, (sigma C)^2)) / batch_size; int64[2] `key` decides the noise."""
            # The class asserts before an update that private gradients were asked for.
            self._was_dp_gradients_called = True
            self._dp_sum_query.key = key
            noised, self._global_state, _ = self._dp_sum_query.get_noised_result(list(clipped_sums), self._global_state)
            return [part / batch_size for part in noised]

    FastClipping.__name__ = f"FastClipping{cls.__name__}"
    return FastClipping


def private_optimizer(training: OptimisationSpec, mechanism: Mechanism) -> "legacy.Optimizer":
    """TF Privacy's version of the specification's optimiser, to be fed with clipped sums (`noised_mean`)."""
    cls, options = CLASSES[training.optimizer]
    query = ResumableQuery(mechanism.clip, mechanism.clip * mechanism.noise_multiplier)
    return fast_clipping(cls)(dp_sum_query=query, learning_rate=training.learning_rate, **options)


def vectorized_optimizer(
    training: OptimisationSpec, mechanism: Mechanism, records: int | None = None
) -> "legacy.Optimizer":
    """TF Privacy's own vectorised optimiser, as shipped; one microbatch per record.

    Right for every model whose per-record loss a tape knows, and on an LSTM more than ten times slower.
    """
    cls, options = CLASSES[training.optimizer]
    made = make_vectorized_keras_optimizer_class(cls)
    return made(
        mechanism.clip,
        mechanism.noise_multiplier,
        num_microbatches=records,
        learning_rate=training.learning_rate,
        **options,
    )
