"""Made-up tables with the shape of Figures 3 and 4 of A Closer Look, and of the scores of single examples."""

import numpy as np
from synthetic_tables import table

SETS = {
    ("none", "own", 0): "real",
    ("inputs", "own", 0): "random",
    ("inputs", "own", 1): "again",
    ("none", "unique", 0): "real",
    ("inputs", "unique", 0): "random",
}
"""(data.noise.kind, data.classes, data.noise.seed) -> what kind of data it stands for."""
STEPS = (1, 10, 100, 1000)


def gini(
    final=None, seeds=10, spread=0.01, norms=("l1", "l2", "linf"), sets=SETS, figure="fig03_sensitivity", **options
):
    """Gini coefficients that start at .2 and end at `final[name]`; final[name, norm] may differ."""
    final = {"real": 0.4, "random": 0.25, "again": 0.25} | (final or {})
    rows = []
    for number, ((kind, classes, draw), name) in enumerate(sets.items()):
        rng = np.random.default_rng(number)
        common = {"run": f"{number:012d}", "data.noise.kind": kind, "data.classes": classes, "data.noise.seed": draw}
        for k in range(seeds):
            for norm in norms:
                for part in ("", "now"):
                    for step in STEPS:
                        end = final.get((name, norm), final[name])
                        value = 0.2 + (end - 0.2) * np.log10(step) / 3 + spread * rng.standard_normal()
                        row = {"replicate": k, "step": step, "epoch": step / 32, "measure": f"gini_{norm}"}
                        rows.append(common | row | {"part": part, "item": -1, "other": -1, "value": value})
    return table(figure, {"details": rows}, **options)


def matrices(ratio=None, seeds=10, spread=0.05, classes=10, **options):
    """Class matrices with diagonal 1 and `ratio[name]` off it."""
    ratio = {"real": 0.3, "random": 0.1} | (ratio or {})
    rows = []
    for number, ((kind, labels, draw), name) in enumerate(SETS.items()):
        if labels == "unique" or name not in ratio:
            continue
        rng = np.random.default_rng(number)
        common = {"run": f"{number:012d}", "data.noise.kind": kind, "data.classes": labels, "data.noise.seed": draw}
        for k in range(seeds):
            for i in range(classes):
                for j in range(classes):
                    value = (1.0 if i == j else ratio[name]) * np.exp(spread * rng.standard_normal())
                    row = {"replicate": k, "step": 1000, "epoch": 31.25, "measure": "sensitivity_class"}
                    rows.append(common | row | {"part": "train", "item": i, "other": j, "value": value})
    return table("fig04_class_sensitivity", {"details": rows}, **options)
