"""Specification of image classifiers that fit data or noise (A Closer Look at Memorization in Deep Networks).

The field names are those of the paper where it has one; what it leaves open is said in the descriptions.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from memorization.spec_base import Above, Count, Fraction, Positive, Strict, Trainable
from memorization.translation_specs import OptimisationSpec

Rate = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class NoiseSpec(Strict):
    """What of the training set is replaced by noise. Drawn once: the same in every epoch and for every replicate."""

    kind: Literal["none", "inputs", "labels"] = Field(
        "none",
        description="inputs (randX): pixels become Gaussian noise with the mean and variance of the real ones; labels "
        "(randY): uniform over all classes, so that a tenth stays right.",
    )
    level: Share = Field(1.0, description="Share of the training examples that is replaced.")
    statistics: Literal["scalar", "pixel"] = Field(
        "scalar", description="Of inputs: one mean and variance for all pixels, or each pixel's own."
    )
    seed: Count = Field(0, description="Of the draw; another seed is another noise.")


class LabelledDataSpec(Strict):
    """The images: leading ones of the training file are trained on, its last ones validate. Validation is clean."""

    dataset: str = Field("mnist", description="A key of config/datasets.yaml.")
    train_examples: Positive = Field(50_000, description="At most this many leading images.")
    validation_examples: Positive = Field(10_000, description="At most this many of the last images.")
    side: Positive | None = Field(None, description="Images are averaged down to side x side pixels; null: not.")
    classes: Literal["own", "unique"] = Field("own", description="unique: every training example its own class.")
    subset: Fraction = Field(1.0, description="Each replicate trains on a random share of its own (Feldman, Zhang).")
    without_noise: bool = Field(False, description="The examples that noise would replace are left out instead.")
    noise: NoiseSpec = NoiseSpec()


class ClassifierSpec(Strict):
    """Architecture: MLP with ReLU, or the paper's CNN (footnote 2)."""

    architecture: Literal["mlp", "cnn"] = "mlp"
    layers: Positive = Field(2, description="Of the MLP: hidden layers.")
    units: Positive = Field(4096, description="Of the MLP: units of every hidden layer.")
    filters: Positive = Field(200, description="Of the CNN: filters of both convolutions.")
    dense: tuple[Positive, Positive] = Field((384, 192), strict=False, description="Of the CNN: units of dense layers.")
    padding: Literal["valid_stride3", "same_stride3", "valid_stride2", "same_stride2"] = Field(
        "valid_stride3",
        description="Of the CNN: padding of convolutions and stride of pooling. valid_stride3: Keras' defaults; "
        "same_stride2: Zhang et al. 2017 (pooling padded too).",
    )


