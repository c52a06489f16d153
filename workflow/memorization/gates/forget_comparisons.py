"""Tests that compare ways of forgetting, messages and settings (Learn to Forget, R1, R4, R5, R7-R9, R12): H3, H4, H6,
and claims of ours.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from memorization import statistics, tidy, tidy_forget
from memorization.gates.forget_rates import FEWEST, TWO, equal_within, fewest, listed, mean_of, strata, together
from memorization.gates.outcome import Outcome, above, decide, shown, undecided

FEWEST_SETS = 5
"""Data sets from which Wilcoxon's one-sided test can reach level .05."""
FORGETS = 10.0
"""Per cent: a method that never reaches this forgetting rate has none to be matched."""


def matched(frame: pd.DataFrame, oracle: str, rival: str) -> pd.DataFrame:
    """Forsaken beside `rival` at the largest forgetting rate that both reach, one row per federation.

    Columns dataset, MODEL, seed, level (per cent), utility (points of test accuracy, Forsaken minus rival), speed (log
    of the rival's seconds over Forsaken's; NaN where no times are known). A method that begins with a new model stands
    where it ends, the others anywhere on their way; Forsaken must reach the former's rate.
    """
    keys = ["dataset", *tidy.MODEL, "seed", "item", "method", "step"]
    parts = {
        "fr": tidy_forget.rates(frame, oracle),
        "accuracy": tidy_forget.accuracies(frame),
        "seconds": tidy_forget.trajectories(frame, "seconds_all", start=0.0),
    }
    joined = None
    for name, part in parts.items():
        column = part[part["method"].isin(("forsaken", rival))].set_index(keys)["value"].rename(name)
        joined = column.to_frame() if joined is None else joined.join(column, how="left")
    found = []
    for key, own in joined.reset_index().groupby(keys[:5]):
        one = _pair(own, rival)
        if one is not None:
            found.append((*key, *one))
    return pd.DataFrame(found, columns=[*keys[:5], "level", "utility", "speed"])


def _pair(own: pd.DataFrame, rival: str) -> tuple[float, float, float] | None:
    ours, theirs = (own[own["method"] == method].sort_values("step") for method in ("forsaken", rival))
    if not len(ours) or not len(theirs):
        return None
    scratch = rival in tidy_forget.FROM_SCRATCH
    reached = theirs["fr"].iloc[-1] if scratch else theirs["fr"].max()
    level = reached if scratch else min(reached, ours["fr"].max())
    if level < FORGETS or ours["fr"].max() < level:
        return None
    at = {}
    for name in ("accuracy", "seconds"):
        rivals = theirs[name].iloc[-1] if scratch else tidy_forget.at_level(level, theirs["fr"], theirs[name])
        at[name] = tidy_forget.at_level(level, ours["fr"], ours[name]), rivals
    (mine, other), (spent, taken) = at["accuracy"], at["seconds"]
    speed = np.log(taken / spent) if spent > 0 and taken > 0 else np.nan
    return float(level), mine - other, speed


def better_at_equal_rate(table: pd.DataFrame, reference: pd.DataFrame, *, rivals: Sequence[str], seeds: int) -> Outcome:
    """H3: at equal forgetting rate (confidence oracle) Forsaken leaves a better test accuracy than every rival, or is
    faster. Wilcoxon over data sets (means over seeds).

    Time is reported; a win by time alone decides nothing, because what is measured at small sizes is overhead.
    """
    frame = tidy_forget.rows(table)
    verdicts, words, worst = [], [], None
    for rival in rivals:
        pairs = matched(frame, TWO[0], rival)
        groups, speeds = strata(pairs, "utility", ["dataset"]), strata(pairs, "speed", ["dataset"])
        if not groups or fewest(groups) < FEWEST:
            words.append(f"{rival}: no equal rate in {FEWEST} seeds")
            verdicts.append(None)
            continue
        means = np.array([values.mean() for values in groups.values()])
        test, against = (statistics.wilcoxon_paired(sign * means, np.zeros(len(means))) for sign in (1, -1))
        interval = mean_of(groups)
        faster = np.exp(np.mean([v.mean() for v in speeds.values()])) if speeds else np.nan
        enough = len(means) >= FEWEST_SETS and fewest(groups) >= seeds
        verdict = decide(test.p_value < 0.05, against.p_value < 0.05, len(means) if enough else 0, FEWEST_SETS)
        verdicts.append(None if verdict is False and faster > 1 else verdict)
        words.append(
            f"{rival} {shown(interval, 'points')} at FR {pairs['level'].mean():.0f} %, better on "
            f"{np.sum(means > 0)} of {len(means)} sets, {faster:.2g} times as fast"
        )
        if worst is None or interval.estimate < worst[0].estimate:
            worst = interval, test, fewest(groups)
    summary = f"test accuracy, Forsaken minus rival: {'; '.join(words)}"
    if worst is None:
        return undecided(summary)
    return Outcome(together(verdicts), *worst[0], *worst[1], n=worst[2], summary=summary)


