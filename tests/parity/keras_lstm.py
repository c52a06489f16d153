"""The character LSTM from Keras' own layers, with the arrays of model.npz: the reference for the tf back end."""

import numpy as np
import tensorflow as tf


def keras_model(weights):
    """tf.keras model: int[B, T] ids -> logits [B, T, V]. Without "embedding.weight" the input is one-hot."""
    size, units = weights["output.weight"].shape
    layers = sum(name.startswith("lstm.weight_hh") for name in weights)
    if "embedding.weight" in weights:
        first = tf.keras.layers.Embedding(size, weights["embedding.weight"].shape[1])
    else:
        first = tf.keras.layers.Lambda(lambda ids: tf.one_hot(ids, size))
    parts = [tf.keras.layers.LSTM(units, return_sequences=True) for _ in range(layers)]
    model = tf.keras.Sequential([first, *parts, tf.keras.layers.Dense(size)])
    model(tf.zeros([1, 2], tf.int32))
    model.set_weights(to_keras(weights))
    return model


def to_keras(arrays):
    """Arrays by name -> a list in the order of Keras' weights: kernels transposed."""
    layers = sum(name.startswith("lstm.weight_hh") for name in arrays)
    result = [arrays["embedding.weight"]] if "embedding.weight" in arrays else []
    for layer in range(layers):
        kernels = (np.asarray(arrays[f"lstm.{part}_l{layer}"]).T for part in ("weight_ih", "weight_hh"))
        result += [*kernels, arrays[f"lstm.bias_ih_l{layer}"]]
    return [*result, np.asarray(arrays["output.weight"]).T, arrays["output.bias"]]


def window_losses(model, ids, targets):
    """Mean cross-entropy of each window, [B], nats per character."""
    logits = model(ids, training=True)
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits), axis=1)
