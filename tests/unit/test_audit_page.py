"""An audit's page and its numbers, from a table whose answers are known."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from memorization import audit_page, lower_bound, tables, tidy_audit

MODELS, CANARIES, SPACE = 3, 10, 1000.0
FIRST = {"aaa": 4, "bbb": 0, "ccc": 1}
"""Run -> planted canaries of rank 1, of each model; the others have rank 100."""


RECORDS = 5_000
WINDOW = "a training window of 80 characters"


def arms_of(table: pd.DataFrame) -> pd.DataFrame:
    return tidy_audit.arms(table).assign(queries_to_try_all=1 + 10 + 100)


def rows_of(run: str, private: bool, epsilon: float | None) -> list[dict]:
    about = {"backend": "torch", "run": run, "private": private, "privacy.epsilon": epsilon}
    about |= {"dataset": "own_0123456789ab", "data_source": "own text", "replicates": MODELS, "scale": "reduced"}
    rows = []
    if private:
        for convention, value in (("classic_rdp", 1.25), ("rdp", 1.0), ("pld", 0.75)):
            row = {"source": "privacy", "convention": convention, "epsilon": epsilon * value, "delta": 1e-5}
            rows.append({**row, "noise_multiplier": 1.0, "unit": WINDOW, "examples": RECORDS, **about})
    for model in range(MODELS):
        for epoch, loss in ((0, 4.0), (1, 2.0 + model / 10)):
            curve = {"source": "curves", "replicate": model, "epoch": epoch, "test_loss_nats": loss, "kept": epoch == 1}
            rows.append({**curve, **about})
        for i in range(CANARIES):
            planted = i < CANARIES // 2
            rank = 1.0 if planted and i < FIRST[run] else 100.0 if planted else 500.0
            exposure = {
                "source": "exposure",
                "kind": "inserted" if planted else "excluded",
                "index": i,
                "method": "exact",
            }
            exposure |= {"method": "exact", "algorithm": "walk", "rank": rank, "exposure_bits": np.log2(SPACE / rank)}
            rows.append({**exposure, "space_bits": np.log2(SPACE), "extrapolated": False, "replicate": model, **about})
            if planted:
                search = {
                    "source": "extraction",
                    "index": i,
                    "algorithm": "shortest_path",
                    "fill": "000",
                    "best_fill": "",
                }
                search |= {"extracted": rank == 1, "provable": True, "model_steps": 10 * (i + 1)}
                rows.append({**search, "best_fill": "", "replicate": model, **about})
        audit = {"source": "audit", "canaries": CANARIES, "included": 5, "guesses": 5, "correct": 4, "confidence": 0.95}
        rows.append({**audit, "replicate": model, "delta": 1e-5, "epsilon_low": 0.1 * model, **about})
    return rows


@pytest.fixture
def table(tmp_path):
    made = pd.DataFrame([*rows_of("bbb", True, 1.0), *rows_of("aaa", False, None), *rows_of("ccc", True, 8.0)])
    tables.write(made.assign(figure="own_0123456789ab"), tmp_path / "table.csv")
    return tables.read(tmp_path / "table.csv")


def test_arms_hold_what_the_table_says(table):
    arms = tidy_audit.arms(table).set_index("arm")
    assert arms.index.tolist() == ["without privacy", "private, ε ≤ 8", "private, ε ≤ 1"]
    assert arms["first"].tolist() == arms["extracted"].tolist() == [12, 3, 0]
    assert set(arms["planted"]) == set(arms["left_out"]) == {15}
    assert arms["test_loss_nats"].tolist() == pytest.approx([2.1] * 3)
    wanted = [np.mean([np.log2(SPACE)] * n + [np.log2(10)] * (5 - n)) for n in (4, 1, 0)]
    assert arms["exposure_bits"].tolist() == pytest.approx(wanted)
    assert arms["left_out_bits"].tolist() == pytest.approx([1.0] * 3)
    assert arms["queries_median"].tolist() == [30] * 3
    assert arms["queries_most"].tolist() == [50] * 3
    assert arms["records"].fillna(0).tolist() == [0, RECORDS, RECORDS]
    assert arms["unit"].tolist() == ["", WINDOW, WINDOW]
    assert arms["rdp"].tolist() == [np.inf, 8.0, 1.0]
    assert arms["pld"].tolist() == [np.inf, 6.0, 0.75]
    assert arms["epsilon_low"].tolist() == pytest.approx([0.2] * 3)
    # Three models' bounds hold at once: each at a third of the error.
    assert arms["attainable"].tolist() == pytest.approx([lower_bound.attainable(CANARIES, 1e-5, 1 - 0.05 / 3)] * 3)


def test_an_unfinished_rank_is_counted_and_left_out_of_the_mean(table):
    exact = (table["source"] == "exposure") & (table["run"] == "aaa") & (table["index"] == 9)
    table.loc[exact, ["rank", "exposure_bits"]] = np.nan
    arms = arms_of(table)
    assert arms["unfinished"].tolist() == [3, 0, 0]
    assert arms["left_out_bits"].tolist() == pytest.approx([1.0] * 3)
    assert "without an exact rank" in audit_page.numbers(arms)
    assert "without an exact rank" not in audit_page.numbers(arms[1:])


def test_the_page_needs_nothing_else_and_tells_the_numbers(table):
    provenance = {
        "files": {"corpus": {"sha256": "f" * 64, "bytes": 123456, "url": "own text"}},
        "note": "the leading 60,000 of 123,000 characters are used <b>",
    }
    arms = arms_of(table)
    page = audit_page.page(table, arms, provenance)
    assert "gave back 12 of 15 planted" in page
    assert "gave back 3 of 15 planted" in page
    assert "For one window of 80 characters ε is guaranteed to be at most 6.00; the canaries show at least 0.20" in page
    assert "No ε is guaranteed" in page
    assert "123,456 bytes" in page
    assert "are used &lt;b&gt;" in page
    assert "width=device-width" in page
    assert page.count("data:image/png;base64,") == 2
    assert "http" not in page
    assert "000" not in page.split("<h2>Numbers</h2>")[1].replace(",000", "")  # no fill


def cells(numbers: str, name: str) -> list[str]:
    """The row of the table whose name begins so."""
    (row,) = re.findall(rf"<tr><td>{re.escape(name)}[^<]*</td>(.*?)</tr>", numbers)
    return re.findall(r"<td class=n>([^<]*)</td>", row)


def test_searches_stand_beside_the_queries_that_try_all_secrets(table):
    numbers = audit_page.numbers(arms_of(table))
    assert cells(numbers, "queries to try all secrets") == ["111"] * 3
    assert cells(numbers, "possible secrets") == ["1,000"] * 3
    assert "take as many" not in audit_page.WORDS


def test_the_guarantee_says_of_what_and_for_how_many_records(table):
    arms = arms_of(table)
    numbers = audit_page.numbers(arms)
    assert cells(numbers, "ε guaranteed for one window of 80 characters, PLD") == ["none (∞)", "6.00", "0.75"]
    assert cells(numbers, "records (n)") == ["–", "5,000", "5,000"]
    assert cells(numbers, "δ · n") == ["–", "0.05", "0.05"]
    assert not any("But δ" in line for line in audit_page.answers(arms))
    many = arms.assign(records=arms["records"] * 10)
    assert cells(audit_page.numbers(many), "δ · n") == ["–", "0.5 — too large", "0.5 — too large"]
    assert ["But δ times the number of records is 0.5" in line for line in audit_page.answers(many)] == [
        False,
        True,
        True,
    ]
    provenance = {"files": {"corpus": {"sha256": "f" * 64, "bytes": 1, "url": "own text"}}, "note": ""}
    assert "one record is one window of 80 characters" in " ".join(audit_page.method(table, arms, provenance))


def test_the_csv_holds_the_numbers_of_the_page(table, tmp_path):
    provenance = {"files": {"corpus": {"sha256": "f" * 64, "bytes": 1, "url": "own text"}}, "note": ""}
    (tmp_path / "provenance.json").write_text(json.dumps(provenance))
    paths = [str(tmp_path / name) for name in ("table.csv", "provenance.json", "page.html", "page.csv")]
    audit_page.write(*paths, queries_to_try_all=111)
    written = pd.read_csv(paths[3])
    assert written["queries_to_try_all"].tolist() == [111] * 3
    assert written["records"].tolist()[1:] == [RECORDS] * 2
    assert "queries to try all secrets" in (tmp_path / "page.html").read_text()
