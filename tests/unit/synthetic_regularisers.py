"""Made-up tables with the shape of A Closer Look's Figures 10 and 11. Nothing here is a result."""

import numpy as np
from synthetic_tables import table

from memorization.tidy_regularisers import BOTH, KEYS

EPOCHS = (0, 1, 2, 5, 10, 20)
CAPS = {"dropout": 1.0, "input dropout": 0.6, "input noise": 0.5, "hidden noise": 0.4, "weight decay": 0.3, BOTH: 1.0}
"""Technique -> how much less of the random labels its stronger setting fits."""
COSTS = {"dropout": 0.1, "input dropout": 0.3, "input noise": 0.4, "hidden noise": 0.4, "weight decay": 0.5, BOTH: 0.02}
"""Technique -> validation accuracy lost per training accuracy that is capped."""


def _cells(techniques):
    """(varied keys, technique, strength 0, 1, 2) of both training sets."""
    for kind in ("labels", "none"):
        yield {"data.noise.kind": kind}, "none", 0
        for name in techniques:
            for strength in (1, 2):
                keys = {KEYS[name]: 0.3 * strength} | ({KEYS["dropout"]: 0.25} if name == BOTH else {})
                yield {"data.noise.kind": kind, **keys}, name, strength


def regularised(replicates=5, seed=0, spread=0.005, base=1.0, techniques=tuple(KEYS), costs=None, gaps=None, caps=None,
                slow=1.5, figure="fig10_regularisers", **options):  # fmt: skip
    """`base`: training accuracy on random labels without regularisation; `costs` and `gaps` (final losses on real
    labels) by technique; `slow`: factor on the epochs to 100 % per strength, beyond the last epoch: never.
    """
    rng = np.random.default_rng(seed)
    costs, gaps, caps = COSTS | (costs or {}), gaps or {}, CAPS | (caps or {})
    frames = {"curves": [], "details": []}
    for number, (varied, name, strength) in enumerate(_cells(techniques)):
        capped = 0.4 * strength * caps.get(name, 0)
        fitted, best = base - capped, 0.5 - costs.get(name, 0) * capped
        random = varied["data.noise.kind"] == "labels"
        loss = 0.01 + capped if random else gaps.get(name, 0.01 + 0.1 * capped)
        epochs = 8 * slow**strength
        for k in range(replicates):
            common = {"replicate": k, "run": f"{number:012d}", "dataset": "cifar10", **varied}
            noise = rng.normal(0, spread, 2)
            accuracy, final = fitted + noise[0] * (strength > 0), loss * (1 + 5 * noise[0])
            for epoch in EPOCHS:
                done = epoch / EPOCHS[-1]
                at = {**common, "epoch": float(epoch), "step": 10 * epoch}
                valid = 0.1 if random else 0.1 + (best + noise[1] - 0.1) * min(1.0, 1.5 * done)
                frames["curves"].append({**at, "train_loss_nats": final + 2 * (1 - done), "validation_accuracy": valid})
                for measure, value in (("loss_nats", final + 2 * (1 - done)), ("accuracy", accuracy * done)):
                    frames["details"].append({**at, "measure": measure, "part": "train", "item": -1, "value": value})
            reached = epochs if epochs <= EPOCHS[-1] else np.nan
            end = {**common, "epoch": 20.0, "step": 200, "measure": "fitted_epoch", "part": "train", "item": -1}
            frames["details"].append({**end, "value": reached * (1 + 0.05 * rng.random())})
    return table(figure, frames, **options)
