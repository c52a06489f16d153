"""Sampled and skew-normal exposure, ours and tensorflow-empirical-privacy's (`secret_sharer`), on the same costs.

    PYTHONPATH=workflow OMP_NUM_THREADS=1 .venv/bin/python tests/benchmarks/bench_estimators.py

Costs of references are drawn from a skew-normal law; the canaries' are its quantiles, and some beyond all references.
Prints one JSON line per way and size: benchmark, way, references, canaries, seconds (the repeats' list), items (the
canaries), and for ours difference_bits, the largest difference between the two. The ways take turns.

Ours counts the canary itself among the fills, the library does not: a known log2((n + 1) / n), taken off before
comparing. Ours also computes an interval per canary and, of the fit, a Kolmogorov-Smirnov test; the library neither.
"""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
from scipy import stats
from tensorflow_privacy.privacy.privacy_tests.secret_sharer import exposures

from memorization.exposure import fit_skew_normal, sampled_each
from memorization.skew_normal import tail_bits

SHAPE, LOCATION, SCALE = 1.5, 100.0, 6.0
SPACE_BITS = 30.0
FARTHEST_BITS = 30
"""Of the canaries: beyond about 50 bits the library's distribution function has no digits left, then it is zero."""

Costs = tuple[np.ndarray, np.ndarray]


def drawn(references: int, canaries: int) -> Costs:
    """(float64[references], float64[canaries]) costs in bits; canaries of up to `FARTHEST_BITS` of exposure, sorted."""
    costs = stats.skewnorm.rvs(SHAPE, LOCATION, SCALE, size=references, random_state=0)
    bits = np.linspace(FARTHEST_BITS, 0.5, canaries)
    return costs, np.sort(stats.skewnorm.ppf(2.0**-bits, SHAPE, LOCATION, SCALE))


def our_rank(costs: Costs) -> np.ndarray:
    references, canaries = costs
    return np.array([found.bits for found in sampled_each(canaries, references, SPACE_BITS)])


def their_rank(costs: Costs) -> np.ndarray:
    references, canaries = costs
    return np.asarray(exposures.compute_exposure_interpolation({0: canaries}, references)[0])


def our_fit(costs: Costs) -> np.ndarray:
    references, canaries = costs
    return tail_bits(canaries, fit_skew_normal(references))


def their_fit(costs: Costs) -> np.ndarray:
    references, canaries = costs
    return np.asarray(exposures.compute_exposure_extrapolation({0: canaries}, references)[0])


Way = Callable[[Costs], np.ndarray]
BENCHMARKS: dict[str, tuple[Way, Way]] = {
    "estimators_rank": (our_rank, their_rank),
    "estimators_fit": (our_fit, their_fit),
}
NAMES = ("ours", "secret_sharer")


def in_turns(ways: tuple[Way, Way], costs: Costs, repeats: int) -> tuple[list[list[float]], list[np.ndarray]]:
    """Seconds of every turn and the bits, of each way."""
    seconds: list[list[float]] = [[] for _ in ways]
    bits: list[np.ndarray] = [np.zeros(0) for _ in ways]
    for _ in range(repeats):
        for i, way in enumerate(ways):
            began = time.perf_counter()
            bits[i] = way(costs)
            seconds[i].append(time.perf_counter() - began)
    return seconds, bits


def largest_difference(benchmark: str, ours: np.ndarray, theirs: np.ndarray, references: int) -> float:
    """In bits, after the known difference of conventions. The library sorts the canaries; so are those given here."""
    convention = np.log2((references + 1) / references) if benchmark == "estimators_rank" else 0.0
    return float(np.abs(ours - convention - theirs).max())


def lines(references: int, canaries: int, repeats: int) -> list[dict]:
    """What is printed of one size."""
    costs, rows = drawn(references, canaries), []
    for benchmark, ways in BENCHMARKS.items():
        seconds, bits = in_turns(ways, costs, repeats)
        for name, taken in zip(NAMES, seconds, strict=True):
            row = {"benchmark": benchmark, "way": name, "references": references, "canaries": canaries}
            rows.append({**row, "items": canaries, "seconds": [round(s, 6) for s in taken]})
        rows[-2]["difference_bits"] = largest_difference(benchmark, *bits, references)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--canaries", type=int, nargs="+", default=[1, 30, 1000])
    parser.add_argument("--repeats", type=int, default=3, help="of up to 100,000 references; one of more")
    options = parser.parse_args()
    in_turns(BENCHMARKS["estimators_fit"], drawn(1000, 2), 1)  # what is done once per process
    for references in options.references:
        for canaries in options.canaries:
            for row in lines(references, canaries, options.repeats if references <= 100_000 else 1):
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
