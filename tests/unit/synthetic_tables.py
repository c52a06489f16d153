"""Made-up tidy tables with the shape of real ones, for the tests of claims and plots. Nothing here is a
result.
"""

import io

import numpy as np
import pandas as pd
from scipy import stats

from memorization import contracts, tables, toy_tree

SPACE = float(np.log2(1e9))


def table(figure: str, frames: dict[str, list[dict]], scale: str = "reduced", data: str = "mirror") -> pd.DataFrame:
    """The union of rows per source, written as CSV and read back, as the pipeline does."""
    parts = []
    for source, listed in frames.items():
        kinds = {} if source == "static" else contracts.columns(source)
        for row in listed:
            full = {c: "" if k == "str" else np.nan if k == "float" else 0 for c, k in kinds.items()}
            full |= {c: False for c, k in kinds.items() if k == "bool"}
            about = {"run": "0123456789ab", "backend": "torch", "dataset": "ptb", "data_source": data, "replicates": 5}
            parts.append({"figure": figure, "scale": scale, "source": source, **about, **full, **row})
    text = pd.DataFrame(parts).to_csv(index=False)
    return tables.read(io.StringIO(text))


def exposures(rng, replicate: int, exposure: float, run: str = "0123456789ab", fill: str = "012345678", **more) -> list:
    """Exposure rows of one model whose skew-normal exposure is `exposure`: four methods and 20 controls."""
    exact = float(np.clip(exposure + rng.normal(-1.0, 0.8), 0, SPACE))
    rank = max(1, round(2 ** (SPACE - exact)))
    common = {"replicate": replicate, "run": run, "fill": fill, "space_bits": SPACE, "cost_bits": 44 - exposure, **more}
    inserted = {**common, "kind": "inserted", "index": 0}
    sampled = min(exposure, 16.0)
    return [
        {**inserted, "method": "exact", "algorithm": "pruned_walk", "rank": rank, "rank_low": rank, "rank_high": rank,
         "exposure_bits": SPACE - np.log2(rank), "exposure_low_bits": SPACE - np.log2(rank),
         "exposure_high_bits": SPACE - np.log2(rank), "model_steps": int(9 * rank**0.9 + 300)},
        {**inserted, "method": "importance", "exposure_bits": exact},
        {**inserted, "method": "sampled", "exposure_bits": sampled, "extrapolated": exposure > 16},
        {**inserted, "method": "skew_normal", "exposure_bits": exposure, "extrapolated": exposure > 16},
    ] + [
        {**common, "kind": "control", "index": i, "method": "sampled", "exposure_bits": rng.exponential(1.44)}
        for i in range(20)
    ]  # fmt: skip


def finished(figure: str, replicates: int = 5, seed: int = 0, sample: int = 2_000, **options) -> pd.DataFrame:
    """tab01 or fig02: exposures, top fills, histogram and fit of `replicates` well-memorised models."""
    rng = np.random.default_rng(seed)
    frames = {"exposure": [], "top": [], "histogram": [], "fit": []}
    for k in range(replicates):
        fit = stats.skewnorm(2.0 + 0.1 * k, 42 + rng.normal(0, 1), 6.0)
        costs = np.sort(np.append(18.5 + 3.2 * np.log2(np.arange(1, 50)) / 2, 14.5 + rng.normal(0, 0.7)))
        rows = exposures(rng, k, 33 + rng.normal(), fill="281265017")
        rows[0] |= {"rank": 1, "exposure_bits": SPACE, "exposure_low_bits": SPACE, "exposure_high_bits": SPACE}
        frames["exposure"] += [{**r, "cost_bits": costs[0]} for r in rows]
        for i, cost in enumerate(costs, 1):
            fill = "281265017" if i == 1 else f"{rng.integers(10**9):09d}"
            frames["top"].append({"replicate": k, "position": i, "fill": fill, "cost_bits": cost, "is_canary": i == 1})
        count, edges = np.histogram(fit.rvs(sample, random_state=rng), 80)
        frames["histogram"] += [
            {"replicate": k, "low_bits": a, "high_bits": b, "count": int(c)}
            for a, b, c in zip(edges[:-1], edges[1:], count, strict=True)
        ]
        frames["fit"].append({
            "replicate": k, "location_bits": fit.kwds.get("loc", fit.args[1]), "scale_bits": 6.0,
            "shape": fit.args[0], "converged": True, "references": 65_536, "ks_statistic": 0.003,
            "ks_p_naive": 0.4, "ks_p_bootstrap": rng.uniform(0.05, 0.9), "space_bits": SPACE,
        })  # fmt: skip
    return table(figure, frames, **options)