def cheaper_than_retraining(table: pd.DataFrame, reference: pd.DataFrame, *, sets: int) -> Outcome:
    """H4: wall-clock time of retraining over that of Forsaken, the other users' work included, on the same device, is
    above 1 (geometric mean; Student's t over data sets: the seeds of one are timed together, one measurement).
    """
    times = tidy_forget.last(tidy_forget.measured(tidy_forget.rows(table), "seconds_all"))
    means = times.groupby(["method", "dataset"])["value"].mean()
    ours, theirs = (means.xs(method) if method in means else pd.Series(dtype=float) for method in _PAIR)
    ratio = np.log(theirs / ours).dropna()
    n = len(ratio)
    if n < FEWEST:
        return undecided(f"times on {n} data sets, {FEWEST} needed", n)
    interval = statistics.Interval(*np.exp(statistics.t_interval(ratio.to_numpy())))
    factors = ", ".join(f"{name} {np.exp(value):.3g}" for name, value in ratio.items())
    summary = f"retraining takes {shown(interval)} times as long ({factors})"
    return Outcome(decide(interval.low > 1, interval.high < 1, n, sets), *interval, n=n, summary=summary)


_PAIR = ("forsaken", "retrain")


def same_messages(table: pd.DataFrame, reference: pd.DataFrame, *, method: str) -> Outcome:
    """H6 (a): a round of forgetting sends as many messages and bytes as an ordinary one, exactly."""
    frame = tidy_forget.rows(table)
    words, equal, n = [], [], 0
    for measure in ("messages_per_round", "bytes_per_round"):
        own = tidy_forget.measured(frame, measure)
        base = tidy_forget.of_base(own).rename("base").reset_index()
        asked = own[own["method"] == method].merge(base, on=tidy.MODEL)
        if not len(asked):
            return undecided(f"no {measure} of the base model and of {method}")
        equal.append(bool((asked["value"] == asked["base"]).all()))
        words.append(f"{measure.removesuffix('_per_round')} {asked['value'].mean():g} beside {asked['base'].mean():g}")
        n = asked["seed"].nunique()
    return Outcome(all(equal), n=n, summary=f"per round of {method} and of training: {', '.join(words)}")


def masked_sums_equal(table: pd.DataFrame, reference: pd.DataFrame, *, limit: float) -> Outcome:
    """H6 (b): under secure aggregation, a round with dummy updates has the sum of its plain updates, to `limit`."""
    found = tidy_forget.measured(tidy_forget.rows(table), "masked_sum_error")
    found = found[found["method"] == "forsaken"]
    if not len(found):
        return undecided("no sum of masked updates")
    largest, n = float(found["value"].max()), found["seed"].nunique()
    return Outcome(
        largest <= limit, largest, n=n, summary=f"masked sums differ from plain ones by at most {largest:.2g}"
    )


