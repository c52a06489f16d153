"""Operations that a training, an attack or a scoring takes, counted from its specification and the registry's sizes.

Every function returns name -> number, for all replicates of a run together. Products are 10^9 multiplications of
one forward pass, whatever multiplies. Where training may stop early the largest number is counted.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from memorization import architectures, classifier_models, federated_models
from memorization.classifier_specs import ClassifierRunSpec
from memorization.data.registry import DatasetSpec
from memorization.federated_specs import FederatedRunSpec, passes
from memorization.federated_text_specs import FederatedTextRunSpec, characters_met
from memorization.preflight import expected_examples, tokens
from memorization.specs import AttackSpec, ImageRunSpec, RunSpec, ScoreSpec, Trainable
from memorization.translation_specs import TranslationRunSpec

Counts = dict[str, float]

GIGA = 1e9
BYTES = 4
STATES = 8
"""Numbers that a recurrent layer keeps per unit and time step for its way back."""
SYMBOLS = 50
"""Characters of a text's vocabulary, roughly."""
MAILBOX = 300_000
"""Characters that the owner of a mailbox has written, before it is read."""
WORD = 5.5
"""Characters of a word and the space after it."""
FEATURES = {"images": 28 * 28, "batches": 3 * 32 * 32, "rows": 500}
"""Kind of data -> numbers of an example in a federation, roughly."""
TUTORIAL_WEIGHTS, TUTORIAL_PRODUCTS = 26_010, 0.0016
"""Of TensorFlow Privacy's MNIST network; products of one image in 10^9."""
TARGET_WORDS = 10
"""Of a translated sentence, and of the canary that is ranked."""


def training(spec: Trainable, dataset: DatasetSpec) -> Counts:
    """Of one training job."""
    return {"job": 1.0, "replicates": float(spec.replicates), **TRAININGS[type(spec)](spec, dataset)}


def sizes(spec: Trainable, dataset: DatasetSpec) -> Counts:
    """What a training holds in memory, in MB of 32-bit numbers: one replicate's `weights_mb`, all replicates'
    `models_mb`, and the `batch_mb` of one replicate's states for a mini-batch.
    """
    one = weights(spec, dataset) * BYTES / 1e6
    states = 0
    if isinstance(spec, (RunSpec, FederatedTextRunSpec)):
        symbols = vocabulary(spec, dataset) if isinstance(spec, RunSpec) else SYMBOLS
        states = spec.training.sequence_length * (STATES * spec.model.units * spec.model.layers + symbols)
    elif isinstance(spec, TranslationRunSpec):
        states = 2 * TARGET_WORDS * (2 * STATES * spec.model.units * spec.model.layers + spec.pairs.vocabulary)
    batch = spec.training.batch_size * states * BYTES / 1e6
    return {"weights_mb": one, "models_mb": one * spec.replicates, "batch_mb": batch}


def weights(spec: Trainable, dataset: DatasetSpec) -> int:
    """Numbers that one replicate trains, by the registry's sizes."""
    if isinstance(spec, RunSpec):
        return _size(spec, dataset)
    if isinstance(spec, FederatedTextRunSpec):
        u, e = spec.model.units, spec.model.embedding or SYMBOLS
        return 4 * u * (e + u + 1) + (spec.model.layers - 1) * 4 * u * (2 * u + 1) + SYMBOLS * (e + u + 1)
    if isinstance(spec, TranslationRunSpec):
        u = spec.model.units
        return 2 * spec.pairs.vocabulary * u + u * (12 * spec.model.layers * u + spec.pairs.vocabulary)
    if isinstance(spec, ClassifierRunSpec):
        return classifier_models.parameter_count(spec.model, _shape(spec, dataset), _classes(spec, dataset))
    if isinstance(spec, FederatedRunSpec):
        return federated_models.parameter_count(spec.model, _features(spec, dataset), 10)
    return TUTORIAL_WEIGHTS


