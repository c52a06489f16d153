"""A whole cell of Learn to Forget: its files, what is in details.csv, resuming, and what is refused."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import synthetic_federation as synthetic  # noqa: E402

from memorization import backends, contracts, preflight, weights  # noqa: E402
from memorization.backends.torch import federated_cell  # noqa: E402
from memorization.backends.torch import phases as torch_phases  # noqa: E402
from memorization.backends.torch.federated_cell import load_federated, train_federated  # noqa: E402
from memorization.configuration import ROOT  # noqa: E402
from memorization.data.registry import lookup  # noqa: E402
from memorization.errors import UserError  # noqa: E402
from memorization.federated_specs import FederatedRunSpec, passes  # noqa: E402

ORACLES = ("confidence", "loss", "shadow", "lira")
EVERY = [
    {"method": "forsaken", "rounds": 3},
    {"method": "placebo", "rounds": 3},
    {"method": "ascent", "rounds": 3, "step": 0.05},
    {"method": "without_user", "rounds": 3},
    {"method": "federaser"},
    {"method": "sisa", "shards": 3},
    {"method": "retrain"},
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder and table of a cell with every way of forgetting a whole user."""
    spec = synthetic.spec(data={"forget": 1.0}, requests=EVERY)
    folder = tmp_path_factory.mktemp("run")
    train_federated(spec, synthetic.shares(spec), folder, synthetic.CPU)
    return spec, folder, contracts.check("details", contracts.read("details", folder))


def values(table, measure, item=None, part=None, step=None):
    """Values of one measure in the order of replicates."""
    chosen = table[table["measure"] == measure]
    for column, wanted in (("item", item), ("part", part), ("step", step)):
        if wanted is not None:
            chosen = chosen[chosen[column] == wanted]
    return chosen.sort_values(["step", "replicate"])["value"].to_numpy()


def test_it_leaves_every_file(run):
    spec, folder, _ = run
    curves = contracts.check("curves", contracts.read("curves", folder))
    assert sorted(curves["replicate"].unique()) == [0, 1]
    assert curves["step"].max() == spec.training.rounds
    assert len(contracts.read("measures", folder)) == 0
    assert not (folder / "checkpoint.pkl").exists()


def test_trained_models_learn_and_load(run):
    spec, folder, table = run
    models = load_federated(folder, spec, synthetic.CPU)
    for own, model in zip(synthetic.shares(spec), models, strict=True):
        losses, right = model.losses(*own.test)
        assert right.mean() > 0.5
        assert losses.shape == (18,)
    found = [model.losses(*own.test)[1].mean() for own, model in zip(synthetic.shares(spec), models, strict=True)]
    np.testing.assert_allclose(values(table, "accuracy", item=-1, part="test"), found)


@pytest.mark.parametrize("item", range(len(EVERY)))
def test_every_request_is_judged_at_its_last_round(run, item):
    spec, _, table = run
    own = table[(table["item"] == item) & (table["step"] > 0)]
    last = own["step"].max()
    assert last == (spec.training.rounds if EVERY[item]["method"] in ("retrain", "sisa", "federaser") else 3)
    for oracle in ORACLES:
        assert len(values(own, f"fr_{oracle}", step=last)) == 2
        low, high = (values(own, f"fr_{end}_{oracle}", step=last) for end in ("low", "high"))
        assert (low <= high).all()
    for part in ("test", "forget", "retain"):
        assert len(values(own, "accuracy", part=part, step=last)) == 2
    assert (values(own, "seconds_all", step=last) >= values(own, "seconds_client", step=last)).all()
    assert values(own, "confidence_density", step=last).sum() == pytest.approx(2.0)


def test_forgetting_rates_are_one_minus_after_over_before(run):
    _, _, table = run
    for item, step in ((0, 3), (6, 4)):
        before = values(table, "oracle_positive_loss", item=-1, part="forget")
        after = values(table, "oracle_positive_loss", item=item, part="forget", step=step)
        np.testing.assert_allclose(values(table, "fr_loss", item=item, step=step), 100 * (1 - after / before))


