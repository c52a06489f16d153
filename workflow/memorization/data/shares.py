"""Who holds what in a federation: disjoint users, third party, shadow and test parts, and what is to be forgotten
(Learn to Forget; sizes in `federated_specs.SharesSpec`). Pure NumPy, the same in every back end."""

import hashlib
import logging
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from memorization.data.rows import Pool
from memorization.errors import UserError
from memorization.federated_specs import FederatedRunSpec, SharesSpec
from memorization.streams import stream

Part = tuple[np.ndarray, np.ndarray]
"""Examples: x float32[n, d] in the network's units, y int64[n]."""
FEWEST = 4
"""Examples of the smallest part that a stand-in is cut down to."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shares:
    """One replicate's data. No example is in two parts.

    users        what each user trains on; user 0 asks to be forgotten; all hold equally many
    forget       bool[n0]: which of user 0's examples D_e are to be forgotten, at least one
    third_party  D_3: nobody trains on it; the generator's target comes from it
    shadow       what oracles are calibrated on, an even number
    test         nobody trains on it
    classes      of the output layer
    """

    users: list[Part]
    forget: np.ndarray
    third_party: Part
    shadow: Part
    test: Part
    classes: int

    @property
    def features(self) -> int:
        """d, the numbers that describe an example."""
        return self.users[0][0].shape[1]

    @property
    def forgotten(self) -> Part:
        """D_e."""
        x, y = self.users[0]
        return x[self.forget], y[self.forget]

    @property
    def retained(self) -> Part:
        """What stays: the rest of user 0's examples, then all other users'."""
        x, y = self.users[0]
        parts = [(x[~self.forget], y[~self.forget]), *self.users[1:]]
        return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))

    def record(self) -> dict[str, Any]:
        """What run.json says: sizes, and a digest of everything that the streams decided."""
        digest = hashlib.sha256(self.forget.tobytes())
        for part in (*self.users, self.third_party, self.shadow, self.test):
            for array in part:
                digest.update(np.ascontiguousarray(array).tobytes())
        return {
            "users": len(self.users),
            "examples_per_user": len(self.users[0][1]),
            "forget": int(self.forget.sum()),
            "third_party": len(self.third_party[1]),
            "shadow": len(self.shadow[1]),
            "test": len(self.test[1]),
            "features": self.features,
            "classes": self.classes,
            "sha256": digest.hexdigest(),
        }


def needed(wanted: SharesSpec, validation: bool) -> int:
    """Examples that the parts ask for together."""
    tests = wanted.test_examples * (2 if validation else 1)
    return tests + wanted.shadow_examples + wanted.users * wanted.examples_per_user + wanted.third_party


def require_enough(spec: FederatedRunSpec, examples: int) -> None:
    """Raises UserError where the data set has too few `examples`, or where no second forget set can be had."""
    wanted = spec.data
    if spec.validation and wanted.users < 2:
        raise UserError("validation: true lets another user than the reported one ask: set data.users to 2 or more")
    count = needed(wanted, spec.validation)
    if count > examples:
        raise UserError(
            f"data: {wanted.users} users x {wanted.examples_per_user}, third party, shadow and test parts need {count} "
            f"examples, {wanted.dataset!r} has {examples}: lower users, examples_per_user or another part"
        )


def build_shares(spec: FederatedRunSpec, replicate: int, pool: Pool) -> Shares:
    """One replicate's parts of the examples in `pool`.

    A setting moves only what it names: with another forget share, third party or partition the test and shadow parts
    stay, and with more users too where the size of the shadow part is given; with the IID partition so do the users
    that both settings have. Larger forget shares contain smaller ones. With `spec.validation` the last user asks to be
    forgotten in place of the first, and other examples test: nothing that the reported run is judged on. Raises
    UserError where the data cannot serve.
    """
    wanted = _fitted(spec, pool)
    order = stream(spec.seed, replicate, "shares").permutation(len(pool))
    ends = np.cumsum([wanted.test_examples, wanted.shadow_examples, wanted.users * wanted.examples_per_user])
    test, shadow, union = np.split(order[: ends[-1]], ends[:-1])
    back = len(order) - wanted.third_party
    if spec.validation:
        test = order[back - wanted.test_examples : back]
    holders = _holders(spec, wanted, replicate, pool.y[union])
    users = [pool.take(union[holders == user]) for user in range(wanted.users)]
    # The roles of two users are exchanged; everybody holds what they held.
    target = wanted.users - 1 if spec.validation else 0
    users[0], users[target] = users[target], users[0]
    return Shares(
        users=users,
        forget=_forgotten(spec, replicate, len(users[0][1])),
        third_party=_third_party(spec, replicate, pool, order[back:]),
        shadow=pool.take(shadow),
        test=pool.take(test),
        classes=pool.classes,
    )


def _fitted(spec: FederatedRunSpec, pool: Pool) -> SharesSpec:
    """The sizes; of a stand-in that is too small, all parts in proportion. Raises UserError."""
    wanted = spec.data
    count = needed(wanted, spec.validation)
    if count <= len(pool) or not pool.is_standin:
        require_enough(spec, len(pool))
        return wanted
    require_enough(spec, count)
    wanted = wanted.model_copy(update={"shadow": wanted.shadow_examples})
    parts = ("examples_per_user", "third_party", "shadow", "test_examples")
    factor = len(pool) / (count + 1)  # + 1: an odd shadow part is rounded up
    sizes = {part: math.floor(getattr(wanted, part) * factor) for part in parts}
    if min(sizes.values()) < FEWEST:
        raise UserError(
            f"data: {wanted.users} users and the other parts need {count} examples, the stand-in of {wanted.dataset!r} "
            f"has {len(pool)}: lower users, or have the real data (README: data)"
        )
    sizes["shadow"] -= sizes["shadow"] % 2
    log.warning("data: the stand-in has %d of %d examples; parts shrink to %s", len(pool), count, sizes)
    return wanted.model_copy(update=sizes)


def _holders(spec: FederatedRunSpec, wanted: SharesSpec, replicate: int, labels: np.ndarray) -> np.ndarray:
    """int64[N]: the user that holds each of the users' examples; each holds examples_per_user of them."""
    if wanted.partition == "iid":
        return np.repeat(np.arange(wanted.users), wanted.examples_per_user)
    return uneven(labels, wanted.users, wanted.alpha, stream(spec.seed, replicate, "dirichlet"))


