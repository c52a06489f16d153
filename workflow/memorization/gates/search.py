"""Tests on search and extraction: Figures 9, 10 and 11."""

import numpy as np
import pandas as pd

from memorization import statistics, tidy
from memorization.gates.outcome import Outcome, decide, shown, undecided
from memorization.statistics import Interval


def tree_is_exact(table: pd.DataFrame, reference: pd.DataFrame, *, rounding: float) -> Outcome:
    """Fig 9: every edge probability and leaf log-perplexity equals the paper's to its printed digits."""
    tree = tidy.rows(table, "static").set_index("node")
    column = {"edge probability": "probability", "leaf log-perplexity": "log_perplexity_bits"}
    paper = reference[reference["series"].isin(column)]
    if not len(tree) or not len(paper):
        return undecided("no tree in the table" if len(paper) else "no tree in the reference")
    ours = [tree.loc[p.label, column[p.series]] for p in paper.itertuples()]
    worst = float(np.max(np.abs(np.array(ours) - paper["y"].to_numpy())))
    summary = f"largest difference from {len(paper)} printed values: {worst:.3g}"
    return Outcome(worst <= rounding, worst, n=len(paper), summary=summary)


def greedy_misses_best(table: pd.DataFrame, reference: pd.DataFrame, *, best: str) -> Outcome:
    """Fig 9: the shortest path ends in the cheapest leaf, `best`; the greedy path ends in a dearer one."""
    leaves = tidy.rows(table, "static").query("is_leaf")
    if not len(leaves):
        return undecided("no tree in the table")
    cheapest = leaves.loc[leaves["log_perplexity_bits"].idxmin(), "node"]
    shortest = leaves.loc[leaves["on_best_path"], "node"].tolist()
    greedy = leaves.loc[leaves["on_greedy_path"], "node"].tolist()
    supported = shortest == [cheapest] == [best] and len(greedy) == 1 and greedy != [cheapest]
    summary = f"shortest path finds {', '.join(shortest)}, greedy {', '.join(greedy)}"
    return Outcome(supported, n=1, summary=summary)


def search_speed_up(
    table: pd.DataFrame, reference: pd.DataFrame, *, exposure: float, orders: float, seeds: int
) -> Outcome:
    """G9: median log10(full walk / queries) of canaries with estimated exposure >= `exposure` is at least
    `orders`.
    """
    frame = tidy.trials(table)
    frame = frame[frame["skew_normal"] >= exposure].reset_index(drop=True)
    n = frame["seed"].nunique()
    if n < statistics.FEWEST:
        return undecided(f"{n} seeds with exposure of at least {exposure:g} bits, {statistics.FEWEST} needed", n)
    full = tidy.full_walk(frame["space_bits"].to_numpy())
    cost = np.where(frame["bound"], full, np.maximum(frame["queries"], 1))  # unknown cost: assume no gain
    gain = np.log10(full / cost)
    median = statistics.cluster_bootstrap(lambda i: float(np.median(gain[i])), frame["seed"])
    verdict = decide(median.low >= orders, median.high < orders, n, seeds)
    quartiles = np.percentile(gain, [25, 75])
    summary = (
        f"median {shown(median, 'orders of magnitude')}, IQR {quartiles[0]:.2g} to {quartiles[1]:.2g}, "
        f"{len(frame)} canaries with exposure >= {exposure:g}, {int(frame['bound'].sum())} not reached: no gain"
    )
    return Outcome(verdict, *median, n=n, summary=summary)


def search_cost_falls(table: pd.DataFrame, reference: pd.DataFrame, *, seeds: int) -> Outcome:
    """G9: Kendall's correlation of queries and estimated exposure is negative (bootstrap over seeds).

    Where the canary was not reached the queries are a lower bound; pairs whose order that leaves open count as ties.
    """
    frame = tidy.trials(table).dropna(subset=["skew_normal"]).reset_index(drop=True)
    n = frame["seed"].nunique()
    if n < statistics.FEWEST or len(frame) < 10:
        return undecided(f"{len(frame)} models of {n} seeds; 10 models of {statistics.FEWEST} seeds needed", n)
    x, y, bound = (frame[c].to_numpy() for c in ("skew_normal", "queries", "bound"))
    tau = statistics.cluster_bootstrap(lambda i: statistics.censored_tau(x[i], y[i], bound[i]), frame["seed"])
    verdict = decide(tau.high < 0, tau.low > 0, n, seeds)
    summary = f"Kendall's tau {shown(tau)} over {len(frame)} models ({int(bound.sum())} as lower bounds)"
    return Outcome(verdict, *tau, n=n, summary=summary)


