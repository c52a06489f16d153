"""Made-up tidy tables of the figures on defences and on insertions. Nothing here is a result."""

import numpy as np
import pandas as pd
from synthetic_tables import SPACE, exposures, table

LETTERS = "the random word is {l}{l}{l}{l}{l}{l}"
STEPS = 10
"""Mini-batches per epoch."""

CELLS = {
    "base": {},
    "dropout": {"training.dropout": 0.2},
    "dropout more": {"training.dropout": 0.5},
    "weight decay": {"training.weight_decay": 1e-4},
    "mask": {"corpus.sanitise": "mask_digits"},
    "deduplicate": {"corpus.sanitise": "deduplicate"},
    "letters": {"canary.format": LETTERS},
    "letters mask": {"canary.format": LETTERS, "corpus.sanitise": "mask_digits"},
    "privacy": {"privacy.epsilon": 5.26, "private": True},
    "adam": {"training.optimizer": "adam"},
    "sgd": {"training.optimizer": "sgd"},
    "bagging": {"training.sampling": "with_replacement"},
}


def defended(
    figure: str = "defences",
    models: int = 4,
    level: float = 25.0,
    shift: dict[str, float] | None = None,
    noise: float = 0.2,
    int8: tuple[float, float] = (0.0, 0.004),
    seed: int = 0,
    loss: dict[str, float] | None = None,
    more: dict[str, dict] | None = None,
    falling: bool = True,
    **options,
) -> pd.DataFrame:
    """Undefended models reach `level` bits at epoch 8, cell c of CELLS `level + shift[c]`; 8-bit weights change
    exposure and loss by `int8`. Exposure rises, and loss falls, by the same steps in every model of a cell; cell c's
    lies `loss[c]` nats higher. more: further cells. falling: else the last epoch's loss rises again by 0.05.
    """
    shift = {"mask": -level + 1.4, "deduplicate": -8.0, "privacy": -level + 1.4} | (shift or {})
    rng, frames = np.random.default_rng(seed), {name: [] for name in ("curves", "measures", "exposure", "scores")}
    for number, (cell, varied) in enumerate({**CELLS, **(more or {})}.items()):
        for k in range(models):
            about = {"run": f"{number:012x}", "replicate": k, "private": False, **varied}
            final = max(level + shift.get(cell, 0.0) + rng.normal(0, noise), 0.05)
            asked = [{"attack.quantize": how, "score.quantize": how} for how in ("none", "int8")]
            for own in asked if cell == "base" else [{}]:
                _trained(frames, rng, {**about, **own}, final, every=cell in ("base", "adam", "sgd", "bagging"),
                         above=(loss or {}).get(cell, 0.0), up=0.0 if falling else 0.05)  # fmt: skip
            if cell == "base":
                for own, (bits, worse) in zip(asked, ((0, 0), int8), strict=True):
                    _asked(frames, rng, {**about, **own}, final + bits, 2.0 + worse)
    return table(figure, frames, **options)


def _trained(frames, rng, about: dict, final: float, every: bool, above: float, up: float) -> None:
    """Curves of nine epochs, and measures of every second one, or of the last."""
    for epoch in range(9):
        loss = 2.0 + 0.02 * (8 - epoch) + 0.001 * about["replicate"] + above * (epoch > 0) + up * (epoch == 8)
        frames["curves"].append({
            **about, "step": STEPS * epoch, "epoch": float(epoch), "train_loss_nats": loss, "wall_s": 1.0 * epoch,
            "validation_loss_nats": loss, "test_loss_nats": loss, "kept": epoch == 8,
        })  # fmt: skip
        if epoch == 8 or (every and epoch and epoch % 2 == 0):
            bits = final * epoch / 8
            common = {**about, "step": STEPS * epoch, "epoch": float(epoch), "moment": "epoch", "holds_canary": True}
            own = {**common, "kind": "inserted", "index": 0}
            frames["measures"] += [
                {**own, "method": "importance", "exposure_bits": bits, "rank": 2 + 2 ** (SPACE - bits)},
                {**own, "method": "sampled", "exposure_bits": min(bits, 9.0), "extrapolated": bits > 9},
            ]
            frames["measures"] += [
                {**common, "kind": "control", "index": i, "method": "sampled", "exposure_bits": rng.exponential(1.44)}
                for i in range(10)
            ]


def _asked(frames, rng, about: dict, bits: float, loss: float) -> None:
    """An attack whose exact exposure is `bits` (rank 1 at the ceiling), and two scored test lines."""
    bits = min(bits, SPACE)
    rows = exposures(rng, about["replicate"], bits, **{k: v for k, v in about.items() if k != "replicate"})
    rank = max(1, round(2 ** (SPACE - bits)))
    rows[0] |= {"rank": rank, "exposure_bits": SPACE - np.log2(rank)}
    frames["exposure"] += rows
    frames["scores"] += [
        {**about, "split": "test", "index": i, "size": size, "loss_nats": loss + change}
        for i, size, change in ((1, 100, 0.1), (2, 50, -0.2))
    ]


def inserted(levels=(0, 4, 16), models: int = 3, slope: float = 2.0, extracted: bool = False, seed: int = 0, **options):
    """fig05: exposure rises by `slope` bits per insertion from the null, in a space of 75.2 bits."""
    rng, frames = np.random.default_rng(seed), {"exposure": [], "extraction": []}
    for number, level in enumerate(levels):
        for k in range(models):
            about = {"run": f"{number:012x}", "replicate": k, "canary.insertions": level, "space_bits": 75.2}
            own = {**about, "kind": "inserted", "index": 0}
            bits = rng.exponential(1.44) + slope * level
            beaten = not (extracted and level == max(levels))
            frames["exposure"] += [
                {**own, "method": "skew_normal", "exposure_bits": bits, "extrapolated": bits > 12},
                {**own, "method": "importance", "exposure_bits": bits, "rank": 2.0 ** (75.2 - bits)},
                {**own, "method": "sampled", "exposure_bits": min(bits, 12.0), "rank": 2.0**60, "references": 4000},
            ] + [
                {**about, "kind": "control", "index": i, "method": "sampled", "exposure_bits": rng.exponential(1.44)}
                for i in range(10)
            ]
            frames["extraction"].append({
                "run": about["run"], "replicate": k, "canary.insertions": level, "algorithm": "shortest_path",
                "fill": "a", "best_fill": "b" if beaten else "a", "extracted": not beaten, "provable": True,
                "sequential_equivalent": 100, "canary_cost_bits": 50.0, "best_cost_bits": 40.0 if beaten else 50.0,
            })  # fmt: skip
    return table("fig05_character_state_of_the_art", frames, **options)
