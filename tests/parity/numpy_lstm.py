"""An independent character LSTM in NumPy, written from nn.LSTM's formulas, one step and one layer at a time."""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def layer_step(x, h, c, w_ih, w_hh, bias):
    """One step of one layer: float64[n, I] input, [n, H] hidden and cell -> new hidden and cell."""
    i, f, g, o = np.split(x @ w_ih.T + h @ w_hh.T + bias, 4, axis=1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def log2_probabilities(weights, ids):
    """float64[n, t, V]: log2 probabilities of the token after each of int64[n, t] `ids`, from a zero state."""
    w = {name: np.asarray(array, dtype=np.float64) for name, array in weights.items()}
    layers = sum(name.startswith("lstm.weight_hh") for name in w)
    units = w["output.weight"].shape[1]
    h = [np.zeros((len(ids), units)) for _ in range(layers)]
    c = [np.zeros((len(ids), units)) for _ in range(layers)]
    result = []
    for t in range(ids.shape[1]):
        x = w["embedding.weight"][ids[:, t]] if "embedding.weight" in w else np.eye(len(w["output.bias"]))[ids[:, t]]
        for layer in range(layers):
            h[layer], c[layer] = layer_step(
                x,
                h[layer],
                c[layer],
                w[f"lstm.weight_ih_l{layer}"],
                w[f"lstm.weight_hh_l{layer}"],
                w[f"lstm.bias_ih_l{layer}"] + w[f"lstm.bias_hh_l{layer}"],
            )
            x = h[layer]
        logits = x @ w["output.weight"].T + w["output.bias"]
        logits -= logits.max(axis=1, keepdims=True)
        result.append((logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))) / np.log(2))
    return np.stack(result, axis=1)


def log_perplexity(weights, ids):
    """float64[n]: bits of tokens 1..t-1 given token 0."""
    logs = log2_probabilities(weights, ids[:, :-1])
    return -np.take_along_axis(logs, ids[:, 1:, None], axis=2).sum(axis=(1, 2))
