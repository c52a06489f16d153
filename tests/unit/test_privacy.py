"""Privacy accounting: published values to the digit, calibration over all magnitudes, bad input."""

import math
import re
import subprocess
import sys

import dp_accounting
import numpy as np
import pytest
from dp_accounting import rdp

from conftest import ROOT
from memorization import accounting_cli, contracts, privacy, privacy_file, published_epsilons
from memorization.errors import UserError
from memorization.specs import ImageRunSpec, RunSpec

sys.path.append(str(ROOT / "tests" / "parity"))
import accounting_cases as cases

CONVENTIONS = ("classic_rdp", "rdp", "pld")
TUTORIAL_Q, TUTORIAL_STEPS = 256 / 62_192, 14_520


def by_setting(table):
    return table.pivot(index=["noise_multiplier", "epochs"], columns="convention", values="epsilon")[[*CONVENTIONS]]


@pytest.fixture(scope="module")
def b7():
    return published_epsilons.b7_rows()


@pytest.fixture(scope="module")
def b8():
    return published_epsilons.b8_rows()


@pytest.mark.parametrize("setting", cases.MNIST)
def test_only_the_classic_conversion_gives_the_published_epsilons(b7, setting):
    published, *expected = cases.MNIST[setting][:4]
    ours = by_setting(b7).loc[setting]
    assert ours.round(4).tolist() == expected
    assert round(ours["classic_rdp"], 2) == published
    assert published not in ours[["rdp", "pld"]].round(2).tolist()


@pytest.mark.parametrize("setting", cases.EARLIER)
def test_rows_of_the_earlier_readme(b7, setting):
    assert by_setting(b7).loc[setting].round(3).tolist() == list(cases.EARLIER[setting])


def test_best_orders_and_the_grid_are_stored(b7):
    classic = b7[b7["convention"] == "classic_rdp"].set_index(["noise_multiplier", "epochs"])["order"]
    assert classic.loc[[*cases.MNIST]].tolist() == [17, 8.8, 3.9, 13, 13]
    known = b7[b7["convention"] != "pld"]
    assert set(zip(known["lowest_order"], known["highest_order"], strict=True)) == {(1.1, 1024.0)}
    assert b7.loc[b7["convention"] == "pld", ["order", "lowest_order", "highest_order"]].isna().all(axis=None)


def test_the_tutorials_epsilons_to_three_digits(b8):
    ours = b8.pivot(index=["examples", "noise_multiplier"], columns="convention", values="epsilon")
    three = {c: [None if math.isnan(v) else float(f"{v:.3g}") for v in ours[c]] for c in ("rdp", "pld")}
    assert three["rdp"] == [8.05e9, 8.81e4, 33.1, 4.35, 7.99e9, 6.63e4, 23.2, 3.01]
    assert three["pld"] == [None, None, 29.3, 4.00, None, None, 20.7, 2.76]