def measures(rng, k: int, step: int, epoch: float, moment: str, holds: bool, exposure: float, exact: bool) -> list:
    """Measures rows of one moment."""
    common = {"replicate": k, "step": step, "epoch": epoch, "moment": moment, "holds_canary": holds}
    inserted = {**common, "kind": "inserted", "index": 0}
    out = [
        {**inserted, "method": "skew_normal", "exposure_bits": exposure, "extrapolated": exposure > 11},
        {**inserted, "method": "sampled", "exposure_bits": min(exposure, 11.0), "extrapolated": exposure > 11},
    ]
    if exact:
        bits = float(np.clip(exposure - 1, 0, SPACE))
        out.append(
            {
                **inserted,
                "method": "exact",
                "algorithm": "pruned_walk",
                "exposure_bits": bits,
                "rank": 2 ** (SPACE - bits),
            }
        )
        out.append({**inserted, "method": "importance", "exposure_bits": bits})
    return out + [
        {**common, "kind": "control", "index": i, "method": m, "exposure_bits": float(rng.exponential(1.44))}
        for i in range(10) for m in ("sampled", "skew_normal")
    ]  # fmt: skip


def per_batch(
    replicates: int = 5, batches: int = 39, epochs: int = 3, seed: int = 0, jump=4.0, **options
) -> pd.DataFrame:
    """fig07: exposure after every mini-batch; the first of each epoch holds the canary and adds `jump` bits."""
    rng = np.random.default_rng(seed)
    rows = []
    for k in range(replicates):
        level = 1.0
        rows += measures(rng, k, 0, 0.0, "start", False, level, False)
        for step in range(1, batches * epochs + 1):
            holds = step % batches == 1
            level = max(0.2, level + (jump if holds else rng.normal(-0.04, 0.25)))
            rows += measures(rng, k, step, step / batches, "batch", holds, level, False)
    return table("fig07_exposure_per_batch", {"measures": rows}, **options)


def per_epoch(replicates: int = 5, epochs: int = 40, seed: int = 0, exact: bool = True, **options) -> pd.DataFrame:
    """fig08: exposure rises to a plateau near epoch 9; the losses have a minimum at epoch 10."""
    rng = np.random.default_rng(seed)
    rows, curves = [], []
    for k in range(replicates):
        for e in range(epochs + 1):
            rise = 29 / (1 + np.exp(-(e - 5.5) / 1.2)) - 0.04 * max(e - 12, 0) + rng.normal(0, 0.6)
            rows += measures(rng, k, 50 * e, float(e), "epoch" if e else "start", bool(e), max(rise, 0.1), exact)
            loss = 1.5 + 1.5 * np.exp(-e / 3) + (0.008 * max(e - 10, 0) if e > 10 else 0.004 * (10 - e))
            curves.append({
                "replicate": k, "step": 50 * e, "epoch": float(e), "train_loss_nats": loss - 0.012 * e if e else np.nan,
                "validation_loss_nats": loss + 0.02, "test_loss_nats": loss, "kept": e == 10, "wall_s": 1.0 * e,
            })  # fmt: skip
    return table("fig08_overtraining", {"curves": curves, "measures": rows}, **options)


def searches(
    figure: str, models: int = 60, per_run: int = 5, seed: int = 0, low=2.0, high=42.0, **options
) -> pd.DataFrame:
    """fig10 or fig11: one search per model; success is exact rank 1."""
    rng = np.random.default_rng(seed)
    frames = {"exposure": [], "extraction": []}
    for i in range(models):
        run, replicate = f"{i // per_run:012x}", i % per_run
        key = {"run": run, "seed": i // per_run, "canary.insertions": 1 + i // per_run}
        found = exposures(rng, replicate, rng.uniform(low, high), **key)
        rank = found[0]["rank"]
        gave_up = rank > 2**22
        if gave_up:
            found[0] |= {
                "algorithm": "bounds",
                "exposure_low_bits": 0.0,
                "exposure_high_bits": found[0]["exposure_bits"] + 3,
            }
        frames["exposure"] += found
        frames["extraction"].append({
            "replicate": replicate, "algorithm": "shortest_path", "fill": "012345678",
            "best_fill": "" if gave_up else "012345678" if rank == 1 else "876543210", "extracted": rank == 1,
            "provable": not gave_up, **key,
            "sequential_equivalent": 2_000_000 if gave_up else int(10 ** rng.uniform(2, 5)),
        })  # fmt: skip
    return table(figure, frames, **options)


def tree() -> pd.DataFrame:
    """fig09: the rows that the pipeline computes."""
    rows = toy_tree.rows().assign(backend="none", dataset="none", data_source="none").to_dict("records")
    return table("fig09_search_tree", {"static": rows}, data="none")