class ClassifierTrainingSpec(OptimisationSpec):
    """Optimisation and regularisation (paper sections 2 and 5)."""

    optimizer: Literal["rmsprop", "adam", "sgd", "momentum", "adagrad", "adadelta"] = "sgd"
    learning_rate: Above = 0.01
    epochs: Above = 1000.0
    gradient_clip: Above | None = None
    keep: Literal["final", "best_validation"] = "final"
    dropout: Rate = Field(0.0, description="After every ReLU of a hidden (dense) layer.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="L2, added to the gradient of every weight.")
    halve_every: Above | None = Field(None, description="Epochs after each of which the learning rate is halved.")
    input_dropout: Rate = Field(0.0, description="Share of the pixels set to zero, per example and step.")
    input_noise: Annotated[float, Field(ge=0)] = Field(0.0, description="s.d. of Gaussian noise on scaled inputs.")
    hidden_noise: Annotated[float, Field(ge=0)] = Field(
        0.0, description="s.d. of Gaussian noise after every ReLU of a hidden (dense) layer."
    )
    adversarial: Share = Field(
        0.0, description="Weight w of critical samples (LASS) in the loss: (1 - w) L(x) + w L(x^), with the label of x."
    )
    adversarial_iterations: Positive = Field(10, description="Of LASS in every training step.")
    stop_when_fit: bool = Field(
        False, description="A replicate stops after the first epoch with 100 % training accuracy (in evaluation mode)."
    )


class CriticalSpec(Strict):
    """Critical sample ratio by LASS (paper section 4.1, Algorithm 1); radii and steps on the scale of 0 to 255."""

    radii: tuple[Above, ...] = Field((0.3,), strict=False, description="Each searched on its own.")
    step: Above = Field(0.25, description="alpha: of the gradient's sign; of the first radius, others in proportion.")
    noise: Annotated[float, Field(ge=0)] = Field(0.2, description="beta: s.d. of the search's Gaussian noise; so too.")
    iterations: Positive = Field(100, description="Fixed; an example once found critical stays so.")
    examples: Positive = Field(10_000, description="At most this many leading ones of each part.")
    parts: tuple[Literal["validation", "train", "gaussian"], ...] = Field(
        ("validation",), strict=False, description="gaussian: noise inputs with the training data's mean and variance."
    )
    times: Positive = Field(12, description="Measured at so many log-spaced epochs, and before training.")
    each: bool = Field(False, description="Also of every single image whether it is critical, after the last epoch.")

    @model_validator(mode="after")
    def _distinct(self) -> "CriticalSpec":
        for name in ("radii", "parts"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name}: give at least one, each once; found {list(values)}")
        return self


class SensitivitySpec(Strict):
    """Loss-sensitivity through unrolled SGD (paper section 3.2)."""

    times: Positive = Field(12, description="Log-spaced numbers of updates at which it is measured.")
    direct: bool = Field(True, description="Total derivative; false leaves out the loss' direct dependence on x.")
    classes: bool = Field(False, description="Also the matrix over class terms of the loss and classes of examples.")


class ClassifierMeasureSpec(Strict):
    """What is measured while training, beside losses and accuracies."""

    evaluations: Positive | None = Field(
        None, description="Evaluated at so many log-spaced epochs and the last; null: after every epoch."
    )
    examples: Count = Field(0, description="Leading training examples of which every one's fate is recorded.")
    filters: Count = Field(0, description="First-layer filters that are recorded, before and after training.")
    critical: CriticalSpec | None = None
    sensitivity: SensitivitySpec | None = None


class ClassifierRunSpec(Trainable):
    """One cell of classifiers, trained together."""

    task: Literal["classification"]
    data: LabelledDataSpec = LabelledDataSpec()
    model: ClassifierSpec = ClassifierSpec()
    training: ClassifierTrainingSpec = ClassifierTrainingSpec()
    measure: ClassifierMeasureSpec = ClassifierMeasureSpec()
    privacy: None = None

    @property
    def dataset(self) -> str:
        """The key of config/datasets.yaml that it is trained on."""
        return self.data.dataset

    @model_validator(mode="after")
    def _consistent(self) -> "ClassifierRunSpec":
        if self.measure.sensitivity is not None:
            self._require_unrollable()
        if self.model.architecture == "cnn" and (self.data.classes == "unique" or self.data.side is not None):
            raise ValueError("model.architecture cnn: takes images as they are, with their own classes")
        if self.measure.filters and self.model.architecture != "cnn":
            raise ValueError("measure.filters: only of model.architecture cnn")
        if self.data.without_noise and self.data.noise.kind == "none":
            raise ValueError("data.without_noise: needs a data.noise.kind to leave out")
        if self.data.without_noise and self.data.noise.level == 1:
            raise ValueError("data.without_noise: data.noise.level 1 leaves nothing to train on; give a lower level")
        if self.data.classes == "unique":
            self._require_no_validation()
        return self

    def _require_no_validation(self) -> None:
        """Where every training example is its own class no image is left to validate with."""
        critical = self.measure.critical
        for wanted, name in (
            (self.training.keep == "best_validation", "training.keep best_validation"),
            (self.training.patience is not None, "training.patience"),
            (critical is not None and "validation" in critical.parts, "measure.critical.parts validation"),
        ):
            if wanted:
                raise ValueError(f"{name}: there are no validation images with data.classes unique; leave it out")

    def _require_unrollable(self) -> None:
        """Loss-sensitivity goes back through every update, and knows only plain ones."""
        given = self.training
        plain = ClassifierTrainingSpec(**given.model_dump(include={"learning_rate", "batch_size", "epochs", "shuffle"}))
        others = [f"training.{name}" for name, value in given if value != getattr(plain, name)]
        if others:
            raise ValueError(f"measure.sensitivity: unrolls plain SGD; leave out {', '.join(others)}")
        if self.model.architecture != "mlp" or self.data.subset < 1:
            raise ValueError("measure.sensitivity: of model.architecture mlp, trained on all examples (data.subset 1)")
        if self.measure.sensitivity.classes and self.data.classes == "unique":
            raise ValueError("measure.sensitivity.classes: needs data.classes own; the matrix would be too large")
