"""Translators on disk: what run.json says of their data, and the attack on a finished run."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from memorization import backends
from memorization.data.pairs import Lexicon, Lexicons, PairCorpus, PairFormat
from memorization.errors import UserError
from memorization.runs import Run
from memorization.specs import AttackSpec


def record(corpora: Sequence[PairCorpus]) -> dict[str, Any]:
    """What run.json holds beside what every run does; `lexicons` and `pair_format` read it."""
    first = corpora[0]
    return {
        "lexicons": {"source": list(first.lexicons.source.words), "target": list(first.lexicons.target.words)},
        "pairs": {part: len(getattr(first, part)) for part in ("train", "validation", "test")},
        "canaries": [
            {
                "replicate": k,
                "index": 0,
                "fill": corpus.fmt.source.fill_text(corpus.fill),
                "source": corpus.fmt.source.text,
                "target": corpus.fmt.target.text,
                "positions": corpus.positions.tolist(),
            }
            for k, corpus in enumerate(corpora)
        ],
    }


def attack_run(run: Run, spec: AttackSpec) -> dict[str, pd.DataFrame]:
    """The tables of an attack on a finished run of translators (translation_attack.py)."""
    from memorization.translation_attack import attack

    if spec.quantize != "none":
        raise UserError(f"attack.quantize: {spec.quantize!r} is for language models; translators take none")
    lexicons = Lexicons(*(Lexicon(tuple(run.record["lexicons"][side])) for side in ("source", "target")))
    own = run.record["canaries"]
    fmt = PairFormat.parse(own[0]["source"], own[0]["target"])
    fills = np.stack([fmt.source.parse_fill(canary["fill"]) for canary in own])
    models = backends.load(run.backend).load(run.directory, run.spec, lexicons)
    return attack(models, fmt, lexicons, fills, spec, run.spec.seed)
