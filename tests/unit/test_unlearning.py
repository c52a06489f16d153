"""Ways of forgetting: dummy gradients, targets, importance, baselines, and what the server receives."""

from itertools import pairwise

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import synthetic_federation as synthetic  # noqa: E402

from memorization.backends.torch import unlearning, unlearning_baselines  # noqa: E402
from memorization.backends.torch.federated import Server  # noqa: E402
from memorization.backends.torch.forsaken import Generator, importance, shrunk, targets  # noqa: E402
from memorization.backends.torch.unlearning import History, features  # noqa: E402
from memorization.federated_specs import RequestSpec  # noqa: E402


def request(**changes) -> RequestSpec:
    return RequestSpec(**({"rounds": 3, "step": 0.5} | changes))


@pytest.fixture(scope="module")
def case():
    return synthetic.case(synthetic.spec())


def generator(case, asked: RequestSpec) -> Generator:
    wanted = targets(asked.target, case.models, case.base, case.third_party, case.forget)
    omega = importance(asked.importance, case.models, case.base, case.kept)
    return Generator(asked, case.models, case.forget, wanted, omega)


def test_soft_threshold():
    found = shrunk(torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0]), torch.tensor(1.0))
    assert found.tolist() == [-1.0, 0.0, 0.0, 0.0, 1.0]


def test_one_inner_step_of_the_first_round_is_g0(case):
    one, zero = (generator(case, request(generator=g, inner_steps=1)) for g in ("G1", "G0"))
    assert torch.equal(one.emit(case.base), zero.emit(case.base))


def test_g0_without_penalty_descends_the_divergence(case):
    asked = request(generator="G0", importance="none", step=0.05)
    emitter = generator(case, asked)
    models = case.base
    distances = [emitter.distance(models)]
    for _ in range(20):
        models = models - emitter.emit(models)
        distances.append(emitter.distance(models))
    assert all((later < earlier).all() for earlier, later in pairwise(distances))


def test_g1_forgets_further_than_g0_in_a_round(case):
    g0, g1 = (generator(case, request(generator=g, inner_steps=20, step=0.1)) for g in ("G0", "G1"))
    after = [emitter.distance(case.base - emitter.emit(case.base)) for emitter in (g0, g1)]
    assert (after[1] < after[0]).all()


def test_g1_starts_from_the_last_round(case):
    warm = generator(case, request(inner_steps=1))
    warm.emit(case.base)
    assert not torch.allclose(warm.emit(case.base), generator(case, request(inner_steps=1)).emit(case.base))


def test_a_large_penalty_sends_nothing(case):
    assert not generator(case, request(importance="uniform", penalty=1e3)).emit(case.base).any()


def test_targets_are_distributions(case):
    for kind in ("mean", "uniform", "class_mean", "matched"):
        found = targets(kind, case.models, case.base, case.third_party, case.forget)
        torch.testing.assert_close(found.sum(2), torch.ones(found.shape[:2]))


def test_targets_by_brute_force(case):
    posteriors = torch.softmax(case.models.logits(case.base, case.third_party.inputs), 2)
    by_class = targets("class_mean", case.models, case.base, case.third_party, case.forget)
    matched = targets("matched", case.models, case.base, case.third_party, case.forget)
    for k in range(2):
        for n, label in enumerate(case.forget.labels[k]):
            same = (case.third_party.labels[k] == label).nonzero().flatten()
            torch.testing.assert_close(by_class[k, n], posteriors[k, same].mean(0))
            far = (case.third_party.inputs[k, same] - case.forget.inputs[k, n]).norm(dim=1)
            torch.testing.assert_close(matched[k, n], posteriors[k, same[far.argmin()]])


def test_importance_is_at_most_one(case):
    found = importance("gradient", case.models, case.base, case.kept)
    assert (found >= 0).all()
    assert found.amax(1).tolist() == [1.0, 1.0]


def last(moments):
    return list(moments)[-1]


def test_retraining_never_saw_what_is_forgotten(case):
    """Other inputs at the forgotten rows change the base, and nothing of retraining."""
    found = last(unlearning.retrain(case, request(method="retrain")))
    spoilt = synthetic.case(synthetic.spec())
    for rows in spoilt.forgotten:
        spoilt.examples.inputs[rows] += 100.0
    again = last(unlearning.retrain(spoilt, request(method="retrain")))
    assert torch.equal(found.members, again.members)
    assert found.step == 4


def test_without_user_is_fedavg_of_the_others(case):
    found = last(unlearning.without_user(case, request(method="without_user")))
    others = case.federations(case.others(), "unlearn")
    models = case.base
    for round_ in (1, 2, 3):
        models = models - (others.uploads(models, round_) / 2).unflatten(0, (2, 2)).sum(1)
    torch.testing.assert_close(found.members[:, 0], models, rtol=1e-4, atol=1e-6)


