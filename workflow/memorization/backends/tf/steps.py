"""Compiled pieces of training: mean loss, its gradient, and the clipped sum of per-window gradients.

One graph per shape of the weights, shared by all replicates and batch sizes; weights go in as arguments.
"""

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from memorization.backends.tf import lstm
from memorization.backends.tf.clipping import clip_factors, squared_norms
from memorization.backends.tf.networks import network_of
from memorization.backends.tf.runtime import tf
from memorization.streams import stream
from memorization.weights import layer_count, trained

Shapes = tuple[tuple[str, tuple[int, ...]], ...]

IDS, KEY = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([2], tf.int64)


def shapes_of(weights: Mapping[str, "tf.Tensor"]) -> Shapes:
    """What tells one architecture from another."""
    return tuple((name, tuple(array.shape)) for name, array in weights.items())


def specs_of(shapes: Shapes) -> dict[str, "tf.TensorSpec"]:
    """The signature of weights with these shapes."""
    return {name: tf.TensorSpec(shape, tf.float32) for name, shape in shapes}


def keys(seed: int, member: int, purpose: str, count: int) -> np.ndarray:
    """int64[count, 2]: what decides the random numbers of each step of an epoch, from a named stream.

    The first ones do not depend on how many are asked for.
    """
    return stream(seed, member, purpose).integers(2**62, size=(count, 2))


def clipped_to(gradients: Sequence["tf.Tensor"], limit: float | None) -> list["tf.Tensor"]:
    """The batch's gradients, scaled so that their global norm is at most `limit` (Pascanu et al. 2013)."""
    if limit is None:
        return list(gradients)
    factor = tf.minimum(1.0, limit / (tf.linalg.global_norm(gradients) + 1e-6))
    return [gradient * factor for gradient in gradients]


def _masks(weights, ids, rate: float, key: "tf.Tensor") -> list["tf.Tensor"]:
    """Inverted dropout: per layer float32[T, B, H] for int32[T, B] ids, from int64[2] `key` alone."""
    if rate == 0:
        return []
    shape = tf.concat([tf.shape(ids), [weights["output.weight"].shape[1]]], axis=0)
    layers = range(layer_count(weights))
    draws = [tf.random.stateless_uniform(shape, tf.stack([key[0], key[1] + layer])) for layer in layers]
    return [tf.cast(draw >= rate, tf.float32) / (1 - rate) for draw in draws]


def _pass(weights, ids, targets, rate, key):
    """Forward and backward: pass, gate gradients, logit gradients, losses [B] and time-major targets."""
    ids, targets = tf.transpose(ids), tf.transpose(targets)
    masks = _masks(weights, ids, rate, key)
    made = lstm.forward(weights, ids, masks)
    gates, logits = lstm.backward(weights, made, targets, masks)
    return made, gates, logits, lstm.losses(made.logits, targets)


@functools.cache
def loss_function(shapes: Shapes):
    """(weights, int32[B, T] ids, targets) -> losses [B] in nats per character, without dropout."""
    network = network_of(dict(shapes))

    @tf.function(input_signature=[specs_of(shapes), IDS, IDS])
    def losses(weights, ids, targets):
        return lstm.losses(network.logits(weights, tf.transpose(ids)), tf.transpose(targets))

    return losses


@functools.cache
def gradient_function(shapes: Shapes, dropout: float, limit: float | None):
    """(weights, ids, targets, int64[2] key of the dropout) -> (mean loss, gradients).

    Gradients of the trained arrays in the weights' order; with `limit` their global norm is at most that.
    """
    network = network_of(dict(shapes))

    @tf.function(input_signature=[specs_of(shapes), IDS, IDS, KEY])
    def gradients(weights, ids, targets, key):
        masks = _masks(weights, tf.transpose(ids), dropout, key)
        losses, named = network.gradients(weights, tf.transpose(ids), tf.transpose(targets), masks)
        share = 1 / tf.cast(tf.shape(ids)[0], tf.float32)
        result = [named[name] * share for name, _ in shapes if trained(name)]
        return tf.reduce_mean(losses), clipped_to(result, limit)

    return gradients


@functools.cache
def clipped_sum_function(shapes: Shapes, dropout: float, clip: float):
    """(weights, ids, targets, key) -> (sum of losses, sums of the windows' clipped gradients, in the weights' order).

    A window's gradient is that of its mean loss per character. Of LSTMs only.
    """

    @tf.function(input_signature=[specs_of(shapes), IDS, IDS, KEY])
    def clipped_sums(weights, ids, targets, key):
        made, gates, logits, losses = _pass(weights, ids, targets, dropout, key)
        factors = clip_factors(squared_norms(weights, made, gates, logits), clip)[:, None]
        named = lstm.weight_gradients(weights, made, [gate * factors for gate in gates], logits * factors)
        return tf.reduce_sum(losses), [named[name] for name, _ in shapes if trained(name)]

    return clipped_sums
