"""Made-up tidy tables of the figures on differential privacy. Nothing here is a result."""

import io

import numpy as np
import pandas as pd
from synthetic_tables import SPACE, exposures, table

from memorization import digit_gallery, published_epsilons, tables
from memorization.data.images import ImageData

EPSILONS = (0.65, 1.21, 5.26, 89.0, 2e8, 1e9)
TUTORIAL = 0.001


def account(run: str, noise: float, wanted: float = np.nan, epsilon: float | None = None, **more) -> list[dict]:
    """Privacy rows of one run, three conventions; PLD is missing at little noise."""
    epsilon = (np.inf if noise == 0 else wanted) if epsilon is None else epsilon
    values = {"classic_rdp": epsilon, "rdp": 0.85 * epsilon, "pld": 0.8 * epsilon if noise >= 0.3 else np.nan}
    common = {"run": run, "private": True, "delta": 1e-9, "noise_multiplier": noise, "clip": 10.0,
              "sampling": "poisson",
              "sample_rate": 0.04, "steps": 400, "examples": 250, "batch_size": 10, "unit": "a training window of 80 "
              "characters", "target_epsilon": wanted, **more}  # fmt: skip
    return [{**common, "convention": c, "epsilon": e} for c, e in values.items()]


def curve(run: str, replicate: int, losses, **more) -> list[dict]:
    """Curves rows of one model; the last epoch is kept."""
    return [
        {"run": run, "replicate": replicate, "step": 30 * e, "epoch": float(e), "test_loss_nats": loss,
         "validation_loss_nats": loss, "train_loss_nats": loss - 0.02 * e if e else np.nan, "wall_s": 2.0 * e,
         "kept": e == len(losses) - 1, **more}
        for e, loss in enumerate(losses)
    ]  # fmt: skip


def coined(rng, run: str, bits: float, count: int = 100, replicate: int = 0, **more) -> list[dict]:
    """Sampled exposures of `count` canaries, half of them inserted and `bits` more exposed than the null."""
    rows = []
    for i in range(count):
        kind = "inserted" if i % 2 else "excluded"
        value = min(10.97, rng.exponential(1.44) + (bits if i % 2 else 0.0))
        rows.append({"run": run, "replicate": replicate, "kind": kind, "index": i, "method": "sampled", "fill": "1",
                     "exposure_bits": value, "extrapolated": value >= 10.97, "space_bits": SPACE, **more})  # fmt: skip
    return rows + [{**rows[0], "kind": "control", "exposure_bits": rng.exponential(1.44)} for _ in range(20)]


def table3(
    backends=("torch", "tf"),
    leak: float = 0.0,
    seed: int = 0,
    figure: str = "tab03_differential_privacy",
    count: int = 100,
    **options,
) -> pd.DataFrame:
    """tab03: six epsilons, clipping only, three trainings without privacy. `leak`: bits left at the largest epsilon."""
    rng = np.random.default_rng(seed)
    frames = {"curves": [], "privacy": [], "exposure": [], "extraction": [], "audit": []}
    for backend in backends:
        for i, wanted in enumerate([*EPSILONS, None, "sgd", "rmsprop", "single"]):
            run, private = f"{i:012x}", i <= len(EPSILONS)
            more = {"backend": backend, "private": private}
            if isinstance(wanted, float):
                more["privacy.epsilon"] = wanted
            if wanted in (None, "sgd"):
                more["training.optimizer"] = "sgd"
            if private:
                noise = {None: 0.0}.get(wanted, 4.0 / (1 + i) ** 3)
                frames["privacy"] += account(run, noise, wanted or np.nan, **more)
            lost = 2.9 - 0.12 * i if private else 1.9
            frames["curves"] += curve(run, 0, np.linspace(3.9, lost, 6) + rng.normal(0, 0.01), **more)
            searched = {"run": run, "replicate": 0, "algorithm": "shortest_path", "fill": "1", "canary_cost_bits": 40.0}
            frames["extraction"].append({**searched, "extracted": wanted == "single", "provable": True, **more})
            if wanted == "single":
                rows = exposures(rng, 0, 33.0, run=run, **more)
                rows[0] |= {"rank": 1, "rank_low": 1, "rank_high": 1, "exposure_bits": SPACE}
                frames["exposure"] += rows
                continue
            bits = leak if wanted == EPSILONS[-1] else 0.0 if private else 9.5
            frames["exposure"] += coined(rng, run, bits, count, **more)
            low = 0.0 if private else 2.4
            frames["audit"] += [
                {"run": run, "replicate": 0, "canaries": 64, "included": 32, "guesses": g, "correct": g // 2 + 3,
                 "delta": 1e-9, "confidence": 0.975, "epsilon_low": low + (0.1 if g > 20 else 0.0), **more}
                for g in (16, 64)
            ]  # fmt: skip
    return table(figure, frames, **options)


