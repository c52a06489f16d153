"""Figures inside a page: PNG files as data addresses, few enough bytes for a page that opens at once."""

import base64
import io
from pathlib import Path

from PIL import Image

WIDTHS = (1400, 1120, 900)
"""Pixels: the widest that fits the budget is taken."""
BUDGET = 17_000_000
"""Bytes of all pictures; base64 makes a third more of them."""
COLOURS = 256


def shrunk(path: Path, width: int) -> tuple[bytes, tuple[int, int]]:
    """(PNG, (width, height)) of a picture at most `width` wide and of 256 colours; as it is where that is less."""
    original = Path(path).read_bytes()
    with Image.open(io.BytesIO(original)) as picture:
        size, pixels = picture.size, picture.convert("RGB")
    if size[0] > width:
        pixels = pixels.resize((width, round(size[1] * width / size[0])), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    pixels.quantize(COLOURS, dither=Image.Dither.NONE).save(stream, "PNG", optimize=True)
    small = stream.getvalue()
    if pixels.size == size and len(original) <= len(small):
        return original, size
    return small, pixels.size


def embedded(paths: list[Path]) -> dict[Path, tuple[str, tuple[int, int]]]:
    """Path -> (data address, (width, height)), all of them at the same greatest width within the budget."""
    for width in WIDTHS:
        found = {path: shrunk(path, width) for path in paths}
        if sum(len(content) for content, _ in found.values()) <= BUDGET:
            break
    return {path: (address(content), size) for path, (content, size) in found.items()}


def address(content: bytes) -> str:
    """`content` as the address of an image."""
    return "data:image/png;base64," + base64.b64encode(content).decode()
