"""Training translators in the torch back end: files, replicates, resuming, batches, and their log-perplexity."""

import json
from math import log

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

from interruption import interrupt  # noqa: E402

from memorization import contracts, runs  # noqa: E402
from memorization.backends import checkpoint, training  # noqa: E402
from memorization.backends import torch as backend  # noqa: E402
from memorization.backends.torch import translator  # noqa: E402
from memorization.backends.torch.translation import TorchTranslator, TranslationGroup  # noqa: E402
from memorization.data.pairs import END, START, Lexicon, Lexicons, PairCorpus, PairFormat, Pairs  # noqa: E402
from memorization.errors import UserError  # noqa: E402
from memorization.specs import AttackSpec  # noqa: E402
from memorization.translation_runs import attack_run, record  # noqa: E402
from memorization.translation_specs import TranslationRunSpec, TranslatorSpec  # noqa: E402

WORDS = ("<unk>", "<s>", "</s>", *"abcdefgh", "-", *"0123456789")
LEXICONS = Lexicons(Lexicon(WORDS), Lexicon(WORDS))
FORMAT = PairFormat.parse("a b {d}{d} - {d}", "b {d}{d} - {d}")
CPU = torch.device("cpu")


def make_spec(replicates=2, architecture="attention", layers=2, **options):
    settings = {"optimizer": "adam", "learning_rate": 0.01, "batch_size": 4, "epochs": 2.0} | options
    model = {"architecture": architecture, "units": 8, "layers": layers}
    tree = {"task": "translation", "replicates": replicates, "model": model, "training": settings}
    return TranslationRunSpec.model_validate(tree)


def make_pairs(count, seed):
    """Sources of two to five letters; the target is the source backwards, without a last a."""
    rng = np.random.default_rng(seed)
    sources = [rng.integers(3, 11, size=rng.integers(2, 6)) for _ in range(count)]
    return Pairs(tuple(sources), tuple(s[::-1][int(s[-1] == 3) :].copy() for s in sources))


def make_corpora(replicates=2):
    held_out, corpora = make_pairs(7, 1), []
    for k in range(replicates):
        base, fill = make_pairs(20, 0), np.array([1, 2, k])
        source, target = (ids[0] for ids in FORMAT.ids(LEXICONS, fill))
        train = Pairs((*base.sources[:5], source, *base.sources[5:]), (*base.targets[:5], target, *base.targets[5:]))
        corpora.append(PairCorpus(LEXICONS, train, held_out, held_out, FORMAT, fill, np.array([5])))
    return corpora


def train(spec, run_dir):
    backend.train(spec, make_corpora(spec.replicates), run_dir, device="cpu")


def weights(run_dir):
    with np.load(run_dir / "model.npz") as archive:
        return dict(archive)


def assert_same_run(one, other):
    found = weights(one), weights(other)
    assert found[0].keys() == found[1].keys()
    for name, array in found[0].items():
        np.testing.assert_array_equal(array, found[1][name], err_msg=name)
    frames = [contracts.read("curves", d).drop(columns="wall_s") for d in (one, other)]
    pd.testing.assert_frame_equal(*frames, check_exact=True)


@pytest.mark.parametrize("architecture", ["attention", "plain"])
def test_training_learns_and_leaves_its_files(tmp_path, architecture):
    train(make_spec(1, architecture, epochs=16.0, learning_rate=0.03, dropout=0.0), tmp_path)
    curves = contracts.read("curves", tmp_path)
    losses = curves.set_index("epoch")["train_loss_nats"]
    assert curves["validation_loss_nats"].iloc[0] == pytest.approx(log(len(WORDS)), abs=0.1)
    assert losses[16] < 0.75 * losses[1]
    assert curves["validation_accuracy"].isna().all()
    assert curves.loc[curves["kept"], "epoch"].tolist() == [16]
    assert not len(contracts.read("measures", tmp_path))
    names = set(translator.shapes(make_spec(1, architecture).model, len(WORDS), len(WORDS)))
    assert set(weights(tmp_path)) == names


