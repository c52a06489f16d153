"""Synthetic tables of federations that are asked to forget: every measure as a function of method, round and seed."""

import numpy as np
import pandas as pd

from memorization import forget_requests
from memorization.backends.details import Details
from memorization.federated_specs import RequestSpec

ROUNDS = 4
SETS = ("mnist", "adult", "reuters21578", "20newsgroups", "location-bangkok")
METHODS = ("retrain", "forsaken", "ascent", "federaser", "sisa", "without_user", "placebo")
T, F, N, TEST = 0.9, 0.6, 200, 400
EXPECTED = 100 * (1 - F / T)
FINAL = {  # method -> (forgetting rate, per cent; drop of accuracy, points) in the last round
    "retrain": (EXPECTED, 0.5), "forsaken": (97.0, 2.0), "ascent": (60.0, 30.0), "federaser": (EXPECTED, 5.0),
    "sisa": (EXPECTED, 6.0), "without_user": (0.0, 0.0), "placebo": (5.0, 2.0),
}  # fmt: skip
ORACLES = ("confidence", "loss")
AUC = ("norm", "cosine")


def requests(methods=METHODS):
    return [RequestSpec(method=method, rounds=ROUNDS) for method in methods]


def cell(asked, final=FINAL, seeds=5, spread=1.0, number=0, **options):
    """details rows of one cell. final: method (or number of the request) -> (FR, drop) at its last round.

    options: t, f, n of the oracles; messages: of a round of Forsaken; auc; seconds: of a round, by method; density: bin
    where its maximum posteriors begin; approach: share of the KL divergence that is gone at the end.
    """
    rows, rng, details = [], np.random.default_rng([7, number]), Details()
    forget_requests.record(details, asked)
    for seed in range(seeds):
        rows += [(seed, 0, -1, *row) for row in _base(options)]
        for item, request in enumerate(asked):
            end = final.get(item, final.get(request.method))
            drawn = [value + spread * rng.standard_normal() for value in end]
            rows += [(seed, row[0], item, *row[1:]) for row in _request(request.method, *drawn, rng, options)]
    columns = ["replicate", "step", "item", "measure", "part", "value", "other"]
    frame = pd.DataFrame(rows, columns=columns).assign(epoch=0.0)
    return pd.concat([details.frame(), frame], ignore_index=True)


def _base(options):
    t, f, n = options.get("t", T), options.get("f", F), options.get("n", N)
    plain = [("messages_per_round", "", 20), ("bytes_per_round", "", 4e6)]
    plain += [("accuracy", part, value) for part, value in (("test", 0.9), ("retain", 0.95), ("forget", 1.0))]
    for oracle in ORACLES:
        plain += [(f"oracle_t_{oracle}", "", t), (f"oracle_f_{oracle}", "", f)]
        plain += [(f"informative_{oracle}", "", float(t - f >= 0.1))]
        plain += [(f"fr_retrain_expected_{oracle}", "", 100 * (1 - f / t))]
        for part, count, rate in (("forget", n, t), ("test", TEST, f)):
            plain += [(f"oracle_n_{oracle}", part, count), (f"oracle_positive_{oracle}", part, rate * count)]
    return [(*row, -1) for row in plain] + _density("before", 45) + _density("nonmember", 25)


def _density(part, low):
    return [("confidence_density", part, 0.2 if low <= i < low + 5 else 0.0, i) for i in range(50)]


def _request(method, rate, drop, rng, options):
    scratch = method in ("retrain", "federaser", "sisa")
    seconds = options.get("seconds", {}).get(method, 10.0 if scratch else 1.0)
    messages = options.get("messages", 20) if method == "forsaken" else 20
    rows = []
    for j in [ROUNDS] if scratch else range(1, ROUNDS + 1):
        share, spent = min(1.0, 2 * j / ROUNDS), seconds * (1 if scratch else j)
        plain = [("accuracy", part, v - share * drop / 100) for part, v in (("test", 0.9), ("retain", 0.95))]
        for oracle in ORACLES:
            plain += [
                (f"fr{end}_{oracle}", "", share * rate + gap) for end, gap in (("", 0), ("_low", -5), ("_high", 5))
            ]
        plain += [("kl_to_target", "", 2.0 * (1 - options.get("approach", 0.8) * share))]
        plain += [("output_distance_to_retrain", "", 0.5 * (1 - share / 2)), ("update_norm", "", 0.3)]
        plain += [("seconds_all", "", spent), ("seconds_client", "", 0.1 * spent)]
        plain += [("messages_per_round", "", messages), ("bytes_per_round", "", 4e6)]
        rows += [(j, *row, -1) for row in plain]
    if method == "forsaken":
        auc = [("auc_update", part, options.get("auc", 0.5) + 0.01 * rng.standard_normal(), -1) for part in AUC]
        rows += [(ROUNDS, *row) for row in [*auc, *_density("after", options.get("density", 27))]]
        rows += [(ROUNDS, *row) for row in _density("retrain", 26)]
    return rows


def joined(cells):
    """A figure's table of [({column: value}, details rows)]."""
    frames = []
    for number, (varied, rows) in enumerate(cells):
        about = {"dataset": "mnist", "data_source": "real", **varied}
        about.setdefault("data.dataset", about["dataset"])
        frames.append(rows.assign(source="details", backend="torch", run=f"r{number}", replicates=5, **about))
    return pd.concat(frames, ignore_index=True).assign(figure="f", scale="reduced")


def main(sets=SETS, final=FINAL, seeds=5, methods=METHODS, **options):
    """The main experiment: every way of forgetting on every data set."""
    asked = requests(methods)
    return joined([({"dataset": name}, cell(asked, final, seeds, number=i, **options)) for i, name in enumerate(sets)])
