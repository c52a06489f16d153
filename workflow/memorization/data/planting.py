"""Where canaries go in a training text.

A canary is a line of its own: newline, the canary's text, newline - the context in which it is scored
(canaries.CONTEXT) is then the context in which it was trained.

A text is a str, whose tokens are its characters, or of words int64[n] token ids, in which a line ends with
vocabulary.LINE_END_ID. Lengths and offsets count tokens.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from memorization.errors import UserError
from memorization.vocabulary import LINE_END_ID

Text = str | np.ndarray


def plant_lines(
    text: Text,
    lines: Sequence[Text],
    keep: np.ndarray,
    position: Literal["uniform", "start"],
    rng: np.random.Generator,
    window: int,
) -> tuple[Text, np.ndarray]:
    """Insert `lines`, all of one length; each then lies whole, from newline to newline, in one training window.

    Places are drawn for all lines, but only those with `keep` (bool[n]) are inserted. `position` "uniform" draws line
    starts of `text` uniformly, distinct while there are enough; "start" takes the first lines.
    Returns the new text and int64[keep.sum()], in the order of the lines: offsets in it of their first tokens.
    Raises UserError where a line is longer than a window or finds no place.
    """
    if not keep.any():
        return text, np.zeros(0, dtype=np.int64)
    _fits_a_window(lines[0], window)
    if position == "start":
        # The first line has no newline before it, and the canary is scored after one.
        text = _join([_newline(text), text])
    starts = _newlines(text) + 1
    if position == "start":
        drawn = np.zeros(len(lines), dtype=np.int64)
    elif len(starts):
        drawn = rng.choice(len(starts), size=len(lines), replace=len(lines) > len(starts))
    else:
        raise UserError("the training text has no line end, so no place for a canary")
    drawn, size = drawn[keep], len(lines[0]) + 1
    order = np.argsort(drawn, kind="stable")
    chosen = starts[_fit(starts, drawn, size, window, len(text))]
    kept = [_join([line, _newline(text)]) for line, wanted in zip(lines, keep, strict=True) if wanted]
    return _insert(text, [kept[i] for i in order], chosen), _offsets(chosen, size, order)


def plant_windows(
    text: Text,
    lines: Sequence[Text],
    keep: np.ndarray,
    rng: np.random.Generator,
    fillers: np.random.Generator,
    window: int,
) -> tuple[Text, np.ndarray]:
    """Insert each line as one whole training window, so that texts with and without it differ in that record only.

    A copy is newline, line, newline, filler: `window` tokens between two windows of `text`, at a boundary where
    the text has a newline. That newline is the last target both of the copy and, with or without it, of the window
    before. Places (from `rng`, with replacement) and fillers (text that follows a random line end) are drawn for all
    `lines`, but only those with `keep` (bool[n]) are inserted: inserting one changes neither another nor its place.
    Where no boundary of a short text has a newline, the text is closed by one after its last whole window, with or
    without copies, and they go there.
    Returns as `plant_lines`. Raises UserError where a line is longer than a window or the text has no filler.
    """
    if lines:
        _fits_a_window(lines[0], window)
    # `corpora.windows` cuts as many as have a target after their last token.
    boundaries = np.arange(0, max(len(text) - 1, 0) + 1, window)
    newlines = _newlines(text)
    boundaries = boundaries[np.isin(boundaries, newlines)]
    if not len(boundaries):
        end = max(len(text) - 1, 0) // window * window
        text, boundaries = _join([text[:end], _newline(text)]), np.array([end])
        newlines = _newlines(text)
    if not keep.any():
        return text, np.zeros(0, dtype=np.int64)
    starts = newlines[newlines + 1 + window <= len(text)] + 1
    if not len(starts):
        raise UserError(
            f"canary.position window: no line end with {window} {_unit(text)} after it, to fill up a copy's window, in "
            f"{len(text)} of training text; raise corpus.fraction or lower training.sequence_length"
        )
    # Deviation: not uniform over all windows. Few boundaries have a newline (one in 45 of the Penn Treebank's), so
    # copies may share one; they then follow one another.
    drawn = rng.choice(boundaries, size=len(lines))
    filling = fillers.choice(starts, size=len(lines))
    end = _newline(text)
    blocks = [
        _join([end, line, end, text[s : s + window]])[:window] for line, s in zip(lines, filling.tolist(), strict=True)
    ]
    kept = [block for block, wanted in zip(blocks, keep, strict=True) if wanted]
    order = np.argsort(drawn[keep], kind="stable")
    chosen = drawn[keep][order]
    return _insert(text, [kept[i] for i in order], chosen), _offsets(chosen, window, order) + 1


def _fits_a_window(line: Text, window: int) -> None:
    if len(line) + 1 > window:
        shown = f"{line!r}: " if isinstance(line, str) else ""
        raise UserError(
            f"canary {shown}{len(line)} {_unit(line)} and a newline do not fit a training window of "
            f"{window}; raise training.sequence_length or shorten canary.format"
        )


def _unit(text: Text) -> str:
    return "characters" if isinstance(text, str) else "words"


def _newline(like: Text) -> Text:
    """A line's end, as text of the same kind."""
    return "\n" if isinstance(like, str) else np.array([LINE_END_ID], dtype=np.int64)


