"""Membership oracles: was an example trained on? (Learn to Forget, section 4; Salem et al. 2019; Carlini et al. 2022.)

Four oracles give every example a score that is higher where it looks more like a member: `confidence` (the largest
posterior), `loss` (its negative), `shadow` (a classifier trained on shadow models' answers; posteriors and loss) and
`lira` (offline LiRA: how much better than by models that never saw it the example is classified). An example is
called a member from a threshold on, calibrated once on shadow models (in the first model's era) and never again.
Answers are log posteriors, natural logarithm. Pure NumPy and SciPy.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

ORACLES = ("confidence", "loss", "shadow", "lira")
TOP = 3
"""Largest posteriors that the shadow-trained oracle looks at, as ML-Leaks does."""
DECAY = 1e-3
"""L2 penalty of its logistic regression, on standardised features: keeps separable data's weights finite."""


def true_class(log_posteriors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """float64[..., n]: log posterior of each example's class, of float[..., n, K] and int64[n]."""
    index = np.broadcast_to(labels[:, None], (*log_posteriors.shape[:-1], 1))
    return np.take_along_axis(np.asarray(log_posteriors, dtype=np.float64), index, axis=-1)[..., 0]


def scaled_logit(log_posteriors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """float64[..., n]: log(p / (1 - p)) of the true class's posterior, roughly Gaussian (Carlini et al. 2022, IV-B).

    From the other classes' posteriors, as 1 - p vanishes where p is all but one.
    """
    others = np.array(log_posteriors, dtype=np.float64)
    index = np.broadcast_to(labels[:, None], (*others.shape[:-1], 1))
    np.put_along_axis(others, index, -np.inf, axis=-1)
    # Plain NumPy: SciPy's logsumexp takes longer than all else that judging does.
    largest = others.max(axis=-1, keepdims=True)
    shift = np.where(np.isfinite(largest), largest, 0)
    with np.errstate(divide="ignore"):
        rest = np.log(np.sum(np.exp(others - shift), axis=-1)) + shift[..., 0]
    return true_class(log_posteriors, labels) - rest


def features(log_posteriors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """float64[..., n, F] for the shadow-trained oracle: the largest posteriors as logits, entropy in nats, the true
    class's logit, and whether the answer is right.
    """
    logs = np.asarray(log_posteriors, dtype=np.float64)
    largest = np.sort(logs, axis=-1)[..., ::-1][..., :TOP]
    entropy = -np.sum(np.exp(logs) * np.where(np.isfinite(logs), logs, 0), axis=-1)
    right = logs.argmax(axis=-1) == labels
    columns = [entropy, scaled_logit(logs, labels), right]
    both = np.concatenate([largest, np.stack(columns, axis=-1)], axis=-1)
    return np.clip(both, -50, 50)  # a saturated softmax has infinite logits


def threshold(members: np.ndarray, others: np.ndarray) -> float:
    """The score from which on an example is called a member: maximises hit rate minus false-positive rate.

    Of equally good ones the highest, halfway to the next lower score, so that none sits on the border.
    """
    scores, counts = np.unique(np.concatenate([members, others]), return_inverse=True)
    gain = np.bincount(counts[: len(members)], minlength=len(scores)) / len(members)
    gain = gain - np.bincount(counts[len(members) :], minlength=len(scores)) / len(others)
    best = len(scores) - 1 - int(np.argmax(np.cumsum(gain[::-1])))
    return float(scores[best] if best == 0 else (scores[best] + scores[best - 1]) / 2)


@dataclass(frozen=True)
class Logistic:
    """A logistic regression on standardised features."""

    centre: np.ndarray
    unit: np.ndarray
    weights: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray, y: np.ndarray) -> "Logistic":
        """Of float64[n, F] and bool[n]; penalised by `DECAY`, the intercept left free."""
        centre, unit = x.mean(axis=0), x.std(axis=0)
        unit = np.where(unit > 0, unit, 1.0)
        z = np.column_stack([(x - centre) / unit, np.ones(len(x))])
        free = np.append(np.full(x.shape[1], DECAY), 0.0)

        def objective(w: np.ndarray) -> tuple[float, np.ndarray]:
            logit = z @ w
            loss = np.mean(np.logaddexp(0, logit) - y * logit) + 0.5 * np.sum(free * w**2)
            return loss, z.T @ (special.expit(logit) - y) / len(y) + free * w

        return cls(centre, unit, optimize.minimize(objective, np.zeros(z.shape[1]), jac=True, method="L-BFGS-B").x)

    def score(self, x: np.ndarray) -> np.ndarray:
        """float64[..., n]: log odds of membership."""
        return (x - self.centre) / self.unit @ self.weights[:-1] + self.weights[-1]


@dataclass(frozen=True)
class Oracles:
    """Calibrated once. `thresholds`: oracle -> score from which on it says member; without `lira` where not wanted.

    expected     part of the data -> float64[n]: mean logit by models that never saw the example (LiRA's hardness)
    """

    thresholds: dict[str, float]
    classifier: Logistic
    expected: dict[str, np.ndarray]

    @property
    def names(self) -> tuple[str, ...]:
        """The oracles that there are, in the order of `ORACLES`."""
        return tuple(name for name in ORACLES if name in self.thresholds)

    def scores(self, part: str, log_posteriors: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """Oracle -> float64[..., n] of the models' answers float[..., n, K] on all examples of one part."""
        found = _plain_scores(log_posteriors, labels) | {
            "shadow": self.classifier.score(features(log_posteriors, labels))
        }
        if "lira" in self.thresholds:
            found["lira"] = scaled_logit(log_posteriors, labels) - self.expected[part]
        return found

    def positives(self, part: str, log_posteriors: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """Oracle -> bool[..., n]: what is called a member."""
        scores = self.scores(part, log_posteriors, labels)
        return {name: scores[name] >= self.thresholds[name] for name in self.names}


def shadow_members(rng: np.random.Generator, models: int, examples: int) -> np.ndarray:
    """bool[models, examples]: what each shadow model is trained on, half of the examples each.

    Models come in pairs that share the examples out, so that every example is known to half of the models. An odd last
    model has no partner.
    """
    members = np.zeros((models, examples), dtype=bool)
    for first in range(0, models, 2):
        members[first, rng.permutation(examples)[: examples // 2]] = True
        if first + 1 < models:
            members[first + 1] = ~members[first]
    return members


def calibrate(
    shadow: np.ndarray,
    labels: np.ndarray,
    members: np.ndarray,
    parts: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    lira: bool = True,
) -> Oracles:
    """Oracles from S shadow models' answers float[S, n, K] on the n shadow examples of int64[n] `labels`, of which
    model s was trained on bool[S, n] `members`.

    parts: name of a part of the real data -> (the shadow models' answers float[S, m, K] on it, its labels int64[m]);
    none of the shadow models was trained on any of it. LiRA's variance is one for all examples, as Carlini et al. do
    with few models, so that its score is a difference of logits.
    """
    shown = features(shadow, labels)
    classifier = Logistic.fit(shown.reshape(-1, shown.shape[-1]), members.ravel())
    scores = _plain_scores(shadow, labels) | {"shadow": classifier.score(shown)}
    if lira:
        scores["lira"] = _left_out(scaled_logit(shadow, labels), members)
    thresholds = {}
    for name, score in scores.items():
        known = np.isfinite(score)
        thresholds[name] = threshold(score[members & known], score[~members & known])
    expected = {name: scaled_logit(*part).mean(axis=0) for name, part in parts.items()} if lira else {}
    return Oracles(thresholds, classifier, expected)


def _plain_scores(log_posteriors: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "confidence": np.asarray(log_posteriors, dtype=np.float64).max(axis=-1),
        "loss": true_class(log_posteriors, labels),
    }


def _left_out(logits: np.ndarray, members: np.ndarray) -> np.ndarray:
    """float64[S, n]: LiRA's score of each shadow example against each model, by the other models that never saw it;
    NaN where there is no such model.
    """
    count = (~members).sum(axis=0) - ~members
    total = np.where(members, 0.0, logits).sum(axis=0) - np.where(members, 0.0, logits)
    with np.errstate(invalid="ignore", divide="ignore"):
        return logits - np.where(count > 0, total / count, np.nan)
