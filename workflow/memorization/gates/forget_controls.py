"""Controls on federated unlearning (Learn to Forget, brief C1 to C5): what forgetting rates are worth. All of ours."""

import numpy as np
import pandas as pd
from scipy import stats

from memorization import statistics, tidy, tidy_forget
from memorization.gates.forget_rates import (
    FEWEST,
    TWO,
    equal_within,
    fewest,
    informative,
    listed,
    mean_of,
    strata,
    together,
)
from memorization.gates.outcome import Outcome, above, equivalent, shown, undecided, within

PSEUDO = 2
"""Hits and misses that are added to counts (Agresti and Coull), so that none of many does not mean certainty."""


def sampling_margin(frame: pd.DataFrame) -> pd.Series:
    """Half of the 95 % sampling interval, in points, of one federation's FR of retraining around 1 - f/t.

    Of n forget examples AT ~ Bin(n, f) stay positive, f itself is known from m test examples, and FR = 1 - AT/BT:
    variance f(1 - f)(1/n + 1/m) / t^2.
    """
    hits = frame["f"] * frame["test_n"]
    f = (hits + PSEUDO) / (frame["test_n"] + 2 * PSEUDO)
    variance = f * (1 - f) * (1 / frame["forget_n"] + 1 / frame["test_n"]) / frame["t"] ** 2
    return 100 * stats.norm.ppf(0.975) * np.sqrt(variance)


def retraining_as_predicted(table: pd.DataFrame, reference: pd.DataFrame, *, seeds: int) -> Outcome:
    """C1: retraining scores FR = 1 - f/t, by the confidence and by the loss oracle. Equivalence (TOST over all seeds)
    within the sampling interval of one federation; contradicted where the mean of one data set lies outside.

    If it fails, the pipeline is wrong.
    """
    verdicts, words, worst = [], [], None
    for oracle in TWO:
        found = tidy_forget.results(table, oracle, "retrain").dropna(subset=["fr", "expected", "t", "f"])
        found = found[found["positives"] > 0]
        if found.groupby("dataset")["seed"].nunique().min() < FEWEST or not len(found):
            return undecided(f"{oracle}: retraining of fewer than {FEWEST} seeds of a data set")
        found = found.assign(gap=found["fr"] - found["expected"], margin=sampling_margin(found))
        found = found.assign(scaled=found["gap"] / found["margin"])
        interval, test = statistics.equivalence(found["scaled"], -1, 1)
        parts = [statistics.equivalence(g["scaled"], -1, 1)[0] for _, g in found.groupby("dataset")]
        outside = any(part.low > 1 or part.high < -1 for part in parts)
        verdicts.append(False if outside else equivalent(test.p_value, interval, 1))
        gap = mean_of(strata(found, "gap", ["dataset"]), 0.90)
        words.append(f"{oracle} {shown(gap, 'points')} (90 %; sampling ±{found['margin'].mean():.3g})")
        if worst is None or abs(gap.estimate) > abs(worst[0].estimate):
            worst = gap, test, found["seed"].nunique()
    summary = f"FR of retraining minus 100 (1 - f/t): {'; '.join(words)}; {worst[2]} of {seeds} planned seeds"
    return Outcome(together(verdicts), *worst[0], *worst[1], n=worst[2], summary=summary)


def forgets_nothing(
    table: pd.DataFrame, reference: pd.DataFrame, *, method: str, margin: float, many: int, loose: float, seeds: int
) -> Outcome:
    """C2: without dummy gradients nothing is forgotten: FR within `margin` points of 0 with `many` forget examples and
    more, within `loose` of 0 with fewer (TOST over seeds, mean over data sets), by both oracles.
    """
    verdicts, words, worst = [], [], None
    for oracle in TWO:
        found = tidy_forget.results(table, oracle, method).dropna(subset=["fr"])
        groups, left_out = informative(found, ["dataset"])
        n = fewest(groups)
        if n < FEWEST:
            return undecided(f"{oracle}: {n} seeds of {method}, {FEWEST} needed{left_out}", n)
        wide = margin if found["forget_n"].min() >= many else loose
        interval = mean_of(groups, 0.90)
        verdict = equal_within(interval, wide)
        verdicts.append(None if verdict and n < seeds else verdict)
        words.append(f"{oracle} {shown(interval, 'points')} (90 %; margin {wide:g}; {listed(groups)}{left_out})")
        if worst is None or abs(interval.estimate) > abs(worst[0].estimate):
            worst = interval, n
    summary = f"forgetting rate of {method}: {'; '.join(words)}; {worst[1]} of {seeds} planned seeds"
    return Outcome(together(verdicts), *worst[0], n=worst[1], summary=summary)