def test_sisa_starts_from_models_of_its_own(run):
    _, _, table = run
    before = values(table, "oracle_positive_loss", item=5, part="forget", step=0)
    after = values(table, "oracle_positive_loss", item=5, part="forget", step=4)
    np.testing.assert_allclose(values(table, "fr_loss", item=5, step=4), 100 * (1 - after / before))


def test_retraining_is_its_own_reference(run):
    _, _, table = run
    assert values(table, "output_distance_to_retrain", item=6).max() == 0
    assert values(table, "output_distance_to_retrain", item=0).min() > 0


def test_a_round_of_forgetting_sends_what_an_ordinary_one_does(run):
    _, _, table = run
    for measure in ("messages_per_round", "bytes_per_round"):
        assert set(values(table, measure, item=0)) == set(values(table, measure, item=-1))
        assert values(table, measure, item=3).max() < values(table, measure, item=-1).min()
    assert values(table, "masked_sum_error", item=0).max() < 1e-8


def test_requests_can_be_read_back(run):
    _, _, table = run
    methods = table[table["measure"] == "request_method"].set_index("item")["part"]
    assert methods.to_dict() == {item: own["method"] for item, own in enumerate(EVERY)}


def test_the_same_run_gives_the_same_numbers(run, tmp_path):
    spec, folder, table = run
    train_federated(spec, synthetic.shares(spec), tmp_path, synthetic.CPU)
    assert_same(table, contracts.read("details", tmp_path))
    found, again = (weights.read(place) for place in (folder, tmp_path))
    assert all(np.array_equal(found[name], again[name]) for name in found)


def assert_same(one, other):
    """But for times."""
    one, other = (t[~t["measure"].str.startswith("seconds")].reset_index(drop=True) for t in (one, other))
    assert one.equals(other)


@pytest.mark.parametrize("phases", [1, 3, 4, 7])
def test_interrupted_it_continues_to_the_same_numbers(run, tmp_path, monkeypatch, phases):
    """Stopped after some phases: training, shadow models, some requests."""
    spec, _, table = run
    monkeypatch.setattr(torch_phases, "CHECKPOINT_S", 0.0)
    original, done = federated_cell.checkpoint.save, []

    def stopping(folder, content):
        original(folder, content)
        done.append(len(content["state"]["done"]))
        if len(done) == phases:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(federated_cell.checkpoint, "save", stopping)
        with pytest.raises(KeyboardInterrupt):
            train_federated(spec, synthetic.shares(spec), tmp_path, synthetic.CPU)
    assert done[-1] == phases
    train_federated(spec, synthetic.shares(spec), tmp_path, synthetic.CPU)
    assert_same(table, contracts.read("details", tmp_path))


def test_tensorflow_has_no_federations():
    with pytest.raises(UserError, match=r"has no 'federated'; those that have: torch"):
        backends.require_able("tf", synthetic.spec(), "--spec")


def test_a_placebo_needs_its_forsaken():
    with pytest.raises(ValueError, match="placebo takes the norms"):
        synthetic.spec(requests=[{"method": "forsaken", "rounds": 3}, {"method": "placebo", "rounds": 4}])


def test_a_model_of_another_kind_is_refused(run):
    _, folder, _ = run
    with pytest.raises(UserError, match="do not fit the run's spec"):
        load_federated(folder, synthetic.spec(model={"units": [6]}), synthetic.CPU)


def test_more_examples_than_there_are_is_refused_beforehand():
    spec = synthetic.spec(data={"examples_per_user": 100_000})
    with pytest.raises(UserError, match=r"somewhere: data: 3 users x 100000.* lower users"):
        preflight._check_shares(spec, lookup("mnist", ROOT / "config" / "datasets.yaml"), "somewhere")


def test_assumed_work_counts_every_training():
    plain = synthetic.spec(requests=[{"method": "retrain"}])
    base = 3 * 12 * 2 * 4
    assert passes(plain) == 2 * base + 4 * 10 * 4 * 2
    idle = synthetic.spec(requests=[{"method": "forsaken", "rounds": 3, "others": "idle"}])
    assert passes(idle) == pytest.approx(base + 4 * 10 * 4 * 2 + 3 * 5 * 4)
    assert isinstance(plain, FederatedRunSpec)