def _newlines(text: Text) -> np.ndarray:
    """int64[n]: offsets of the newlines."""
    if isinstance(text, str):
        return np.flatnonzero(np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32) == ord("\n"))
    return np.flatnonzero(text == LINE_END_ID)


def _join(parts: Sequence[Text]) -> Text:
    """Texts of one kind, one after another."""
    return "".join(parts) if isinstance(parts[-1], str) else np.concatenate(parts)


def _insert(text: Text, pieces: Sequence[Text], places: np.ndarray) -> Text:
    """`text` with each piece at its offset in it; int[n] `places` ascend."""
    parts, last = [], 0
    for piece, place in zip(pieces, places.tolist(), strict=True):
        parts += [text[last:place], piece]
        last = place
    return _join([*parts, text[last:]])


def _offsets(places: np.ndarray, size: int, order: np.ndarray) -> np.ndarray:
    """int64[n]: where pieces of `size` tokens inserted at ascending `places` begin; piece order[r] is the r-th."""
    offsets = np.empty(len(places), dtype=np.int64)
    offsets[order] = places + np.arange(len(places)) * size
    return offsets


def _fit(starts: np.ndarray, drawn: np.ndarray, size: int, window: int, length: int) -> np.ndarray:
    """int64[n], ascending: the line starts (indices into `starts`) used for the n `drawn` ones.

    starts  int64[m], offsets of line starts in the text of `length` tokens, before any insertion
    size    tokens inserted each time, the newline included
    """
    # The last window ends here; what follows it is never trained on.
    end = (length + len(drawn) * size - 1) // window * window
    wanted = np.sort(drawn)
    for _ in range(len(drawn) + 1):
        used: list[int] = []
        for index in wanted:
            # Deviation: not exactly uniform. A place where a window boundary would cut the line (another
            # experiment, brief §7 trap 5), or in the untrained tail, is given up for the next line start that
            # fits, from the first line again after the last.
            i = max(int(index), used[-1] if used else 0)
            while i < len(starts) and not _inside(starts[i] + len(used) * size, size, window, end):
                i += 1
            if i == len(starts):
                break
            used.append(i)
        else:
            return np.array(used, dtype=np.int64)
        if wanted[len(used)] == 0:
            break
        wanted = np.sort(np.where(np.arange(len(wanted)) == len(used), 0, wanted))
    raise UserError(
        f"no place for {len(drawn)} canary lines of {size} tokens in {length} tokens of training "
        f"text with windows of {window}; raise corpus.fraction or training.sequence_length"
    )


def _inside(position: int, size: int, window: int, end: int) -> bool:
    """Whether one window, before `end`, holds newline, line, newline (first input to last target)."""
    return (position - 1) % window + size <= window and position - 1 + size <= end
