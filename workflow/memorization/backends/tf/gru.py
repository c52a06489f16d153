"""Gated recurrent units with nn.GRU's equations and weights (gate order r, z, n): losses and gradients in training.

The reset gate acts on the recurrent product, as in PyTorch, cuDNN and Keras' `reset_after`. Gradients are a tape's:
private training, which needs those of every example, is the LSTM's alone. Tensors are [T, B, .] (time, batch).
"""

from collections.abc import Mapping, Sequence

from memorization.backends.tf import lstm
from memorization.backends.tf.runtime import tf
from memorization.weights import layer_count, trained

Weights = Mapping[str, "tf.Tensor"]

NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def layer_arrays(weights: Mapping, layer: int) -> list:
    """Input and recurrent weights and their biases."""
    return [weights[f"gru.{name}_l{layer}"] for name in NAMES]


def cell(inputs: "tf.Tensor", recurrent: "tf.Tensor", before: "tf.Tensor") -> "tf.Tensor":
    """One step from both pre-activations [n, 3H] and the old states [n, H]: the new states."""
    i_reset, i_update, i_new = tf.split(inputs, 3, axis=1)
    h_reset, h_update, h_new = tf.split(recurrent, 3, axis=1)
    reset, update = tf.sigmoid(i_reset + h_reset), tf.sigmoid(i_update + h_update)
    new = tf.tanh(i_new + reset * h_new)
    return new + update * (before - new)


def _run_layer(weights: Weights, layer: int, states: "tf.Tensor") -> "tf.Tensor":
    """[T, B, I] -> [T, B, H], from a zero state."""
    w_ih, w_hh, b_ih, b_hh = layer_arrays(weights, layer)
    units, kernel = w_hh.shape[1], tf.transpose(w_hh)
    steps, batch = tf.shape(states)[0], tf.shape(states)[1]
    # Arrays of tensors: the gradient of a slice would be a tensor of all steps, once per step.
    inputs = tf.TensorArray(tf.float32, size=steps).unstack(lstm.product(states, tf.transpose(w_ih)) + b_ih)
    made = tf.TensorArray(tf.float32, size=steps, element_shape=[None, units])

    def step(t, hidden, made):
        hidden = cell(inputs.read(t), tf.matmul(hidden, kernel) + b_hh, hidden)
        return t + 1, hidden, made.write(t, hidden)

    *_, made = tf.while_loop(lambda t, *_: t < steps, step, (0, tf.zeros([batch, units]), made))
    return made.stack()


def logits(weights: Weights, ids: "tf.Tensor", masks: Sequence["tf.Tensor"] = ()) -> "tf.Tensor":
    """int32[T, B] ids -> [T, B, V]. `masks` (dropout), one per layer, as in `lstm.forward`."""
    if "embedding.weight" in weights:
        states = tf.gather(weights["embedding.weight"], ids)
    else:
        states = tf.one_hot(ids, weights["gru.weight_ih_l0"].shape[1])
    for layer in range(layer_count(weights)):
        states = _run_layer(weights, layer, states)
        states = states * masks[layer] if masks else states
    return lstm.product(states, tf.transpose(weights["output.weight"])) + weights["output.bias"]


def gradients(
    weights: Weights, ids: "tf.Tensor", targets: "tf.Tensor", masks: Sequence["tf.Tensor"] = ()
) -> tuple["tf.Tensor", dict[str, "tf.Tensor"]]:
    """As `lstm.gradients`."""
    names = [name for name in weights if trained(name)]
    with tf.GradientTape() as tape:
        watched = [weights[name] for name in names]
        tape.watch(watched)
        losses = lstm.losses(logits(weights, ids, masks), targets)
        total = tf.reduce_sum(losses)
    # The embedding's gradient comes as rows.
    return losses, dict(zip(names, map(tf.convert_to_tensor, tape.gradient(total, watched)), strict=True))
