"""Sanitising a training text, as one does before training on what people wrote: known kinds of secrets are masked,
copies are dropped.

Incomplete by design, like every blacklist: a secret of another shape stays as it is (Secret Sharer).
"""

import re

MASK = "N"
"""What the Penn Treebank's preparation wrote for numbers."""

DIGITS = re.compile(r"[0-9](?:-?[0-9])*")
"""Runs of digits with single dashes between them: card, telephone and social security numbers as people write them."""


def mask_digits(text: str) -> str:
    """`text`, of the same length, with every digit of such runs masked. Dashes stay, and so does all else."""
    return DIGITS.sub(lambda run: re.sub("[0-9]", MASK, run.group()), text)


def deduplicate(text: str) -> str:
    """The first of all equal lines of `text`. Only a newline ends a line; the last line may lack one."""
    *lines, rest = text.split("\n")
    kept = dict.fromkeys(lines)
    return "".join(f"{line}\n" for line in kept) + (rest if rest not in kept else "")
