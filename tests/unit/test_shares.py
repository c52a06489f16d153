"""Who holds what in a federation: disjoint parts, what a setting moves, what is forgotten, and the one-line errors."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from memorization.data import standins
from memorization.data.registry import lookup
from memorization.data.rows import Pool, read_pool
from memorization.data.shares import build_shares, needed, require_enough, uneven
from memorization.errors import UserError
from memorization.federated_specs import FederatedRunSpec, SharesSpec

REGISTRY = Path(__file__).parents[2] / "config" / "datasets.yaml"
SIZES = {"users": 4, "examples_per_user": 20, "third_party": 15, "shadow": 30, "test_examples": 25}


def make_spec(validation=False, **data):
    return FederatedRunSpec.model_validate(
        {"task": "federated", "data": {**SIZES, **data}, "validation": validation, "oracle": {"shadow_models": 4}}
    )


def make_pool(examples=300, classes=5, **options):
    """Two features; the first one is the example's number."""
    raw = np.column_stack([np.arange(examples), np.arange(examples) % 7]).astype(np.float32)
    return Pool(raw, np.arange(examples) % classes, classes, **options)


def numbers(part):
    """Which of the pool's examples a part holds."""
    return [int(number) for number in part[0][:, 0]]


def parts_of(shares):
    return [*map(numbers, shares.users), numbers(shares.third_party), numbers(shares.shadow), numbers(shares.test)]


def joined(parts):
    return list(itertools.chain.from_iterable(parts))


@pytest.mark.parametrize("partition", ["iid", "dirichlet"])
@pytest.mark.parametrize("validation", [False, True])
def test_parts_have_their_sizes_and_share_no_example(partition, validation):
    shares = build_shares(make_spec(validation, partition=partition), 0, make_pool())
    assert [len(part) for part in parts_of(shares)] == [20, 20, 20, 20, 15, 30, 25]
    held = joined(parts_of(shares))
    assert len(set(held)) == len(held)
    assert (shares.features, shares.classes) == (2, 5)
    for x, y in (*shares.users, shares.test):
        assert (y == x[:, 0].astype(int) % 5).all()
        assert x.dtype == np.float32


def test_the_same_replicate_is_the_same_and_another_one_is_not():
    first, again, other = (build_shares(make_spec(), replicate, make_pool()) for replicate in (0, 0, 1))
    assert first.record() == again.record()
    assert first.record()["sha256"] != other.record()["sha256"]


def test_a_setting_moves_only_what_it_names():
    base = build_shares(make_spec(), 0, make_pool())
    more_users = build_shares(make_spec(users=6), 0, make_pool())
    assert numbers(more_users.test) == numbers(base.test)
    assert numbers(more_users.shadow) == numbers(base.shadow)
    assert [numbers(user) for user in more_users.users[:4]] == [numbers(user) for user in base.users]
    more_targets = build_shares(make_spec(third_party=40), 0, make_pool())
    assert parts_of(more_targets)[:4] == parts_of(base)[:4]
    assert set(numbers(base.third_party)) < set(numbers(more_targets.third_party))
    assert numbers(more_targets.test) == numbers(base.test)
    uneven_users = build_shares(make_spec(partition="dirichlet"), 0, make_pool())
    assert sorted(joined(parts_of(uneven_users)[:4])) == sorted(joined(parts_of(base)[:4]))


def test_forgotten_and_retained_are_all_that_users_hold_and_shares_nest():
    few, some, everything = (build_shares(make_spec(forget=share), 0, make_pool()) for share in (0.1, 0.5, 1.0))
    assert [len(s.forgotten[1]) for s in (few, some, everything)] == [2, 10, 20]
    assert (some.forget | ~few.forget).all()
    assert everything.forget.all()
    union = joined(parts_of(some)[:4])
    assert sorted(numbers(some.forgotten) + numbers(some.retained)) == sorted(union)
    assert len(build_shares(make_spec(forget=0.001), 0, make_pool()).forgotten[1]) == 1


def test_validation_forgets_and_tests_on_other_examples_but_trains_on_the_same():
    reported = build_shares(make_spec(), 0, make_pool())
    chosen_on = build_shares(make_spec(validation=True), 0, make_pool())
    assert not set(numbers(reported.forgotten)) & set(numbers(chosen_on.forgotten))
    assert not set(numbers(reported.test)) & set(numbers(chosen_on.test))
    assert sorted(joined(parts_of(reported)[:4])) == sorted(joined(parts_of(chosen_on)[:4]))