def _size(spec: RunSpec, dataset: DatasetSpec) -> int:
    layout = architectures.layout(spec.model, vocabulary(spec, dataset))
    return sum(int(np.prod(array.shape)) for array in layout.values())


def vocabulary(spec: RunSpec, dataset: DatasetSpec) -> int:
    """Symbols of a language model; of words without a limit every hundredth of the text is a new one, roughly."""
    if spec.corpus.unit == "character":
        return SYMBOLS
    return spec.corpus.vocabulary or (tokens(spec, dataset) or 0) // 100 or SYMBOLS


def _text(spec: RunSpec, dataset: DatasetSpec) -> Counts:
    whole = (tokens(spec, dataset) if dataset.kind == "text" else MAILBOX) or MAILBOX
    trained = whole * spec.corpus.fraction * spec.training.epochs * spec.replicates
    per_token = (_size(spec, dataset) - (spec.model.embedding or 0) * vocabulary(spec, dataset)) / GIGA
    words = spec.corpus.unit == "word"
    read = 2 * spec.corpus.evaluation_characters / (WORD if words else 1)
    moments = _moments(spec, whole) * spec.replicates
    length = len(spec.canary.format.split()) if words else len(spec.canary.format) / 2
    return {
        "steps": trained / spec.training.batch_size * spec.model.layers,
        "products": trained * per_token,
        "evaluated": read * (spec.training.epochs + 1) * spec.replicates * per_token,
        "moments": moments,
        "measured": moments * (spec.measure.references + spec.measure.controls) * length * per_token,
        "walked": moments * spec.measure.exact_steps * per_token,
    }


def _moments(spec: RunSpec, whole: float) -> float:
    """How often a replicate's exposure is measured while it trains."""
    measure, training = spec.measure, spec.training
    batches = whole * spec.corpus.fraction * training.epochs / training.batch_size / training.sequence_length
    return {
        "none": 0,
        "end": 1,
        "epoch": len(measure.epochs) or training.epochs + 1,
        "batch": batches + training.epochs,
    }[measure.every]


def _image(spec: ImageRunSpec, dataset: DatasetSpec) -> Counts:
    images = (expected_examples(spec, dataset) or 0) * spec.training.epochs * spec.replicates
    return {
        "steps": images / spec.training.batch_size,
        "products": images * TUTORIAL_PRODUCTS,
        "evaluated": spec.data.test_examples * (spec.training.epochs + 1) * spec.replicates * TUTORIAL_PRODUCTS,
    }


def _translation(spec: TranslationRunSpec, dataset: DatasetSpec) -> Counts:
    pairs = (dataset.examples or 0) * spec.pairs.fraction * spec.training.epochs * spec.replicates
    u, layers = spec.model.units, spec.model.layers
    return {
        "steps": pairs / spec.training.batch_size * layers * TARGET_WORDS,
        "products": pairs * TARGET_WORDS * u * (14 * layers * u + spec.pairs.vocabulary) / GIGA,
    }


def _shape(spec: ClassifierRunSpec, dataset: DatasetSpec) -> tuple[int, int, int]:
    side, channels = (32, 3) if dataset.kind == "batches" else (28, 1)
    return channels, spec.data.side or side, spec.data.side or side


def _classes(spec: ClassifierRunSpec, dataset: DatasetSpec) -> int:
    return 10 if spec.data.classes == "own" else expected_examples(spec, dataset) or 10


