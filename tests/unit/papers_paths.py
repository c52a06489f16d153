"""Where the papers' folders are."""

from pathlib import Path

PAPERS = Path(__file__).parents[2] / "workflow" / "papers"
