"""Sums of clipped per-example gradients without the gradients (book-keeping; Bu et al. 2022, after Goodfellow 2015).

An example's gradient of a kernel is sum_t G_t' X_t (gate gradients times inputs), so its squared norm is
sum_{t,s} (G_t . G_s)(X_t . X_s): two T x T tables of inner products instead of a kernel per example. Then each
example's G is scaled by its clip factor, and ordinary products over the batch give the clipped sum.
"""

from collections.abc import Sequence

from memorization.backends.tf.lstm import Pass, Weights, layer_names
from memorization.backends.tf.runtime import tf


def _table(rows: "tf.Tensor") -> "tf.Tensor":
    """[T, B, n] -> [B, T, T]: inner products between an example's time steps."""
    rows = tf.transpose(rows, [1, 0, 2])
    return tf.matmul(rows, rows, transpose_b=True)


def _later(table: "tf.Tensor") -> "tf.Tensor":
    """The table of states one step earlier, the first of them zero: what the recurrent kernel reads."""
    return tf.pad(table[:, :-1, :-1], [[0, 0], [1, 0], [1, 0]])


def squared_norms(weights: Weights, made: Pass, gates: Sequence["tf.Tensor"], logits: "tf.Tensor") -> "tf.Tensor":
    """float32[B]: squared l2 norm of each sequence's gradient over all trained arrays together.

    `gates`, `logits` are those of `lstm.backward`. Memory: a few [B, T, T] tables at a time.
    """
    ids = tf.transpose(made.ids)
    same = tf.cast(ids[:, :, None] == ids[:, None, :], tf.float32)
    embedded = "embedding.weight" in weights
    inputs = _table(made.layers[0].inputs) if embedded else same
    total = tf.zeros([tf.shape(ids)[0]])
    for layer, (ran, gradient) in enumerate(zip(made.layers, gates, strict=True)):
        hidden = _table(ran.hidden)
        # One table of gate gradients serves the input kernel, the recurrent kernel and the bias (+ 1).
        total += tf.reduce_sum(_table(gradient) * (inputs + _later(hidden) + 1), axis=[1, 2])
        following = made.layers[layer + 1].inputs if layer + 1 < len(made.layers) else made.states
        inputs = hidden if following is ran.hidden else _table(following)
    if embedded:
        first = gates[0]
        flat = tf.matmul(tf.reshape(first, [-1, first.shape[-1]]), weights[layer_names(0)[0]])
        rows = tf.reshape(flat, [tf.shape(first)[0], tf.shape(first)[1], flat.shape[-1]])
        total += tf.reduce_sum(same * _table(rows), axis=[1, 2])
    return total + tf.reduce_sum(_table(logits) * (inputs + 1), axis=[1, 2])


def clip_factors(squared: "tf.Tensor", clip: "tf.Tensor") -> "tf.Tensor":
    """float32[B]: min(1, clip / norm), the factor of each example's gradient (Abadi et al. 2016)."""
    return tf.minimum(1.0, clip / tf.sqrt(tf.maximum(squared, 1e-30)))