def updates_alike(table: pd.DataFrame, reference: pd.DataFrame, *, margin: float, seeds: int) -> Outcome:
    """H6 (c): a server that sees single updates cannot tell Forsaken's from ordinary ones by norm or by direction: AUC
    within `margin` of one half (TOST over seeds, mean over data sets).
    """
    found = tidy_forget.last(tidy_forget.measured(tidy_forget.rows(table), "auc_update"))
    found = found[found["method"] == "forsaken"]
    verdicts, words, worst = [], [], None
    for part, own in found.groupby("part"):
        groups = strata(own, "value", ["dataset"])
        n = fewest(groups)
        if n < FEWEST:
            return undecided(f"AUC by {part} of {n} seeds, {FEWEST} needed", n)
        interval = mean_of(groups, 0.90)
        gap = statistics.Interval(*(limit - 0.5 for limit in interval))
        verdicts.append(equal_within(gap, margin))
        words.append(f"{part} {shown(interval)}")
        if worst is None or abs(gap.estimate) > abs(worst[0].estimate - 0.5):
            worst = interval, n
    if worst is None:
        return undecided("no update was compared")
    return Outcome(together(verdicts), *worst[0], n=worst[1], summary=f"AUC (90 %): {', '.join(words)}")


def _rises(groups: dict[str, np.ndarray], seeds: int, what: str, unit: str = "") -> Outcome:
    """Is the mean over strata of differences above 0 (95 %)?"""
    n = fewest(groups)
    if n < FEWEST:
        return undecided(f"{what}: {n} seeds, {FEWEST} needed", n)
    interval = mean_of(groups)
    verdict, why = above(interval, 0, n, seeds)
    return Outcome(verdict, *interval, n=n, summary=f"{what}: {shown(interval, unit)} ({listed(groups)}){why}")


def outputs_approach_target(table: pd.DataFrame, reference: pd.DataFrame, *, seeds: int) -> Outcome:
    """R7: from the first to the last measured round of Forsaken the outputs on the forget set come nearer to the target
    (KL divergence, nats; paired over seeds, mean over data sets).
    """
    found = tidy_forget.measured(tidy_forget.rows(table), "kl_to_target")
    found = found[found["method"] == "forsaken"].sort_values("step")
    ends = found.groupby(["dataset", *tidy_forget.UNIT, "seed"])["value"].agg(["first", "last"])
    groups = strata((ends["first"] - ends["last"]).rename("fall").reset_index(), "fall", ["dataset"])
    return _rises(groups, seeds, "fall of the KL divergence from the target", "nats")


def importance_spares_accuracy(table: pd.DataFrame, reference: pd.DataFrame, *, seeds: int) -> Outcome:
    """R8: at the forgetting rate that both reach, a penalty weighted by importance leaves a better accuracy on retained
    data than no penalty (mean over its positive weights; paired over seeds, mean over data sets).
    """
    frame = tidy_forget.rows(table)
    rate = tidy_forget.rates(frame, TWO[0])
    keys = ["dataset", *tidy_forget.UNIT, "seed", "step"]
    retained = tidy_forget.accuracies(frame, "retain").set_index(keys)["value"].rename("accuracy")
    joined = rate.merge(retained.reset_index(), on=keys).query("method == 'forsaken'")
    found = []
    for key, own in joined.groupby(["dataset", *tidy.MODEL, "seed"]):
        free = own[(own["request.importance"] == "none") | (own["request.penalty"] == 0)]
        weighed = own[(own["request.importance"] == "gradient") & (own["request.penalty"] > 0)]
        if not len(free):
            continue
        free = free[free["item"] == free["item"].iloc[0]].sort_values("step")
        gains = [_at_shared_rate(one.sort_values("step"), free) for _, one in weighed.groupby("item")]
        if np.isfinite(gains).any():
            found.append((*key, np.nanmean(gains)))
    gained = pd.DataFrame(found, columns=["dataset", *tidy.MODEL, "seed", "gain"])
    what = "retained accuracy at equal rate, importance minus no penalty"
    return _rises(strata(gained, "gain", ["dataset"]), seeds, what, "points")


def _at_shared_rate(one: pd.DataFrame, other: pd.DataFrame) -> float:
    """Accuracy of `one` minus that of `other` at the largest forgetting rate that both reach; NaN if none."""
    level = min(one["value"].max(), other["value"].max())
    if level < FORGETS:
        return np.nan
    first, second = (tidy_forget.at_level(level, own["value"], own["accuracy"]) for own in (one, other))
    return first - second


