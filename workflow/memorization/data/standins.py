"""Embedded replacements for data that cannot be had: never mixed with real data, always labelled as such."""

import platform
import re
import textwrap

from memorization.data.registry import Roles

LONGEST_LINE = 500
"""Characters; the Penn Treebank's longest line has 520."""


def text_lines() -> list[str]:
    """Distinct sentences of the standard library's language reference (pydoc_data.topics), in a fixed order.

    They look like the Penn Treebank as far as honest: lower case, only its characters (letters, digits and
    ``#$&'*-./<>\\``), a space at both ends of a line, no blank lines. Unlike there, numbers stay numbers, so
    that digits are in the vocabulary, and words are not tokenised.
    """
    from pydoc_data.topics import topics

    # Topics quote each other at length; a sentence that is in two splits would leak: only the first is kept.
    distinct: dict[str, None] = {}
    for key in sorted(topics):
        for paragraph in re.split(r"\n\s*\n", topics[key].lower()):
            for sentence in re.split(r"(?<=[.!?:;])\s+", paragraph.replace("’", "'")):
                # Three or more equal marks in a row are rulers under headings.
                words = re.sub(r"[^a-z0-9#$&'*\-./<>\\]|([*\-./<>])\1{2,}", " ", sentence)
                words = " ".join(words.split()).strip(" .")
                # A scrap of a table or of a grammar is no sentence.
                if len(re.findall(r"[a-z]+", words)) > 1:
                    distinct.update(dict.fromkeys(textwrap.wrap(words, LONGEST_LINE - 2)))
    return [f" {line} " for line in distinct]


def text() -> dict[str, str]:
    """Role -> text: of every 20 lines the 19th is validation, the 20th test, the rest train (90/5/5)."""
    parts: dict[str, list[str]] = {role: [] for role in Roles.model_fields}
    for number, line in enumerate(text_lines()):
        parts[{18: "validation", 19: "test"}.get(number % 20, "train")].append(line)
    return {role: "".join(f"{line}\n" for line in lines) for role, lines in parts.items()}


def origin() -> str:
    """Where the text comes from; it differs between Python versions."""
    return f"English text from pydoc_data.topics of Python {platform.python_version()}"


LICENCE = "Python Software Foundation License 2.0 (Python documentation)"
CITATION = "Python Software Foundation: The Python Language Reference"
STANDINS = {"text": text}
"""Registry key `standin` -> its maker."""
