"""How near a training step comes to the rate at which the device multiplies matrices, and where the rest of it goes.

    PYTHONPATH=workflow OMP_NUM_THREADS=1 envs/torch/.venv/bin/python tests/benchmarks/matrix_rate.py

Counted are the products of `backends/torch/lstm.py`, and of them only multiplications and additions: 2 m k n each.
`peak_rate` is the best this device does on one large product, `shape_rate` what it does on the products that a step is
made of, whose operands are small and narrow. A step can't be quicker than its products at the second rate; what is left
is everything else: gates, loss, gathering, clipping, the optimiser, and asking for thousands of small operations.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from memorization.backends.torch import choose_device
from memorization.backends.torch.graphed import recorder_for
from memorization.backends.torch.products import adder, computing, require_able, rounded
from memorization.specs import ModelSpec

PEAK_SIZES = {"cpu": (512, 1024, 2048), "cuda": (4096, 8192, 16384)}
"""Rows and columns of large products; the best counts. On a busy CPU the small ones are the more often undisturbed."""
LEAST_S = 0.02
"""A product is repeated in one measurement for at least this long."""


@dataclass(frozen=True)
class Product:
    """[rows, inner] @ [inner, columns], so many times in a step, of each replicate.

    `turned` is the operand that lies in memory the other way round ("left", "right"), which matters to a CPU.
    """

    part: str
    rows: int
    inner: int
    columns: int
    times: int = 1
    turned: str = ""

    @property
    def flops(self) -> float:
        """Of all times."""
        return 2.0 * self.rows * self.inner * self.columns * self.times


def _layer_products(layer: int, model: ModelSpec, vocabulary: int, batch: int, length: int) -> list[Product]:
    """Of one layer; the first one's input is a table with a row for each symbol."""
    units, gates = model.units, 4 * model.units
    name, rows, steps = f"layer {layer + 1}", length * batch, length - 1
    found = [
        Product(f"{name}: time loop, forward", batch, units, gates, steps, "right"),
        Product(f"{name}: time loop, backward", batch, gates, units, steps),
        Product(f"{name}: recurrent weights' gradient", gates, steps * batch, units, turned="left"),
    ]
    if layer == 0 and model.embedding is None:
        return found
    read, width = (vocabulary, model.embedding) if layer == 0 else (rows, units)
    return [
        *found,
        Product(f"{name}: inputs, forward", read, width, gates, turned="right"),
        Product(f"{name}: inputs, backward", read, gates, width),
        Product(f"{name}: input weights' gradient", gates, read, width, turned="left"),
    ]


def step_products(model: ModelSpec, vocabulary: int, batch: int, length: int) -> list[Product]:
    """The matrix products of one replicate's training step of an LSTM over fewer than 1,024 symbols."""
    rows, units = length * batch, model.units
    products = [p for layer in range(model.layers) for p in _layer_products(layer, model, vocabulary, batch, length)]
    return [
        *products,
        Product("output, forward", rows, units, vocabulary, turned="right"),
        Product("output, backward", rows, vocabulary, units),
        Product("output weights' gradient", vocabulary, rows, units, turned="left"),
    ]


def training_flops(model: ModelSpec, vocabulary: int, batch: int, length: int) -> float:
    """Floating-point operations in the products of one training step of one replicate."""
    return sum(product.flops for product in step_products(model, vocabulary, batch, length))


