"""What bench_walk.py measures: models, the rivals of the walk, and counts of multiplications."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from memorization import weights as weight_files
from memorization.backends.base import LanguageModel
from memorization.backends.torch.model import TorchLanguageModel
from memorization.canaries import TokenFormat
from memorization.runs import Run, environment
from memorization.search import fill_costs
from memorization.specs import ModelSpec
from memorization.vocabulary import Vocabulary

SYMBOLS = "\n abcdefghijklmnopqrstuvwxyz0123456789#$&'*-./<>N\\"
Weights = dict[str, torch.Tensor]


def fresh_model(sharpen: float = 40.0) -> TorchLanguageModel:
    """As `fresh`, the model alone."""
    return fresh(sharpen)[0]


def fresh(sharpen: float) -> tuple[TorchLanguageModel, Weights]:
    """An untrained LSTM of the paper's base size; outputs times `sharpen`, so that some fills stand out."""
    vocabulary = Vocabulary.of([SYMBOLS])
    weights = initial_weights(len(vocabulary))
    weights["output.weight"] *= sharpen
    return TorchLanguageModel(weights, vocabulary), weights


def initial_weights(vocabulary: int) -> Weights:
    """The paper's base model before training."""
    arrays = weight_files.initial_weights(ModelSpec(), vocabulary, np.random.default_rng(0))
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def trained(run: Path, replicate: int) -> tuple[LanguageModel, Weights]:
    """One replicate of a finished run of PyTorch."""
    stacked = weight_files.read(run)
    return Run.open(run).models()[replicate], {n: torch.from_numpy(a[replicate].copy()) for n, a in stacked.items()}


class PlainModel:
    """What one would write with torch.nn alone: whole lines in batches, every token of every line."""

    def __init__(self, weights: Weights) -> None:
        recurrent = {n.removeprefix("lstm."): w for n, w in weights.items() if n.startswith("lstm.")}
        layers = sum(n.startswith("weight_ih") for n in recurrent)
        symbols, units = weights["output.weight"].shape
        embedding = weights.get("embedding.weight", torch.eye(symbols))
        self.embedding = torch.nn.Embedding.from_pretrained(embedding)
        self.lstm = torch.nn.LSTM(embedding.shape[1], units, layers, batch_first=True)
        self.output = torch.nn.Linear(units, symbols)
        self.lstm.load_state_dict(recurrent)
        self.output.load_state_dict({n.removeprefix("output."): w for n, w in weights.items() if "output" in n})

    @torch.inference_mode()
    def log_perplexity(self, ids: np.ndarray, batch: int = 1000) -> np.ndarray:
        """float64[n]: bits of int64[n, t] `ids`."""
        return np.concatenate([self._batch(torch.from_numpy(ids[i : i + batch])) for i in range(0, len(ids), batch)])

    def _batch(self, ids: torch.Tensor) -> np.ndarray:
        hidden, _ = self.lstm(self.embedding(ids[:, :-1]))
        losses = torch.nn.functional.cross_entropy(
            self.output(hidden).flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
        )
        return (losses.view(len(ids), -1).double().sum(1) / np.log(2)).numpy()


def scrambled(tokens: TokenFormat, fills: np.ndarray) -> list[np.ndarray]:
    """The lines, in batches with one line that differs from the start: no prefix can be shared."""
    ids = tokens.ids(fills)
    odd = np.roll(ids[:1], 1, axis=1)
    return [np.concatenate([odd, batch]) for batch in np.array_split(ids, -(-len(ids) // 4000))]


def rivals(model: LanguageModel, weights: Weights, tokens: TokenFormat, fills: np.ndarray) -> dict[str, Callable]:
    """Name -> (lines, work): ways to score lines one by one, on as many as take about as long as the others."""
    plain, few = PlainModel(weights), fills[: max(len(fills) // 10, 2)]
    return {
        "nn_lstm": (len(few), lambda: plain.log_perplexity(tokens.ids(few))),
        "whole_lines": (len(few), lambda: np.concatenate([model.log_perplexity(i) for i in scrambled(tokens, few)])),
        "prefix_cached": (len(fills), lambda: model.log_perplexity(tokens.ids(fills))),
        "prefixes_shared": (len(fills), lambda: sum(fill_costs(model, tokens, fills))),
    }


def agree(model: LanguageModel, weights: Weights, tokens: TokenFormat, fills: np.ndarray) -> None:
    """All ways must give the same costs, or their rates mean nothing."""
    ours = model.log_perplexity(tokens.ids(fills))
    np.testing.assert_allclose(PlainModel(weights).log_perplexity(tokens.ids(fills)), ours, atol=1e-2)
    np.testing.assert_allclose(sum(fill_costs(model, tokens, fills)), ours, atol=1e-2)


def operations(weights: Weights, siblings: float) -> dict[str, float]:
    """Multiplications and additions of matrix products per state: done when `siblings` share a parent, and unshared.

    The first layer's input is a row of a table. What a layer takes from the old hidden state is shared.
    """
    symbols, units = weights["output.weight"].shape
    layers = sum(n.startswith("lstm.weight_hh") for n in weights)
    one = 2 * units * 4 * units
    rest = (layers - 1) * one + 2 * units * symbols
    return {"done": layers * one / siblings + rest, "unshared": layers * one + rest}


def about() -> dict[str, str | int]:
    """Machine, versions and commit, flat."""
    record = environment()
    versions = {name: version for name, version in record.pop("packages").items() if name in ("torch", "numpy")}
    return {**record, **versions, "torch_threads": torch.get_num_threads()}
