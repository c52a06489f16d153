"""How any model is optimised, and the specification of a translator (Secret Sharer Fig 6)."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from memorization.spec_base import Above, Count, Fraction, Positive, Strict, Trainable


class OptimisationSpec(Strict):
    """What every kind of training has."""

    optimizer: Literal["rmsprop", "adam", "sgd", "momentum", "adagrad", "adadelta"] = "rmsprop"
    learning_rate: Annotated[float, Field(gt=0)] = 0.001
    batch_size: Positive = 128
    epochs: Annotated[float, Field(gt=0)] = 20.0
    shuffle: bool = True
    gradient_clip: Annotated[float, Field(gt=0)] | None = Field(5.0, description="Global norm per replicate.")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="On each layer's input but the first's.")
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    keep: Literal["final", "best_validation"] = "best_validation"
    patience: Positive | None = Field(
        None,
        description="Epochs without a better validation loss before a replicate stops; null runs all epochs.",
    )


class PairsSpec(Strict):
    """The sentence pairs that a translator is trained on."""

    dataset: str = Field("iwslt15", description="A key of config/datasets.yaml.")
    fraction: Fraction = Field(1.0, description="Leading share of the training pairs.")
    evaluation_pairs: Positive = Field(2_000, description="At most this many leading validation and test pairs.")
    vocabulary: Annotated[int, Field(ge=10)] = Field(
        20_000, description="The most frequent words of each language; others become <unk>."
    )
    longest: Positive = Field(50, description="Pairs with a longer side, in tokens, are left out.")


DIGITS = "{d}{d}{d} - {d}{d} - {d}{d}{d}{d}"
"""Of a social security number; tokens are single digits, so each hole is a token."""


class PairCanarySpec(Strict):
    """A pair of sentences with the same holes; each replicate draws its own fill."""

    source: str = Field("my social security number is " + DIGITS, description="In English; holes are {d}.")
    target: str | None = Field(
        None,
        description="In the target language, the same holes; null: that of `source`'s default in the language that "
        "the data set's target files are named after (data/pairs.py).",
    )
    insertions: Count = Field(1, description="How many times the pair is in the training data; 0: a control run.")


class TranslationTrainingSpec(OptimisationSpec):
    """Optimisation of a translator. A batch's loss is the sum over a sentence's tokens, averaged over its sentences."""

    optimizer: Literal["rmsprop", "adam", "sgd", "momentum", "adagrad", "adadelta"] = "sgd"
    learning_rate: Above = 1.0
    epochs: Above = 12.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.2, description="On every layer's input.")
    keep: Literal["final", "best_validation"] = "final"

    decay: Literal["none", "luong234"] = Field(
        "luong234",
        description="luong234: after two thirds of all steps the rate is halved four times, at equal intervals.",
    )


class TranslatorSpec(Strict):
    """An encoder-decoder (tensorflow/nmt's iwslt15.json: brief section 5)."""

    architecture: Literal["attention", "plain"] = Field(
        "attention",
        description="attention: bidirectional encoder, scaled Luong attention; plain: one direction, and only its last "
        "states reach the decoder.",
    )
    layers: Positive = Field(2, description="Of encoder and decoder. A bidirectional layer counts twice.")
    units: Positive = Field(512, description="Of every layer in one direction, of embeddings and attention.")

    @model_validator(mode="after")
    def _even(self) -> "TranslatorSpec":
        if self.architecture == "attention" and self.layers % 2:
            raise ValueError("layers must be even: a bidirectional layer of the encoder counts twice")
        return self


class TranslationRunSpec(Trainable):
    """One cell of translators, trained together."""

    task: Literal["translation"]
    pairs: PairsSpec = PairsSpec()
    canary: PairCanarySpec = PairCanarySpec()
    model: TranslatorSpec = TranslatorSpec()
    training: TranslationTrainingSpec = TranslationTrainingSpec()
    privacy: None = None

    @property
    def dataset(self) -> str:
        """The key of config/datasets.yaml that it is trained on."""
        return self.pairs.dataset
