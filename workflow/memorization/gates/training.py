"""Tests on exposure while training: Figures 7 and 8."""

import numpy as np
import pandas as pd
from scipy import stats

from memorization import statistics, tidy
from memorization.gates.outcome import Outcome, decide, per_seed, shown, undecided, within


def jumps(table: pd.DataFrame, kind: str, method: str) -> pd.DataFrame:
    """Exposure after minus before every mini-batch that held the canary: seed, epoch, jump (bits), per
    canary. Only where both sides of that one mini-batch were measured.
    """
    frame = tidy.points(tidy.rows(table, "measures"), method, kind)
    frame = frame[frame["moment"].isin(["start", "batch"])].assign(seed=lambda f: tidy.seeds(f))
    frame = frame.sort_values("step")
    before = frame.groupby([*tidy.MODEL, "index"])[["exposure_bits", "step"]].shift()
    frame = frame.assign(jump=frame["exposure_bits"] - before["exposure_bits"])
    frame = frame[frame["holds_canary"] & frame["jump"].notna() & (frame["step"] - before["step"] == 1)]
    return frame.assign(epoch=np.ceil(frame["epoch"]).astype(int))[["seed", "epoch", "index", "jump"]]


def jump_at_canary(table: pd.DataFrame, reference: pd.DataFrame, *, method: str, seeds: int) -> Outcome:
    """G6: paired Wilcoxon of exposure after against before the canary's mini-batch, mean over epochs per
    seed.
    """
    frame = jumps(table, "inserted", method)
    values = frame.groupby("seed")["jump"].mean().to_numpy()
    if len(values) < 5:
        return undecided(f"{len(values)} seeds; a one-sided Wilcoxon test needs 5 to reach .05", len(values))
    test = statistics.wilcoxon_paired(values, np.zeros_like(values))
    interval = statistics.bootstrap_interval(values)
    verdict = decide(test.p_value < 0.05, interval.high < 0, len(values), seeds)
    epochs = "; ".join(f"epoch {e}: {v:+.2g}" for e, v in frame.groupby("epoch")["jump"].mean().items())
    summary = f"mean jump {shown(interval, 'bits')} ({epochs})"
    return Outcome(verdict, *interval, *test, n=len(values), summary=summary)


def controls_no_jump(
    table: pd.DataFrame, reference: pd.DataFrame, *, method: str, margin: float, seeds: int
) -> Outcome:
    """G6: the same difference for canaries that were not inserted is equivalent to zero (TOST, per seed)."""
    values = jumps(table, "control", method).groupby("seed")["jump"].mean().to_numpy()
    if len(values) < 3:
        return undecided(f"{len(values)} seeds with controls, 3 needed", len(values))
    interval, test = statistics.equivalence(values, -margin, margin)
    outside = interval.low > margin or interval.high < -margin
    verdict = decide(test.p_value < 0.05, outside, len(values), seeds)
    return Outcome(verdict, *interval, *test, n=len(values), summary=f"mean jump {shown(interval, 'bits')} (90 %)")


def exposure_after_epoch(
    table: pd.DataFrame,
    reference: pd.DataFrame,
    *,
    method: str,
    epoch: float,
    low: float,
    high: float,
    seeds: int,
) -> Outcome:
    """G6: mean exposure at the end of `epoch` lies in [low, high]."""
    frame = tidy.points(tidy.rows(table, "measures"), method)
    frame = frame[frame["epoch"].between(epoch - 0.05, epoch + 1e-6)].sort_values("step")
    last = frame.groupby(tidy.MODEL).tail(1)
    values = per_seed(last, "exposure_bits").to_numpy()
    if len(values) < 3:
        return undecided(f"{len(values)} seeds measured at the end of epoch {epoch:g}, 3 needed", len(values))
    interval = statistics.t_interval(values)
    verdict = within(interval, low, high, len(values), seeds)
    return Outcome(verdict, *interval, n=len(values), summary=f"{shown(interval, 'bits')} after epoch {epoch:g}")


def by_epoch(table: pd.DataFrame, method: str) -> pd.DataFrame:
    """Curves joined with the inserted canary's exposure at every whole epoch, one row per model and epoch."""
    measures = tidy.points(tidy.rows(table, "measures"), method)
    measures = measures[measures["moment"].isin(["start", "epoch"])]
    curves = tidy.rows(table, "curves")
    curves = curves.assign(seed=tidy.seeds(curves))
    keys = [*tidy.MODEL, "step"]
    return curves.merge(measures[[*keys, "exposure_bits"]], on=keys).sort_values("epoch")


