"""Tests on the announcement's language models: the pair's losses and the sentences they differ on (B1 to B3)."""

import numpy as np
import pandas as pd
from scipy import stats

from memorization import statistics, tidy, tidy_privacy
from memorization.gates.outcome import Outcome, decide, shown, undecided


def private_loss_gap(table: pd.DataFrame, reference: pd.DataFrame, *, most: float, seeds: int) -> Outcome:
    """G3: test loss of D minus that of N, paired by seed, is above 0 and at most `most` nats per character, by its 95 %
    interval; contradicted where that lies beyond either.
    """
    frame = tidy_privacy.losses(table)
    if len(frame) < 3:
        return undecided(f"{len(frame)} pairs of models, 3 needed", len(frame))
    interval = statistics.t_interval(frame["gap"])
    contradicted = interval.high < 0 or interval.low > most
    verdict = True if interval.low > 0 and interval.high <= most else False if contradicted else None
    relative = 100 * (frame["D"].mean() / frame["N"].mean() - 1)
    summary = f"D {frame['D'].mean():.3f}, N {frame['N'].mean():.3f} nats (s.d. {frame['D'].std():.2g}, "
    summary += f"{frame['N'].std():.2g}); gap {shown(interval, 'nats')}, {relative:+.1f} %, "
    summary += f"{len(frame)} of {seeds} planned pairs"
    return Outcome(verdict, *interval, n=len(frame), summary=summary)


def trained_lines(table: pd.DataFrame) -> pd.DataFrame:
    """`tidy_privacy.sentences` of the training lines that the models were trained on."""
    frame = tidy_privacy.sentences(table)
    return frame[(frame["split"] == "train") & frame["trained"].astype(bool)]


def quoted(reference: pd.DataFrame) -> pd.DataFrame:
    """The post's six sentences: columns kind (common | rare), text, index (line of PTB train)."""
    chosen = reference[reference["series"].isin(["common sentence", "rare sentence"])]
    kind = chosen["series"].str.split().str[0]
    return pd.DataFrame({"kind": kind, "text": chosen["label"], "index": chosen["y"].astype(int)}).reset_index(
        drop=True
    )


def threshold(lines: pd.DataFrame, share: float) -> float:
    """The least mean loss per character (nats) below which both models of a pair have `share` of the lines."""
    return float(np.quantile(np.maximum(lines["N"], lines["D"]), share, method="higher"))


def kappa(a: np.ndarray, b: np.ndarray) -> float:
    """Cohen's kappa of two bool[n] decisions; NaN where chance alone agrees always."""
    both = a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean())
    return float(((a == b).mean() - both) / (1 - both)) if both < 1 else np.nan


def sentences_accepted(table: pd.DataFrame, reference: pd.DataFrame, *, share: float, seeds: int) -> Outcome:
    """G4: at the least threshold with which both models accept `share` of the training lines, the rare sentences of the
    post are accepted by N only and the common ones by both, in most seeds.
    """
    frame, six = trained_lines(table), quoted(reference)
    test = tidy_privacy.sentences(table).query("split == 'test'")
    rows = []
    for pair, lines in frame.groupby("pair"):
        at = threshold(lines, share)
        own = lines[["index", "N", "D"]].merge(six, on="index")
        wanted = (own["N"] <= at) & ((own["D"] <= at) == (own["kind"] == "common"))
        held = test[test["pair"] == pair]
        beyond = 100 * (np.maximum(held["N"], held["D"]) <= at).mean() if len(held) else np.nan
        agreement = kappa((lines["N"] <= at).to_numpy(), (lines["D"] <= at).to_numpy())
        rows.append((at, len(own), int(wanted.sum()), beyond, agreement))
    found = pd.DataFrame(rows, columns=["threshold", "seen", "right", "beyond", "kappa"])
    n = len(found)
    if not n:
        return undecided("no lines scored under both models")
    at = statistics.t_interval(found["threshold"])
    summary = f"both accept {share:.0%} of the trained lines at {shown(at, 'nats per character')}, and "
    summary += f"{found['beyond'].mean():.0f} % of the test lines; kappa {found['kappa'].mean():.2f}; of the six "
    summary += f"sentences {found['seen'].max()} in the trained share, {found['right'].mean():.2g} as in the post"
    if found["seen"].min() < len(six):
        return undecided(summary, n)
    all_right = int((found["right"] == len(six)).sum())
    verdict = decide(all_right == n >= 3, all_right == 0 and n >= 3, n, seeds)
    return Outcome(verdict and all_right > n / 2, *at, statistic=all_right, n=n, summary=summary)


