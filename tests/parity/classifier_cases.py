"""Settings and made-up images on which both back ends' classifiers are compared (test_classifiers.py)."""

import sys
from pathlib import Path

import numpy as np

from memorization import backends
from memorization.classifier_specs import ClassifierRunSpec
from memorization.data.labelled import LabelledData
from memorization.noise import GaussianImages

MLP = {"architecture": "mlp", "units": 12}
CNN = {"architecture": "cnn", "filters": 6, "dense": [16, 8]}
MODELS = {
    "mlp": MLP,
    "cnn": CNN,
    **{name: CNN | {"padding": name} for name in ("same_stride3", "valid_stride2", "same_stride2")},
}


def make_spec(model="mlp", replicates=2, measure=None, **training):
    """Two epochs of SGD with momentum; `training` over it."""
    settings = {"optimizer": "momentum", "learning_rate": 0.05, "batch_size": 8, "epochs": 2.0}
    return ClassifierRunSpec.model_validate(
        {"task": "classification", "replicates": replicates, "model": MODELS[model], "training": settings | training,
         "measure": measure or {}}
    )  # fmt: skip


def made_up(count=22):
    """Colour images of 32x32 whose class shifts a bar, in units of 1/255 of a pixel's scale; a fifth is mislabelled."""
    rng = np.random.default_rng(0)
    true = np.arange(count) % 10
    images = rng.normal(0, 0.3, (count, 3, 32, 32)).astype(np.float32)
    for image, label in zip(images, true, strict=True):
        image[:, :, 2 * label + 4 : 2 * label + 8] += 1
    corrupted = np.arange(count) % 5 == 0
    given = np.where(corrupted, (true + 1) % 10, true)
    noise = GaussianImages(np.float32(0), np.float32(1), (3, 32, 32))
    return LabelledData(images, given, true, corrupted, images[:10], true[:10], 10, 1 / 255, noise)


def main(backend, directory):
    """Train every model in one back end: directory/<model> holds the run, directory/<model>.npz losses after it."""
    engine = backends.load(backend)
    for model in MODELS:
        data, spec = made_up(), make_spec(model, weight_decay=0.01, halve_every=1.0, gradient_clip=5.0)
        run = Path(directory) / model
        engine.train(spec, data, run, device="cpu")
        losses = [one.losses(data.train, data.given)[0] for one in engine.load(run, spec, None, device="cpu")]
        np.savez(run.with_suffix(".npz"), losses=losses)


if __name__ == "__main__":
    main(*sys.argv[1:])
