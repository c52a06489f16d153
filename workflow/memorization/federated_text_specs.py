"""Specification of a federated language model of which one user's text holds a canary that is to be forgotten.

Beyond Learn to Forget (arXiv 2003.10933): exposure (Secret Sharer, Definition 3) as the measure of forgetting. Every
number here is a choice of ours.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from memorization.federated_specs import FederationSpec, RequestSpec
from memorization.spec_base import Above, Count, Positive, Strict, Trainable


class TextSharesSpec(Strict):
    """Who holds what. Users hold disjoint contiguous parts of the training text, of equally many lines."""

    dataset: str = Field("ptb", description="A key of config/datasets.yaml: a text.")
    characters: Positive = Field(
        5_200_000, description="At most so many leading ones of the training file are shared out among the users."
    )
    users: Annotated[int, Field(ge=2)] = 10
    third_party_characters: Positive = Field(
        10_000, description="Leading characters of the validation file, on which nobody trains: Forsaken's target."
    )
    evaluation_characters: Positive = Field(400_000, description="At most so many leading ones of the test file.")


class SecretSpec(Strict):
    """The line that only user 0's text holds: `prefix` and a random number."""

    prefix: str = Field("the random number is ", min_length=1)
    digits: Annotated[int, Field(ge=1, le=9)] = Field(
        6,
        description="Deviation: six, not nine: the exact rank of a canary that is forgotten takes a walk through half "
        "of all numbers, for every model that is measured.",
    )
    insertions: Positive = Field(20, description="Copies, each a line at a random place of user 0's text.")

    @property
    def format(self) -> str:
        """As canaries.CanaryFormat reads it."""
        return self.prefix + "{d}" * self.digits


class LstmSpec(Strict):
    """The language model, named and shaped as in ModelSpec."""

    architecture: Literal["lstm"] = "lstm"
    layers: Positive = 1
    units: Positive = 128
    embedding: Positive | None = Field(32, description="Width of the trained embedding; null: one-hot input.")


class LocalTrainingSpec(FederationSpec):
    """FedAvg of a language model. Deviation: users train by Adam, begun afresh in every round (plain SGD, which FedAvg
    is defined with, hardly trains an LSTM in so few steps).
    """

    rounds: Positive = 20
    local_epochs: Positive = 1
    batch_size: Positive = 10
    learning_rate: Above = 0.003
    optimizer: Literal["adam", "sgd"] = "adam"
    gradient_clip: Above = Field(5.0, description="Global norm of one user's gradient.")
    sequence_length: Annotated[int, Field(ge=2)] = 50


class ExposureSpec(Strict):
    """When the canary is ranked among all fills, and what that may cost."""

    rounds: Positive = Field(10, description="Of one request and of one relearning, at most so many, evenly spread.")
    walk_steps: Positive = Field(2_000_000, description="Model steps of one rank; one that needs more is not a number.")


class FederatedTextRunSpec(Trainable):
    """One cell: `replicates` federations, each trained, asked to forget the canary in every way, and shown user 0's
    text again.
    """

    task: Literal["federated_text"]
    data: TextSharesSpec = TextSharesSpec()
    canary: SecretSpec = SecretSpec()
    model: LstmSpec = LstmSpec()
    training: LocalTrainingSpec = LocalTrainingSpec()
    requests: tuple[RequestSpec, ...] = Field((RequestSpec(),), strict=False, min_length=1)
    relearn_rounds: Count = Field(10, description="Ordinary rounds with user 0's whole text, after every request.")
    measure: ExposureSpec = ExposureSpec()
    validation: bool = Field(
        False, description="Another canary, at other places, than the reported one: what settings are chosen on."
    )
    privacy: None = None

    @property
    def dataset(self) -> str:
        """The key of config/datasets.yaml that it is trained on."""
        return self.data.dataset

    @property
    def stage(self) -> str:
        """What the names of the canary's random streams begin with."""
        return "validation-" if self.validation else ""

    @model_validator(mode="after")
    def _consistent(self) -> "FederatedTextRunSpec":
        if any(symbol in self.canary.prefix for symbol in "{}\n"):
            raise ValueError(f"canary.prefix {self.canary.prefix!r}: plain text, without braces and line ends")
        if len(self.canary.prefix) + self.canary.digits + 1 > self.training.sequence_length:
            raise ValueError(
                f"training.sequence_length {self.training.sequence_length}: the canary's line has "
                f"{len(self.canary.prefix) + self.canary.digits} characters and must fit one window with its line end"
            )
        for request in self.requests:
            self._require_able(request)
        return self

    def _require_able(self, request: RequestSpec) -> None:
        """Raises ValueError for what language models are not asked to do."""
        if request.method == "sisa":
            raise ValueError("requests: sisa votes with several models, of which none has an exposure; leave it out")
        if request.target not in ("mean", "uniform"):
            raise ValueError(f"requests: target {request.target!r} compares examples; of text choose mean or uniform")
        precedent = request.model_copy(update={"method": "forsaken"})
        if request.method == "placebo" and precedent not in self.requests:
            raise ValueError(
                "requests: placebo takes the norms of Forsaken's updates: add a forsaken with the same settings"
            )


def characters_met(spec: FederatedTextRunSpec, characters: int) -> float:
    """How many characters users' models meet in one replicate's training, requests and relearning, roughly; the data
    set's training text has `characters`.
    """
    once = min(characters, spec.data.characters) * spec.training.local_epochs
    whole = once * spec.training.rounds
    line = spec.canary.insertions * spec.training.sequence_length
    total = whole
    for request in spec.requests:
        if request.method in ("retrain", "federaser"):
            total += whole * (request.calibration / request.interval if request.method == "federaser" else 1)
        else:
            total += request.rounds * (line * request.inner_steps + (once if request.others == "train" else 0))
        total += spec.relearn_rounds * once
    return total
