"""Tests on MNIST (B5, B6)."""

import numpy as np
import pandas as pd
from scipy import stats

from memorization import statistics, tidy, tidy_privacy
from memorization.gates.outcome import Outcome, decide, shown, undecided, within


def row_name(noise: float) -> str:
    """How reference.csv calls a row of the published table: `noise 1.1`, or `no privacy` for NaN."""
    return f"noise {noise:g}" if np.isfinite(noise) else "no privacy"


def accuracies(table: pd.DataFrame) -> pd.DataFrame:
    """One row per model and epoch: backend, run, replicate, epoch, accuracy (percent, test), noise (NaN: not private),
    name (`row_name`).
    """
    curves = tidy.rows(table, "curves").dropna(subset=["test_accuracy"])
    frame = curves.merge(tidy_privacy.trainings(table)[[*tidy_privacy.RUN, "noise"]], on=tidy_privacy.RUN)
    frame = frame.assign(accuracy=100 * frame["test_accuracy"], name=frame["noise"].map(row_name))
    return frame[[*tidy.MODEL, "epoch", "accuracy", "noise", "name"]].sort_values("epoch")


def mnist_accuracy(
    table: pd.DataFrame, reference: pd.DataFrame, *, margin: float, spread: float, seeds: int
) -> Outcome:
    """G2: per row of the published table and back end, after the published number of epochs the mean accuracy is within
    `margin` points of the published one and its s.d. over seeds below `spread`.
    """
    paper = reference[reference["series"] == "accuracy"].set_index("label")["y"]
    epochs = reference[reference["series"] == "epochs"].set_index("label")["y"]
    last = accuracies(table).groupby(tidy.MODEL).tail(1)
    last = last[last["epoch"].round(3) == last["name"].map(epochs)]
    listed, right, n = [], [], []
    for (backend, name), group in last.groupby(["backend", "name"]):
        off, sd = group["accuracy"].mean() - paper[name], group["accuracy"].std()
        right.append(abs(off) <= margin and sd < spread)
        n.append(len(group))
        listed.append(f"{backend} {name}: {group['accuracy'].mean():.2f} % ({off:+.2f}, s.d. {sd:.2g})")
    if not n or min(n) < seeds or last["name"].nunique() < len(paper):
        rows = f"{last['name'].nunique()} of {len(paper)} rows trained for the published epochs"
        return undecided(f"{rows}, {min(n, default=0)} seeds, {seeds} needed", min(n, default=0))
    return Outcome(all(right), n=min(n), summary="; ".join(listed))


def mnist_expected_output(
    table: pd.DataFrame, reference: pd.DataFrame, *, noise: float, margins: list[float], seeds: int
) -> Outcome:
    """G2: the mean accuracy of the row with `noise` after epochs 1, 2, ... is within margins[0], margins[1], ... points
    of the tutorial's expected output, in every back end: by its 95 % interval over seeds, or, with the planned seeds,
    by itself.
    """
    paper = reference[reference["series"] == "expected output, accuracy"].set_index("x")["y"]
    frame = accuracies(table)
    frame = frame[np.isclose(frame["noise"], noise)]
    listed, verdicts, off = [], [], []
    for backend, group in frame.groupby("backend"):
        for epoch, margin in enumerate(margins, start=1):
            values = group.loc[np.isclose(group["epoch"], epoch), "accuracy"] - paper[epoch]
            if not len(values):
                return undecided(f"{backend}: no accuracy after epoch {epoch}")
            off.append(statistics.t_interval(values))
            verdicts.append(within(off[-1], -margin, margin, len(values), seeds))
            listed.append(f"{backend} epoch {epoch}: {paper[epoch] + values.mean():.1f} % ({shown(off[-1])})")
    if not off:
        return undecided(f"no training with noise {noise:g}")
    verdict = False if False in verdicts else None if None in verdicts else True
    models = int(frame.groupby("backend")["replicate"].nunique().min())
    summary = f"{'; '.join(listed)}; {models} of {seeds} planned seeds"
    return Outcome(verdict, *max(off, key=lambda one: abs(one.estimate)), n=models, summary=summary)


def digits(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of source `digits` (`digit_gallery.gallery`), of every back end; empty without them."""
    return tidy.rows(table, "digits")


def concordance(ranks: pd.Series) -> float:
    """Kendall's W from the images' mean ranks over seeds, where each seed ranks all n: 12 var / (n^2 - 1)."""
    return float(12 * np.var(ranks.to_numpy(dtype=float)) / (len(ranks) ** 2 - 1))


def outliers_not_learned(
    table: pd.DataFrame, reference: pd.DataFrame, *, agreement: float, correlation: float, seeds: int
) -> Outcome:
    """G11, in every back end: Kendall's W of the images' gaps over seeds exceeds `agreement`, and Spearman's
    correlation of the mean gap with the distance to the tenth nearest image of the class exceeds `correlation` (its
    95 % Fisher interval, over images: one fixed set of them, so nothing is said about other images).
    """
    listed, found, contradicted, n = [], [], [], []
    for backend, images in digits(table).groupby("backend"):
        images = images.dropna(subset=["neighbour_distance"])
        if len(images) < 100:
            continue
        n.append(int(images["seeds"].iloc[0]))
        rho = float(stats.spearmanr(images["gap_nats"], images["neighbour_distance"]).statistic)
        half = 1.96 * np.sqrt((1 + rho**2 / 2) / (len(images) - 3))
        low, high = np.tanh([np.arctanh(rho) - half, np.arctanh(rho) + half])
        w = concordance(images["mean_rank"]) if n[-1] > 1 else np.nan
        # With two seeds that rank images at random W is 0.5 on average, with three a third.
        found.append(low > correlation and w > agreement and n[-1] > 2)
        contradicted.append(high < correlation or (n[-1] > 2 and w <= agreement))
        told = f"Kendall's W {w:.2f} over {n[-1]} seeds" if n[-1] > 1 else "1 seed, no Kendall's W"
        listed.append(f"{backend}: {told}, Spearman {rho:.2f} [{low:.2f}, {high:.2f}] over {len(images)} images")
    if not n:
        return undecided("no gallery of 100 images with their distances")
    verdict = decide(all(found), any(contradicted), min(n), seeds)
    return Outcome(verdict, n=min(n), summary="; ".join(listed))
