"""Seconds per training step, private and not, in TensorFlow: of what compare.py runs in the tf environment.

    PYTHONPATH=workflow OMP_NUM_THREADS=1 envs/tf/.venv/bin/python tests/benchmarks/tf_private_step.py

Prints one JSON line per way: benchmark, way, seconds (the repeats' list), sizes, items (characters), compile_s (what
the first step took longer). The ways take turns, so that a busy machine slows all; those that cost many times a plain
step take part in fewer turns.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from memorization import weights as weight_files
from memorization.backends.tf.group import Group
from memorization.backends.tf.optimizers import plain_optimizer
from memorization.backends.tf.private import vectorized_optimizer
from memorization.backends.tf.runtime import tf
from memorization.data.corpora import PlantedCanary, TrainingCorpus
from memorization.privacy_file import Mechanism
from memorization.specs import ModelSpec, PrivacySpec, RunSpec, TrainingSpec
from memorization.vocabulary import Vocabulary

sys.path.insert(0, str(Path(__file__).parents[1] / "parity"))

from keras_lstm import keras_model, window_losses

VOCABULARY, RATE, CLIP, NOISE = 50, 1e-3, 1.0, 1.0
SLOW = ("loop over windows, private", "TF Privacy, vectorised")


def characters(count: int) -> np.ndarray:
    """int64[count] with frequencies 1 / rank, so that a window repeats characters about as English does."""
    shares = 1 / np.arange(1, VOCABULARY + 1)
    return np.random.default_rng(0).choice(VOCABULARY, count, p=shares / shares.sum())


def training(batch: int, length: int) -> TrainingSpec:
    return TrainingSpec(batch_size=batch, sequence_length=length, learning_rate=RATE, gradient_clip=None)


def own_step(model: ModelSpec, batch: int, length: int, private: bool):
    """A step of this project's group as Trainer drives it; the private one takes every window (q = 1)."""
    text = characters(batch * length + 1)
    canary = PlantedCanary(np.zeros(9, dtype=np.int64), "", np.zeros(0, dtype=np.int64))
    corpus = TrainingCorpus(Vocabulary(tuple(chr(40 + i) for i in range(VOCABULARY))), text, text, text, canary)
    privacy = PrivacySpec(clip=CLIP, noise_multiplier=NOISE) if private else None
    spec = RunSpec(model=model, training=training(batch, length), privacy=privacy, replicates=1)
    group = Group(spec, 0, corpus, "/CPU:0", Mechanism(NOISE, CLIP, 1.0, 1, batch) if private else None)

    def step():
        for _ in group.train_epoch(1, 1):
            pass

    return step


def keras_step(model, ids, targets):
    """Keras' own layers, not private."""
    optimizer = plain_optimizer(training(*ids.shape))

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(window_losses(model, ids, targets))
        optimizer.apply_gradients(
            zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
        )
        return loss

    return lambda: step().numpy()


def loop_step(model, ids, targets):
    """One compiled backward pass of Keras' layers per window; the sum, noise and update as one would write them."""
    optimizer, variables = plain_optimizer(training(*ids.shape)), model.trainable_variables

    @tf.function
    def clipped(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(window_losses(model, x, y))
        gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, variables)]
        return tf.clip_by_global_norm(gradients, CLIP)[0]

    def step():
        total = [tf.zeros_like(v) for v in variables]
        for row in range(len(ids)):
            own = clipped(ids[row : row + 1], targets[row : row + 1])
            total = [a + b for a, b in zip(total, own, strict=True)]
        noisy = [(t + tf.random.normal(t.shape, stddev=NOISE * CLIP)) / len(ids) for t in total]
        optimizer.apply_gradients(zip(noisy, variables, strict=True))

    return step


def vectorized_step(model, ids, targets):
    """TF Privacy's vectorised optimiser as shipped, over Keras' layers."""
    optimizer = vectorized_optimizer(training(*ids.shape), Mechanism(NOISE, CLIP, 1.0, 1, len(ids)), len(ids))

    @tf.function
    def step():
        with tf.GradientTape(persistent=True) as tape:
            losses = window_losses(model, ids, targets)
        optimizer.apply_gradients(optimizer._compute_gradients(losses, model.trainable_variables, tape=tape))
        return tf.reduce_mean(losses)

    return lambda: step().numpy()


def ways(model: ModelSpec, batch: int, length: int) -> dict:
    """Name -> a function that does one step."""
    text = characters(batch * length + 1).astype(np.int32)
    ids, targets = (tf.constant(text[i : i + batch * length].reshape(batch, length)) for i in (0, 1))
    weights = weight_files.initial_weights(model, VOCABULARY, np.random.default_rng(0))
    return {
        "ours, not private": own_step(model, batch, length, private=False),
        "ours, private": own_step(model, batch, length, private=True),
        "Keras LSTM, not private": keras_step(keras_model(weights), ids, targets),
        "loop over windows, private": loop_step(keras_model(weights), ids, targets),
        "TF Privacy, vectorised": vectorized_step(keras_model(weights), ids, targets),
    }


def timed(step) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--slow-repeats", type=int, default=2, help="of the ways that take many times longer")
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--length", type=int, default=100)
    parser.add_argument("--units", type=int, default=200)
    parser.add_argument("--only", help="ways whose name holds this")
    options = parser.parse_args()
    tf.random.set_seed(0)
    model = ModelSpec(units=options.units)
    steps = {n: s for n, s in ways(model, options.batch, options.length).items() if (options.only or "") in n}
    first = {name: timed(step) for name, step in steps.items()}
    seconds = {name: [] for name in steps}
    for turn in range(options.repeats):
        for name, step in steps.items():
            if name not in SLOW or turn < options.slow_repeats:
                seconds[name].append(round(timed(step), 5))
    for name, taken in seconds.items():
        compiled = round(max(0.0, first[name] - float(np.median(taken))), 2)
        sizes = {"units": options.units, "batch": options.batch, "length": options.length}
        line = {"benchmark": "private_step", "way": name, **sizes, "items": options.batch * options.length}
        print(json.dumps(line | {"seconds": taken, "compile_s": compiled}), flush=True)


if __name__ == "__main__":
    main()
