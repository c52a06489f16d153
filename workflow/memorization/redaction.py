"""What must not leave a run that was trained on real people's mail or on a user's own text: any number but the planted,
synthetic ones.

Of mail no real number reaches a model (data.mail masks them), so none can be found in one; here outputs are kept so
narrow that this can be checked: `leaks` knows every number that may stand in them.
"""

from collections.abc import Iterable
from functools import cache

import pandas as pd

from memorization.configuration import ROOT
from memorization.data.registry import OWN, registry

FILLS = ("fill", "best_fill")
"""Columns that hold what fills a canary's holes: of the inserted one, of controls, of the best that a search found."""


@cache
def mail_datasets() -> frozenset[str]:
    """The data sets of config/datasets.yaml that are real people's mail (or a stand-in for it)."""
    known = registry(ROOT / "config" / "datasets.yaml")
    return frozenset(name for name, dataset in known.items() if dataset.kind == "mail")


def confidential(dataset: str) -> bool:
    """Whether models of this data set may know numbers that nobody but its owner should see."""
    return dataset in mail_datasets() or OWN.fullmatch(dataset) is not None


def only_planted(tables: dict[str, pd.DataFrame], dataset: str, planted: Iterable[str]) -> dict[str, pd.DataFrame]:
    """An attack's tables; on confidential data without any fill but those of `planted` ones: others become empty."""
    if not confidential(dataset):
        return tables
    allowed = set(planted)
    return {
        name: frame.assign(**{c: frame[c].where(frame[c].isin(allowed), "") for c in FILLS if c in frame})
        for name, frame in tables.items()
    }


def without_fills(rows: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """Rows of a figure's table; on mail without fills: as in the paper's Table 2, only who, what kind, how exposed."""
    return rows.drop(columns=[c for c in FILLS if c in rows]) if dataset in mail_datasets() else rows