def uneven(labels: np.ndarray, users: int, alpha: float, rng: np.random.Generator) -> np.ndarray:
    """int64[N]: the user of each example with int64[N] `labels`; every user gets N / users of them.

    Each user prefers classes by shares drawn from a symmetric Dirichlet distribution (Hsu, Qi, Brown 2019). In random
    order they take one example after another, of a class drawn by these shares among those that have some left.

    Deviation: as all examples find a holder, the same ones as with the IID partition, late choices are limited by what
    is left, so that shares are less uneven than the Dirichlet's.
    """
    classes, inverse = np.unique(labels, return_inverse=True)
    shares = rng.dirichlet(np.full(len(classes), alpha), users)
    left = [list(rng.permutation(np.flatnonzero(inverse == k))) for k in range(len(classes))]
    some = np.ones(len(classes), dtype=bool)
    holders = np.empty(len(labels), dtype=np.int64)
    turns = rng.permutation(np.repeat(np.arange(users), len(labels) // users))
    for user, chance in zip(turns, rng.random(len(turns)), strict=True):
        # The smallest number there is keeps classes possible whose drawn share underflows to zero.
        weights = np.cumsum((shares[user] + np.finfo(float).tiny) * some)
        chosen = int(np.searchsorted(weights, chance * weights[-1], side="right"))
        holders[left[chosen].pop()] = user
        some[chosen] = bool(left[chosen])
    return holders


def _forgotten(spec: FederatedRunSpec, replicate: int, examples: int) -> np.ndarray:
    """bool[examples], at least one True."""
    count = max(1, round(spec.data.forget * examples))
    chosen = np.zeros(examples, dtype=bool)
    chosen[stream(spec.seed, replicate, "forget").permutation(examples)[:count]] = True
    return chosen


def _third_party(spec: FederatedRunSpec, replicate: int, pool: Pool, rows: np.ndarray) -> Part:
    """D_3 of the wanted source; its labels are the source's own, drawn at random for noise."""
    x, y = pool.take(rows)
    rng = stream(spec.seed, replicate, "third-party")
    if spec.data.third_party_source == "other":
        # One order of the features for all: structured as real data are, but not the users' data.
        return x[:, rng.permutation(x.shape[1])], y
    if spec.data.third_party_source == "noise":
        low, high = x.min(axis=0), x.max(axis=0)
        return rng.uniform(low, high, x.shape).astype(np.float32), rng.integers(pool.classes, size=len(y))
    return x, y
