"""Who holds which part of a text, where the canary is, and specifications that are refused."""

import numpy as np
import pytest
import synthetic_text_federation as synthetic

from memorization import backends, preflight
from memorization.configuration import ROOT
from memorization.data.registry import lookup
from memorization.errors import UserError
from memorization.federated_text_specs import characters_met


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("text")
    synthetic.write(place)
    return place


def texts(own):
    return [own.vocabulary.decode(np.concatenate([inputs.ravel(), targets[-1, -1:]])) for inputs, targets in own.users]


def test_only_user_0_holds_the_canary(folder):
    for own in synthetic.shares(synthetic.spec(), folder):
        assert [text.count(f"\n{own.line}\n") for text in texts(own)] == [3, 0, 0]


def test_the_places_are_the_lines_characters(folder):
    for own in synthetic.shares(synthetic.spec(), folder):
        inputs, targets = own.users[0]
        for window, places in zip(own.copies, own.places, strict=True):
            assert own.vocabulary.decode(targets[window, places]) == own.line
            assert own.vocabulary.decode(inputs[window, places[:1]]) == "\n"
        assert own.holding.sum() == len(set(own.copies.tolist()))


def test_parts_are_disjoint_and_seeds_differ(folder):
    one, other = synthetic.shares(synthetic.spec(), folder)
    train = (folder / "ptb.train.txt").read_text()
    for own in (one, other):
        plain = [text.replace(f"{own.line}\n", "") for text in texts(own)]
        assert all(text[: len(text) // 2] in train for text in plain)
        assert len(set(plain)) == 3
    assert one.line != other.line


def test_validation_forgets_another_canary(folder):
    reported, tuned = (synthetic.shares(synthetic.spec(validation=v), folder) for v in (False, True))
    assert all(a.line != b.line for a, b in zip(reported, tuned, strict=True))


def test_a_seed_does_not_depend_on_how_many_there_are(folder):
    two, three = (synthetic.shares(synthetic.spec(replicates=n), folder) for n in (2, 3))
    for one, other in zip(two, three, strict=False):
        assert one.line == other.line
        assert all(np.array_equal(a[0], b[0]) for a, b in zip(one.users, other.users, strict=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"requests": [{"method": "sisa"}]}, "sisa votes with several models"),
        ({"requests": [{"method": "forsaken", "target": "matched"}]}, "choose mean or uniform"),
        ({"requests": [{"method": "placebo", "rounds": 3}]}, "placebo takes the norms"),
        ({"canary": {"prefix": "number {d}"}}, "without braces"),
        ({"canary": {"prefix": "x" * 28}}, "must fit one window"),
        ({"data": {"users": 1}}, "users"),
        ({"model": {"architecture": "gru"}}, "architecture"),
    ],
)
def test_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        synthetic.spec(**changes)


def test_too_little_text_is_refused(folder):
    with pytest.raises(UserError, match=r"data.users 300: .* raise data.characters"):
        synthetic.shares(synthetic.spec(data={"users": 300, "characters": 5000}), folder)
    with pytest.raises(UserError, match="user 0's text"):
        synthetic.shares(synthetic.spec(data={"users": 300}), folder)
    with pytest.raises(UserError, match="characters are no window"):
        synthetic.shares(synthetic.spec(data={"third_party_characters": 25}), folder)


def test_tensorflow_has_none_and_only_texts_will_do():
    with pytest.raises(UserError, match=r"has no 'federated_text'; those that have: torch"):
        backends.require_able("tf", synthetic.spec(), "--spec")
    assert preflight.FITTING["federated_text"] == ("text",)
    ptb = lookup("ptb", ROOT / "config" / "datasets.yaml")
    whole = ptb.files[ptb.roles.train].bytes
    assert preflight.expected_examples(synthetic.spec(), ptb) == whole // 3 // 30


def test_characters_met_counts_every_round():
    plain = synthetic.spec(requests=[{"method": "retrain"}], relearn_rounds=0)
    assert characters_met(plain, 1000) == 2 * 2 * 1000
    more = synthetic.spec(requests=[{"method": "retrain"}, {"method": "without_user", "rounds": 5}], relearn_rounds=3)
    assert characters_met(more, 1000) == pytest.approx((2 + 2 + 5 + 2 * 3) * 1000, rel=0.5)