def plateau_at_loss_minimum(
    table: pd.DataFrame, reference: pd.DataFrame, *, method: str, share: float, margin: float, seeds: int
) -> Outcome:
    """G7: first epoch at `share` of the maximal exposure minus the epoch of least test loss, within +-margin
    (TOST).

    Only models whose test loss passed its minimum and whose maximum is beyond what the largest of as many null
    exposures reaches in 5 % of cases (P(exposure >= x) = 2^-x): noise has a maximum too, but no plateau.
    """
    differences, left_out = [], 0
    for _, model in by_epoch(table, method).groupby(tidy.MODEL):
        least = model.loc[model["test_loss_nats"].idxmin(), "epoch"]
        memorised = model["exposure_bits"].max() > np.log2(len(model) / 0.05)
        if least == model["epoch"].max() or not memorised:
            left_out += 1
        else:
            high = model["exposure_bits"] >= share * model["exposure_bits"].max()
            differences.append((model["seed"].iloc[0], model.loc[high, "epoch"].iloc[0] - least))
    values = pd.DataFrame(differences, columns=["seed", "d"]).groupby("seed")["d"].mean().to_numpy(dtype=float)
    if len(values) < 3:
        needed = "seeds that memorised and whose test loss passed its minimum, 3 needed"
        return undecided(f"{len(values)} {needed}", len(values))
    interval, test = statistics.equivalence(values, -margin, margin)
    outside = interval.low > margin or interval.high < -margin
    verdict = decide(test.p_value < 0.05, outside, len(values), seeds)
    summary = f"{share:.0%} of the maximum {shown(interval, 'epochs')} (90 %) after the least test loss"
    summary += f"; {left_out} models left out" * bool(left_out)
    return Outcome(verdict, *interval, *test, n=len(values), summary=summary)


def overfitting_does_not_raise(
    table: pd.DataFrame,
    reference: pd.DataFrame,
    *,
    method: str,
    early: float,
    late: float,
    margin: float,
    seeds: int,
) -> Outcome:
    """G7: exposure(late) - exposure(early) is below `margin`: the upper of TOST's two tests; a fall is no
    objection.
    """
    frame = by_epoch(table, method)
    wide = frame.pivot_table(index="seed", columns=frame["epoch"].round(6), values="exposure_bits")
    if not {early, late} <= set(wide.columns):
        reached = wide.columns.max() if len(wide.columns) else 0
        return undecided(f"needs epochs {early:g} and {late:g}; training reached {reached:g}", len(wide))
    values = (wide[late] - wide[early]).dropna().to_numpy()
    if len(values) < 3:
        return undecided(f"{len(values)} seeds, 3 needed", len(values))
    interval = statistics.t_interval(values, 0.90)
    test = stats.ttest_1samp(values, margin, alternative="less")
    two_sided = stats.ttest_1samp(values, 0)
    verdict = decide(test.pvalue < 0.05, interval.low > margin, len(values), seeds)
    change = f"exposure({late:g}) - exposure({early:g}) = {shown(interval, 'bits')}"
    summary = f"{change} (90 %), paired t p = {two_sided.pvalue:.2g}"
    return Outcome(verdict, *interval, test.statistic, test.pvalue, len(values), summary)


def early_stopping_insufficient(
    table: pd.DataFrame, reference: pd.DataFrame, *, methods: list[str], seeds: int
) -> Outcome:
    """G16: at the epoch of least validation loss, are exposures above those of canaries never inserted (Gamma
    test)?

    methods: in order of preference; the first that was measured for every model at that epoch is used.
    """
    curves = tidy.rows(table, "curves")
    best = curves.loc[curves.groupby(tidy.MODEL)["validation_loss_nats"].idxmin(), [*tidy.MODEL, "step"]]
    last = int((best["step"].to_numpy() == curves.groupby(tidy.MODEL)["step"].max().to_numpy()).sum())
    found = {m: by_epoch(table, m).merge(best, on=[*tidy.MODEL, "step"]) for m in methods}
    method = next((m for m in methods if len(found[m]) == len(best) > 0), None)
    if method is None:
        return undecided(f"no method of {', '.join(methods)} was measured for every model at its least validation loss")
    best = found[method]
    values = best.groupby("seed")["exposure_bits"].mean().to_numpy()
    if len(values) < 3:
        return undecided(f"{len(values)} seeds, 3 needed", len(values))
    interval, test = statistics.t_interval(values), statistics.exponential_null(values)
    if method == "exact":  # Student's interval does not know that no exact exposure lies beyond log2|R|
        interval = interval._replace(high=min(interval.high, tidy.space_bits(table, reference)))
    contradicted = interval.high < statistics.NULL_MEAN_BITS
    verdict = decide(test.p_value < 0.05, contradicted, len(values), seeds)
    ceiling = tidy.space_bits(table, reference)
    name = "at the ceiling (extractable)" if method == "exact" else "estimated at log2|R| or more"
    share = f", {name} in {np.mean(values >= ceiling - 1e-6):.0%}" if ceiling > 0 else ""
    summary = f"{method} exposure {shown(interval, 'bits')} at the least validation loss{share}; null mean 1.44"
    summary += f"; in {last} models the loss was still falling" * bool(last)
    return Outcome(verdict, *interval, *test, n=len(values), summary=summary)
