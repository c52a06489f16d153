"""The character LSTM: forward pass, and a backward pass that keeps the gate gradients of every time step.

Tensors are [T, B, .] (time, batch); weights have the names and shapes of `memorization.weights`, gate order i, f, g, o.
Per-example gradients, or only their norms, come from the same block of gate gradients as the ordinary gradient
(private.py), which a tape through tf.keras.layers.LSTM does not hand out.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from memorization.backends.tf.runtime import tf
from memorization.weights import layer_count

Weights = Mapping[str, "tf.Tensor"]


class LayerPass(NamedTuple):
    """What one layer's forward pass leaves: its input, gates after their nonlinearities, and states, [T, B, .]."""

    inputs: "tf.Tensor"
    i: "tf.Tensor"
    cell: "tf.Tensor"
    f: "tf.Tensor"
    o: "tf.Tensor"
    cell_gate: "tf.Tensor"
    squashed: "tf.Tensor"
    hidden: "tf.Tensor"


class Pass(NamedTuple):
    """A forward pass: int32[T, B] ids, the layers, what the output layer read, and logits [T, B, V]."""

    ids: "tf.Tensor"
    layers: list[LayerPass]
    states: "tf.Tensor"
    logits: "tf.Tensor"


def layer_names(layer: int) -> tuple[str, str, str]:
    """Input kernel, recurrent kernel and trained bias."""
    return tuple(f"lstm.{part}_l{layer}" for part in ("weight_ih", "weight_hh", "bias_ih"))


def _run_layer(weights: Weights, layer: int, inputs: "tf.Tensor") -> LayerPass:
    """One layer over all time steps, from a zero state, in one operation."""
    w_ih, w_hh, bias = (weights[name] for name in layer_names(layer))
    kernel = tf.transpose(tf.concat([w_ih, w_hh], axis=1))
    zero = tf.zeros([tf.shape(inputs)[1], w_hh.shape[1]])
    unused = tf.zeros([w_hh.shape[1]])
    return LayerPass(
        inputs,
        *tf.raw_ops.BlockLSTMV2(
            seq_len_max=tf.cast(tf.shape(inputs)[0], tf.int64), x=inputs, cs_prev=zero, h_prev=zero, w=kernel,
            wci=unused, wcf=unused, wco=unused, b=bias + weights[f"lstm.bias_hh_l{layer}"],
        ),
    )  # fmt: skip


def forward(weights: Weights, ids: "tf.Tensor", masks: Sequence["tf.Tensor"] = ()) -> Pass:
    """int32[T, B] ids -> the pass, each sequence from a zero state.

    `masks` (dropout), one per layer, multiply the input of every layer but the first, the output layer included
    (non-recurrent connections only, Zaremba et al. 2014). Without "embedding.weight" the input is one-hot.
    """
    if "embedding.weight" in weights:
        states = tf.gather(weights["embedding.weight"], ids)
    else:
        states = tf.one_hot(ids, weights["lstm.weight_ih_l0"].shape[1])
    layers = []
    for layer in range(layer_count(weights)):
        layers.append(_run_layer(weights, layer, states))
        states = layers[-1].hidden * masks[layer] if masks else layers[-1].hidden
    logits = product(states, tf.transpose(weights["output.weight"])) + weights["output.bias"]
    return Pass(ids, layers, states, logits)


def logits(weights: Weights, ids: "tf.Tensor", masks: Sequence["tf.Tensor"] = ()) -> "tf.Tensor":
    """[T, B, V] of int32[T, B] ids, each sequence from a zero state."""
    return forward(weights, ids, masks).logits


def losses(logits: "tf.Tensor", targets: "tf.Tensor") -> "tf.Tensor":
    """Mean cross-entropy of each sequence in nats per character, [B], for int32[T, B] targets."""
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits), axis=0)


def product(rows: "tf.Tensor", matrix: "tf.Tensor") -> "tf.Tensor":
    """[T, B, n] times [n, m] as one product."""
    shape = tf.shape(rows)
    flat = tf.matmul(tf.reshape(rows, [-1, rows.shape[-1]]), matrix)
    return tf.reshape(flat, [shape[0], shape[1], matrix.shape[1]])