def pair(
    figure: str,
    replicates: int = 3,
    lines: int = 300,
    backends=("torch",),
    seed: int = 0,
    bias: float = 0.0,
    odd: float = 0.06,
    cost: float = 0.05,
    **options,
) -> pd.DataFrame:
    """B1 to B3 and the back ends: N and D, whose losses differ by `cost` and by `odd` times a line's oddness.

    bias: nats by which tf is worse. Of the six sentences, line 1 is trained on.
    """
    rng = np.random.default_rng(seed)
    frames = {"curves": [], "privacy": [], "exposure": [], "scores": [], "lines": []}
    number = np.arange(1, lines + 1)
    oddness = rng.gamma(4, 0.5, lines)
    oddness[0] = 8.0
    for backend in backends:
        worse = bias if backend == "tf" else 0.0
        for k in range(replicates):
            level = rng.normal(0, 0.004)
            for private in (False, True):
                run = f"{int(private):012x}"
                more = {"backend": backend, "private": private, "run": run}
                if private:
                    more["privacy.noise_multiplier"] = TUTORIAL
                decay = 1.3 + 1.6 * np.exp(-np.arange(9) / 2.5) + level + worse + (cost if private else 0)
                frames["curves"] += [
                    {**row, "wall_s": row["wall_s"] * (1 + private) * (1 + (backend == "tf"))}
                    for row in curve(run, k, decay, **{m: v for m, v in more.items() if m != "run"})
                ]
                found = exposures(rng, k, 6.0 if private else 22.0, **more)
                for row in found[:1]:
                    row |= {"exposure_bits": (6.0 if private else 22.0) + 3 * level}
                frames["exposure"] += found
                loss = 1.1 + 0.12 * oddness + rng.normal(0, 0.06, lines)
                loss = loss + (cost + odd * np.maximum(oddness - 1.5, 0)) * private
                common = {"replicate": k, "label": "", "size": 100, **more}
                frames["scores"] += [
                    {**common, "split": "train", "trained": bool(n <= 0.9 * lines), "index": int(n), "loss_nats": v}
                    for n, v in zip(number, loss, strict=True)
                ]
                frames["scores"] += [
                    {**common, "split": "test", "trained": False, "index": i, "loss_nats": rng.normal(1.6, 0.2)}
                    for i in range(1, 60)
                ]
        more = {"backend": backend, "private": True, "run": "000000000001", "privacy.noise_multiplier": TUTORIAL}
        frames["privacy"] += account(noise=TUTORIAL, epsilon=8e9, **{**more, "delta": 1e-5})
        frames["lines"] += [
            {**more, "index": int(n), "characters": 100, "words": 18, "unigram_nats": 2.8, "fivegram_nats": o + 1,
             "unk_share": 0.05, "number_share": 0.02, "rare_share": 0.1}
            for n, o in zip(number, oddness, strict=True)
        ]  # fmt: skip
    return table(figure, frames, **options)


def copies(replicates: int = 3, slope: float = 2.5, seed: int = 0, **options) -> pd.DataFrame:
    """b4_copies: N memorises one copy, D at noise 0.001 learns `slope` bits per doubling from 16 on, at 1.0 nothing."""
    rng = np.random.default_rng(seed)
    cells = [(np.nan, c) for c in (0, 1, 4)] + [(0.001, c) for c in (1, 16, 64)] + [(1.0, c) for c in (1, 16, 64)]
    frames = {"exposure": [], "privacy": []}
    for i, (noise, count) in enumerate(cells):
        private = bool(np.isfinite(noise))
        more = {"run": f"{i:012x}", "seed": i, "canary.insertions": count, "private": private}
        if private:
            more["privacy.noise_multiplier"] = noise
            frames["privacy"] += account(noise=noise, epsilon=8e9 if noise < 0.1 else 3.0, **more)
        for k in range(replicates):
            learned = noise == 0.001 and count >= 16
            bits = slope * np.log2(count) if learned else 29.0 if not private and count else 0.0
            rows = exposures(rng, k, bits + rng.exponential(1.44), **more)
            bits = min(SPACE, bits + rng.exponential(1.44))
            rank = max(1, round(2 ** (SPACE - bits)))
            rows[0] |= {"exposure_bits": SPACE - np.log2(rank), "rank": rank, "rank_low": rank, "rank_high": rank}
            frames["exposure"] += rows
    return table("b4_copies", frames, **options)


