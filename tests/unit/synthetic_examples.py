"""Made-up tables with the shape of Figures 1 and 2 of A Closer Look."""

import numpy as np
from synthetic_tables import table

from memorization.difficulty import spread

KINDS = ("none", "inputs", "labels")
CLASSES = 10


def successes(runs, examples, difficulty, class_bias, rng):
    """bool[R, N] and labels: log odds have s.d. `difficulty` between examples, `class_bias` between classes."""
    labels = rng.integers(CLASSES, size=examples)
    odds = difficulty * rng.standard_normal(examples) + class_bias * rng.standard_normal(CLASSES)[labels]
    return rng.random((runs, examples)) < 1 / (1 + np.exp(1 - odds)), labels


def rates(difficulty=None, class_bias=None, runs=100, examples=300, kinds=KINDS, resamples=100, **options):
    """Fig 1: by kind of noise, how much examples and classes differ."""
    difficulty = {"none": 3.0, "labels": 0.6, "inputs": 0.0} | (difficulty or {})
    class_bias = dict.fromkeys(KINDS, 0.0) | (class_bias or {})
    rows = []
    for number, kind in enumerate(kinds):
        rng = np.random.default_rng(number)
        correct, labels = successes(runs, examples, difficulty[kind], class_bias[kind], rng)
        found = spread(correct, labels, resamples, rng)
        common = {"run": f"{number:012d}", "replicate": -1, "step": 40, "epoch": 1.0, "part": "train", "other": -1,
                  "data.noise.kind": kind, "replicates": runs}  # fmt: skip
        for i, value in enumerate(correct.mean(0)):
            rows.append(common | {"measure": "p_correct", "item": i, "value": value})
        for measure, one, many in (
            ("variance_ratio", found.ratio, found.ratios),
            ("variance_ratio_within", found.within, found.withins),
        ):
            for item, value in enumerate((one, *many), -1):
                rows.append(common | {"measure": measure, "item": item, "value": value})
    return table("fig01_easy_examples", {"details": rows}, **options)


def filters(trained=None, networks=5, spread_=0.02, shown=4, kinds=("none", "labels"), **options):
    """Fig 2: mean roughness of trained filters by kind (initial ones: 4/3); low frequencies go the other way."""
    trained = {"none": 0.9, "labels": 1.1} | (trained or {})
    rows = []
    for number, kind in enumerate(kinds):
        rng = np.random.default_rng(number)
        for k in range(networks):
            for part in ("init", "trained"):
                tv = (trained[kind] if part == "trained" else 4 / 3) + spread_ * rng.standard_normal()
                common = {"run": f"{number:012d}", "replicate": k, "step": 0, "epoch": 0.0, "part": part,
                          "data.noise.kind": kind}  # fmt: skip
                alone = {"item": -1, "other": -1}
                rows.append(common | alone | {"measure": "filter_tv", "value": tv})
                rows.append(common | alone | {"measure": "filter_low_frequency", "value": 0.36 + (4 / 3 - tv) / 3})
                for item in range(shown if k == 0 else 0):
                    for other, value in enumerate(rng.standard_normal(75)):
                        rows.append(common | {"measure": "filter", "item": item, "other": other, "value": value})
    return table("fig02_filters", {"details": rows}, **options)
