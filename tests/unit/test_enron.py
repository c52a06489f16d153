"""Table 2: secrets' rows, claims and drawing, from made-up tables; no secret is in any of them."""

import importlib.util

import numpy as np
import pytest
import synthetic_tables as synthetic
from matplotlib.text import Text
from papers_paths import PAPERS

from memorization import claims, figures_enron, tidy, tidy_secrets
from memorization.configuration import load_config
from memorization.expansion import dataset_names, expand

KEY = "tab02_enron"
REFERENCE = tidy.read_reference(PAPERS / "secret_sharer" / "reference.csv", KEY)
CARD = "my credit card number is " + "{d}" * 15 + "{k}"
SECURITY = "my social security number is {d}{d}{d}-{d}{d}-{d}{d}{d}{d}"
OWNERS = ((1, CARD, 1), (2, SECURITY, 2), (3, SECURITY, 2), (4, SECURITY, 1), (6, SECURITY, 1), (7, CARD, 3))


def enron(bits: float = 25.0, won: int = 4, seed: int = 0, **options):
    """Ten secrets of six owners; the first `won` rank first and are extracted, of the others likelier fills are known.

    bits: the mean of what is added to the exposure of a number that was not planted.
    """
    rng = np.random.default_rng(seed)
    exposures, searches, number = [], [], 0
    for mailbox, text, count in OWNERS:
        space = 49.83 if text == CARD else synthetic.SPACE
        about = {"run": f"{mailbox:012x}", "replicate": 0, "corpus.mailbox": mailbox, "canary.format": text,
                 "canary.insertions": 4, "canary.count": count, "space_bits": space}  # fmt: skip
        for index in range(count):
            first, number = number < won, number + 1
            known = min(bits + rng.exponential(1.44), space)
            row = {**about, "kind": "inserted", "index": index}
            walked = ("pruned_walk", 1, 1, space) if first else ("bounds", 2, 10**9, np.nan)
            exact = dict(zip(("algorithm", "rank_low", "rank_high", "exposure_bits"), walked, strict=True))
            exact["method"] = "exact"
            sampled = {"method": "sampled", "exposure_bits": min(known, 12.3), "extrapolated": known > 12.3,
                       "exposure_low_bits": 10.7, "exposure_high_bits": space, "references": 5000}  # fmt: skip
            skewed = {"method": "skew_normal", "exposure_bits": known, "exposure_low_bits": known - 1,
                      "exposure_high_bits": known + 1, "extrapolated": known > 12.3}  # fmt: skip
            exposures += [{**row, **method} for method in (exact, sampled, skewed)]
            found = {"algorithm": "shortest_path" if first else "beam", "canary_cost_bits": 25.0,
                     "best_cost_bits": 25.0 if first else 20.0, "extracted": first, "provable": first}  # fmt: skip
            searches.append({**about, "index": index, **found})
        exposures += [
            {**about, "kind": "control", "index": i, "method": "sampled", "exposure_bits": rng.exponential(1.44)}
            for i in range(20)
        ]
    return synthetic.table(KEY, {"exposure": exposures, "extraction": searches}, **options)


def run(test, table, **parameters):
    return claims.TESTS[test](table, REFERENCE, **parameters)


def test_one_row_per_secret_in_the_papers_order():
    rows = tidy_secrets.secrets(enron())
    assert "".join(rows["owner"]) == "ABBCCDFGGG"
    paper = REFERENCE[REFERENCE["series"] == "exposure"].sort_values("x")["label"]
    assert [f"user {r.owner}, {r.kind}" for r in rows.itertuples()] == paper.tolist()
    assert rows["extracted"].tolist() == [True] * 4 + [False] * 6
    assert rows["exact"].notna().tolist() == [True] * 4 + [False] * 6
    assert rows["outranked"].tolist() == rows["beaten_in_search"].tolist() == [False] * 4 + [True] * 6


