"""Made-up sentence pairs in place of a parallel corpus: a small grammar of ours, and a word-by-word rendering.

The "translation" is no language: every word of the source has one invented word, and the order of a noun and its
adjective is turned round, so that there is something to learn. Numbers stay numbers. Nothing is taken from any corpus.
"""

import numpy as np

SENTENCES = {"train": 2_000, "validation": 200, "test": 200}
"""Part -> pairs."""

NOUNS = [
    "baker",
    "child",
    "dog",
    "driver",
    "farmer",
    "girl",
    "horse",
    "house",
    "man",
    "nurse",
    "painter",
    "river",
    "singer",
    "student",
    "teacher",
    "woman",
]
ADJECTIVES = [
    "big",
    "blue",
    "cold",
    "green",
    "happy",
    "little",
    "loud",
    "old",
    "quiet",
    "red",
    "small",
    "tired",
    "warm",
    "young",
]
VERBS = [
    "carries",
    "draws",
    "finds",
    "follows",
    "hears",
    "likes",
    "meets",
    "sees",
    "shows",
    "visits",
    "watches",
    "wants",
]
PLACES = [
    "bridge",
    "field",
    "garden",
    "harbour",
    "kitchen",
    "market",
    "park",
    "school",
    "station",
    "street",
    "tower",
    "yard",
]
OTHERS = {"a", "the", "and", "in", "near", "behind", "today", "number", "room", "has", "is", "my", "."}

CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"


def pairs() -> dict[str, list[str]]:
    """Role of `PairRoles` -> lines, the same every time; no source sentence is in two parts."""
    rng = np.random.default_rng(20_190_814)
    words = _dictionary(rng)
    distinct: dict[str, str] = {}
    while len(distinct) < sum(SENTENCES.values()):
        source, target = _sentence(words, rng)
        distinct.setdefault(source, target)
    lines, first = {}, 0
    for part, count in SENTENCES.items():
        chosen = list(distinct.items())[first : first + count]
        lines[f"{part}_source"], lines[f"{part}_target"] = (list(side) for side in zip(*chosen, strict=True))
        first += count
    return lines


def _dictionary(rng: np.random.Generator) -> dict[str, str]:
    """Every word of the grammar -> an invented one; a full stop stays one."""
    made: dict[str, str] = {".": "."}
    for word in sorted({*NOUNS, *ADJECTIVES, *VERBS, *PLACES, *OTHERS} - {"."}):
        invented = word
        while invented == word or invented in made.values():
            syllables = rng.integers(1, 4)
            invented = "".join(rng.choice(list(CONSONANTS)) + rng.choice(list(VOWELS)) for _ in range(syllables))
        made[word] = invented
    return made


def _sentence(words: dict[str, str], rng: np.random.Generator) -> tuple[str, str]:
    """One sentence and its rendering."""
    source, target = [], []

    def say(*chosen: str, turned: bool = False) -> None:
        source.extend(chosen)
        target.extend(words.get(word, word) for word in (chosen[::-1] if turned else chosen))

    def pick(options: list[str]) -> str:
        return options[rng.integers(len(options))]

    def phrase(nouns: list[str]) -> None:
        say(pick(["a", "the"]))
        if rng.random() < 0.6:
            say(pick(ADJECTIVES), pick(nouns), turned=True)
        else:
            say(pick(nouns))

    phrase(NOUNS)
    if rng.random() < 0.3:
        say("and")
        phrase(NOUNS)
    say(pick(VERBS))
    phrase(NOUNS)
    if rng.random() < 0.6:
        say(pick(["in", "near", "behind"]))
        phrase(PLACES)
    if rng.random() < 0.2:
        say("in", "room", *str(rng.integers(10, 1000)))
    say(".")
    return " ".join(source), " ".join(target)
