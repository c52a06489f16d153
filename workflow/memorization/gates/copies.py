"""Tests on the number of copies of a canary (B4), and on the two back ends' agreement."""

import numpy as np
import pandas as pd

from memorization import statistics, tidy_privacy
from memorization.gates.outcome import Outcome, decide, equivalent, shown, undecided


def one_copy_ranks_first(table: pd.DataFrame, reference: pd.DataFrame, *, copies: int, seeds: int) -> Outcome:
    """G7: without privacy the canary's exact rank is 1 in most seeds (Clopper-Pearson lower bound above one half).

    A model whose walk was not finished counts as "not first" where a likelier fill was seen.
    """
    frame = tidy_privacy.canaries(table)
    frame = frame[~frame["private"] & (frame["copies"] == copies)]
    known = frame[frame["rank"].notna() | frame["beaten"]]
    n = len(known)
    if not n:
        return undecided(f"no model without privacy and {copies} copies whose rank is known")
    first = int((known["rank"] == 1).sum())
    share = statistics.binomial_interval(first, n)
    verdict = decide(share.low > 0.5, share.high < 0.5, n, seeds)
    mean = frame["bits"].mean()
    summary = f"rank 1 in {first} of {n} models, {shown(share)}; mean exposure {mean:.3g} bits"
    return Outcome(verdict, *share, statistic=first, n=n, summary=summary)


def copies_are_null(
    table: pd.DataFrame, reference: pd.DataFrame, *, copies: int, noise: float, margin: float, seeds: int
) -> Outcome:
    """G8, G10: mean exposure of canaries with `copies` copies under noise multiplier `noise` equals that of fills never
    inserted into the same models, within +-margin bits (TOST, per seed).
    """
    frame = tidy_privacy.canaries(table)
    frame = frame[frame["private"] & (frame["copies"] == copies) & np.isclose(frame["noise"], noise)]
    never = tidy_privacy.controls(table).merge(frame[tidy_privacy.RUN].drop_duplicates(), on=tidy_privacy.RUN)
    values = frame.groupby("pair")["bits"].mean().to_numpy()
    if len(values) < 3 or not len(never):
        mean = f", mean exposure {values.mean():.3g} bits" if len(values) else ""
        return undecided(f"{len(values)} seeds at noise {noise:g} with {copies} copies, 3 needed{mean}", len(values))
    interval, test = statistics.equivalence_of_means(values, never["exposure_bits"], -margin, margin)
    verdict = equivalent(test.p_value, interval, margin)
    summary = f"inserted {values.mean():.3g} bits, never inserted {never['exposure_bits'].mean():.3g}; "
    summary += f"difference {shown(interval, 'bits')} (90 %), {len(values)} of {seeds} planned seeds"
    if verdict and not _learned_without_privacy(table, copies):
        return undecided(f"{summary}; without privacy nothing was memorised either", len(values))
    return Outcome(verdict, *interval, *test, n=len(values), summary=summary)


def _learned_without_privacy(table: pd.DataFrame, copies: int) -> bool:
    """The positive control: is the canary beyond the null law (Gamma test) in the models without privacy?"""
    frame = tidy_privacy.canaries(table)
    frame = frame[~frame["private"] & (frame["copies"] == copies)]
    values = frame.groupby("pair")["bits"].mean().to_numpy()
    return len(values) > 0 and statistics.exponential_null(values).p_value < 0.05


def copies_are_learned(table: pd.DataFrame, reference: pd.DataFrame, *, noise: float, seeds: int) -> Outcome:
    """G9: exposure under `noise` rises with the number of copies (Jonckheere and Terpstra's test: every count has seeds
    of its own), and some count's mean is beyond the null law (Gamma test, Bonferroni over the counts).
    """
    frame = tidy_privacy.canaries(table)
    frame = frame[frame["private"] & np.isclose(frame["noise"], noise)]
    groups = [(copies, g.groupby("pair")["bits"].mean().to_numpy()) for copies, g in frame.groupby("copies")]
    n = sum(len(values) for _, values in groups)
    if len(groups) < 3 or min((len(v) for _, v in groups), default=0) < 2:
        return undecided(f"{len(groups)} counts of copies at noise {noise:g}; 3 with 2 seeds each needed", n)
    trend = statistics.jonckheere([values for _, values in groups])
    means = "; ".join(f"{copies:g}: {values.mean():.3g}" for copies, values in groups)
    beyond = [c for c, values in groups if statistics.exponential_null(values).p_value < 0.05 / len(groups)]
    summary = (
        f"mean exposure by copies {means} bits; beyond the null from {f'{beyond[0]:g} copies' if beyond else 'none'}"
    )
    verdict = decide(trend.p_value < 0.05 and bool(beyond), False, len(groups[0][1]), seeds)
    last = statistics.t_interval(groups[-1][1])
    return Outcome(verdict, *last, *trend, n=n, summary=summary)


SCALED = {"loss": ("nats", 1.0), "exposure": ("bits", 1.0), "accuracy": ("points", 100.0)}
"""What back ends are compared by -> unit, factor."""


def differences(table: pd.DataFrame, value: str) -> pd.DataFrame:
    """tf - torch of models of the same run and replicate: run, private, pair, torch, tf, difference.

    value: loss (nats, test), exposure (bits, of the first canary) or accuracy (percent, test).
    """
    if value == "exposure":
        frame, column = tidy_privacy.canaries(table), "bits"
    else:
        frame, column = tidy_privacy.final(table), "test_loss_nats" if value == "loss" else "test_accuracy"
    keys = ["run", "private", "replicate", "pair"]
    frame = frame.assign(value=SCALED[value][1] * frame[column])
    wide = frame.pivot_table(index=keys, columns="backend", values="value").reindex(columns=["torch", "tf"])
    wide = wide.dropna().reset_index().rename_axis(columns=None)
    return wide.assign(difference=wide["tf"] - wide["torch"])


def back_ends_agree(table: pd.DataFrame, reference: pd.DataFrame, *, value: str, margin: float, seeds: int) -> Outcome:
    """G12: in every training the mean of tf - torch, paired by seed, is within +-margin (TOST)."""
    frame, unit = differences(table, value), SCALED[value][0]
    if not len(frame):
        return undecided("no model trained in both back ends")
    listed, verdicts, worst = [], [], None
    for (is_private, _), group in frame.groupby(["private", "run"]):
        interval, test = statistics.equivalence(group["difference"], -margin, margin)
        verdicts.append(equivalent(test.p_value, interval, margin))
        listed.append(f"{'private' if is_private else 'not private'}: {shown(interval, unit)}")
        worst = max(filter(None, (worst, (interval, test, len(group)))), key=lambda found: abs(found[0].estimate))
    verdict = False if False in verdicts else None if None in verdicts else True
    interval, test, n = worst
    summary = f"tf - torch, {'; '.join(listed)} (90 %), {n} of {seeds} planned seeds"
    return Outcome(verdict, *interval, *test, n=n, summary=summary)
