"""Ways of forgetting, from the same trained federations: Forsaken, gradient ascent, placebo, the others training on
without the user, and retraining. Those that need what others would not keep are in unlearning_baselines.py.

All replicates' federations do everything together. In every round user 0 sends what its way of forgetting wants, in the
slot of its ordinary update and with its ordinary weight (times `boost`), while the others train or send zeros.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memorization.backends.torch.federated import Examples, Federations, Server, User
from memorization.backends.torch.flat_models import FlatModels, descend, training_gradient
from memorization.backends.torch.forsaken import Generator, Part, importance, targets
from memorization.federated_specs import FederatedRunSpec, RequestSpec
from memorization.secure_sums import securely_summed
from memorization.streams import stream

log = logging.getLogger(__name__)

TARGET = 0
"""The user who asks to be forgotten."""
MASKED = 1000
"""Numbers of an upload for which secure aggregation is checked."""


@dataclass
class History:
    """What is remembered of the federations' training: per round the norm of every array of every upload [R U, arrays]
    and what an upload looks like (`features`); the uploads of the first round [R U, P].
    """

    layer_norms: list[Tensor] = field(default_factory=list)
    first: Tensor | None = None
    norms: list[np.ndarray] = field(default_factory=list)
    cosines: list[np.ndarray] = field(default_factory=list)

    def add(self, models: FlatModels, uploads: Tensor, replicates: int) -> None:
        """One more round's uploads [R U, P], replicate by replicate."""
        self.layer_norms.append(models.layer_norms(uploads))
        self.first = uploads if self.first is None else self.first
        norms, cosines = features(uploads.unflatten(0, (replicates, -1)))
        self.norms.append(norms)
        self.cosines.append(cosines)

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {
            "layer_norms": [array.cpu().numpy() for array in self.layer_norms],
            "first": self.first.cpu().numpy(),
            "norms": self.norms,
            "cosines": self.cosines,
        }

    @classmethod
    def restored(cls, state: dict[str, Any], device: torch.device) -> "History":
        """The inverse of `state`."""
        layer_norms = [torch.from_numpy(array).to(device) for array in state["layer_norms"]]
        return cls(layer_norms, torch.from_numpy(state["first"]).to(device), state["norms"], state["cosines"])


@dataclass(frozen=True)
class Case:
    """Trained federations, one per replicate, and what their users hold.

    users            of all federations, replicate by replicate; user 0 with all its examples
    forget           D_e
    kept             user 0's other examples, or the third party's where there are none
    third_party      D_3
    initial, base    global models [R, P] before and after training
    """

    spec: FederatedRunSpec
    models: FlatModels
    examples: Examples
    users: Sequence[User]
    forgotten: Sequence[np.ndarray]
    forget: Part
    kept: Part
    third_party: Part
    initial: Tensor
    base: Tensor
    history: History
    dummies: dict[RequestSpec, list[Tensor]] = field(default_factory=dict)
    """Of Forsaken's requests so far: per round the norm of every array of the dummy gradients [R, arrays]."""

    @property
    def replicates(self) -> int:
        """R."""
        return len(self.base)

    def federations(self, users: Sequence[User], purpose: str) -> Federations:
        """Some users training together; `purpose` names their shuffles."""
        return Federations(self.models, self.examples, users, self.spec.training, self.spec.seed, purpose)

    def others(self) -> list[User]:
        """All users but those who ask to be forgotten."""
        return [user for user in self.users if user.number != TARGET]

    def remaining(self, user: User) -> User:
        """`user` without the examples to be forgotten."""
        if user.number != TARGET:
            return user
        stay = ~np.isin(user.rows, self.forgotten[user.replicate])
        return User(user.rows[stay], user.federation, user.replicate, user.number)


