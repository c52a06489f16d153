"""Made-up tidy tables of the figures about the canaries themselves. Nothing here is a result."""

import numpy as np
import pandas as pd
from synthetic_tables import SPACE, exposures, table

FORMATS = {
    "{d}" * 9: "ooooooooo",
    "{x}" * 5 + " " + "{d}" * 9: "<s> ooooooooo",
    "{d}" * 9 + " " + "{x}" * 5: "ooooooooo <e>",
    "{x}" * 5 + " " + "{d}" * 9 + " " + "{x}" * 5: "<s> ooooooooo <e>",
    "{d}{d}{d}-{d}{d}-{d}{d}{d}{d}": "ooo-oo-oooo",
    "-".join(["{d}"] * 9): "o-o-o-o-o-o-o-o-o",
}
"""canary.format -> the paper's spelling."""

KINDS = {
    "the random number is " + "{d}" * 9: SPACE,
    "my card number is " + "{d}" * 15 + "{k}": float(np.log2(1e15)),
    "my social security number is {d}{d}{d}-{d}{d}-{d}{d}{d}{d}": SPACE,
    "my phone number is {d}{d}{d}-{d}{d}{d}-{d}{d}{d}{d}": float(np.log2(1e10)),
    "my password is " + "{p}" * 8: float(np.log2(36.0**8)),
}


def formats(
    seeds: int = 5, dashes: float = 4.0, contexts: float = 0.0, later: float = 3.0, noise: float = 0.5
) -> pd.DataFrame:
    """tab06: exposure 5 bits at epoch 5 in every format, `later` more at 10, and what dashes and contexts add there."""
    rng = np.random.default_rng(0)
    rows = []
    for i, (text, name) in enumerate(FORMATS.items()):
        for k in range(seeds):
            for epoch in (5.0, 10.0):
                bits = 5 + (epoch == 10) * (later + dashes * ("-" in name) + contexts * ("<" in name))
                bits = max(bits + rng.normal(0, noise), 0.1)
                common = {"run": f"{i:012x}", "replicate": k, "step": int(epoch), "epoch": epoch, "moment": "epoch",
                          "canary.format": text, "kind": "inserted", "index": 0}  # fmt: skip
                rows.append({**common, "method": "importance", "exposure_bits": bits, "rank": 2 ** (SPACE - bits)})
                rows.append(
                    {**common, "method": "sampled", "exposure_bits": min(bits, 11.0), "extrapolated": bits > 11}
                )
                rows.append({**common, "method": "skew_normal", "exposure_bits": bits + 1})
    return table("tab06_formats", {"measures": rows})


def interference(share, counts=(1, 10, 50), insertions=(1, 2, 5), models: int = 3, undecided: int = 0) -> pd.DataFrame:
    """tab07: in every model `share(phrases, insertions)` of the phrases are extracted; `undecided` of each model's are
    neither returned nor beaten.
    """
    rng = np.random.default_rng(0)
    frames = {"exposure": [], "extraction": []}
    for c, (count, times) in enumerate((a, b) for a in counts for b in insertions):
        for k in range(models):
            key = {"run": f"{c:012x}", "replicate": k, "seed": c, "canary.count": count, "canary.insertions": times}
            won = rng.random(count) < share(count, times)
            for i in range(count):
                open_end = i >= count - undecided
                frames["extraction"].append({
                    **key, "index": i, "algorithm": "shortest_path" if won[i] or open_end else "beam",
                    "canary_cost_bits": 20.0, "best_cost_bits": 20.0 if won[i] else np.nan if open_end else 15.0,
                    "extracted": bool(won[i] and not open_end), "provable": bool(won[i] and not open_end),
                })  # fmt: skip
                frames["exposure"].append({
                    **key, "kind": "inserted", "index": i, "method": "exact", "algorithm": "bounds",
                    "rank_low": 1 if won[i] or open_end else 2, "rank_high": 1 if won[i] and not open_end else 10**9,
                    "space_bits": SPACE,
                })  # fmt: skip
    return table("tab07_interference", frames)


def secrets(bits: float = 40.0, queries: float = 1e4, models: int = 3) -> pd.DataFrame:
    """secret_kinds: every model's secret has `bits` of exposure, or the ceiling of its kind if that is less."""
    rng = np.random.default_rng(0)
    frames = {"exposure": [], "extraction": []}
    for c, (text, space) in enumerate(KINDS.items()):
        for k in range(models):
            key = {"run": f"{c:012x}", "seed": c, "canary.format": text}
            value = min(bits, space)
            rows = [{**row, "space_bits": space} for row in exposures(rng, k, value, **key)]
            rank = 2 ** (space - value)
            rows[0] |= {"exposure_bits": value, "rank": rank, "rank_low": rank, "rank_high": rank}
            frames["exposure"] += rows
            first = value >= space
            frames["extraction"].append({
                **key, "replicate": k, "algorithm": "shortest_path", "canary_cost_bits": 20.0,
                "best_cost_bits": 20.0 if first else 15.0, "extracted": first, "provable": first,
                "sequential_equivalent": int(queries * rng.uniform(0.5, 2)),
            })  # fmt: skip
    return table("secret_kinds", frames)
