"""Made-up tables with the shape of Figs 5 and 6 of A Closer Look. Nothing here is a result."""

import numpy as np
from synthetic_tables import table

WIDTHS = (4, 8, 16, 32, 64)
LEVELS = (0.0, 0.4, 0.8)
SIZES = (125, 250, 500, 1000)


def _model(rng, replicate, run, accuracy, epochs, cap, **varied):
    """Two evaluations and the time to fit of one model; a time beyond `cap` is censored."""
    common = {"replicate": replicate, "run": run, "item": -1, "other": -1, "dataset": "mnist", **varied}
    validation = {**common, "measure": "accuracy", "part": "validation"}
    drop = abs(rng.normal(0, 0.001))
    epochs = round(epochs)
    return [
        {**validation, "epoch": 0.0, "value": 0.1},
        {**validation, "epoch": 2.0, "value": min(accuracy + drop, 1.0)},
        {**validation, "epoch": float(min(epochs, cap)), "value": min(accuracy, 1.0)},
        {**common, "measure": "fitted_epoch", "part": "train", "epoch": float(min(epochs, cap)),
         "value": epochs if epochs <= cap else np.nan},
    ]  # fmt: skip


def _cells(cells, replicates, cap, seed, figure, **options):
    """`cells`: (varied keys, accuracy, epochs) each."""
    rng = np.random.default_rng(seed)
    rows = []
    for number, (varied, accuracy, epochs) in enumerate(cells):
        for k in range(replicates):
            noisy = accuracy + rng.normal(0, 0.001), epochs * 2 ** rng.normal(0, 0.05)
            rows += _model(rng, k, f"{number:012d}", *noisy, cap, **varied)
    return table(figure, {"details": rows}, **options)


def accuracy_at(width, needed, most):
    """Reaches 99 % of `most` at just `needed` units."""
    return most * (1 - 0.0099 * (needed / width) ** 1.5)


def capacity(
    replicates=5, seed=0, rise=3.0, removed=0.0, widths=WIDTHS, levels=LEVELS, kind="inputs", least=8.0, **options
):
    """Fig 5: the width needed rises by `rise` doublings over the levels from `least`, and without the noise examples by
    `removed` instead.
    """
    cells = []
    for without in (False, True):
        for level in levels[without:]:
            needed = least * 2 ** ((removed if without else rise) * level / max(levels))
            for width in widths:
                varied = {"model.units": width, "data.noise.level": level, "data.noise.kind": kind}
                varied |= {"data.without_noise": without, "data.train_examples": 1000}
                cells.append((varied, accuracy_at(width, needed, 0.95 - 0.1 * level), 20))
    return _cells(cells, replicates, 60, seed, "fig05_capacity", **options)


def convergence(
    replicates=5,
    seed=0,
    saving=(0.3, 0.8),
    growth=(0.1, 0.5),
    slower=1.0,
    cap=400,
    levels=LEVELS,
    widths=WIDTHS,
    **options,
):
    """Fig 6: T falls by a factor 2^-saving per doubling of the width, and rises as N^growth; (without noise, with).

    slower: how many times as long noise takes everywhere.
    """
    cells = []
    for level in levels:
        noisy = level > 0
        last = 20 * (slower if noisy else 1)
        for width in widths:
            varied = {"model.units": width, "data.noise.level": level, "data.train_examples": SIZES[-1]}
            cells.append((varied, 0.9, last * (widths[-1] / width) ** saving[noisy]))
        for size in SIZES[:-1]:
            varied = {"model.units": widths[-1], "data.noise.level": level, "data.train_examples": size}
            cells.append((varied, 0.9, last * (size / SIZES[-1]) ** growth[noisy]))
    return _cells(cells, replicates, cap, seed, "fig06_convergence", **options)
