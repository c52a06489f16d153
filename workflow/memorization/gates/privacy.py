"""Tests on differentially private training: Table 3, B4, and the bounds on epsilon.

Canaries of one model count singly where they are compared with what was left out: fills are drawn independently of one
another, so under the null hypothesis exposures of one model are independent too. Where memorisation itself is measured,
the independent unit is the seed.
"""

import numpy as np
import pandas as pd
from scipy import stats

from memorization import statistics, tidy_privacy
from memorization.gates.outcome import Outcome, decide, equivalent, shown, undecided
from memorization.lower_bound import attainable
from memorization.statistics import Interval


def epsilon_text(row: pd.Series) -> str:
    """`eps 0.65`, `clipping only` or `not private`, for one row of `tidy_privacy.trainings`."""
    if not row["private"]:
        return "not private"
    epsilon = row["wanted"] if np.isfinite(row["wanted"]) else row["classic_rdp"]
    if row["noise_multiplier"] == 0 or np.isinf(epsilon):
        return "clipping only"
    return f"eps {epsilon:.3g}"


def null_rows(table: pd.DataFrame, margin: float) -> pd.DataFrame:
    """One row per training whose canaries a coin inserted: `tidy_privacy.trainings`'s columns, n and mean (bits) of
    the inserted ones with the mean's 90 % t interval low, high, n_out and mean_out of those left out and of fills that
    are no canary, their difference (estimate, difference_low, difference_high, 90 %, Welch), p_value of TOST within
    +-margin, and at_limit, how many beat every reference.
    """
    rows = []
    coins = tidy_privacy.coins(table)
    for run, group in coins.groupby(tidy_privacy.RUN):
        own, other = (group.loc[group["inserted"] == side, "exposure_bits"].to_numpy() for side in (True, False))
        mean = statistics.t_interval(own, 0.90)
        difference, test = statistics.equivalence_of_means(own, other, -margin, margin)
        rows.append(
            {
                **dict(zip(tidy_privacy.RUN, run, strict=True)),
                **{"n": len(own), "mean": mean.estimate, "low": mean.low, "high": mean.high},
                **{"n_out": len(other), "mean_out": float(other.mean()) if len(other) else np.nan},
                **{"estimate": difference.estimate, "difference_low": difference.low},
                **{"difference_high": difference.high, "p_value": test.p_value},
                "at_limit": int((group["inserted"] & group["extrapolated"]).sum()),
            }
        )
    columns = [*tidy_privacy.RUN, "n", "mean", "low", "high", "n_out", "mean_out", "estimate", "difference_low",
               "difference_high", "p_value", "at_limit"]  # fmt: skip
    frame = pd.DataFrame(rows, columns=columns)
    return frame.merge(tidy_privacy.trainings(table), on=tidy_privacy.RUN)


def exposure_is_null(table: pd.DataFrame, reference: pd.DataFrame, *, margin: float, canaries: int) -> Outcome:
    """G13: in every private training the mean exposure of inserted canaries equals that of those left out, within
    +-margin bits (TOST at .05). All trainings must pass; the ones that do not are listed.

    canaries: how many inserted ones every training needs for the claim to hold. It is contradicted by an interval
    beyond the margin, and undecided where models without privacy do not expose such canaries either.
    """
    every = null_rows(table, margin)
    rows = every[every["private"]]
    if not len(rows):
        return undecided("no private training with canaries that a coin left out")
    passed = rows["p_value"] < 0.05
    outside = (rows["difference_low"] > margin) | (rows["difference_high"] < -margin)
    limits = ["estimate", "difference_low", "difference_high"]
    listed = [
        f"{r['backend']} {epsilon_text(r)}: {shown(Interval(*r[limits]), 'bits')}" for _, r in rows[~passed].iterrows()
    ]
    worst = Interval(*rows.loc[rows["estimate"].abs().idxmax(), limits])
    summary = f"{int(passed.sum())} of {len(rows)} trainings within {margin:g} bit (90 %)"
    summary += f"; not: {'; '.join(listed)}" if listed else ""
    summary += _losses_told(table)
    verdict = True if passed.all() and rows["n"].min() >= canaries else False if outside.any() else None
    # The positive control: the same canaries must be exposed where training is not private.
    exposed = set(every.loc[~every["private"] & (every["difference_low"] > margin), "backend"])
    if verdict and not set(rows["backend"]) <= exposed:
        return undecided(f"{summary}; without privacy these canaries are not exposed either", int(rows["n"].sum()))
    return Outcome(verdict, *worst, p_value=float(rows["p_value"].max()), n=int(rows["n"].sum()), summary=summary)


def _losses_told(table: pd.DataFrame) -> str:
    """Whether private models have learned anything: their test losses, for a summary."""
    final = tidy_privacy.final(table)
    final = final[final["private"]]
    if not len(final):
        return ""
    low, high = final["test_loss_nats"].min(), final["test_loss_nats"].max()
    return f"; private test losses {low:.2f} to {high:.2f} nats"


