"""The papers' own values: well formed, complete for the figures that are drawn, and equal to what was read."""

import numpy as np
import pytest
from papers_paths import PAPERS

from memorization import tidy

MARKS = {"verified", "verified (v1)", "secondary", "unverified", "unverified, weak", "derived", "choice"}


@pytest.fixture(scope="module", params=sorted(PAPERS.glob("*/reference.csv")), ids=lambda p: p.parent.name)
def reference(request):
    return tidy.read_reference(request.param)


def test_columns_marks_and_numbers(reference):
    assert tuple(reference.columns) == tidy.REFERENCE
    assert set(reference["mark"]) <= MARKS
    assert reference[["x", "y", "reading_error"]].dtypes.eq(float).all()
    assert reference[["figure", "series", "label"]].notna().all(axis=None)
    # A direction in words has no number; its note says where it was read, or why nothing was.
    assert reference.loc[reference["y"].isna(), "note"].notna().all()
    assert reference.loc[reference["y"].notna(), "y_unit"].notna().all()
    assert (reference["x"].notna() == reference["x_unit"].notna()).all() or reference.loc[
        reference["x"].isna() & reference["x_unit"].notna(), "note"
    ].notna().all()


def test_no_duplicates(reference):
    keys = ["figure", "series", "label", "x", "mark", "note"]  # two ends of a range differ by their note
    assert not reference.duplicated(keys).any(), reference[reference.duplicated(keys, keep=False)]


def test_values_of_the_secret_sharer():
    reference = tidy.read_reference(PAPERS / "secret_sharer" / "reference.csv")

    def figure(key, series):
        return reference[(reference["figure"] == key) & (reference["series"] == series)]

    fills = figure("tab01_most_likely_fills", "most likely fill")
    assert fills["label"].iloc[0] == "281265017"
    gap = fills["y"].iloc[1] - fills["y"].iloc[0]
    assert figure("tab01_most_likely_fills", "gap to runner-up")["y"].iloc[0] == pytest.approx(gap)
    exposure = figure("fig08_overtraining", "exposure")
    assert exposure.loc[exposure["y"].idxmax(), "x"] == 19
    test_loss = figure("fig08_overtraining", "test loss")
    assert test_loss.loc[test_loss["y"].idxmin(), "x"] == 10
    curve = figure("fig11_extraction_threshold", "smoothed success")
    assert np.interp(0.5, curve["y"], curve["x"]) == pytest.approx(30.7, abs=0.05)
    batches = figure("tab05_batch_units", "exposure").pivot(index="label", columns="x", values="y")
    ratios = figure("tab05_batch_units", "ratio of batch 128 to 16").set_index("label")["y"]
    assert (batches[128] / batches[16]).sub(ratios).abs().max() < 0.06