@dataclass
class Moment:
    """The models after some unlearning rounds.

    members             [R, S, P]: the models whose mean posterior is the answer; S = 1 but for sisa
    seconds_client      of user 0's own work since the request, per federation
    seconds_all         of everybody's
    messages, bytes     that the server has received in the last round, per federation
    norms, cosines      float64[R, users] of the round's uploads (`features`), user 0's first; None: user 0 sends none
    divergence          KL to the target, float64[R]; None: no target
    mask_error          of the sum of masked uploads, float64[R] (`_mask_error`); None: not asked
    stored              bytes that the server must have kept of earlier rounds, per federation
    """

    step: int
    members: Tensor
    seconds_client: float = 0.0
    seconds_all: float = 0.0
    messages: float = 0.0
    bytes: float = 0.0
    norms: np.ndarray | None = None
    cosines: np.ndarray | None = None
    divergence: np.ndarray | None = None
    mask_error: np.ndarray | None = None
    stored: float = 0.0


class Watch:
    """Seconds of work, apart for user 0 and for all."""

    def __init__(self) -> None:
        self.client = self.all = 0.0

    def timed(self, work: Callable[[], Tensor], share: float) -> Tensor:
        """The result of `work`, of which `share` is user 0's."""
        began = time.perf_counter()
        result = work()
        if result.is_cuda:
            torch.cuda.synchronize(result.device)
        passed = time.perf_counter() - began
        self.all += passed
        self.client += share * passed
        return result


