"""How odd a line of text is, by measures that no model trained here decides (TensorFlow Privacy blog; brief 3.3, B3b).

Two character models are counted, each line's with that line's own counts taken out (leave one out), so that a line
does not vouch for itself. With h the up to four characters before c, which never reach beyond the line's beginning,

    P_k(c | h) = (C(hc) + T(h) P_{k-1}(c | h')) / (C(h) + T(h)),    P_0 = 1 / V

is Witten and Bell's interpolation (IEEE Trans. Information Theory 37, 1991): C counts, T(h) distinct characters seen
after h, h' is h without its first character, V distinct characters in all lines. A context that no other line has
leaves P_{k-1}. Unigrams are k = 1, 5-grams k = 5. As in scoring.py the newline at a line's end is not predicted.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from memorization import contracts
from memorization.data.corpora import split_lines

ORDER = 5
COUNTED = 10_000
"""Training lines that are counted at least, however few are asked for: a 5-gram of a few lines knows little."""
UNKNOWN = "<unk>"
"""The Penn Treebank's mark of a word outside its 10,000."""
NUMBER = "N"
"""The Penn Treebank's mark of a number."""


def oddness(texts: Mapping[str, str], examples: int) -> pd.DataFrame:
    """One row for each of the leading `examples` lines of the whole text "train", numbered from 1 (contract `lines`).

    The character models count these and, where they are few, further lines up to `COUNTED`.
    """
    train, test = split_lines(texts["train"]), split_lines(texts["test"])
    return line_oddness(train[: max(examples, COUNTED)], test)[:examples]


def line_oddness(train_lines: Sequence[str], test_lines: Sequence[str]) -> pd.DataFrame:
    """One row per training line, numbered from 1, by contract `lines`.

    Losses are nats per character under the character models of the other training lines; NaN for a line without
    characters, as shares are for one without words. Test lines only give the vocabulary that `rare_share` is about.
    """
    ids, line = _characters(train_lines)
    sizes = np.bincount(line, minlength=len(train_lines))
    with np.errstate(invalid="ignore"):
        unigram, fivegram = (np.bincount(line, nats, len(train_lines)) / sizes for nats in _losses(ids, line, sizes))
    frame = pd.DataFrame(
        {
            "index": np.arange(1, len(train_lines) + 1),
            "characters": sizes,
            "unigram_nats": unigram,
            "fivegram_nats": fivegram,
            **_word_shares(train_lines, test_lines),
        }
    )
    return contracts.check("lines", frame)


def _word_shares(train_lines: Sequence[str], test_lines: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns about the words (what white space separates) of each training line."""
    words = [line.split() for line in train_lines]
    known = {word for line in test_lines for word in line.split()}
    flat = [word for line in words for word in line]
    marks = {w: (w == UNKNOWN, w == NUMBER or any(c.isdigit() for c in w), w not in known) for w in set(flat)}
    marked = np.array([marks[word] for word in flat], dtype=np.float64).reshape(-1, 3)
    count = np.array([len(line) for line in words], dtype=np.int64)
    line = np.repeat(np.arange(len(words)), count)
    names = ("unk_share", "number_share", "rare_share")
    with np.errstate(invalid="ignore"):
        shares = {name: np.bincount(line, marked[:, i], len(words)) / count for i, name in enumerate(names)}
    return {"words": count, **shares}


def _characters(lines: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """All characters in order as int64[n] numbers 1..V, and int64[n]: the line each one is in."""
    codes = np.frombuffer("".join(lines).encode("utf-32-le"), dtype=np.uint32)
    ids = np.unique(codes, return_inverse=True)[1].astype(np.int64) + 1
    return ids, np.repeat(np.arange(len(lines)), np.array([len(one) for one in lines], dtype=np.int64))


def _losses(ids: np.ndarray, line: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64[n] nats of every character under orders 1 and 5."""
    base = int(ids.max(initial=0)) + 1
    place = np.arange(len(ids)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    probability = np.full(len(ids), 1 / max(base - 1, 1))
    context = np.zeros(len(ids), dtype=np.int64)
    losses = []
    for order in range(1, ORDER + 1):
        if order > 1:
            # 0 stands before a line's first character: that a line begins is part of the context.
            before = np.where(place >= order - 1, np.roll(ids, order - 1), 0)
            context, _ = _number(context * base + before)
        gram, first = _number(context * base + ids)
        probability = _interpolate(probability, line, context, gram, first)
        losses.append(-np.log(probability))
    return losses[0], losses[-1]


def _number(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Equal keys get equal numbers 0, 1, ..., int64[n]; and the first position of each. Small, so that keys stay so."""
    _, first, number = np.unique(keys, return_index=True, return_inverse=True)
    return number, first


def _interpolate(
    lower: np.ndarray, line: np.ndarray, context: np.ndarray, gram: np.ndarray, first: np.ndarray
) -> np.ndarray:
    """float64[n]: P_k at every position from `lower` = P_{k-1}, each line's own counts taken out.

    context, gram  int64[n]: numbers of h and of hc
    first          int64[m]: a position of each gram
    """
    contexts, grams = np.bincount(context), np.bincount(gram)
    own_contexts = _Own(line, context, len(contexts))
    own_grams = _Own(line, gram, len(grams))
    total = contexts[context] - own_contexts.counts[own_contexts.pair]
    count = grams[gram] - own_grams.counts[own_grams.pair]
    # T(h): the n-grams that begin with h, without those that only this line has.
    types = np.bincount(context[first], minlength=len(contexts))[context]
    only_here = own_grams.counts == grams[gram[own_grams.first]]
    lost = np.bincount(own_contexts.pair[own_grams.first], only_here, len(own_contexts.counts))
    types = types - lost[own_contexts.pair]
    with np.errstate(invalid="ignore"):
        mixed = (count + types * lower) / (total + types)
    return np.where(total > 0, mixed, lower)


class _Own:
    """How often each line has each item.

    counts, first  int64[p], per (line, item) that occurs: how often, and one of its positions
    pair           int64[n]: number of the (line, item) at every position
    """

    def __init__(self, line: np.ndarray, item: np.ndarray, items: int) -> None:
        _, self.first, self.pair, self.counts = np.unique(
            line * np.int64(items) + item, return_index=True, return_inverse=True, return_counts=True
        )