def midpoint_of(trials: pd.DataFrame) -> Interval:
    """Estimated exposure at which extraction becomes likelier than not, over decided `tidy.trials` rows.

    Models that share a seed are not independent: then seeds are resampled instead of profiling the likelihood.
    """
    x, y = trials["skew_normal"].to_numpy(), trials["success"].to_numpy()
    found = statistics.logistic_midpoint(x, y)
    if trials["seed"].nunique() == len(trials) or np.isnan(found.estimate):
        return found

    def one(i: np.ndarray) -> float:
        intercept, slope = statistics.firth_logistic(x[i], y[i])
        return -intercept / slope if slope > 0 else np.nan

    return statistics.cluster_bootstrap(one, trials["seed"], resamples=199)


def extraction_threshold(
    table: pd.DataFrame,
    reference: pd.DataFrame,
    *,
    midpoint: float,
    tolerance: float,
    never: float,
    always: float,
    models: int,
) -> Outcome:
    """G5: midpoint of Firth's logistic of success on estimated exposure, its interval within midpoint +-
    tolerance.

    Models whose outcome is not certain are left out; the claim is undecided if counting them all as failures, or all
    as successes, would change the verdict.
    """
    frame = tidy.trials(table).dropna(subset=["skew_normal"]).reset_index(drop=True)
    known = frame[frame["decided"]].reset_index(drop=True)
    n, left_out = known["seed"].nunique(), len(frame) - len(known)
    if len(known) < models:
        return undecided(f"{len(known)} models with a decided search of {len(frame)}, {models} needed", n)
    x, y = known["skew_normal"].to_numpy(), known["success"].to_numpy()
    if y.all() or not y.any():
        return undecided(f"all {len(y)} decided searches {'succeed' if y.all() else 'fail'}: no threshold to see", n)

    def supports(found: Interval) -> bool:
        ends = np.array([found.estimate, found.low, found.high])
        return bool((np.abs(ends - midpoint) <= tolerance).all())

    found = midpoint_of(known)
    early, late = x[y & (x < never)], x[~y & (x > always)]
    summary = (
        f"midpoint {shown(found, 'bits')}, {y.sum()} of {len(y)} extracted, {left_out} undecided; "
        f"{len(early)} successes below {never:g}, {len(late)} failures above {always:g}"
    )
    if left_out:
        extremes = (
            midpoint_of(frame.assign(success=frame["success"].where(frame["decided"], w))) for w in (False, True)
        )
        if any(supports(other) != supports(found) for other in extremes):
            return undecided(f"{summary}: the undecided ones could change the verdict", n, estimate=found.estimate)
    return Outcome(supports(found), *found, n=n, summary=summary)


def extraction_is_rank_one(table: pd.DataFrame, reference: pd.DataFrame, *, models: int) -> Outcome:
    """G5, internal control: a search that proves its answer succeeds exactly where the exact rank is 1.

    Counts only models for which both are certain: a search with its proof, and a rank that is 1, or beyond 1, whatever
    the rounding. Ties with the canary, and bounds that leave rank 1 open, contradict nothing and confirm nothing.
    """
    frame = tidy.trials(table)
    frame = frame[frame["provable"] & ((frame["rank_low"] > 1) | (frame["rank_high"] <= 1))]
    n, wins = frame["seed"].nunique(), int(frame["extracted"].sum())
    if len(frame) < models:
        return undecided(f"{len(frame)} models with both a proven search and a certain rank, {models} needed", n)
    agree = int((frame["extracted"] == (frame["rank_high"] <= 1)).sum())
    summary = f"success and exact rank 1 agree in {agree} of {len(frame)} models ({wins} successes)"
    return Outcome(agree == len(frame), agree / len(frame), n=n, summary=summary)
