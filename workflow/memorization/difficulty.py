"""How unevenly examples are learned: the spread of per-example success over many runs (A Closer Look, section 3.1,
Fig 1). Pure NumPy.

If every run classified each example right with the same probability p, independently, the success rates of the examples
would be Binomial(R, p) / R. The variance ratio is their variance over that of the binomial: 1 for no easy or hard
examples, up to R where runs agree on every example.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """Variance ratios: of the rates, and within classes, where a class as a whole being easy counts for nothing.

    ratio, within               floats
    ratios, withins             float64[resamples]: of as many runs drawn with replacement
    """

    ratio: float
    within: float
    ratios: np.ndarray
    withins: np.ndarray


def spread(correct: np.ndarray, labels: np.ndarray, resamples: int, rng: np.random.Generator) -> Spread:
    """Variance ratios of bool[R, N] `correct`, R >= 2 runs by N examples with the given `labels` int64[N], of which
    some classes must have several.

    A run that is drawn twice says nothing new about how much runs agree: pairs of copies of one run are left out of the
    resampled variances, or they would be too large by the whole of what is to be measured.
    """
    right = correct.astype(np.float64)
    runs = len(right)
    weights = np.vstack([np.ones(runs), rng.multinomial(runs, np.full(runs, 1 / runs), size=resamples)])
    whole = _ratios(right, np.zeros(len(labels), dtype=np.int64), weights)
    classes = _ratios(right, np.unique(labels, return_inverse=True)[1], weights)
    return Spread(float(whole[0]), float(classes[0]), whole[1:], classes[1:])


def _ratios(right: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """float64[draws]: the ratio under each row of `weights` [draws, R], variances pooled over `groups` int64[N].

    The variance over examples of the mean of R runs is the mean over all pairs of runs of their covariance: R variances
    of single runs, and R (R - 1) covariances of different ones.
    """
    runs, examples = right.shape
    member = np.eye(groups.max() + 1)[groups]
    share = member.mean(axis=0)
    means = right @ member / member.sum(axis=0)
    centred = right - means @ member.T
    covariance = centred @ centred.T / (examples - member.shape[1])
    own = np.diag(covariance).copy()
    np.fill_diagonal(covariance, 0)
    between = np.einsum("da,ab,db->d", weights, covariance, weights)
    pairs = weights.sum(axis=1) ** 2 - (weights**2).sum(axis=1)
    rates = weights @ means / runs
    binomial = (rates * (1 - rates)) @ share
    with np.errstate(divide="ignore", invalid="ignore"):
        return (weights @ own / runs + (runs - 1) * between / pairs) / binomial
