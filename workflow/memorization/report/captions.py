"""Captions: reStructuredText with a template's placeholders, as HTML and as plain text."""

import html
import re
from pathlib import Path

from docutils.core import publish_parts
from jinja2 import Template

from memorization.expansion import PAPERS

_SETTINGS = {"file_insertion_enabled": False, "raw_enabled": False, "report_level": 5, "output_encoding": "unicode"}
_TAG = re.compile(r"<[^>]+>")


def source(paper: str, figure: str, scale: str, folder: Path = PAPERS) -> str:
    """The caption's text at `scale`, as Snakemake's own report would fill it in."""
    text = (folder / paper / "captions" / f"{figure}.rst").read_text()
    return Template(text).render(snakemake={"config": {"scale": scale}})


def as_html(text: str) -> str:
    """Paragraphs of HTML."""
    return publish_parts(text, writer="html5", settings_overrides=_SETTINGS)["body"].strip()


def alternative(title: str, body: str, longest: int = 300) -> str:
    """What an image's alt attribute says: its title and the first sentences of its caption (`body`, HTML), as text."""
    plain = " ".join(html.unescape(_TAG.sub("", body)).split())
    words = f"{title}. {plain}"
    return words if len(words) <= longest else words[:longest].rsplit(" ", 1)[0] + " …"