def _gate_gradients(made: LayerPass, grad: "tf.Tensor", w_hh: "tf.Tensor") -> "tf.Tensor":
    """dL/d(pre-activation), [T, B, 4H], from dL/d(hidden) [T, B, H] as seen by the next layer."""
    before = tf.pad(made.cell[:-1], [[1, 0], [0, 0], [0, 0]])
    # What needs no recurrence, for all steps at once: d(hidden)/d(cell), and what turns dL/d(cell) into the gradients
    # of i, f, g, and dL/d(hidden) into that of o.
    through = made.o * (1 - tf.square(made.squashed))
    of_cell = tf.concat(
        [
            made.cell_gate * made.i * (1 - made.i),
            before * made.f * (1 - made.f),
            made.i * (1 - tf.square(made.cell_gate)),
        ],
        axis=2,
    )
    of_hidden = made.squashed * made.o * (1 - made.o)

    def step(t, d_cell, following, collected):
        d_hidden = grad[t] + tf.matmul(following, w_hh)
        d_cell += d_hidden * through[t]
        now = tf.concat([tf.tile(d_cell, [1, 3]) * of_cell[t], d_hidden * of_hidden[t]], axis=1)
        return t - 1, d_cell * made.f[t], now, collected.write(t, now)

    steps, batch, units = tf.shape(grad)[0], tf.shape(grad)[1], w_hh.shape[1]
    shape = tf.TensorShape([None, 4 * units])
    start = (steps - 1, tf.zeros([batch, units]), tf.zeros([batch, 4 * units]))
    collected = tf.TensorArray(tf.float32, size=steps, element_shape=shape)
    *_, collected = tf.while_loop(lambda t, *_: t >= 0, step, (*start, collected))
    return collected.stack()


def backward(
    weights: Weights, made: Pass, targets: "tf.Tensor", masks: Sequence["tf.Tensor"] = ()
) -> tuple[list["tf.Tensor"], "tf.Tensor"]:
    """Gate gradients of every layer, [T, B, 4H], and logit gradients [T, B, V].

    Of the sum over sequences of each one's mean loss, so that a sequence's part does not depend on the others.
    """
    share = 1 / tf.cast(tf.shape(targets)[0], tf.float32)
    logits = (tf.nn.softmax(made.logits) - tf.one_hot(targets, made.logits.shape[-1])) * share
    grad = product(logits, weights["output.weight"])
    gates: list[tf.Tensor] = []
    for layer in reversed(range(len(made.layers))):
        grad = grad * masks[layer] if masks else grad
        w_ih, w_hh, _ = (weights[name] for name in layer_names(layer))
        gates.insert(0, _gate_gradients(made.layers[layer], grad, w_hh))
        grad = product(gates[0], w_ih) if layer else None
    return gates, logits


def gradients(
    weights: Weights, ids: "tf.Tensor", targets: "tf.Tensor", masks: Sequence["tf.Tensor"] = ()
) -> tuple["tf.Tensor", dict[str, "tf.Tensor"]]:
    """Losses [B] in nats per character, and by name the trained arrays' gradients of their sum over sequences."""
    made = forward(weights, ids, masks)
    gates, logits = backward(weights, made, targets, masks)
    return losses(made.logits, targets), weight_gradients(weights, made, gates, logits)


def _pairs(left: "tf.Tensor", right: "tf.Tensor") -> "tf.Tensor":
    """[T, B, n], [T, B, m] -> [n, m]: products summed over time and batch."""
    left, right = (tf.reshape(part, [-1, part.shape[-1]]) for part in (left, right))
    return tf.matmul(left, right, transpose_a=True)


def weight_gradients(
    weights: Weights, made: Pass, gates: Sequence["tf.Tensor"], logits: "tf.Tensor"
) -> dict[str, "tf.Tensor"]:
    """Gradient of every trained array, by name, from what `backward` returned (or a scaled version of it)."""
    # The first layer's projection is a row of the table E W_ih' + b, so everything goes through the table's gradient.
    size = weights["output.bias"].shape[0]
    flat = tf.reshape(gates[0], [-1, gates[0].shape[-1]])
    table = tf.math.unsorted_segment_sum(flat, tf.reshape(made.ids, [-1]), size)
    result = {}
    for layer, (ran, gradient) in enumerate(zip(made.layers, gates, strict=True)):
        kernel, recurrent, bias = layer_names(layer)
        if layer:
            result[kernel] = _pairs(gradient, ran.inputs)
        elif "embedding.weight" in weights:
            result["embedding.weight"] = tf.matmul(table, weights[kernel])
            result[kernel] = tf.matmul(table, weights["embedding.weight"], transpose_a=True)
        else:
            result[kernel] = tf.transpose(table)
        result[recurrent] = _pairs(gradient[1:], ran.hidden[:-1])
        result[bias] = tf.reduce_sum(gradient, axis=[0, 1]) if layer else tf.reduce_sum(table, axis=0)
    result["output.weight"] = _pairs(logits, made.states)
    result["output.bias"] = tf.reduce_sum(logits, axis=[0, 1])
    return result