def beats_placebo(table: pd.DataFrame, reference: pd.DataFrame, *, seeds: int) -> Outcome:
    """C3: at an equal drop of test accuracy Forsaken forgets more than random updates of the same norms (Student's t
    over seeds, paired; mean over data sets), by both oracles.
    """
    frame = tidy_forget.rows(table)
    drops = _drops(frame)
    found = {}
    for oracle in TWO:
        rates = tidy_forget.rates(frame, oracle).set_index([*tidy_forget.UNIT, "step"])["value"].rename("fr")
        both = drops.merge(rates.reset_index(), on=[*tidy_forget.UNIT, "step"])
        keys = ["dataset", *tidy.MODEL, "seed"]
        gained = pd.DataFrame(
            [(*key, _gain(own)) for key, own in both.groupby(keys)], columns=[*keys, "gain"]
        ).dropna()  # fmt: skip
        found[oracle] = strata(gained, "gain", ["dataset"])
    return _by_both(found, seeds, "the placebo", "FR of Forsaken minus that of the placebo at equal drop")


def _by_both(found: dict[str, dict[str, np.ndarray]], seeds: int, rival: str, what: str) -> Outcome:
    """Is Forsaken's lead over `rival`, in points, above 0 by every oracle (`found`: oracle -> strata)? The less certain
    interval is reported.
    """
    verdicts, words, worst = [], [], None
    for oracle, groups in found.items():
        n = fewest(groups)
        if n < FEWEST:
            return undecided(f"{oracle}: Forsaken beside {rival} in {n} seeds, {FEWEST} needed", n)
        interval = mean_of(groups)
        verdict, why = above(interval, 0, n, seeds)
        verdicts.append(verdict)
        words.append(f"{oracle} {shown(interval, 'points')} ({listed(groups)}){why}")
        if worst is None or interval.low < worst[0].low:
            worst = interval, n
    return Outcome(together(verdicts), *worst[0], n=worst[1], summary=f"{what}: {'; '.join(words)}")


def _drops(frame: pd.DataFrame) -> pd.DataFrame:
    """Fall of test accuracy since round 0, in points, of Forsaken and the placebo."""
    found = tidy_forget.accuracies(frame)
    found = found[found["method"].isin(("forsaken", "placebo"))]
    first = found[found["step"] == 0].set_index(tidy_forget.UNIT)["value"].rename("first")
    found = found.merge(first.reset_index(), on=tidy_forget.UNIT)
    return found.assign(drop=found["first"] - found["value"])


def _gain(own: pd.DataFrame) -> float:
    """The best FR of Forsaken minus the placebo's at no larger a drop than the lesser of their largest ones."""
    largest = own.groupby("method")["drop"].max()
    if len(largest) < 2:
        return np.nan
    allowed = own[own["drop"] <= max(largest.min(), 0)]
    best = allowed.groupby("method")["fr"].max()
    return float(best["forsaken"] - best["placebo"])


def forgets_more_than_retraining(table: pd.DataFrame, reference: pd.DataFrame, *, seeds: int) -> Outcome:
    """C4: Forsaken's forgetting rate is above that of retraining, the model that never saw the data: over-forgetting
    (paired, mean over data sets, 95 % interval above 0), by both oracles. No part of H1.
    """
    found = {}
    for oracle in TWO:
        results = tidy_forget.results(table, oracle)
        pair = {m: results[results["method"] == m].set_index(["dataset", *tidy.MODEL])["fr"] for m in _PAIR}
        gap = (pair["forsaken"] - pair["retrain"]).dropna().rename("gap").reset_index()
        found[oracle] = strata(gap.assign(seed=gap["replicate"]), "gap", ["dataset"]) if len(gap) else {}
    return _by_both(found, seeds, "retraining", "FR of Forsaken minus that of retraining")


_PAIR = ("forsaken", "retrain")


def memorises_enough(table: pd.DataFrame, reference: pd.DataFrame, *, least: float, seeds: int) -> Outcome:
    """C5: on every data set the oracles' hit rate on the forget set exceeds that on unseen data by `least`, before
    anything is forgotten. Where it does not, FR is uninformative and the row stays out of H1.
    """
    verdicts, words, worst = [], [], None
    for oracle in TWO:
        found = tidy_forget.results(table, oracle).drop_duplicates(["dataset", *tidy.MODEL])
        groups = strata(found.assign(told=found["t"] - found["f"]), "told", ["dataset"])
        n = fewest(groups)
        if n < FEWEST:
            return undecided(f"{oracle}: t and f of {n} seeds, {FEWEST} needed", n)
        intervals = {name: statistics.t_interval(values) for name, values in groups.items()}
        verdicts += [within(interval, least, np.inf, n, seeds) for interval in intervals.values()]
        words.append(f"{oracle} {listed(groups)}")
        low = min(intervals.values(), key=lambda interval: interval.estimate)
        if worst is None or low.estimate < worst[0].estimate:
            worst = low, n
    summary = f"t - f before: {'; '.join(words)}"
    return Outcome(together(verdicts), *worst[0], n=worst[1], summary=summary)