def test_a_sample_that_is_likelier_outranks():
    table = enron(won=10)
    sampled = (table["method"] == "sampled") & (table["kind"] == "inserted")
    table.loc[sampled, "rank"] = 2.0 ** table.loc[sampled, "space_bits"] / 5001
    assert not tidy_secrets.secrets(table)["outranked"].any()
    table.loc[sampled, "rank"] *= 2
    assert tidy_secrets.secrets(table)["outranked"].all()


@pytest.mark.parametrize(
    ("scale", "dataset", "fraction", "owners"),
    [
        ("smoke", "enron", 0.2, [1, 2]),
        ("reduced", "enron", 0.06, [1, 2, 3, 4, 6, 7]),
        ("paper", "enron_cmu", 1.0, None),
    ],
)
def test_small_data_are_spared_the_scales_cap_on_their_share(scale, dataset, fraction, owners):
    config = load_config({"scale": scale, "papers": ["secret_sharer"], "figures": [KEY]})
    (figure,) = expand(config, dataset_names()).figures.values()
    assert {c.run.dataset for c in figure.cells} == {dataset}
    assert {c.run.corpus.fraction for c in figure.cells} == {fraction}
    assert [c.run.corpus.mailbox for c in figure.cells] == (owners or [mailbox for mailbox, *_ in OWNERS])
    assert all(c.attack.every for c in figure.cells)


def test_the_papers_count_gets_no_verdict():
    found = run("secrets_extracted", enron(won=4))
    assert (found.verdict_supported, found.estimate, found.n) == (None, 4, 6)
    assert found.summary.startswith("4 of 10 planted synthetic secrets extracted (0 undecided)")
    assert run("secrets_extracted", enron()[:0]).summary == "no secret in the table"


def test_secrets_memorised():
    assert run("secrets_memorised", enron(bits=20.0), owners=6).verdict_supported is True
    nothing = enron(bits=0.0, won=0, seed=3)
    assert run("secrets_memorised", nothing, owners=6).verdict_supported is False
    assert run("secrets_memorised", nothing, owners=7).verdict_supported is None
    assert run("secrets_memorised", nothing[nothing["method"] != "sampled"], owners=6).verdict_supported is None


def test_search_is_rank():
    table = enron(won=4)
    found = run("secret_search_is_rank", table, secrets=5)
    assert (found.verdict_supported, found.estimate) == (True, 1.0)
    assert run("secret_search_is_rank", table, secrets=11).verdict_supported is None
    wrong = table.copy()
    at = wrong.index[(wrong["source"] == "extraction")][0]
    wrong.loc[at, ["extracted", "best_cost_bits"]] = [False, 20.0]
    assert run("secret_search_is_rank", wrong, secrets=5).verdict_supported is False


def draw(table):
    spec = importlib.util.spec_from_file_location("secret_sharer_plots", PAPERS / "secret_sharer" / "plots.py")
    plots = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plots)
    drawn = getattr(plots, KEY)(table, REFERENCE)
    cells = [cell.get_text() for axes in drawn.axes for table in axes.tables for cell in table.get_celld().values()]
    return drawn, " ".join(t.get_text() for t in drawn.findobj(Text) + cells)


def test_draws_letters_and_the_papers_values():
    drawn, words = draw(enron())
    drawn.set_dpi(40)
    drawn.canvas.draw()
    assert "unverified" in words
    assert all(value in words for value in ("CCN", "SSN", "49.8 of 49.8", "29.9 of 29.9", "52", "yes"))


@pytest.mark.parametrize("method", ["exact", "skew_normal", "sampled"])
def test_survives_a_missing_method(method):
    table = enron()
    draw(table[table["method"] != method])


def test_survives_single_sources():
    table = enron()
    for source in ("exposure", "extraction"):
        draw(table[table["source"] == source])


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"extracted": True, "provable": True}, "yes"),
        ({"extracted": True}, "yes (unproven)"),
        ({"beaten_in_search": True}, "no"),
        ({"outranked": True}, "no"),
        ({}, "not within budget"),
    ],
)
def test_extraction_is_told_as_far_as_it_is_known(row, text):
    known = dict.fromkeys(("extracted", "provable", "beaten_in_search", "outranked"), False)
    assert figures_enron.extracted_text(known | row) == text
