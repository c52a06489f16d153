"""Any language model behind the stepping protocol of `backends.base`, so that it can be audited (bring.py)."""

from memorization.adapters.histories import HistoryModel

__all__ = ["HistoryModel"]
