"""File contracts, tables, and the generated part of the README."""

import errno
import json

import pandas as pd
import pytest

from memorization import contracts, readme, tables, toy_tree
from memorization.errors import UserError

TOP = pd.DataFrame(
    {
        "replicate": [0, 0],
        "position": [1, 2],
        "fill": ["007", "110"],
        "cost_bits": [1.5, 2.0],
        "is_canary": [True, False],
    }
)


def test_round_trip_keeps_leading_zeros_and_types(tmp_path):
    contracts.write("top", TOP, tmp_path)
    pd.testing.assert_frame_equal(contracts.read("top", tmp_path), TOP, check_dtype=False)
    assert [p.name for p in tmp_path.iterdir()] == ["top.csv"]


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (TOP.drop(columns="fill"), r"missing columns \['fill'\]"),
        (TOP.assign(extra=1), r"unexpected \['extra'\]"),
        (TOP.assign(position=[1.5, 2.0]), "wrong types: position is float64"),
    ],
)
def test_broken_files_are_refused(tmp_path, frame, said):
    with pytest.raises(ValueError, match=said):
        contracts.write("top", frame, tmp_path)
    assert not list(tmp_path.iterdir())


def test_atomic_leaves_the_old_file_when_writing_fails(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail(error):
        with contracts.atomic(path) as temporary:
            temporary.write_text("half")
            raise error

    for number, said in ((errno.ENOSPC, "disk is full"), (errno.EFBIG, "larger than"), (errno.EROFS, "not be written")):
        with pytest.raises(UserError, match=rf"a\.txt: .*{said}.* run the same command again"):
            fail(OSError(number, "said by the system"))
    with pytest.raises(ValueError, match="other"):
        fail(ValueError("other"))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_source_that_may_not_be_read_is_not_blamed_on_the_target(tmp_path, number):
    path, source = tmp_path / "out" / "deep" / "a.txt", tmp_path / "mirror" / "a.txt"

    def fail(named):
        with contracts.atomic(path):
            raise OSError(number, "said by the system", named)

    with pytest.raises(OSError, match="said by the system") as left:
        fail(str(source))
    assert left.value.filename == str(source)
    for named in (str(path.with_name(".a.txt.7")), str(path.parent), str(tmp_path / "out"), None):
        with pytest.raises(UserError, match=r"out/deep/a\.txt: may not be written"):
            fail(named)


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    for name in (".model.npz.123", ".curves.csv.9", ".hidden", ".snakemake_timestamp", "model.npz", "a.12"):
        (tmp_path / name).touch()
    contracts.remove_leftovers(tmp_path)
    kept = {".hidden", ".snakemake_timestamp", "model.npz", "a.12"}
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_table_carries_provenance_and_varied_keys(tmp_path):
    run = tmp_path / "runs" / "torch" / "abc"
    contracts.write("top", TOP, run / "attacks" / "def")
    record = {"data": {"dataset": "ptb", "source": "standin"}, "spec": {"replicates": 1}}
    (run / "run.json").write_text(json.dumps(record))
    cell = {"backend": "torch", "run": "abc", "attack": "def", "score": None, "private": False, "varied": {"seed": 3}}
    table = tables.build("fig", "smoke", ["top"], [cell], str(tmp_path))
    assert set(table["data_source"]) == {"standin"}
    assert set(table["seed"]) == {3}
    assert set(table["scale"]) == {"smoke"}
    tables.write(table, tmp_path / "t.csv")
    assert list(tables.read(tmp_path / "t.csv")["fill"]) == ["007", "110"]


def test_toy_tree_has_the_papers_numbers():
    # Secret Sharer Fig. 9: leaves 4.64, 1.47, 1.73 (truncated), 1.73 bits; greedy goes to b and misses ab.
    nodes = toy_tree.rows().set_index("node")
    assert nodes.loc[["aa", "ab", "ba", "bb"], "log_perplexity_bits"].round(3).tolist() == [
        4.644,
        1.474,
        1.737,
        1.737,
    ]
    assert nodes.loc[nodes["on_best_path"] & nodes["is_leaf"]].index.tolist() == ["ab"]
    assert nodes.loc["b", "on_greedy_path"]
    assert not nodes.loc["ab", "on_greedy_path"]


def test_claims_go_between_the_markers(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n")
    row = {"claim": "G1", "statement": "a|b", "paper_value": "80 %", "ours": "4 of 5", "verdict": "reproduced"}
    row |= {"paper": "p", "figure": "f", "test": "t", "dataset": "ptb", "data_source": "mirror"}
    row |= {"runs": "torch/a tf/b", "scale": "reduced", "reason": ""}
    absent = {"claim": "G2", "ours": "", "verdict": "not run yet", "scale": "", "dataset": "", "runs": ""}
    claims = pd.DataFrame(
        [
            row,
            {**row, "claim": "G9", "reason": "target unverified: from memory"},
            {**row, **absent, "reason": "none yet"},
        ]
    )
    readme.update_claims(path, claims)
    text = path.read_text()
    assert text.startswith("before")
    assert text.endswith("after\n")
    assert "old" not in text
    figure, table = "paper_figures/published/p/preview_f.png", "paper_figures/published/p/f.csv"
    rest = f"reduced, ptb (mirror) | [2]({table}) |"
    assert f"| [`G1`]({figure}) | a\\|b | 80 % | 4 of 5 | `t` | **reproduced** | {rest}" in text
    assert f"| [`G9`]({figure}) | a\\|b | 80 % | 4 of 5 | `t` | **reproduced** (target unverified) | {rest}" in text
    assert "| `G2` | a\\|b | 80 % | none yet | `t` | **not run yet** |  | 0 |" in text
    (tmp_path / "bare.md").write_text("no markers")
    with pytest.raises(UserError, match="markers"):
        readme.update_claims(tmp_path / "bare.md", claims)
