"""How any model is optimised, and the specification of a translator (Secret Sharer Fig 6)."""

from typing import Annotated, Literal

from pydantic import Field

from memorization.spec_base import Count, Fraction, Positive, Strict, Trainable


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


class PairCanarySpec(Strict):
    """A pair of sentences with the same holes; each replicate draws its own fill."""

    source: str = Field("my social security number is {d}{d}{d} - {d}{d} - {d}{d}{d}{d}")
    target: str = Field("{d}{d}{d} - {d}{d} - {d}{d}{d}{d}", description="In the target language, the same holes.")
    insertions: Count = 1


class TranslatorSpec(Strict):
    """An encoder-decoder with attention (tensorflow/nmt's iwslt15.json: brief section 5)."""

    architecture: Literal["attention", "plain"] = Field(
        "attention", description="attention: bidirectional encoder, scaled Luong attention; plain: last state only."
    )
    layers: Positive = 2
    units: Positive = 512


class TranslationRunSpec(Trainable):
    """One cell of translators, trained together. `training.sequence_length` has no meaning here."""

    task: Literal["translation"]
    pairs: PairsSpec = PairsSpec()
    canary: PairCanarySpec = PairCanarySpec()
    model: TranslatorSpec = TranslatorSpec()
    training: OptimisationSpec = OptimisationSpec(optimizer="sgd", learning_rate=1.0, dropout=0.2, keep="final")
    privacy: None = None

    @property
    def dataset(self) -> str:
        """The key of config/datasets.yaml that it is trained on."""
        return self.pairs.dataset
