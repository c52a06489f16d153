"""Walks and searches over the tree of partial fills: exact rank, top-k, extraction and its baselines."""

from memorization.search.baselines import beam, brute_force, greedy, sampling
from memorization.search.result import SearchResult
from memorization.search.shortest_path import shortest_path
from memorization.search.tree import Tree, fill_costs
from memorization.search.walk import Rank, exact_rank

__all__ = [
    "Rank",
    "SearchResult",
    "Tree",
    "beam",
    "brute_force",
    "exact_rank",
    "fill_costs",
    "greedy",
    "sampling",
    "shortest_path",
]