def sentence_gaps(table: pd.DataFrame, reference: pd.DataFrame, *, top: float, middle: float, seeds: int) -> Outcome:
    """G5: by the mean gap over seeds, each rare sentence is above each common one, the rare ones are in the top share
    `top` of all trained lines and the common ones within their central share `middle`.
    """
    frame, six = trained_lines(table), quoted(reference)
    n = frame["pair"].nunique()
    if not n:
        return undecided("no lines scored under both models")
    gap = frame.groupby("index")["gap"].mean()
    place = gap.rank(pct=True)
    own = six[six["index"].isin(gap.index)]
    told = [
        f"line {i} ({k}): {gap[i]:+.3f} nats, above {place[i]:.0%}"
        for i, k in zip(own["index"], own["kind"], strict=True)
    ]
    summary = f"{'; '.join(told)} of {len(gap)} trained lines"
    if len(own) < len(six):
        return undecided(f"{len(own)} of the six sentences in the trained share: {summary}", n)
    rare, common = (own.loc[own["kind"] == kind, "index"] for kind in ("rare", "common"))
    above = gap[rare].min() > gap[common].max()
    extreme, central = (place[rare] > 1 - top).all(), ((place[common] - 0.5).abs() <= middle / 2).all()
    verdict = bool(above and extreme and central) if n >= seeds else None
    return Outcome(verdict, float(gap[rare].min() - gap[common].max()), n=n, summary=summary)


def cliffs_delta(a: np.ndarray, b: np.ndarray) -> float:
    """P(a > b) - P(a < b) for random members of two samples."""
    return float(2 * stats.mannwhitneyu(a, b).statistic / (len(a) * len(b)) - 1)


def gap_follows_oddness(
    table: pd.DataFrame, reference: pd.DataFrame, *, correlation: float, top: int, seeds: int
) -> Outcome:
    """G6: per seed, Spearman's correlation over trained lines of gap and 5-gram loss fitted on the other lines, and
    Cliff's delta of that loss between the `top` largest gaps (at most a tenth of the lines) and the rest. Over seeds,
    the mean correlation's interval is above `correlation` and the mean delta's above 0.
    """
    odd = tidy.rows(table, "lines").drop_duplicates("index")[["index", "fivegram_nats"]].dropna()
    frame = trained_lines(table).merge(odd, on="index")
    rho, delta = [], []
    for _, lines in frame.groupby("pair"):
        count = min(top, len(lines) // 10)
        if count >= 5:
            lines = lines.sort_values("gap", ascending=False)
            rho.append(stats.spearmanr(lines["gap"], lines["fivegram_nats"]).statistic)
            delta.append(cliffs_delta(lines["fivegram_nats"][:count], lines["fivegram_nats"][count:]))
    if len(rho) < 3:
        return undecided(f"{len(rho)} pairs of models with 50 lines of known oddness, 3 needed", len(rho))
    interval, effect = statistics.t_interval(rho), statistics.t_interval(delta)
    found = interval.low > correlation and effect.low > 0
    contradicted = interval.high < correlation or effect.high < 0
    summary = (
        f"Spearman {shown(interval)}, Cliff's delta of the largest gaps {shown(effect)}; {len(frame) // len(rho)} lines"
    )
    return Outcome(decide(found, contradicted, len(rho), seeds), *interval, n=len(rho), summary=summary)
