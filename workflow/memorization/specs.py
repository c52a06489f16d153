"""What is run: frozen, strict specifications, and how figures.yaml expands into them.

`defaults -> base -> grid -> scale caps -> RunSpec`; a run's id is a hash of its canonical JSON, so two figures that
ask for the same model train it once. Nothing here reads data or imports a back end: expansion is pure and fast.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from memorization import NUMERICS_VERSION
from memorization.classifier_specs import ClassifierRunSpec
from memorization.federated_specs import FederatedRunSpec
from memorization.federated_text_specs import FederatedTextRunSpec
from memorization.spec_base import LATER, Above, Count, Fraction, Positive, Strict, Trainable, digest
from memorization.text_specs import CanarySpec, CorpusSpec
from memorization.translation_specs import OptimisationSpec, TranslationRunSpec


class ModelSpec(Strict):
    """Architecture. Weights have nn.LSTM's names and shapes, or those of the architecture's module."""

    architecture: Literal["lstm", "gru", "cnn", "wavenet", "transformer"] = "lstm"
    layers: Positive = 2
    units: Positive = 200
    embedding: Positive | None = Field(154, description="Width of the trained embedding; null: one-hot input.")
    kernel: Annotated[int, Field(ge=2)] = Field(
        3, description="Of cnn and wavenet: inputs of one convolution.", json_schema_extra=LATER
    )
    heads: Positive = Field(4, description="Of transformer: attention heads.", json_schema_extra=LATER)

    @model_validator(mode="after")
    def _heads_fit(self) -> "ModelSpec":
        if self.architecture == "transformer" and self.units % self.heads:
            raise ValueError(f"units {self.units}: must be a multiple of heads, {self.heads}")
        return self


class PrivacySpec(Strict):
    """Differentially private training: per-example clipping and Gaussian noise (Abadi et al. 2016).

    The update is (sum of clipped gradients + N(0, (noise_multiplier * clip)^2)) / batch_size. With neither
    noise_multiplier nor epsilon gradients are only clipped, and epsilon is infinite.
    """

    clip: Above = Field(1.0, description="l2 bound C of one example's gradient (a training window, an image).")
    noise_multiplier: Above | None = Field(None, description="sigma: noise on the sum has s.d. sigma * clip.")
    epsilon: Above | None = Field(None, description="Wanted epsilon: the noise is calibrated by `accountant`.")
    accountant: Literal["classic", "rdp", "pld"] = Field(
        "classic", description="Convention that calibrates: classic RDP (the papers'), current RDP, or PLD."
    )
    delta: Annotated[float, Field(gt=0, lt=1)] = 1.0e-5
    sampling: Literal["poisson", "shuffle"] = Field(
        "poisson", description="Poisson sampling, which every epsilon assumes; shuffle makes it nominal."
    )

    @model_validator(mode="after")
    def _one_noise(self) -> "PrivacySpec":
        if self.noise_multiplier is not None and self.epsilon is not None:
            raise ValueError("give either noise_multiplier or epsilon, not both (neither: clipping only)")
        return self


class TrainingSpec(OptimisationSpec):
    """Optimisation of a language model. The window is the unit: each starts from a zero state."""

    sequence_length: Annotated[int, Field(ge=2)] = 100
    sampling: Literal["without_replacement", "with_replacement"] = Field(
        "without_replacement",
        description="How an epoch's windows are drawn, as many as there are: each once, in random order (not where "
        "shuffle is false), or with replacement, independently and uniformly (the Secret Sharer's bagging).",
        json_schema_extra=LATER,
    )
    weight_dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="On the recurrent weights, drawn per batch (AWD-LSTM).", json_schema_extra=LATER
    )
    learning_rate_drops: tuple[Positive, ...] = Field(
        (), strict=False, description="After these epochs the learning rate is divided by 10.", json_schema_extra=LATER
    )
    precision: Literal["float32", "tf32", "bfloat16"] = Field(
        "float32",
        description="Of the LSTM's matrix products while training. bfloat16: operands are rounded, sums and all else "
        "(weights, states, gates, loss, optimiser) stay float32; tf32: as a GPU's own switch has it, on a GPU only.",
        json_schema_extra=LATER,
    )

    def rate_in(self, epoch: int) -> float:
        """The learning rate in epoch 1, 2, ..."""
        return self.learning_rate / 10 ** sum(epoch > last for last in self.learning_rate_drops)


class MeasureSpec(Strict):
    """Exposure measured while training (Figs 7 and 8), or of what comes out of it."""

    every: Literal["none", "epoch", "batch", "end"] = Field(
        "none", description="end: once, of the finished model, where an attack would ask for nothing else."
    )
    epochs: tuple[Positive, ...] = Field(
        (),
        strict=False,
        description="epoch: only after these epochs and after the last one; () after each, and before the first.",
        json_schema_extra=LATER,
    )
    references: Positive = Field(2_000, description="Uniform fills for the sampled and skew-normal estimates.")
    controls: Count = Field(20, description="Fills that were not inserted: the null band.")
    exact_steps: Count = Field(0, description="Model steps that an exact rank may cost per measurement; 0: none.")


PRIVATE_OPTIMIZERS = ("rmsprop", "adam", "sgd")


def _private_training(privacy: PrivacySpec | None, training: OptimisationSpec) -> None:
    """What cannot go together with per-example clipping. Raises ValueError."""
    if privacy is not None and training.gradient_clip is not None:
        raise ValueError(
            "training.gradient_clip must be null under privacy: each example's gradient is clipped by privacy.clip"
        )
    if privacy is not None and training.optimizer not in PRIVATE_OPTIMIZERS:
        known = ", ".join(PRIVATE_OPTIMIZERS)
        raise ValueError(f"training.optimizer {training.optimizer!r}: private training has {known}")


def _there(run: "RunSpec") -> None:
    """Options that exist for some runs only. Raises ValueError."""
    training = run.training
    if run.privacy is not None and (training.weight_dropout or training.learning_rate_drops):
        raise ValueError("training.weight_dropout and learning_rate_drops: not in private training; leave them out")
    if training.sampling == "with_replacement" and (run.privacy is not None or not training.shuffle):
        raise ValueError(
            "training.sampling with_replacement: goes neither with training.shuffle false nor with privacy, whose "
            "batches are drawn by privacy.sampling; leave it out"
        )
    if run.privacy is not None and run.model.architecture != "lstm":
        raise ValueError(f"privacy: only for model.architecture lstm, not {run.model.architecture}; set privacy: null")
    if training.weight_dropout and run.model.architecture != "lstm":
        raise ValueError(f"training.weight_dropout: only for model.architecture lstm, not {run.model.architecture}")
    if training.precision != "float32" and run.model.architecture != "lstm":
        raise ValueError(
            f"training.precision {training.precision}: only for model.architecture lstm, not {run.model.architecture}"
        )
    if training.precision != "float32" and run.privacy is not None:
        raise ValueError(f"training.precision {training.precision}: not in private training; leave it out")
    if run.measure.every == "end" and (training.keep != "final" or training.patience is not None):
        raise ValueError("measure.every end: measures the last weights; it needs training.keep final and no patience")
    if run.corpus.sanitise != "none" and run.corpus.unit == "word":
        raise ValueError("corpus.sanitise: works on characters; use corpus.unit character")
    if run.corpus.sanitise == "deduplicate" and run.canary.position == "window":
        raise ValueError("corpus.sanitise deduplicate: would move canaries out of their windows; use another position")


class RunSpec(Trainable):
    """One cell of character language models, trained together."""

    task: Literal["text"] = Field("text", json_schema_extra=LATER)
    corpus: CorpusSpec = CorpusSpec()
    canary: CanarySpec = CanarySpec()
    model: ModelSpec = ModelSpec()
    training: TrainingSpec = TrainingSpec()
    privacy: PrivacySpec | None = Field(None, json_schema_extra=LATER)
    measure: MeasureSpec = MeasureSpec()

    @property
    def dataset(self) -> str:
        """The key of config/datasets.yaml that it is trained on."""
        return self.corpus.dataset

    @model_validator(mode="after")
    def _consistent(self) -> "RunSpec":
        _private_training(self.privacy, self.training)
        if self.privacy is not None and self.privacy.sampling == "shuffle" and self.canary.inclusion == "coin":
            raise ValueError(
                "privacy.sampling shuffle does not go with canary.inclusion coin: replicates then have different "
                "numbers of batches, but one accounting; use poisson"
            )
        _there(self)
        return self


class ImageDataSpec(Strict):
    """The images a classifier is trained on."""

    dataset: str = Field("mnist", description="A key of config/datasets.yaml.")
    fraction: Fraction = Field(1.0, description="Leading share of the training images.")
    test_examples: Positive = Field(10_000, description="At most this many leading test images.")


class ImageModelSpec(Strict):
    """Architecture of an image classifier."""

    architecture: Literal["tutorial_cnn"] = Field(
        "tutorial_cnn", description="TensorFlow Privacy's MNIST tutorial: 26,010 parameters."
    )


class ImageRunSpec(Trainable):
    """One cell of image classifiers, trained together."""

    task: Literal["image"]
    data: ImageDataSpec = ImageDataSpec()
    model: ImageModelSpec = ImageModelSpec()
    training: OptimisationSpec = OptimisationSpec(keep="final", gradient_clip=None)
    privacy: PrivacySpec | None = None

    @property
    def dataset(self) -> str:
        """The key of config/datasets.yaml that it is trained on."""
        return self.data.dataset

    @model_validator(mode="after")
    def _consistent(self) -> "ImageRunSpec":
        _private_training(self.privacy, self.training)
        return self


TASKS: dict[str, type[Trainable]] = {
    "text": RunSpec,
    "image": ImageRunSpec,
    "translation": TranslationRunSpec,
    "classification": ClassifierRunSpec,
    "federated": FederatedRunSpec,
    "federated_text": FederatedTextRunSpec,
}
"""`task` of a specification -> its class; without the key it is a text."""


class ScoreSpec(Strict):
    """Losses of single examples under every finished model: lines of the corpus, or images."""

    train_examples: Count = Field(60_000, description="Leading lines or images of the training data.")
    test_examples: Count = Field(0, description="Leading lines or images of the test data.")
    quantize: Literal["none", "int8"] = Field(
        "none", description="int8: of weights rounded to 8-bit integers.", json_schema_extra=LATER
    )

    @property
    def score_id(self) -> str:
        """Twelve hex digits, as `RunSpec.run_id`."""
        return digest(self, NUMERICS_VERSION)


class AttackSpec(Strict):
    """What is asked of every finished model: scores, exposure three ways, extraction."""

    references: Positive = Field(65_536, description="Uniform fills, the inserted one excluded.")
    controls: Count = Field(100, description="Fills that were not inserted, ranked among the references: the null.")
    exact_steps: Positive = Field(2_000_000, description="Largest pruned or full walk, in model steps.")
    bootstrap: Count = Field(200, description="Resamples for the skew-normal interval and the K-S p-value.")
    extraction: tuple[Literal["shortest_path", "beam", "sampling", "greedy", "brute_force"], ...] = Field(
        ("shortest_path",), strict=False, description="Searches to run on the inserted canary's format."
    )
    extraction_steps: Positive = Field(2_000_000, description="Model steps a search may take before it gives up.")
    search_batch: Positive = Field(512, description="Prefixes expanded per model call.")
    top: Count = Field(0, description="List the k most likely fills exactly (Table 1); 0: none.")
    histogram_bins: Count = Field(0, description="Histogram of the reference costs (Fig 2); 0: none.")
    every: bool = Field(
        False, description="Rank and search every canary of a model, not only the first.", json_schema_extra=LATER
    )
    ranked: bool = Field(
        False,
        description="With every: also of canaries that do not rank first an exact rank (within exact_steps).",
        json_schema_extra=LATER,
    )
    quantize: Literal["none", "int8"] = Field(
        "none", description="int8: attack a copy whose weights are 8-bit integers.", json_schema_extra=LATER
    )

    @property
    def attack_id(self) -> str:
        """Twelve hex digits, as `RunSpec.run_id`."""
        return digest(self, NUMERICS_VERSION)