@pytest.mark.parametrize("case", cases.STATEMENT)
def test_tf_privacys_unit_test_values(case):
    examples, batch, noise, epochs, delta = case
    row = privacy.epsilons(noise, batch / examples, epochs * examples // batch, delta)[1]
    expected, order = cases.STATEMENT[case]
    assert row["epsilon"] == pytest.approx(expected, abs=1e-9)
    assert row["order"] == order


@pytest.mark.parametrize(
    ("noise", "steps", "expected"),
    [
        (0.7, 120, (None, 3.239268, 2.461238)),
        (0.35, 120, (None, 22.624860, 18.697741)),
        (1.1, 1000, (2.0821, 1.7118, 1.5154)),
    ],
)
def test_more_values_from_other_code(noise, steps, expected):
    for row, value in zip(privacy.epsilons(noise, 0.01, steps, 1e-5), expected, strict=True):
        assert value is None or row["epsilon"] == pytest.approx(value, abs=6e-5 if value == round(value, 4) else 6e-7)


def test_the_four_high_orders_change_no_published_value():
    papers = [a for a in privacy.ORDERS if a < 64]
    for noise, epochs in cases.MNIST:
        accountant = rdp.RdpAccountant(papers)
        event = dp_accounting.PoissonSampledDpEvent(cases.MNIST_Q, dp_accounting.GaussianDpEvent(noise))
        accountant.compose(event, epochs * 234)
        ours = privacy.epsilon(noise, cases.MNIST_Q, epochs * 234, cases.DELTA, "rdp")
        assert ours == pytest.approx(accountant.get_epsilon(cases.DELTA), rel=1e-12)


def test_no_noise_gives_infinite_epsilons_and_tiny_noise_none_by_pld():
    assert [row["epsilon"] for row in privacy.epsilons(0.0, 0.01, 100, 1e-5)] == [math.inf] * 3
    tiny = privacy.epsilons(0.29, 0.01, 100, 1e-5)
    assert [math.isnan(row["epsilon"]) for row in tiny] == [False, False, True]


def test_calibration_agrees_with_the_librarys():
    def event(noise):
        gaussian = dp_accounting.GaussianDpEvent(noise)
        return dp_accounting.SelfComposedDpEvent(dp_accounting.PoissonSampledDpEvent(cases.MNIST_Q, gaussian), 14_062)

    theirs = dp_accounting.calibrate_dp_mechanism(lambda: rdp.RdpAccountant(privacy.ORDERS), event, 3.01, 1e-5)
    ours = privacy.calibrate(3.01, 1e-5, cases.MNIST_Q, 14_062, "rdp")
    assert ours == pytest.approx(theirs, rel=5e-6)
    assert round(ours, 4) == 1.0122


@pytest.mark.parametrize("accountant", ["classic", "rdp"])
@pytest.mark.parametrize("wanted", [0.1, 0.65, 1.21, 5.26, 89.0, 2e8, 1e9, 1e10])
@pytest.mark.parametrize("delta", [1e-5, 1e-9])
def test_calibrated_noise_meets_the_wanted_epsilon(accountant, wanted, delta):
    noise = privacy.calibrate(wanted, delta, TUTORIAL_Q, TUTORIAL_STEPS, accountant)
    got = privacy.epsilon(noise, TUTORIAL_Q, TUTORIAL_STEPS, delta, privacy.CONVENTIONS[accountant])
    assert 0.999 * wanted < got <= wanted


def test_pld_calibrates_with_less_noise_than_rdp_and_that_with_less_than_classic():
    classic, current, loss = (privacy.calibrate(1.21, 1e-5, 0.01, 1000, a) for a in privacy.CONVENTIONS)
    assert loss < current < classic
    assert 0.999 * 1.21 < privacy.epsilon(loss, 0.01, 1000, 1e-5, "pld") <= 1.21


@pytest.mark.parametrize(("accountant", "wanted"), [("classic", 0.01), ("rdp", 0.001), ("pld", 1e4), ("classic", 1e30)])
def test_an_unreachable_epsilon_is_refused_with_what_is_possible(accountant, wanted):
    lowest, highest = privacy.reachable(1e-5, 0.1, 5, accountant)
    assert not lowest < wanted <= highest
    with pytest.raises(
        UserError, match=rf"{re.escape(f'{wanted:g}')} cannot be reached in 5 steps.*{lowest:.4g} to"
    ) as error:
        privacy.calibrate(wanted, 1e-5, 0.1, 5, accountant)
    assert "\n" not in str(error.value)


def test_the_floor_is_the_epsilon_of_endless_noise():
    assert privacy.floor(1e-9, "classic") == pytest.approx(math.log(1e9) / 1023)
    for accountant in ("classic", "rdp"):
        endless = privacy.reachable(1e-9, 1e-3, 1, accountant)[0]
        assert endless == pytest.approx(privacy.floor(1e-9, accountant), rel=1e-6)


def spec(**given):
    return RunSpec.model_validate(
        {"training": {"gradient_clip": None, "batch_size": 50, "epochs": 2.0}, "privacy": given}
    )


def test_account_fills_the_contract():
    frame = privacy.account(spec(epsilon=2.0, delta=1e-6, clip=0.5), examples=1_025)
    assert frame["convention"].tolist() == list(CONVENTIONS)
    assert frame["steps"].tolist() == [40] * 3
    assert frame["sample_rate"].tolist() == [50 / 1_025] * 3
    assert frame["unit"].unique().tolist() == ["a training window of 100 characters"]
    assert frame["target_epsilon"].tolist() == [2.0] * 3
    assert 1.998 < frame["epsilon"][0] <= 2.0
    given = privacy.account(spec(noise_multiplier=1.3), examples=1_025)
    assert given["noise_multiplier"].tolist() == [1.3] * 3
    assert given["target_epsilon"].isna().all()


def test_clipping_only_is_no_noise_and_an_infinite_epsilon():
    frame = privacy.account(spec(), examples=1_000)
    assert frame["noise_multiplier"].tolist() == [0.0] * 3
    assert frame["epsilon"].tolist() == [math.inf] * 3


def test_images_are_their_own_unit():
    image = {"gradient_clip": None, "keep": "final", "batch_size": 256, "epochs": 15.0}
    frame = privacy.account(ImageRunSpec(task="image", training=image, privacy={"noise_multiplier": 1.3}), 60_000)
    assert frame["unit"].unique().tolist() == ["an image"]
    assert round(frame["epsilon"][0], 4) == 1.1915


def test_bad_input_is_refused_in_one_line():
    with pytest.raises(UserError, match=r"here: training.batch_size: 50 is more than the 49 records"):
        privacy.check(spec(), 49, "here")
    with pytest.raises(UserError, match=r"here: privacy.epsilon: 0.01 cannot be reached.*at least 0.0113"):
        privacy.check(spec(epsilon=0.01), None, "here")
    with pytest.raises(UserError, match=r"more than the 49 records"):
        privacy.account(spec(epsilon=1.0), 49)
    with pytest.raises(UserError, match="no `privacy`"):
        privacy.account(RunSpec(), 1_000)
    privacy.check(RunSpec(), 1, "here")


def test_checking_at_parse_time_imports_no_accounting_library():
    code = (
        "import sys; from memorization import privacy; from memorization.specs import RunSpec\n"
        "t = {'gradient_clip': None}\n"
        "for a in ('classic', 'rdp', 'pld'):\n"
        "    s = RunSpec.model_validate({'training': t, 'privacy': {'epsilon': 1.0, 'accountant': a}})\n"
        "    privacy.check(s, 1000, 'here')\n"
        "from memorization import privacy_file\n"
        "assert not {'dp_accounting', 'torch', 'tensorflow'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "workflow", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_back_end_reads_what_accounting_wrote(tmp_path):
    frame = privacy.account(spec(noise_multiplier=3.0, clip=10.0), examples=1_025)
    contracts.write("privacy", frame, tmp_path)
    expected = privacy_file.Mechanism(3.0, 10.0, 50 / 1_025, steps_per_epoch=20, batch_size=50)
    assert privacy_file.read(tmp_path) == expected


def test_reading_refuses_what_is_missing_or_contradictory(tmp_path):
    with pytest.raises(UserError, match="run `account` first"):
        privacy_file.read(tmp_path)
    frame = privacy.account(spec(noise_multiplier=3.0), examples=1_025)
    contracts.write("privacy", frame.assign(noise_multiplier=[3.0, 3.0, 4.0]), tmp_path)
    with pytest.raises(UserError, match="2 different mechanisms"):
        privacy_file.read(tmp_path)


def test_the_command_counts_windows_and_writes_the_file(tmp_path, monkeypatch, caplog):
    text = "".join(f"line {i} of a small corpus\n" for i in range(300))
    for name in ("train", "valid", "test"):
        (tmp_path / f"ptb.{name}.txt").write_text(text)
    path = tmp_path / "spec.yaml"
    path.write_text(
        "canary: {format: 'pin {d}{d}', insertions: 3, position: window}\n"
        "training: {gradient_clip: null, batch_size: 10, epochs: 1.0, sequence_length: 40}\n"
        "privacy: {noise_multiplier: 1.0, sampling: shuffle}\n"
    )
    with caplog.at_level("INFO"):
        accounting_cli.account_run(path, tmp_path, tmp_path / "run")
    windows = (len(text) + 3 * 40 - 1) // 40
    frame = contracts.read("privacy", tmp_path / "run")
    assert frame["examples"].unique().tolist() == [windows]
    assert frame["steps"].unique().tolist() == [windows // 10]
    assert "nominal" in caplog.text
    assert "a training window of 40 characters" in caplog.text


@pytest.mark.parametrize("q", [0.004, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("convention", ["classic_rdp", "rdp"])
def test_epsilon_falls_with_noise_at_every_magnitude(q, convention):
    """Also where the library's series does not converge and leaves out the low orders (noise 0.2 to 3)."""
    noises = np.concatenate([np.geomspace(1e-4, 0.09, 8), np.geomspace(0.1, 3, 40), np.geomspace(3.1, 1e3, 8)])
    values = np.array([privacy.epsilon(s, q, 100, 1e-9, convention) for s in noises])
    assert np.isfinite(values).all()
    assert (np.diff(values) < 0).all()


def test_orders_that_the_library_leaves_out_are_integrated():
    event = dp_accounting.PoissonSampledDpEvent(0.1, dp_accounting.GaussianDpEvent(0.5))
    theirs = rdp.RdpAccountant(privacy.ORDERS).compose(event)._rdp
    ours = privacy.divergences(0.5, 0.1, 1)
    left_out = np.isinf(theirs)
    assert 0 < left_out.sum() < 10
    np.testing.assert_array_equal(ours[~left_out], theirs[~left_out])
    assert (np.diff(ours) > 0).all()
    whole = [a for a in privacy.ORDERS if a.is_integer() and a < 64]
    exact = rdp.RdpAccountant(whole).compose(event)._rdp
    np.testing.assert_allclose([privacy.integrated_divergence(0.5, 0.1, a) for a in whole], exact, rtol=1e-9)


@pytest.mark.parametrize("wanted", [30.0, 100.0, 300.0])
def test_calibration_at_large_sample_rates(wanted):
    noise = privacy.calibrate(wanted, 1e-9, 0.1, 200, "classic")
    assert 0.98 * wanted < privacy.epsilon(noise, 0.1, 200, 1e-9, "classic_rdp") <= wanted
