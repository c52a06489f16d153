"""Synthetic tables of classifiers that fit noise: curves as functions of kind, level, seed and epoch."""

import numpy as np
import pandas as pd

EPOCHS = (0.0, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0, 30.0, 40.0)
CELLS = [("none", 0.0)] + [(kind, level) for kind in ("inputs", "labels") for level in (0.2, 0.4, 0.6, 0.8)]
COMPLETE = [("none", 0.0), ("inputs", 1.0), ("labels", 1.0)]


def table(measures, cells=CELLS, seeds=5, spread=0.002, epochs=EPOCHS):
    """details rows; measures: {(measure, part): f(kind, level, epoch)}, to which every seed adds its own noise."""
    rows = []
    for number, (kind, level) in enumerate(cells):
        for (measure, part), value in measures.items():
            rng = np.random.default_rng([number, len(measure), len(part)])
            for seed in range(seeds):
                for epoch in epochs:
                    one = {"run": f"r{number}", "replicate": seed, "epoch": epoch, "measure": measure, "part": part}
                    one["value"] = value(kind, level, epoch) + spread * rng.standard_normal()
                    rows.append(one | {"data.noise.kind": kind, "data.noise.level": level})
    frame = pd.DataFrame(rows)
    frame["step"] = (10 * frame["epoch"]).astype(int)
    about = {"source": "details", "backend": "torch", "item": -1, "other": -1, "figure": "f", "scale": "reduced"}
    return frame.assign(**about, dataset="mnist", data_source="real", replicates=seeds)


def train(kind, level, epoch):
    """Real examples are learned at once, noise late."""
    early, late = 1 - np.exp(-epoch), 1 - np.exp(-((epoch / 12) ** 2))
    return (1 - level) * early + level * late


def validation(kind, level, epoch):
    """Of random labels it falls once they are memorised; of noise inputs it only stays lower."""
    lost = 0.6 * level * (1 - np.exp(-((epoch / 12) ** 2))) if kind == "labels" else 0.0
    return 0.1 + (0.8 - 0.2 * level) * (1 - np.exp(-2 * epoch)) - lost


def csr(kind, level, epoch):
    """Rises with the noise that is memorised, then levels off."""
    return 0.02 + (0.05 + 0.5 * level) * (1 - np.exp(-((epoch / 8) ** 2)))


def accuracies():
    return {("accuracy", "train"): train, ("accuracy", "validation"): validation}