def canary_memorised(table: pd.DataFrame, reference: pd.DataFrame, *, margin: float, seeds: int) -> Outcome:
    """Table 3 without privacy: in every back end the mean exposure of the single canary is beyond the null law (Gamma
    test) and within `margin` bits of log2|R|. Where a walk was not finished, by importance sampling.
    """
    frame = tidy_privacy.canaries(table)
    frame = frame[~frame["private"] & ~frame["bound"]]
    if not len(frame):
        return undecided("no model without privacy with one canary whose exposure was measured")
    found, near, listed = [], [], []
    for backend, group in frame.groupby("backend"):
        values = group.groupby("pair")["bits"].mean().to_numpy()
        found.append(statistics.exponential_null(values).p_value)
        near.append(values.mean() >= group["space_bits"].max() - margin)
        first = int((group["rank"] == 1).sum())
        listed.append(f"{backend}: mean {values.mean():.1f} bits, rank 1 in {first} of {len(group)}")
    values = frame.groupby("pair")["bits"].mean().to_numpy()
    interval, n = statistics.t_interval(values), len(values)
    verdict = decide(max(found) < 0.05 and all(near), max(found) >= 0.05 and n >= 3, n, seeds)
    summary = f"{'; '.join(listed)}; ceiling {frame['space_bits'].max():.1f}"
    return Outcome(verdict, *interval, p_value=max(found), n=n, summary=summary)


def exposure_ignores_epsilon(table: pd.DataFrame, reference: pd.DataFrame, *, margin: float, canaries: int) -> Outcome:
    """Table 3: per back end, the change of an inserted canary's exposure from the least to the largest epsilon (its
    regression on the order of epsilon) is within +-margin bits on average (TOST over canaries: the same ones, under the
    same coins, are in the models of every epsilon).
    """
    about = tidy_privacy.trainings(table)
    about = about[about["private"] & np.isfinite(about["wanted"])]
    coins = tidy_privacy.coins(table)
    coins = coins[coins["inserted"]].merge(about[[*tidy_privacy.RUN, "wanted"]], on=tidy_privacy.RUN)
    listed, found, verdicts = [], [], []
    for backend, group in coins.groupby("backend"):
        level = group["wanted"].rank(method="dense") - 1
        slopes = _slopes(group.assign(level=level / max(level.max(), 1)))
        if level.max() < 2 or len(slopes) < canaries:
            continue
        change, test = statistics.equivalence(slopes, -margin, margin)
        verdicts.append(equivalent(test.p_value, change, margin))
        listed.append(f"{backend}: {shown(change, 'bits')} over {level.nunique()} epsilons, {len(slopes)} canaries")
        found.append((change, test, len(slopes)))
    if not found:
        return undecided("no back end with three finite epsilons and enough canaries")
    worst, test, n = max(found, key=lambda one: abs(one[0].estimate))
    verdict = False if False in verdicts else None if None in verdicts else True
    return Outcome(verdict, *worst, *test, n=n, summary=f"{'; '.join(listed)} (90 %)")


def _slopes(coins: pd.DataFrame) -> np.ndarray:
    """Least-squares slope of exposure on `level` of every canary (replicate and index) with three levels or more."""
    groups = (g for _, g in coins.groupby(["replicate", "index"]) if g["level"].nunique() > 2)
    return np.array([np.polyfit(g["level"], g["exposure_bits"], 1)[0] for g in groups])


def private_loss_penalty(
    table: pd.DataFrame, reference: pd.DataFrame, *, low: float, high: float, seeds: int
) -> Outcome:
    """Table 3: least mean test loss of the private trainings (epsilon finite) over that of the others, in percent, lies
    in [low, high] in every back end.
    """
    about = tidy_privacy.trainings(table)
    about = about[~about["private"] | np.isfinite(about["classic_rdp"])]
    final = tidy_privacy.final(table).merge(about[[*tidy_privacy.RUN, "classic_rdp"]], on=tidy_privacy.RUN)
    listed, values = [], []
    for backend, group in final.groupby("backend"):
        mean = group.groupby(["private", "run"])["test_loss_nats"].mean().groupby("private").min()
        if {True, False} == set(mean.index):
            values.append(100 * (mean[True] / mean[False] - 1))
            listed.append(f"{backend}: {mean[True]:.3f} against {mean[False]:.3f} nats, {values[-1]:+.1f} %")
    n = int(final.groupby("run")["replicate"].nunique().min()) if len(final) else 0
    if not values or n < seeds:
        return undecided("; ".join(listed) or "no pair of trainings", n)
    verdict = all(low <= value <= high for value in values)
    return Outcome(verdict, float(np.mean(values)), n=n, summary="; ".join(listed))


def measured_below_guaranteed(table: pd.DataFrame, reference: pd.DataFrame, *, convention: str) -> Outcome:
    """The empirical lower bound does not exceed the accounted epsilon: a check of ours on accounting, noise and audit.

    Only trainings whose guarantee is below what their audit could show at best can fail, so only they count; as each
    bound holds with 95 %, violations are counted against what chance allows (binomial test). Undecided without such
    trainings, or where the audit shows nothing even without privacy.
    """
    every = tidy_privacy.lower_bounds(table)
    best = [attainable(int(m), delta) for m, delta in zip(every["canaries"], every["delta"], strict=True)]
    bounds = every[every["private"] & (every[convention] < pd.Series(best, index=every.index))]
    if not len(bounds):
        return undecided("no audited private model whose guarantee the audit could contradict", len(every))
    above = bounds["epsilon_low"] > bounds[convention]
    test = stats.binomtest(int(above.sum()), len(bounds), 0.05, alternative="greater")
    summary = f"{int(above.sum())} of {len(bounds)} lower bounds above {convention} where {convention} is below "
    summary += f"{max(best):.3g}, the most that such an audit can show; largest lower bounds "
    open_to_all = every.loc[~every["private"], "epsilon_low"].max()
    summary += f"{every.loc[every['private'], 'epsilon_low'].max():.3g} private, {open_to_all:.3g} without privacy"
    if not open_to_all > 0:
        return undecided(f"{summary}: the audit has no power", len(bounds))
    share = statistics.binomial_interval(int(above.sum()), len(bounds))
    return Outcome(bool(test.pvalue >= 0.05), *share, p_value=test.pvalue, n=len(bounds), summary=summary)
