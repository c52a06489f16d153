"""An independent character GRU in NumPy, written from nn.GRU's formulas, one step and one layer at a time."""

import numpy as np
from numpy_lstm import sigmoid


def layer_step(x, h, w_ih, w_hh, b_ih, b_hh):
    """One step of one layer: float64[n, I] input, [n, H] hidden -> new hidden."""
    i_r, i_z, i_n = np.split(x @ w_ih.T + b_ih, 3, axis=1)
    h_r, h_z, h_n = np.split(h @ w_hh.T + b_hh, 3, axis=1)
    r, z = sigmoid(i_r + h_r), sigmoid(i_z + h_z)
    return (1 - z) * np.tanh(i_n + r * h_n) + z * h


def log2_probabilities(weights, ids):
    """float64[n, t, V]: log2 probabilities of the token after each of int64[n, t] `ids`, from a zero state."""
    w = {name: np.asarray(array, dtype=np.float64) for name, array in weights.items()}
    layers = sum(name.startswith("gru.weight_hh") for name in w)
    h = [np.zeros((len(ids), w["output.weight"].shape[1])) for _ in range(layers)]
    result = []
    for t in range(ids.shape[1]):
        x = w["embedding.weight"][ids[:, t]] if "embedding.weight" in w else np.eye(len(w["output.bias"]))[ids[:, t]]
        for layer in range(layers):
            parts = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            h[layer] = x = layer_step(x, h[layer], *(w[f"gru.{part}_l{layer}"] for part in parts))
        logits = x @ w["output.weight"].T + w["output.bias"]
        logits -= logits.max(axis=1, keepdims=True)
        result.append((logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))) / np.log(2))
    return np.stack(result, axis=1)
