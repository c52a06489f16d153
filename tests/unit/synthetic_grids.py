"""Made-up tables with the shape of Tables 4 and 5. Nothing here is a result."""

import numpy as np
from synthetic_tables import exposures, table

ROWS = {
    ("gru", 1): (370, 163, 36), ("gru", 2): (235, 145, 37), ("lstm", 1): (320, 145, 38), ("lstm", 2): (200, 154, 35),
    ("cnn", 1): (436, 150, 24), ("cnn", 2): (188, 168, 19), ("cnn", 4): (122, 184, 22),
    ("wavenet", 2): (188, 182, 18), ("wavenet", 4): (122, 95, 20), ("transformer", 3): (128, 103, 30),
}  # fmt: skip
"""(architecture, layers) -> units, embedding, exposure in bits."""


def _curves(replicate, run, loss, **more):
    """Three epochs; the second's weights are kept."""
    common = {"replicate": replicate, "run": run, **more}
    return [
        {**common, "epoch": float(e), "step": 10 * e, "test_loss_nats": loss + 0.2 * abs(e - 2), "kept": e == 2}
        for e in (1, 2, 3)
    ]


def _models(cells, replicates, seed, spread, figure, **options):
    """`cells`: (varied keys, exposure, test loss) each."""
    rng = np.random.default_rng(seed)
    frames = {"curves": [], "exposure": []}
    for number, (varied, bits, loss) in enumerate(cells):
        run = f"{number:012d}"
        for k in range(replicates):
            frames["curves"] += _curves(k, run, loss + rng.normal(0, 0.004), **varied)
            rows = exposures(rng, k, max(0.5, bits + rng.normal(0, spread)), run=run)
            frames["exposure"] += [{**row, **varied} for row in rows]
    return table(figure, frames, **options)


def architectures(replicates=10, seed=0, spread=2.0, shift=None, loss=None, drop=(), **options):
    """Table 4; `shift` and `loss` give other exposures and losses to whole architectures."""
    cells = []
    for (name, layers), (units, embedding, bits) in ROWS.items():
        if name not in drop:
            varied = {"model.architecture": name, "model.layers": layers, "model.units": units}
            varied |= {"model.embedding": embedding}
            varied |= {"model.kernel": {"cnn": 9, "wavenet": layers // 2 + 2}.get(name, 3)}
            nats = 1.17 if name in ("gru", "lstm") else 1.26
            cells.append((varied, (shift or {}).get(name, bits), (loss or {}).get(name, nats)))
    return _models(cells, replicates, seed, spread, "tab04_architectures", **options)


SIZES = (16, 32, 64, 128, 256, 512, 1024)


def batches(replicates=10, seed=0, spread=2.0, effect=6.0, turn=4.0, sizes=SIZES, **options):
    """Table 5: `effect` bits per doubling up to 128, `turn` bits fewer per doubling beyond."""
    cells = []
    for size in sizes:
        doublings = np.log2(size / 16)
        bits = 8 + effect * min(doublings, 3) - turn * max(doublings - 3, 0)
        cells += [({"training.batch_size": size, "model.units": units}, bits, 1.2) for units in (50, 150, 200, 250)]
    return _models(cells, replicates, seed, spread, "tab05_batch_units", **options)
