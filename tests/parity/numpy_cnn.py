"""The tutorial's classifier written a second time, in NumPy and float64, position by position."""

import numpy as np


def convolution(states, weight, bias, padding):
    """[O, H', W'] of [I, H, W], stride 2."""
    states = np.pad(states, ((0, 0), (padding, padding), (padding, padding)))
    size = weight.shape[2]
    edge = (states.shape[1] - size) // 2 + 1
    out = np.empty((len(weight), edge, edge))
    for row in range(edge):
        for column in range(edge):
            patch = states[:, 2 * row : 2 * row + size, 2 * column : 2 * column + size]
            out[:, row, column] = np.tensordot(weight, patch, 3) + bias
    return out


def maximum(states):
    """2x2, stride 1."""
    edge = states.shape[1] - 1
    return np.array(
        [[states[:, r : r + 2, c : c + 2].max((1, 2)) for c in range(edge)] for r in range(edge)]
    ).transpose(2, 0, 1)


def logits(weights, image):
    """float64[classes] of one image [28, 28]."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}
    states = maximum(np.maximum(convolution(image[None], w["conv1.weight"], w["conv1.bias"], 3), 0))
    states = maximum(np.maximum(convolution(states, w["conv2.weight"], w["conv2.bias"], 0), 0))
    hidden = np.maximum(w["hidden.weight"] @ states.ravel() + w["hidden.bias"], 0)
    return w["output.weight"] @ hidden + w["output.bias"]


def loss(weights, image, label):
    """Cross-entropy in nats."""
    values = logits(weights, image)
    return float(np.log(np.exp(values - values.max()).sum()) + values.max() - values[label])
