"""A trained GRU as `backends.base.LanguageModel`."""

import functools
from collections.abc import Mapping

import numpy as np

from memorization.backends.tf.gru import cell, layer_arrays
from memorization.backends.tf.model import TFLanguageModel, TFState
from memorization.backends.tf.runtime import tf


@functools.cache
def _advance_function(layers: int, shared: bool):
    """One step of n sequences: (parameters, hidden, int32[n] ids, int64[n] rows) -> (hidden, log-probabilities).

    With `shared` the recurrent products are formed once per old state and gathered by `rows`.
    """
    matrix, vector = tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([None], tf.float32)
    parameters = {
        "table": matrix,
        "recurrent": [matrix] * layers,
        "recurrent_biases": [vector] * layers,
        "inputs": [matrix] * (layers - 1),
        "biases": [vector] * (layers - 1),
        "output": matrix,
        "output_bias": vector,
    }
    states = tf.TensorSpec([layers, None, None], tf.float32)
    indices = [tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.int64)]

    @tf.function(input_signature=[parameters, states, *indices])
    def advance(parameters, hidden, ids, rows):
        made = []
        for layer in range(layers):
            before = hidden[layer]
            recurrent = tf.matmul(before, parameters["recurrent"][layer]) + parameters["recurrent_biases"][layer]
            if shared:
                recurrent, before = tf.gather(recurrent, rows), tf.gather(before, rows)
            if layer == 0:
                inputs = tf.gather(parameters["table"], ids)
            else:
                inputs = tf.matmul(made[-1], parameters["inputs"][layer - 1]) + parameters["biases"][layer - 1]
            made.append(cell(inputs, recurrent, before))
        logits = tf.matmul(made[-1], parameters["output"]) + parameters["output_bias"]
        return tf.stack(made), tf.nn.log_softmax(logits)

    return advance


class TFGruModel(TFLanguageModel):
    """One replicate. A GRU has no cell: that part of its states is [layers, m, 0]."""

    recurrent_name = "gru"

    def _prepare(self, weights: Mapping[str, np.ndarray]) -> dict:
        """Inputs of layer 0 become rows of a table, as in the LSTM; the recurrent products keep their own biases."""
        tensor = functools.partial(tf.constant, dtype=tf.float32)
        arrays = [[np.asarray(a) for a in layer_arrays(weights, k)] for k in range(self._layers)]
        kernel, bias = arrays[0][0].T, arrays[0][2]
        embedding = weights.get("embedding.weight")
        table = kernel if embedding is None else np.asarray(embedding) @ kernel
        return {
            "table": tensor(table + bias),
            "recurrent": [tensor(w_hh.T) for _, w_hh, _, _ in arrays],
            "recurrent_biases": [tensor(b_hh) for *_, b_hh in arrays],
            "inputs": [tensor(w_ih.T) for w_ih, *_ in arrays[1:]],
            "biases": [tensor(b_ih) for _, _, b_ih, _ in arrays[1:]],
            "output": tensor(np.asarray(weights["output.weight"]).T),
            "output_bias": tensor(np.asarray(weights["output.bias"])),
        }

    def _zero(self, count: int) -> TFState:
        return TFState(tf.zeros([self._layers, count, self._units]), tf.zeros([self._layers, count, 0]))

    def _advance(self, state: TFState, ids: np.ndarray) -> tuple[TFState, "tf.Tensor"]:
        shared = state.rows is not None
        rows = state.rows if shared else np.zeros(0, dtype=np.int64)
        with tf.device(self._device):
            hidden, logs = _advance_function(self._layers, shared)(
                self._parameters, state.hidden, tf.constant(ids, tf.int32), tf.constant(rows, tf.int64)
            )
            return TFState(hidden, tf.zeros([self._layers, len(ids), 0])), logs