def test_third_parties_of_other_sources():
    same, other, noise = (
        build_shares(make_spec(third_party_source=source), 0, make_pool()) for source in ("same", "other", "noise")
    )
    assert sorted(other.third_party[0].ravel()) == sorted(same.third_party[0].ravel())
    assert noise.third_party[0].shape == same.third_party[0].shape
    assert noise.third_party[0].dtype == np.float32
    low, high = same.third_party[0].min(axis=0), same.third_party[0].max(axis=0)
    assert (noise.third_party[0] >= low).all()
    assert (noise.third_party[0] <= high).all()
    assert not set(noise.third_party[0][:, 0]) & set(same.third_party[0][:, 0])
    assert parts_of(noise)[:4] == parts_of(same)[:4]


@pytest.mark.parametrize("alpha", [0.001, 0.1, 100.0])
def test_uneven_shares_have_equal_sizes(alpha):
    holders = uneven(np.arange(300) % 6, 10, alpha, np.random.default_rng(1))
    assert (np.bincount(holders) == 30).all()


def test_a_small_alpha_gives_uneven_classes_and_a_large_one_even_classes():
    labels = np.arange(2000) % 10

    def spread(alpha):
        holders = uneven(labels, 10, alpha, np.random.default_rng(3))
        return np.mean([np.bincount(labels[holders == user], minlength=10).std() for user in range(10)])

    # 200 draws of ten equally likely classes: s.d. sqrt(200 * .1 * .9) = 4.2 per class.
    assert spread(1000.0) < 6
    assert spread(0.1) > 3 * spread(1000.0)


def test_odd_shadow_parts_become_even():
    assert len(build_shares(make_spec(shadow=31), 0, make_pool()).shadow[1]) == 32
    assert needed(make_spec(shadow=31).data, validation=False) == 80 + 15 + 32 + 25


def test_shadow_models_are_given_as_much_as_the_federation_has():
    """Else they fit closer than what the oracles will be asked about. Half of the part is each one's."""
    shares = build_shares(make_spec(shadow=None), 0, make_pool())
    assert len(shares.shadow[1]) == 2 * sum(len(y) for _, y in shares.users)
    small = build_shares(make_spec(shadow=None), 0, make_pool(75, is_standin=True))
    assert len(small.shadow[1]) >= 2 * sum(len(y) for _, y in small.users)
    assert SharesSpec().shadow is None


def test_real_data_that_are_too_few_are_an_error_and_a_stand_in_shrinks(caplog):
    with pytest.raises(UserError, match=r"need 150 examples, 'mnist' has 149: lower users") as caught:
        build_shares(make_spec(), 0, make_pool(149))
    assert "\n" not in str(caught.value)
    require_enough(make_spec(), 150)
    shares = build_shares(make_spec(), 0, make_pool(75, is_standin=True))
    assert [len(part) for part in parts_of(shares)] == [9, 9, 9, 9, 7, 14, 12]
    assert "the stand-in has 75 of 150 examples" in caplog.text
    held = joined(parts_of(shares))
    assert len(set(held)) == len(held)
    with pytest.raises(UserError, match="the stand-in of 'mnist' has 20"):
        build_shares(make_spec(), 0, make_pool(20, is_standin=True))


def test_one_user_has_no_second_forget_set():
    with pytest.raises(UserError, match=r"set data\.users to 2 or more"):
        build_shares(make_spec(validation=True, users=1), 0, make_pool())


def test_images_are_shrunk_and_put_in_units():
    pixels = np.zeros((12, 3, 4, 4), dtype=np.uint8)
    pixels[::2] = 200
    pool = Pool(pixels, np.arange(12) % 2, 2, centre=100.0, unit=50.0, side=2)
    x, y = pool.take(np.array([0, 3]))
    assert x.shape == (2, 12)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, np.repeat([[2.0], [-2.0]], 12, axis=1))
    assert y.tolist() == [0, 1]


@pytest.mark.parametrize(("side", "features"), [(None, 784), (32, 784), (28, 784), (14, 196)])
def test_only_larger_images_are_shrunk(tmp_path, side, features):
    dataset = lookup("mnist", REGISTRY)
    for role, content in standins.digits().items():
        (tmp_path / getattr(dataset.roles, role)).write_bytes(content)
    pool = read_pool(tmp_path, dataset, side)
    x, y = pool.take(np.arange(5))
    assert x.shape == (5, features)
    assert (x.min(), pool.classes, len(y)) == (0, 10, 5)
    assert x.max() <= 1


def test_colour_images_get_mean_zero_and_one_standard_deviation(tmp_path):
    dataset = lookup("cifar10", REGISTRY)
    (content,) = standins.colour_digits().values()
    (tmp_path / dataset.roles.batches_archive).write_bytes(content)
    pool = read_pool(tmp_path, dataset)
    x, _ = pool.take(np.arange(len(pool)))
    assert x.mean() == pytest.approx(0, abs=1e-3)
    assert x.std() == pytest.approx(1, abs=1e-3)


def test_texts_are_no_rows(tmp_path):
    with pytest.raises(UserError, match="holds text, not images"):
        read_pool(tmp_path, lookup("ptb", REGISTRY))