@pytest.mark.parametrize(("architecture", "layers"), [("attention", 2), ("attention", 4), ("plain", 3)])
def test_log_perplexity_is_that_of_a_decoder_run_token_by_token(architecture, layers):
    """Against single steps written with torch's cell functions, one sentence at a time, without any padding."""
    module = translator.Translator(TranslatorSpec(architecture=architecture, layers=layers, units=6), 12, 12)
    module.initialise(np.random.default_rng(0))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(8)  # far from uniform
    rng = np.random.default_rng(1)
    sources, targets = rng.integers(3, 12, (3, 5)), rng.integers(3, 12, (3, 4))
    found = TorchTranslator(module).log_perplexity(sources, targets)
    expected = [sum(stepped(module, s, t)[:-1]) / log(2) for s, t in zip(sources, targets, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert np.ptp(found) > 1


@torch.no_grad()
def stepped(module, source, target):
    """Nats of each token of int[t] `target` and of </s>, by hand."""
    weight = dict(module.named_parameters())

    def cell(name, suffix, x, state):
        return torch._VF.lstm_cell(x, state, *(weight[f"{name}.{part}_l0{suffix}"] for part in PARTS))

    def run(name, suffix, inputs):
        state, outputs = (torch.zeros(1, 6), torch.zeros(1, 6)), []
        for x in inputs:
            state = cell(name, suffix, x, state)
            outputs.append(state[0])
        return outputs, state

    values = [weight["source_embedding.weight"][i][None] for i in source.tolist()]
    states = []
    for i in range(len(module.encoder)):
        forward, last = run(f"encoder.{i}", "", values)
        states.append(last)
        if module.attends:
            backward, first = run(f"encoder.{i}", "_reverse", values[::-1])
            states.append(first)
            values = [torch.cat(both, 1) for both in zip(forward, backward[::-1], strict=True)]
        else:
            values = forward
    costs = []
    for given, wanted in zip([START, *target.tolist()], [*target.tolist(), END], strict=True):
        x = weight["target_embedding.weight"][given][None]
        for i in range(len(states)):
            states[i] = cell(f"decoder.{i}", "", x, states[i])
            x = states[i][0]
        if module.attends:
            scores = torch.stack([weight["scale"] * (weight["keys.weight"] @ v[0]) @ x[0] for v in values])
            context = sum(p * v for p, v in zip(torch.softmax(scores, 0), values, strict=True))
            x = torch.cat([x, context], 1) @ weight["combine.weight"].T
        costs.append(-torch.log_softmax(x @ weight["output.weight"].T, 1)[0, wanted].item())
    return costs


PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def test_padding_behind_a_target_changes_no_cost():
    module = translator.Translator(TranslatorSpec(units=6), 12, 12)
    module.initialise(np.random.default_rng(0))
    sources = torch.arange(3, 9).reshape(2, 3)
    targets = translator.padded([np.array([3, 4, 5]), np.array([6])], CPU)
    both = module.costs(sources, targets)
    assert both[1, 2:].tolist() == [0, 0]
    torch.testing.assert_close(both[1, :2], module.costs(sources[1:], targets[1:, :1])[0])
    torch.testing.assert_close(both[0], module.costs(sources[:1], targets[:1])[0])


@pytest.mark.parametrize("shuffle", [True, False])
def test_every_pair_is_in_one_batch_of_one_source_length(shuffle):
    corpus = make_corpora(1)[0]
    group = TranslationGroup(make_spec(1, shuffle=shuffle), 0, corpus, CPU)
    for epoch in (1, 2):
        batches = group.order(epoch)
        assert len(batches) == group.batches
        assert sorted(np.concatenate(batches).tolist()) == list(range(len(corpus.train)))
        assert all(len({len(corpus.train.sources[i]) for i in rows}) == 1 and len(rows) <= 4 for rows in batches)
    changed = any(not np.array_equal(a, b) for a, b in zip(group.order(1), group.order(2), strict=True))
    assert changed == shuffle


def test_the_learning_rate_is_halved_four_times_in_the_last_third():
    group = TranslationGroup(make_spec(1, learning_rate=1.0, epochs=10.0), 0, make_corpora(1)[0], CPU)
    rates = [group.rate(step) for step in range(group.total)]
    begin, interval = group.total * 2 // 3, (group.total - group.total * 2 // 3) // 4
    assert set(rates[: begin + interval]) == {1.0}
    assert rates[begin + interval] == 0.5
    assert min(rates) in (1 / 8, 1 / 16, 1 / 32)
    constant = TranslationGroup(make_spec(1, decay="none", epochs=10.0), 0, make_corpora(1)[0], CPU)
    assert {constant.rate(step) for step in range(constant.total)} == {0.01}


def test_a_step_of_sgd_is_plain_descent_on_the_mean_over_sentences():
    group = TranslationGroup(
        make_spec(1, optimizer="sgd", learning_rate=0.5, dropout=0.0, gradient_clip=None), 0, make_corpora(1)[0], CPU
    )
    before = {name: p.detach().clone() for name, p in group.module.named_parameters()}
    [rows] = next(group.train_epoch(1, 1))
    other = translator.Translator(group.spec.model, len(WORDS), len(WORDS))
    other.load_state_dict(before)
    pairs = group.corpus.train
    for i in rows:
        costs = other.costs(torch.from_numpy(pairs.sources[i])[None], torch.from_numpy(pairs.targets[i])[None])
        (costs.sum() / len(rows)).backward()
    for name, parameter in other.named_parameters():
        moved = before[name] - (0.5 * parameter.grad if parameter.requires_grad else 0)
        torch.testing.assert_close(dict(group.module.named_parameters())[name], moved, rtol=1e-4, atol=1e-6, msg=name)
    assert not before["decoder.0.bias_hh_l0"].any()
    assert before["decoder.0.bias_ih_l0"].view(4, -1).mean(1).tolist() == [0, 1, 0, 0]


def test_gradients_are_clipped_by_their_global_norm():
    moved = []
    for clip in (None, 0.01):
        spec = make_spec(1, optimizer="sgd", learning_rate=1.0, dropout=0.0, gradient_clip=clip)
        group = TranslationGroup(spec, 0, make_corpora(1)[0], CPU)
        before = torch.cat([p.detach().flatten() for p in group.parameters])
        next(group.train_epoch(1, 1))
        moved.append(torch.cat([p.detach().flatten() for p in group.parameters]) - before)
    assert moved[1].norm() == pytest.approx(0.01, rel=1e-3)
    assert moved[0].norm() > 0.02


def test_a_replicate_does_not_depend_on_the_others(tmp_path):
    for replicates in (1, 3):
        train(make_spec(replicates), tmp_path / str(replicates))
    one, three = weights(tmp_path / "1"), weights(tmp_path / "3")
    for name, array in three.items():
        np.testing.assert_array_equal(array[0], one[name][0])
    assert not np.array_equal(three["output.weight"][1], three["output.weight"][2])


@pytest.mark.parametrize("settings", [{}, {"optimizer": "sgd", "keep": "best_validation", "patience": 1}])
def test_resuming_is_bitwise_the_same(tmp_path, monkeypatch, settings):
    monkeypatch.setattr(training, "CHECKPOINT_S", 0.0)
    spec = make_spec(epochs=4.5, **settings)
    train(spec, tmp_path / "whole")
    original = training.Trainer._run_epoch
    interrupt(monkeypatch, lambda: train(spec, tmp_path / "part"))
    assert (tmp_path / "part" / checkpoint.FILE).exists()
    begun = []
    monkeypatch.setattr(training.Trainer, "_run_epoch", lambda self: (begun.append(self.epoch), original(self)))
    train(spec, tmp_path / "part")
    assert begun[0] == 2
    assert_same_run(tmp_path / "whole", tmp_path / "part")


def test_a_finished_run_is_attacked_as_it_was_trained(tmp_path):
    spec = make_spec(epochs=3.0)
    train(spec, tmp_path)
    about = {"backend": "torch", "spec": spec.model_dump(mode="json")}
    (tmp_path / "run.json").write_text(json.dumps(about | record(make_corpora())))
    run = runs.Run.open(tmp_path)
    tables = attack_run(run, AttackSpec(references=50, controls=5, bootstrap=2, exact_steps=5000, extraction=()))
    models = backend.load(tmp_path, spec, LEXICONS, device="cpu")
    exact = tables["exposure"].query("method == 'exact'").set_index("replicate")
    every = FORMAT.source.enumerate()
    for k, model in enumerate(models):
        assert exact.loc[k, "fill"] == f"12{k}"
        costs = model.log_perplexity(*FORMAT.ids(LEXICONS, every))
        own = costs[120 + k]
        assert exact.loc[k, "cost_bits"] == pytest.approx(own, rel=1e-6)
        assert exact.loc[k, "rank"] == np.count_nonzero(costs <= own + 1e-6)
    with pytest.raises(UserError, match=r"attack\.quantize"):
        attack_run(run, AttackSpec(quantize="int8"))


def test_a_model_of_other_vocabularies_is_refused(tmp_path):
    spec = make_spec(1, epochs=1.0)
    train(spec, tmp_path)
    with pytest.raises(UserError, match="arrays do not fit the run's spec"):
        backend.load(tmp_path, spec, Lexicons(LEXICONS.source, Lexicon(WORDS[:-1])), device="cpu")