def features(uploads: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Norm of every upload and its cosine with the sum of the round's others, float64[R, U] each, of uploads [R, U, P].

    NaN: the cosine of an upload, or of others, that are all zero.
    """
    total = uploads.sum(1, keepdim=True)
    rest = total - uploads
    lengths, others = uploads.norm(dim=2).double(), rest.norm(dim=2).double()
    products = (uploads * rest).sum(2).double()
    return lengths.cpu().numpy(), (products / (lengths * others)).cpu().numpy()


def work_share(case: Case, users: Sequence[User]) -> float:
    """The share of users' examples that user 0 of their federations holds: its share of the work."""
    counts = [(user.number == TARGET, len(user.rows)) for user in users]
    return sum(n for own, n in counts if own) / max(1, sum(n for _, n in counts))


Emitter = Callable[[Tensor, int], Tensor]
"""Global models [R, P] and round -> what the users 0 send [R, P]."""


def with_others(
    case: Case, request: RequestSpec, emit: Emitter, distance: Callable[[Tensor], Tensor] | None = None
) -> Iterator[Moment]:
    """One moment per round in which users 0 send what `emit` gives and the others do what `request.others` says."""
    others = case.federations(case.others(), "unlearn")
    weights = case.federations(case.users, "unlearn").weights.unflatten(0, (case.replicates, -1))
    owners = torch.cat([torch.arange(case.replicates, device=case.base.device), others.owners])
    weights = torch.cat([weights[:, TARGET] * request.boost, weights[:, TARGET + 1 :].flatten()])
    watch, server, models = Watch(), Server(), case.base
    for round_ in range(1, request.rounds + 1):
        own = watch.timed(lambda now=models, j=round_: emit(now, j), 1.0)
        if request.others == "train":
            sent = watch.timed(lambda now=models, j=round_: others.uploads(now, j), 0.0)
        else:
            sent = own.new_zeros(len(others.users), case.models.size)
        uploads = torch.cat([own, sent])
        new = watch.timed(lambda now=models, all_=uploads: server.aggregate(now, all_, owners, weights), 0.0)
        models = _finite(models, new)
        norms, cosines = features(torch.cat([own.unsqueeze(1), sent.unflatten(0, (case.replicates, -1))], 1))
        yield Moment(
            step=round_,
            members=models.unsqueeze(1),
            **account(case, watch, server),
            norms=norms,
            cosines=cosines,
            divergence=None if distance is None else distance(models).cpu().numpy(),
            mask_error=_mask_error(case, uploads, owners, weights) if distance and round_ == request.rounds else None,
        )


def _mask_error(case: Case, uploads: Tensor, owners: Tensor, weights: Tensor) -> np.ndarray:
    """float64[R]: largest absolute difference between the plain sum of a round's weighted uploads and the one of masked
    uploads (secure_sums.py), over the first `MASKED` numbers of an upload.
    """
    sent = (uploads[:, :MASKED] * weights.unsqueeze(1)).cpu().numpy()
    found = []
    for k in range(case.replicates):
        own = sent[(owners == k).cpu().numpy()]
        secure = securely_summed(own, case.spec.seed, f"mask-{k}")
        found.append(np.abs(secure - own.astype(np.float64).sum(axis=0)).max())
    return np.array(found)


def _finite(old: Tensor, new: Tensor) -> Tensor:
    """`new` models [R, P], but the old one where a number has become infinite, as it does when ascent runs away."""
    fine = torch.isfinite(new).all(1, keepdim=True)
    if not fine.all():
        log.warning("%d of %d models stay as they are: an update is no longer finite", int((~fine).sum()), len(old))
    return torch.where(fine, new, old)


def account(case: Case, watch: Watch, server: Server) -> dict[str, float]:
    """What one federation has cost so far, and sent in the last round."""
    received, count = server.received, case.replicates
    return {
        "seconds_client": watch.client / count,
        "seconds_all": watch.all / count,
        "messages": received.messages / count,
        "bytes": received.bytes / count,
    }


def forsaken(case: Case, request: RequestSpec) -> Iterator[Moment]:
    """Dummy gradients; their norms are remembered for a placebo."""
    wanted = targets(request.target, case.models, case.base, case.third_party, case.forget)
    omega = importance(request.importance, case.models, case.base, case.kept)
    generator = Generator(request, case.models, case.forget, wanted, omega)
    norms = case.dummies[request] = []

    def emit(models: Tensor, round_: int) -> Tensor:
        found = generator.emit(models)
        norms.append(case.models.layer_norms(found))
        return found

    return with_others(case, request, emit, generator.distance)


def placebo(case: Case, request: RequestSpec) -> Iterator[Moment]:
    """Random updates (control C3): normal numbers, every array scaled to the norm that Forsaken's had in that round."""
    norms = case.dummies[request.model_copy(update={"method": "forsaken"})]

    def emit(models: Tensor, round_: int) -> Tensor:
        drawn = [
            stream(case.spec.seed, k, f"placebo-{round_}").standard_normal(case.models.size, dtype=np.float32)
            for k in range(case.replicates)
        ]
        noise = torch.from_numpy(np.stack(drawn)).to(models.device)
        return case.models.scaled(noise, norms[round_ - 1] / case.models.layer_norms(noise))

    return with_others(case, request, emit)


def ascent(case: Case, request: RequestSpec) -> Iterator[Moment]:
    """User 0 climbs its training loss on D_e by `inner_steps` full-batch steps, as many as G1's."""
    each = torch.full_like(case.forget.labels, 1 / case.forget.count, dtype=torch.float32)
    by_logits = training_gradient(case.models.spec, case.forget.labels, each)

    def emit(models: Tensor, round_: int) -> Tensor:
        local = models.clone()
        layers = case.models.views(local)
        for _ in range(request.inner_steps):
            descend(layers, case.forget.inputs, by_logits, -request.step)
        return models - local

    return with_others(case, request, emit)


def without_user(case: Case, request: RequestSpec) -> Iterator[Moment]:
    """The others train on, and user 0 sends nothing (control C2)."""
    others, watch, server, models = case.federations(case.others(), "unlearn"), Watch(), Server(), case.base
    for round_ in range(1, request.rounds + 1):
        models = watch.timed(lambda now=models, j=round_: others.round(now, j, server), 0.0)
        yield Moment(round_, models.unsqueeze(1), **account(case, watch, server))


def retrain(case: Case, request: RequestSpec) -> Iterator[Moment]:
    """From the same initial models, on all that is not to be forgotten, in other orders: the reference."""
    users = [case.remaining(user) for user in case.users]
    federations, watch, server = case.federations(users, "retrain"), Watch(), Server()
    models = watch.timed(lambda: federations.train(case.initial, server), work_share(case, users))
    yield Moment(case.spec.training.rounds, models.unsqueeze(1), **account(case, watch, server))
