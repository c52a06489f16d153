"""Made-up tables of scores of single examples: three runs over the same ones. Nothing here is a result."""

import numpy as np
import synthetic_tables

NEVER = 7
"""The example that the second model never learns."""


def table(examples=200, truth=None, noise=0.05, mislabelled=20, wrong=0.5, seed=0, **scores):
    """Every score is `truth` [N] plus noise and, of the last `mislabelled` examples, `wrong`, unless given by name."""
    rng = np.random.default_rng(seed)
    truth = rng.random(examples) if truth is None else np.asarray(truth, dtype=float)
    bad = np.arange(examples) >= examples - mislabelled
    shift = wrong * bad if noise else 0

    def of(name):
        return np.asarray(scores.get(name, truth + shift + noise * rng.standard_normal(examples)), dtype=float)

    rows = []

    def add(run, measure, values, replicate=-1, part="train", epoch=60.0):
        common = {"run": run, "replicate": replicate, "step": int(epoch * 10), "epoch": epoch}
        for item, value in enumerate(values):
            rows.append(common | {"measure": measure, "part": part, "item": item, "other": -1, "value": float(value)})

    labels = np.arange(examples) % 10
    for run in ("trained", "one", "subsets"):
        add(run, "label", labels, part="true")
        add(run, "label", np.where(bad, (labels + 1) % 10, labels), part="given")
        add(run, "corrupted", bad)
    add("one", "p_correct", 1 - of("difficulty"), epoch=1.0)
    add("subsets", "p_correct", np.ones(examples))
    add("subsets", "memorisation", of("memorisation"))
    add("trained", "sensitivity_l1", of("sensitivity"))
    critical = of("critical")
    for k in range(2):
        for number in range(1, 5):
            add("trained", f"critical_{4 * number}", critical > number / 5, replicate=k)
        add("trained", "forgetting_events", 10 * of("forgetting") if noise else 10 * truth, replicate=k)
        epochs = np.where((np.arange(examples) == NEVER) & (k == 1), np.nan, 3.0)
        add("trained", "learned_epoch", epochs, replicate=k)
    return synthetic_tables.table("example_scores", {"details": rows})
