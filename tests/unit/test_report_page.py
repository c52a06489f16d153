"""The report as one page: complete, escaped, without anything that would be fetched."""

import io
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from memorization.errors import UserError
from memorization.report import captions, page, pictures, rows, statements

FIGURE = ("secret_sharer", "fig08_overtraining")
ATTACK = "<script>alert('a & b')</script>"


def claim(name, verdict, figure=FIGURE, **changed):
    row = dict.fromkeys(("statement", "paper_value", "ours", "estimate", "low", "high", "statistic", "p_value"), "")
    row |= {"paper": figure[0], "figure": figure[1], "claim": name, "test": "t", "n": "0", "verdict": verdict}
    row |= {"reason": "", "scale": "reduced", "dataset": "ptb", "data_source": "mirror", "mark": "verified"}
    return row | {"runs": "torch/0123456789ab", "statements": "G7"} | changed


@pytest.fixture
def places(tmp_path):
    """A run of which one figure of two is drawn."""
    made = page.Places.of(tmp_path / "results" / "reduced", tmp_path / "figures")
    for folder in (made.results, made.figures / FIGURE[0], made.tables / FIGURE[0]):
        folder.mkdir(parents=True)
    claims = [
        claim("plateau_at_loss_minimum", "reproduced", statement=ATTACK, p_value="0.0123", n="3"),
        claim("overfitting_does_not_raise", "not reproduced"),
        claim("tree_is_exact", "not evaluated (stand-in data)", ("secret_sharer", "fig09_search_tree"), runs="",
              data_source="standin"),
    ]  # fmt: skip
    pd.DataFrame(claims).to_csv(made.results / "claims.csv", index=False)
    Image.fromarray(np.full((40, 60, 3), 200, dtype=np.uint8)).save(made.figures / FIGURE[0] / f"{FIGURE[1]}.png")
    about = {"scale": "reduced", "dataset": "ptb", "data_source": "mirror", "replicates": 3}
    table = [{**about, "backend": b, "run": run} for b, run in (("torch", "a" * 12), ("tf", "007" * 4))] * 2
    pd.DataFrame(table).to_csv(made.tables / FIGURE[0] / f"{FIGURE[1]}.csv", index=False)
    return made


@pytest.fixture
def text(places):
    page.write(places, places.results / "report.html")
    return (places.results / "report.html").read_text()


class Elements(HTMLParser):
    """(tag, attributes) of a page, and whether every element is closed in order."""

    EMPTY = frozenset({"meta", "img", "br", "wbr", "input"})

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def of(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def test_every_claim_and_every_drawn_figure_is_there_with_its_words(text):
    found = Elements(text)
    ids = [a["id"] for _, a in found.found if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["data-verdict"] for a in found.of("tr") if "data-verdict" in a} == {
        "reproduced", "not reproduced", "not evaluated (stand-in data)",
    }  # fmt: skip
    (image,) = found.of("img")
    assert image["src"].startswith("data:image/png;base64,")
    assert image["alt"].startswith("Figure 8")
    assert len(image["alt"]) > 80
    assert (image["width"], image["height"]) == ("60", "40")
    assert "2 runs, 6 models" in text
    assert "<code>tf/007007007007</code>" in text
    assert "Stand-in data." in text
    assert "p = 0.012" in text


def test_every_link_leads_somewhere_on_the_page(text):
    found = Elements(text)
    ids = {a["id"] for _, a in found.found if "id" in a}
    links = [a["href"] for a in found.of("a")]
    assert links
    assert all(link.startswith("#") and link[1:] in ids for link in links)


def test_nothing_is_fetched_and_text_is_not_markup(text):
    assert ATTACK not in text
    assert "&lt;script&gt;" in text
    found = Elements(text)
    assert not {"link", "iframe", "object", "embed", "base"} & {tag for tag, _ in found.found}
    sources = [a[name] for _, a in found.found for name in ("src", "srcset", "action", "data", "poster") if name in a]
    assert all(source.startswith("data:") for source in sources)
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|import\(", text)
    policy = next(a["content"] for a in found.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_tables_have_captions_and_headers_with_scope(text):
    found = Elements(text)
    assert len(found.of("table")) == len(found.of("caption")) >= 3
    assert all(a.get("scope") in ("row", "col") for a in found.of("th"))
    assert found.of("html") == [{"lang": "en"}]
    assert "prefers-color-scheme: dark" in text


def test_a_page_of_claims_alone(places):
    page.write(places, places.results / "claims.html", drawn=False)
    text = (places.results / "claims.html").read_text()
    assert not Elements(text).of("img")
    assert text.count("data-verdict=") == 3
    assert 'href="#figure' not in text


def test_without_claims_it_says_what_to_do(places, capsys):
    (places.results / "claims.csv").unlink()
    with pytest.raises(UserError, match="snakemake summary"):
        page.write(places, places.results / "report.html")
    assert page.main([str(places.results), str(places.figures)]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_pictures_shrink_to_the_budget_and_keep_their_shape(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (75, 1500, 3), dtype=np.uint8)
    path = tmp_path / "noise.png"
    Image.fromarray(noise).save(path)
    small, size = pictures.shrunk(path, 1400)
    assert size == (1400, 70)
    assert Image.open(io.BytesIO(small)).size == size
    assert len(small) < path.stat().st_size / 2
    monkeypatch.setattr(pictures, "BUDGET", len(small) - 1)
    assert pictures.embedded([path])[path][1] == (1120, 56)
    plain = tmp_path / "plain.png"
    Image.new("RGB", (50, 20)).save(plain)
    content, size = pictures.shrunk(plain, 1400)
    assert size == (50, 20)
    assert len(content) <= plain.stat().st_size


def test_what_the_papers_say_stands_apart_from_what_is_ours(text):
    papers, own = text.split('id="own-title"')
    papers = papers.split('id="statements-title"')[1]
    said, ours = (set(re.findall(r'<tr><th scope="row">(\w+)</th>', part)) for part in (papers, own))
    listed = {whose: {s.id for s in statements.load("secret_sharer") if s.whose == whose} for whose in statements.WHOSE}
    assert said == listed["paper"]
    assert ours == listed["control"] | listed["ours"]
    assert all(f"<td>{whose}</td>" in own for whose in ("control", "ours"))


def test_captions_become_html_and_alternative_texts():
    body = captions.as_html("Exposure log\\ :sub:`2`\\ \\|R\\| of <one> & two, see *here*.")
    assert "log<sub>2</sub>|R|" in body
    assert "&lt;one&gt; &amp; two" in body
    assert captions.alternative("T", body) == "T. Exposure log2|R| of <one> & two, see here."
    assert len(captions.alternative("T", "long word " * 100)) <= 302
    assert "Scale: smoke." in captions.source(*FIGURE, "smoke")


def test_a_row_without_new_columns_is_typed():
    assert rows.typed({"n": ""}) | {} == {
        "n": 0, "estimate": None, "low": None, "high": None, "statistic": None, "p_value": None, "runs": [],
        "statements": [],
    }  # fmt: skip