def mnist(replicates: int = 1, epochs: int = 2, noises=(1.1, np.nan), shift: float = 0.0, **options) -> pd.DataFrame:
    """b6: the expected output of the default row, `shift` points off; the row without privacy above it."""
    rng = np.random.default_rng(0)
    frames = {"curves": [], "privacy": []}
    final = {1.1: 0.966, 1.3: 0.95, 0.7: 0.97}
    for backend in ("torch", "tf"):
        for i, noise in enumerate(noises):
            private = bool(np.isfinite(noise))
            more = {"backend": backend, "private": private, "run": f"{i:012x}", "dataset": "mnist"}
            if private:
                more["privacy.noise_multiplier"] = noise
                frames["privacy"] += account(noise=noise, epsilon=1.1086, **{**more, "delta": 1e-5})
            for k in range(replicates):
                for epoch in range(epochs + 1):
                    accuracy = [0.1, 0.774, 0.877][min(epoch, 2)] if private else [0.1, 0.95, 0.97][min(epoch, 2)]
                    if epoch > 2:
                        accuracy = final.get(noise, 0.99)
                    accuracy += shift / 100 + rng.normal(0, 0.001)
                    frames["curves"].append({"replicate": k, "step": 234 * epoch, "epoch": float(epoch), **more,
                                             "test_accuracy": accuracy, "kept": epoch == epochs})  # fmt: skip
    return table("b6_mnist_accuracy", frames, **options)


def digits(replicates: int = 1, images: int = 240, odd: float = 0.5, **options) -> pd.DataFrame:
    """b5: gaps rise with the distance to the tenth neighbour by `odd`; what `digit_gallery.gallery` gives."""
    rng = np.random.default_rng(0)
    labels = np.arange(images) % 10
    pixels = np.zeros((images, 28, 28), dtype=np.float32)
    for i, label in enumerate(labels):
        pixels[i, 4 + label : 9 + label, 6:22] = 0.8
        pixels[i] += rng.uniform(0, 0.02 + 0.2 * (i % 7) / 7, (28, 28)).astype(np.float32)
    pixels = pixels.clip(0, 1)
    distance = digit_gallery.neighbour_distance(pixels, labels, np.arange(images))
    data = ImageData(train=pixels, labels=labels, test=pixels[:1], test_labels=labels[:1], classes=10)
    rows = []
    for backend in ("torch", "tf"):
        scores = [
            {"private": private, "replicate": k, "index": i, "label": str(labels[i]), "split": "train",
             "loss_nats": 0.1 + private * (0.3 + odd * distance[i] + rng.normal(0, 0.15)) + rng.uniform(0, 0.02)}
            for private in (False, True) for k in range(replicates) for i in range(images)
        ]  # fmt: skip
        found = digit_gallery.gallery(pd.DataFrame(scores), data)
        rows += found.assign(backend=backend, dataset="mnist", run="none").to_dict("records")
    parts = [{"figure": "b5_outlier_digits", "scale": "reduced", "data_source": "mirror", "replicates": 1,
              "source": "digits", **row} for row in rows]  # fmt: skip
    return read_back(pd.DataFrame(parts).assign(**options))


def read_back(frame: pd.DataFrame) -> pd.DataFrame:
    """As the pipeline does: written as CSV and read again."""
    return tables.read(io.StringIO(frame.to_csv(index=False)))


def joined(tables_: list[pd.DataFrame]) -> pd.DataFrame:
    """One table of several."""
    return read_back(pd.concat(tables_, ignore_index=True))


def computed(figure: str, settings) -> pd.DataFrame:
    """b7 or b8: the rows that the pipeline computes, of some settings of `published_epsilons`."""
    rows = published_epsilons.rows(tuple(settings))
    about = {"figure": figure, "scale": "reduced", "source": "static", "backend": "none", "data_source": "none"}
    return read_back(rows.assign(**about, dataset="none"))