def test_a_round_of_forgetting_adds_the_dummy_in_the_ordinary_slot(case):
    asked = request(rounds=1)
    moment = last(unlearning.forsaken(case, asked))
    dummy = generator(case, asked).emit(case.base)
    sent = case.federations(case.others(), "unlearn").uploads(case.base, 1).unflatten(0, (2, 2))
    wanted = case.base - (dummy + sent.sum(1)) / 3
    torch.testing.assert_close(moment.members[:, 0], wanted, rtol=1e-4, atol=1e-6)
    assert (moment.messages, moment.bytes) == (3, 3 * case.models.size * 4)


def test_idle_others_and_boost(case):
    asked = request(rounds=1, others="idle", boost=3.0)
    moment = last(unlearning.forsaken(case, asked))
    torch.testing.assert_close(moment.members[:, 0], case.base - generator(case, asked).emit(case.base))
    assert moment.messages == 3


def test_a_placebo_has_the_norms_of_forsaken(case):
    list(unlearning.forsaken(case, request()))
    moments = list(unlearning.placebo(case, request(method="placebo")))
    real = list(unlearning.forsaken(case, request()))
    for one, other in zip(moments, real, strict=True):
        np.testing.assert_allclose(one.norms[:, 0], other.norms[:, 0], rtol=1e-4)
    assert not torch.allclose(moments[-1].members, real[-1].members)


def test_ascent_raises_the_loss_on_the_forgotten(case):
    moment = last(unlearning.ascent(case, request(method="ascent", others="idle", rounds=1, step=0.1)))
    before, after = (
        -torch.log_softmax(case.models.logits(m, case.forget.inputs), 2)
        .gather(2, case.forget.labels.unsqueeze(2))
        .mean((1, 2))
        for m in (case.base, moment.members[:, 0])
    )
    assert (after > before).all()


def test_features_by_hand():
    uploads = torch.tensor([[[3.0, 4.0], [1.0, 0.0], [0.0, 1.0]]])
    norms, cosines = features(uploads)
    assert norms.tolist() == [[5.0, 1.0, 1.0]]
    assert cosines[0] == pytest.approx([7 / (5 * 2**0.5), 3 / 34**0.5, 4 / 32**0.5])


def whole(**changes):
    return synthetic.case(synthetic.spec(data={"forget": 1.0}, **changes))


def test_federaser_replays_norms_in_new_directions():
    case = whole()
    found = last(unlearning_baselines.federaser(case, request(method="federaser", calibration=1.0)))
    mine = [n for n, user in enumerate(case.users) if user.number]
    others = case.federations(case.others(), "federaser")
    models = case.initial - case.history.first[mine].unflatten(0, (2, 2)).mean(1)
    for round_ in (2, 3, 4):
        uploads = others.uploads(models, round_)
        for n, row in enumerate(mine):
            for (_, place, _), norm in zip(case.models.places, case.history.layer_norms[round_ - 1][row], strict=True):
                uploads[n, place] *= norm / uploads[n, place].norm()
        models = models - uploads.unflatten(0, (2, 2)).mean(1)
    torch.testing.assert_close(found.members[:, 0], models, rtol=1e-4, atol=1e-6)
    assert found.stored == 4 * 3 * case.models.size * 4


def test_federaser_skips_rounds():
    found = last(unlearning_baselines.federaser(whole(), request(method="federaser", interval=2)))
    assert found.step == 2


def test_sisa_retrains_the_shard_alone(case):
    before, after = unlearning_baselines.sisa(case, request(method="sisa", shards=2))
    assert before.members.shape[:2] == after.members.shape[:2] == (2, 2)
    assert torch.equal(before.members[:, 1], after.members[:, 1])
    assert not torch.allclose(before.members[:, 0], after.members[:, 0])
    users = [case.remaining(user) for user in case.users if user.number < 2]
    alone = case.federations(users, "sisa-again").train(case.initial, Server())
    torch.testing.assert_close(after.members[:, 0], alone, rtol=1e-4, atol=1e-6)


def test_sisa_drops_a_shard_that_nothing_is_left_of():
    before, after = unlearning_baselines.sisa(whole(), request(method="sisa", shards=3))
    assert before.members.shape[1] == 3
    assert torch.equal(after.members, before.members[:, 1:])


def test_history_survives_a_checkpoint(case):
    again = History.restored(case.history.state(), synthetic.CPU)
    assert torch.equal(again.first, case.history.first)
    assert all(torch.equal(a, b) for a, b in zip(again.layer_norms, case.history.layer_norms, strict=True))