def _classifier(spec: ClassifierRunSpec, dataset: DatasetSpec) -> Counts:
    examples = (expected_examples(spec, dataset) or 0) * spec.data.subset
    training, measure = spec.training, spec.measure
    steps = examples * training.epochs / training.batch_size * spec.replicates
    once = classifier_models.multiplications(spec.model, _shape(spec, dataset), _classes(spec, dataset)) / GIGA
    rounds = min(measure.evaluations or training.epochs, training.epochs)
    attacked = training.adversarial_iterations if training.adversarial else 0
    found = {
        "steps": steps * (1 + attacked),
        "products": examples * training.epochs * spec.replicates * once * (1 + attacked),
        "evaluated": rounds * (examples + spec.data.validation_examples) * spec.replicates * once,
        "searched": 0.0,
        "unrolled": 0.0,
        "unrolled_steps": 0.0,
    }
    if measure.critical is not None:
        critical = measure.critical
        searches = (min(critical.times, training.epochs) + 1) * len(critical.radii) * len(critical.parts)
        images = min(critical.examples, max(spec.data.validation_examples, examples))
        found["searched"] = searches * images * critical.iterations * spec.replicates * once
    if measure.sensitivity is not None:
        own = max(steps / spec.replicates, 1.0)
        updates = float(np.geomspace(1, own, measure.sensitivity.times).sum()) * spec.replicates
        updates *= _classes(spec, dataset) if measure.sensitivity.classes else 1
        found |= {"unrolled": updates * examples * once, "unrolled_steps": updates}
    return found


def _features(spec: FederatedRunSpec, dataset: DatasetSpec) -> int:
    return spec.data.side**2 if spec.data.side else FEATURES[dataset.kind]


def _federation(spec: FederatedRunSpec, dataset: DatasetSpec) -> Counts:
    widths = [_features(spec, dataset), *(spec.model.units if spec.model.architecture == "mlp" else ()), 10]
    met = passes(spec) * spec.replicates
    judged = spec.data.test_examples + spec.data.users * spec.data.examples_per_user
    asked = (spec.oracle.shadow_models + sum(request.rounds for request in spec.requests)) * spec.replicates
    return {
        "steps": met / spec.training.batch_size,
        "products": met * sum(a * b for a, b in pairwise(widths)) / GIGA,
        "evaluated": asked * judged * sum(a * b for a, b in pairwise(widths)) / GIGA,
    }


def _federated_text(spec: FederatedTextRunSpec, dataset: DatasetSpec) -> Counts:
    met = characters_met(spec, dataset.files[dataset.roles.train].bytes) * spec.replicates
    per_token = weights(spec, dataset) / GIGA
    ranked = (1 + 2 * len(spec.requests)) * spec.measure.rounds * spec.replicates
    return {
        "steps": met / spec.training.batch_size * spec.model.layers,
        "products": met * per_token,
        "walked": ranked * min(spec.measure.walk_steps, 10**spec.canary.digits / 9) * per_token,
    }


TRAININGS: dict[type[Trainable], Callable[..., Counts]] = {
    RunSpec: _text,
    ImageRunSpec: _image,
    TranslationRunSpec: _translation,
    ClassifierRunSpec: _classifier,
    FederatedRunSpec: _federation,
    FederatedTextRunSpec: _federated_text,
}


def attack(spec: Trainable, asked: AttackSpec, dataset: DatasetSpec) -> Counts:
    """Of one attack job: fills scored, and steps of walks and searches, which are at most these."""
    canaries = spec.canary.count if asked.every and isinstance(spec, RunSpec) else 1
    models, size = spec.replicates, weights(spec, dataset) / GIGA
    scored = models * (asked.references + asked.controls) * TARGET_WORDS * size
    return {
        "job": 1.0,
        "replicates": float(models),
        "scored": scored,
        "walked": models * canaries * asked.exact_steps * size,
        "searched": models * canaries * len(asked.extraction) * asked.extraction_steps * size,
        "resampled": models * asked.bootstrap * asked.references / GIGA,
    }


def score(spec: Trainable, asked: ScoreSpec, dataset: DatasetSpec) -> Counts:
    """Of one scoring job: examples under every model."""
    examples = spec.replicates * (asked.train_examples + asked.test_examples)
    one = TUTORIAL_PRODUCTS if isinstance(spec, ImageRunSpec) else 100 * weights(spec, dataset) / GIGA
    return {"job": 1.0, "replicates": float(spec.replicates), "examples": examples / GIGA, "scored": examples * one}
