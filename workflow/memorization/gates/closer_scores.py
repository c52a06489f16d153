"""Tests on scores of single examples (beyond the papers): do they rank the same training examples alike?"""

import numpy as np
import pandas as pd

from memorization import single_examples
from memorization.gates.outcome import Outcome, decide, shown, undecided
from memorization.single_examples import GROUPS, SCORES


def scores_agree(
    table: pd.DataFrame, reference: pd.DataFrame, *, first: str, second: str, group: str, examples: int
) -> Outcome:
    """Two of `single_examples.SCORES` rank the examples of a group (`clean` or `all`) alike: the 95 % bootstrap
    interval of Spearman's correlation lies above 0. examples: how many are planned.
    """
    frame = single_examples.chosen(single_examples.of_examples(table), group)[[first, second]].dropna()
    interval = single_examples.rank_correlation(frame[first], frame[second])
    n = len(frame)
    if not np.isfinite(interval.low):
        return undecided(f"{n} examples have both scores, or one does not vary", n)
    summary = f"{SCORES[first]} and {SCORES[second]}, {GROUPS[group]}: Spearman {shown(interval)}; {n} examples"
    return Outcome(decide(interval.low > 0, interval.high < 0, n, examples), *interval, n=n, summary=summary)


def scores_find_mislabelled(table: pd.DataFrame, reference: pd.DataFrame, *, score: str, examples: int) -> Outcome:
    """One of `single_examples.SCORES` is higher for examples with a wrong label: the 95 % bootstrap interval of the
    area under the ROC curve lies above one half. examples: how many are planned.
    """
    frame = single_examples.of_examples(table)[[score, "mislabelled"]].dropna()
    interval = single_examples.detection(frame[score], frame["mislabelled"])
    n, wrong = len(frame), int(frame["mislabelled"].sum())
    if not np.isfinite(interval.low):
        return undecided(f"{n} examples have that score, {wrong} of them mislabelled", n)
    summary = f"{SCORES[score]}: area {shown(interval)}; {wrong} of {n} labels wrong"
    return Outcome(decide(interval.low > 0.5, interval.high < 0.5, n, examples), *interval, n=n, summary=summary)