def third_party_exchangeable(
    table: pd.DataFrame, reference: pd.DataFrame, *, source: str, margin: float, seeds: int
) -> Outcome:
    """R9: third-party data of `source` serve as well as held-out data: the forgetting rate (both oracles) is the same
    within `margin` points (TOST, paired over seeds, mean over data sets and sizes).
    """
    verdicts, words, worst = [], [], None
    column, sizes = "data.third_party_source", "data.third_party"
    for oracle in TWO:
        found = tidy_forget.results(table, oracle, "forsaken")
        if column not in found:
            return undecided("one source of third-party data")
        wide = found.pivot_table(index=["dataset", sizes, "seed"], columns=column, values="fr")
        if not {source, "same"} <= set(wide):
            return undecided(f"no third-party data of {source} beside held-out ones")
        gap = (wide[source] - wide["same"]).dropna().groupby(["dataset", "seed"]).mean().rename("gap").reset_index()
        groups = strata(gap, "gap", ["dataset"])
        n = fewest(groups)
        if n < FEWEST:
            return undecided(f"third-party data of {source}: {n} seeds, {FEWEST} needed", n)
        interval = mean_of(groups, 0.90)
        verdicts.append(equal_within(interval, margin))
        words.append(f"{oracle} {shown(interval, 'points')} ({listed(groups)})")
        if worst is None or abs(interval.estimate) > abs(worst[0].estimate):
            worst = interval, n
    told = f"{'; '.join(words)}; {worst[1]} of {seeds} planned seeds"
    summary = f"FR with {source} minus with held-out data (90 %): {told}"
    return Outcome(together(verdicts), *worst[0], n=worst[1], summary=summary)


def densities(frame: pd.DataFrame, method: str = "forsaken") -> pd.DataFrame:
    """Shares of maximum posteriors by bin: index dataset, backend, run, replicate, seed, part, bin (0..49).

    Parts before, after (`method`'s), retrain, nonmember.
    """
    found = tidy_forget.measured(frame, "confidence_density")
    found = found[(found["part"] != "after") | (found["method"] == method)]
    keys = ["dataset", *tidy.MODEL, "seed", "part", "other"]
    return found.groupby(keys)["value"].first().rename_axis(index={"other": "bin"}).reset_index()


def posterior_distances(frame: pd.DataFrame) -> pd.DataFrame:
    """Total variation distance of each population's maximum posteriors from the non-members', one row per federation:
    dataset, MODEL, seed, before, after, retrain.
    """
    found = densities(frame)
    keys = ["dataset", *tidy.MODEL, "seed"]
    wide = found.pivot_table(index=[*keys, "bin"], columns="part", values="value").fillna(0.0)
    if "nonmember" not in wide:
        return pd.DataFrame(columns=[*keys, "before", "after", "retrain"])
    parts = {p: (wide[p] - wide["nonmember"]).abs() for p in ("before", "after", "retrain") if p in wide}
    return (pd.DataFrame(parts).groupby(keys).sum() / 2).reset_index()


def posteriors_like_nonmembers(table: pd.DataFrame, reference: pd.DataFrame, *, seeds: int) -> Outcome:
    """R12: after Forsaken the maximum posteriors on the forget set are distributed more like those of examples that
    nobody trained on than before (total variation distance; paired over seeds, mean over data sets).
    """
    distances = posterior_distances(tidy_forget.rows(table))
    if not {"before", "after"} <= set(distances) or not len(distances):
        return undecided("no posteriors before and after")
    groups = strata(distances.assign(fall=distances["before"] - distances["after"]), "fall", ["dataset"])
    outcome = _rises(groups, seeds, "distance from non-members, before minus after")
    means = distances[[p for p in ("before", "after", "retrain") if p in distances]].mean()
    text = f"{outcome.summary}; {', '.join(f'{part} {value:.2g}' for part, value in means.items())}"
    return Outcome(outcome.verdict_supported, outcome.estimate, outcome.low, outcome.high, n=outcome.n, summary=text)
