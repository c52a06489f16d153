"""A tiny GPT-2, made on the spot, behind the stepping protocol, compared with the library's own loss."""

import itertools

import numpy as np
import pytest

transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed here (test_own_models.py does)"
)

import torch  # noqa: E402
from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: E402

from memorization.adapters.transformers import causal_model  # noqa: E402
from memorization.bring import audit_model  # noqa: E402
from memorization.canaries import CanaryFormat  # noqa: E402
from memorization.errors import UserError  # noqa: E402

FORMAT = "the code of {x} is {d} {d}"


@pytest.fixture(scope="module")
def tokenizer():
    """Byte-level BPE whose only merges are a space with a digit, and 4 with 2."""
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", str(d)) for d in range(10)] + [("4", "2")]
    vocabulary = {token: i for i, token in enumerate([*symbols, *("".join(pair) for pair in merges)])}
    words = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words)


@pytest.fixture(scope="module")
def network(tokenizer):
    torch.manual_seed(0)
    sizes = transformers.GPT2Config(vocab_size=len(tokenizer), n_positions=40, n_embd=16, n_layer=2, n_head=2)
    network = transformers.GPT2LMHeadModel(sizes)
    with torch.no_grad():  # the library begins near zero, where all fills would nearly tie
        for parameter in network.parameters():
            parameter.mul_(4)
    return network


def bits_by_the_library(network, tokenizer, text: str) -> float:
    ids = torch.tensor([tokenizer.encode("\n" + text, add_special_tokens=False)])
    with torch.inference_mode():
        loss = network.eval()(input_ids=ids, labels=ids).loss
    return float(loss) * (ids.shape[1] - 1) / np.log(2)


def test_ranks_are_those_of_the_librarys_own_losses(network, tokenizer):
    canaries = ["the code of k is 4 2", "the code of q is 0 7"]
    audit = audit_model(causal_model(network, tokenizer), FORMAT, canaries[:1], canaries[1:], references=20)
    for row, line in zip(audit.exact().itertuples(), canaries, strict=True):
        words = line[:-3]
        bits = {
            f"{a} {b}": bits_by_the_library(network, tokenizer, f"{words}{a} {b}")
            for a, b in itertools.product(range(10), repeat=2)
        }
        own = bits[line[-3:]]
        rank = sum(cost <= own + 1e-3 for cost in bits.values())
        assert row.rank_low <= rank <= row.rank_high
        assert row.rank == pytest.approx(rank, abs=row.rank_high - row.rank_low)
        assert max(bits.values()) - min(bits.values()) > 0.1
    best = audit.extraction.set_index("algorithm").loc["shortest_path", "best_fill"]
    words = canaries[0][:-3]
    found = bits_by_the_library(network, tokenizer, f"{words}{best[0]} {best[1]}")
    least = min(
        bits_by_the_library(network, tokenizer, f"{words}{a} {b}") for a, b in itertools.product(range(10), repeat=2)
    )
    assert found == pytest.approx(least, abs=1e-3)


def test_steps_are_those_of_whole_sequences(network, tokenizer):
    model = causal_model(network, tokenizer)
    text = "the code of k is 4 2"
    ids = model.vocabulary.encode("\n" + text)
    assert model.log_perplexity(ids[None])[0] == pytest.approx(bits_by_the_library(network, tokenizer, text), rel=1e-4)
    logs, state = model.start(ids[:3])
    total = model.log_perplexity(ids[None, :3])[0]
    for token in ids[3:]:
        total -= logs[0, token]
        logs, state = model.step(state, np.array([token]))
    assert total == pytest.approx(model.log_perplexity(ids[None])[0], rel=1e-5)


def test_holes_are_the_tokenizers_own_tokens(network, tokenizer):
    model = causal_model(network, tokenizer)
    canary = CanaryFormat.parse("the code of k is {d} {d}!")
    tokens = canary.tokens(model.vocabulary)
    for fill in canary.enumerate():
        whole = tokenizer.encode("\n" + canary.render(fill), add_special_tokens=False)
        assert tokens.ids(fill)[0].tolist() == whole


@pytest.mark.parametrize("text", ["code x{d}{d}", "{d}{d}{d} {k}"])
def test_digits_that_the_tokenizer_merges_are_refused(network, tokenizer, text):
    with pytest.raises(UserError, match=r"one token of this tokenizer|not for tokenizers"):
        CanaryFormat.parse(text).tokens(causal_model(network, tokenizer).vocabulary)


def test_what_is_no_causal_model_or_too_long_is_refused(network, tokenizer):
    with pytest.raises(UserError, match="a causal language model"):
        causal_model(torch.nn.Linear(2, 2), tokenizer)
    line = "the code of " + "very " * 10 + "k is 4 2"
    with pytest.raises(UserError, match="reads at most 40 tokens"):
        audit_model(causal_model(network, tokenizer), "the code of " + "very " * 10 + "{x} is {d} {d}", [line])