def _best_seconds(work: Callable[[], None], device: torch.device, repeats: int) -> float:
    """Least time of one call. On a GPU the calls are recorded first, so that asking for them costs nothing."""

    def timed(count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (time.perf_counter() - began) / count

    timed(1)
    count = max(1, int(LEAST_S / max(timed(1), 1e-9)))
    return min(timed(count) for _ in range(repeats))


def _matrices(count: int, rows: int, columns: int, turned: bool, device: torch.device) -> torch.Tensor:
    shape = (columns, rows) if turned else (rows, columns)
    drawn = torch.randn(count, *shape, device=device) / 8
    return drawn.transpose(1, 2) if turned else drawn


def _seconds(product: Product, replicates: int, device: torch.device, precision: str, repeats: int) -> float:
    """Least time of `product`, once, for all replicates at a time, with one weight throughout as in a time loop."""
    operand = rounded if precision == "bfloat16" else lambda tensor: tensor
    left = _matrices(replicates, product.rows, product.inner, product.turned == "left", device)
    right = _matrices(replicates, product.inner, product.columns, product.turned == "right", device)
    out = _matrices(replicates, product.rows, product.columns, False, device)
    left, right = operand(left), operand(right)
    if replicates == 1:
        left, right, out = left[0], right[0], out[0]
    add, calls = adder(right), 20 if device.type == "cuda" else 1

    def several() -> None:
        for _ in range(calls):
            add(out, left, right, out=out)

    with computing(precision, device), torch.inference_mode():
        recorder = recorder_for(device)
        return _best_seconds(recorder(several) if recorder else several, device, repeats) / calls


def peak_rate(device: torch.device | str, precision: str = "float32", repeats: int = 5) -> float:
    """FLOP/s of large products on `device`, the best of `repeats`; `precision` as training.precision."""
    device = torch.device(device)
    large = [Product("peak", size, size, size) for size in PEAK_SIZES[device.type]]
    return max(product.flops / _seconds(product, 1, device, precision, repeats) for product in large)


def shape_rate(
    products: Sequence[Product],
    device: torch.device | str,
    replicates: int = 1,
    precision: str = "float32",
    repeats: int = 3,
) -> list[dict[str, object]]:
    """Per product: part, shape, times, flops and seconds (of all times and replicates), and rate in FLOP/s."""
    rows = []
    for product in products:
        once = _seconds(product, replicates, torch.device(device), precision, repeats)
        flops, seconds = replicates * product.flops, once * product.times
        shape = f"{product.rows} x {product.inner} x {product.columns}"
        rows.append({"part": product.part, "shape": shape, "times": product.times,
                     "flops": flops, "seconds": seconds, "rate": flops / seconds})  # fmt: skip
    return rows


def explain(step_seconds: float, rows: Sequence[dict[str, object]], peak: float) -> list[dict[str, object]]:
    """Where a step's time goes: each product at its measured rate, then all else. `share` is of the step's seconds,
    `of_peak` what the product's rate is of the device's, and last the whole step's.

    A negative rest means that the products ran slower when measured alone than in the step: measure both in one run.
    """
    explained = [row | {"share": row["seconds"] / step_seconds, "of_peak": row["rate"] / peak} for row in rows]
    flops, products = sum(row["flops"] for row in rows), sum(row["seconds"] for row in rows)
    rest = {"part": "everything else", "seconds": step_seconds - products, "share": 1 - products / step_seconds}
    whole = {"part": "step", "flops": flops, "seconds": step_seconds, "rate": flops / step_seconds, "share": 1.0,
             "of_peak": flops / step_seconds / peak}  # fmt: skip
    return [*explained, rest, whole]


def measure(
    model: ModelSpec, batch: int, replicates: int, device: torch.device, precision: str = "float32", rounds: int = 5
) -> list[dict[str, object]]:
    """`explain` of one step of `replicates` that share a block: all of them on a GPU, one on a CPU.

    Step, products and the large product are measured in turns, and the best of each counts: on a machine that is busy
    for part of the time they are then still comparable.
    """
    from bench_training import LENGTH, STEPS, VOCABULARY, our_loop

    steps = STEPS[device.type]
    epoch = our_loop(model, batch, replicates, device, precision=precision, steps=steps, together=True)
    products = step_products(model, VOCABULARY, batch, LENGTH)
    step, peak, best = float("inf"), 0.0, {}
    for _ in range(rounds):
        step = min(step, _best_seconds(epoch, device, 1) / steps)
        peak = max(peak, peak_rate(device, precision, 1))
        for row in shape_rate(products, device, replicates, precision, 1):
            best[row["part"]] = min(row, best.get(row["part"], row), key=lambda one: one["seconds"])
    return explain(step, list(best.values()), peak)


def main() -> None:
    """Print the table of one size of a step, or JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--units", type=int, default=200)
    parser.add_argument("--replicates", type=int, default=1, help="in one block, as on a GPU")
    parser.add_argument("--precision", default="float32", choices=("float32", "tf32", "bfloat16"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    device, model = choose_device(options.device), ModelSpec(units=options.units)
    require_able(options.precision, device)
    asked = {"batch": options.batch, "units": options.units, "replicates": options.replicates}
    for row in measure(model, options.batch, options.replicates, device, options.precision, options.rounds):
        if options.json:
            about = {"name": "matrix_rate", "device": device.type, "precision": options.precision}
            print(json.dumps(about | asked | row))
        else:
            rate = f"{row['rate'] / 1e9:10.1f} GFLOP/s {row['of_peak']:6.1%} of peak" if "rate" in row else ""
            what = f"{row['part']:36s} {row.get('shape', ''):20s}"
            print(what, f"{row['seconds'] * 1e3:9.2f} ms {row['share']:6.1%}", rate)


if __name__ == "__main__":
    main()
