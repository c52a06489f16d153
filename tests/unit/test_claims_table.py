"""The claims table: complete, generated, and the same in README, CSV and JSON."""

import json
import re

import pandas as pd
import pytest

from conftest import ROOT
from memorization import claims, readme
from memorization.errors import UserError
from memorization.expansion import known_papers
from memorization.report import provenance, rows, statements

PUBLISHED = ROOT / readme.PUBLISHED
DECLARED = {(paper, figure, claim.id): claim for paper in known_papers() for figure, claim in rows.declared(paper)}
BRIEFS = ROOT.parent / "shared" / "papers"
GATE = re.compile(r"^\| ([A-Z][0-9]+(?:, [A-Z][0-9]+)*) \|", re.MULTILINE)


@pytest.fixture(scope="module")
def published():
    return rows.read(PUBLISHED / "claims.csv")


def keys(table):
    return list(zip(table["paper"], table["figure"], table["claim"], strict=True))


def test_the_readme_is_what_is_generated_from_the_published_verdicts(published):
    text = (ROOT / "README.md").read_text()
    block = text.split(readme.BEGIN)[1].split(readme.END)[0].strip()
    assert block == readme.claims_table(rows.completed(published, rows.papers())), "run: snakemake publish"


def test_every_declared_claim_is_in_the_table_once_and_nothing_else(published):
    table = rows.completed(published, rows.papers())
    assert sorted(keys(table)) == sorted(DECLARED)
    assert set(table["verdict"]) <= {*claims.VERDICTS, rows.NOT_RUN}


def test_published_rows_say_what_is_declared(published):
    """A claim that was changed after its verdict was published must be published anew."""
    for row in published.to_dict("records"):
        claim = DECLARED[row["paper"], row["figure"], row["claim"]]
        assert (row["statement"], row["test"], row["paper_value"]) == (claim.statement, claim.test, claim.paper)
        assert row["mark"] == claims.mark(claim.paper)


def test_a_published_figure_has_the_verdicts_of_all_its_claims(published):
    figures = json.loads((PUBLISHED / "published.json").read_text())["figures"]
    wanted = {key for key in DECLARED if f"{key[0]}/{key[1]}" in figures}
    assert wanted == set(keys(published))


def test_published_rows_name_the_runs_of_their_tables(published):
    for (paper, figure), own in published.groupby(["paper", "figure"]):
        came = provenance.of_table(PUBLISHED / paper / f"{figure}.csv")
        assert set(own["runs"]) == {" ".join(came.runs)}
        assert set(own["scale"]) == {came.scale}


def test_every_statement_is_tested_and_every_claim_of_a_paper_tests_one():
    listed = {key for paper in known_papers() for s in statements.load(paper) for key in s.claims}
    assert listed <= DECLARED.keys()
    of_papers = {key for key in DECLARED if statements.load(key[0])}
    assert of_papers <= listed, "add them to the paper's statements.csv"
    assert {"secret_sharer", "tensorflow_privacy", "closer_look", "learn_to_forget"} <= {key[0] for key in of_papers}


@pytest.mark.parametrize("paper", ["closer_look", "learn_to_forget"])
def test_ids_in_a_claims_words_are_statements_that_it_tests(paper):
    found = statements.by_claim([paper])
    for key, claim in DECLARED.items():
        if key[0] == paper:
            ids = set(re.findall(r"\b[HUC][0-9]+\b", claim.statement))
            assert ids <= set(found[key]), key


@pytest.mark.skipif(not BRIEFS.is_dir(), reason="the lists of claims (shared/papers) are not beside this checkout")
@pytest.mark.parametrize("paper", ["secret_sharer", "tensorflow_privacy", "closer_look", "learn_to_forget"])
def test_every_claim_of_the_brief_is_a_statement(paper):
    text = (BRIEFS / f"{paper}.md").read_text()
    section = next(part for part in re.split(r"^## ", text, flags=re.MULTILINE) if re.match(r"\d+\. .*[Gg]ates", part))
    wanted = {gate for found in GATE.findall(section) for gate in found.split(", ")}
    assert len(wanted) >= 10
    assert wanted <= {s.id for s in statements.load(paper)}


def test_what_a_paper_has_no_value_for_is_no_statement_of_the_papers():
    for paper in known_papers():
        for statement in statements.load(paper):
            ours = [key for key in statement.claims if re.search(r"control of ours|claim of ours", DECLARED[key].paper)]
            if statement.whose == "paper":
                assert not [key for key in ours if key[0] == paper], statement.id


@pytest.mark.parametrize(
    ("claim", "mark"),
    [
        (("closer_look", "subset_curves", "patterns_first"), "none"),
        (("closer_look", "fig02_filters", "real_filters_smoother"), "none"),
        (("learn_to_forget", "r11_users", "users_forgotten"), "none"),
        (("learn_to_forget", "r06_forget_size", "subsets_cheap"), "none"),
        (("learn_to_forget", "r03_main_result", "forgetting_rate"), "verified"),
        (("learn_to_forget", "r05_time", "cheaper_than_retraining"), "secondary"),
    ],
)
def test_a_mark_is_of_a_value_that_the_paper_has(claim, mark):
    assert claims.mark(DECLARED[claim].paper) == mark


def test_that_there_is_no_value_is_said_first():
    """Else `claims.marks` would take the mark of what stands beside it for the value's; brackets may hold more."""
    for key, claim in DECLARED.items():
        outside = re.sub(r"\([^)]*\)", "", claim.paper)
        for said in re.finditer("|".join(claims.NO_VALUE), outside):
            assert said.start() == 0, key


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,claims\nH1,f/c\n", "columns"),
        ("id,whose,statement,claims\nH1,paper,s,c\n", "write <figure>/<claim>"),
        ("id,statement,claims\nH1,s,f/c\n", "columns"),
        ("id,whose,statement,claims\nH1,theirs,s,f/c\n", "whose is 'theirs'; write paper, control, ours"),
        ("id,whose,statement,claims\nH1,,s,f/c\n", "whose is ''"),
        ("id,whose,statement,claims\nH1,paper,s,\n", "needs an id of one word, statement and claims"),
        ("id,whose,statement,claims\nH1,paper,one, two,f/c\n", "quote a text with commas"),
        ("id,whose,statement,claims\nH1,paper,s,f/c\nH1,ours,t,f/d\n", "comes twice"),
    ],
)
def test_a_bad_list_of_statements_is_one_line(tmp_path, text, said):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "statements.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        statements.load("p", tmp_path)


def test_json_has_numbers_and_lists(tmp_path):
    row = {"paper": "p", "figure": "f", "claim": "c", "estimate": "0.5", "low": "", "high": "", "statistic": "",
           "p_value": "0.01", "n": "3", "runs": "torch/a tf/b", "verdict": "reproduced"}  # fmt: skip
    pd.DataFrame([row]).to_csv(tmp_path / "one.csv", index=False)
    (tmp_path / "none.csv").write_text("\n")
    table = rows.collect([tmp_path / "none.csv", tmp_path / "one.csv"])
    rows.write(table, tmp_path / "claims.csv", tmp_path / "claims.json", "figures", "tables")
    (got,) = json.loads((tmp_path / "claims.json").read_text())
    assert (got["estimate"], got["low"], got["n"]) == (0.5, None, 3)
    assert (got["figure_file"], got["table_file"]) == ("figures/p/f.png", "tables/p/f.csv")
    assert (got["runs"], got["statements"]) == (["torch/a", "tf/b"], [])
    assert rows.read(tmp_path / "claims.csv")["p_value"].tolist() == ["0.01"]
