"""Specification of a federation whose user asks to be forgotten (Learn to Forget, arXiv 2003.10933).

Two papers share that number: v1 is about federated learning and states no number; v3 (TDSC) is about a central model
and claims forgetting rates. What neither abstract says is a choice of ours, marked in the brief.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from memorization.spec_base import Above, Count, Fraction, Positive, Strict, Trainable

Weight = Annotated[float, Field(ge=0)]


class SharesSpec(Strict):
    """Who holds what. All parts are disjoint; every seed draws its own."""

    dataset: str = Field("mnist", description="A key of config/datasets.yaml: images, or rows of numbers with a class.")
    side: Positive | None = Field(None, description="Larger images are averaged down to side x side pixels; null: not.")
    users: Positive = 10
    examples_per_user: Positive = 200
    partition: Literal["iid", "dirichlet"] = Field("iid", description="dirichlet: each class is shared out unevenly.")
    alpha: Above = Field(0.5, description="Of dirichlet.")
    forget: Fraction = Field(1.0, description="Share of user 0's examples that is to be forgotten, drawn at random.")
    third_party: Positive = Field(500, description="Examples that nobody trains on: Forsaken's target.")
    third_party_source: Literal["same", "other", "noise"] = Field(
        "same", description="same: held-out data; other: the same with their features in another order; noise: uniform."
    )
    shadow: Positive | None = Field(
        None,
        description="Examples on which oracles are calibrated, half of them as a shadow model's members; null: twice "
        "what all users hold. Shadow models of fewer examples fit them more closely than the federation does, and the "
        "oracles then tell members less well.",
    )
    test_examples: Positive = 1000

    @property
    def shadow_examples(self) -> int:
        """Size of the shadow part, an even number."""
        wanted = 2 * self.users * self.examples_per_user if self.shadow is None else self.shadow
        return wanted + wanted % 2


class NetworkSpec(Strict):
    """The classifier."""

    architecture: Literal["linear", "svm", "mlp"] = Field(
        "mlp", description="linear: softmax regression; svm: linear one-against-rest hinge, posteriors by softmax."
    )
    units: tuple[Positive, ...] = Field((128,), strict=False, description="Of the MLP's hidden layers.")


class FederationSpec(Strict):
    """FedAvg (McMahan et al. 2017)."""

    rounds: Positive = 40
    local_epochs: Positive = 5
    batch_size: Positive = 10
    learning_rate: Above = 0.1


class RequestSpec(Strict):
    """One way of forgetting, from the same trained federation."""

    method: Literal["retrain", "forsaken", "ascent", "federaser", "sisa", "without_user", "placebo"] = Field(
        "forsaken",
        description="retrain: from scratch without the forgotten data; without_user: the others train on; "
        "placebo: random updates of the norm of Forsaken's with the same settings.",
    )
    rounds: Positive = Field(
        60, description="Unlearning rounds J (of retrain, sisa, federaser: given by the federation)."
    )
    generator: Literal["G0", "G1"] = Field(
        "G1", description="Dummy gradients by one proximal gradient step (G0), or by an inner optimisation (G1)."
    )
    step: Above = Field(0.5, description="Of the gradient, in G0, in G1's inner steps, and in ascent.")
    inner_steps: Positive = Field(5, description="Of G1, and of ascent's user in every round.")
    penalty: Weight = Field(0.01, description="lambda.")
    importance: Literal["none", "uniform", "gradient"] = Field(
        "gradient", description="omega: no penalty, 1, or mean absolute gradient on retained data over its maximum."
    )
    target: Literal["mean", "uniform", "class_mean", "matched"] = Field(
        "mean", description="p*: what a perfectly forgotten example would be answered."
    )
    others: Literal["train", "idle"] = Field("train", description="What the other users do meanwhile.")
    boost: Above = Field(1.0, description="Factor on the dummy update; 1: the procedure is unchanged.")
    shards: Positive = Field(5, description="Of sisa: groups of users, each with its own model.")
    calibration: Annotated[float, Field(gt=0, le=1)] = Field(0.5, description="Of federaser: share of local epochs.")
    interval: Positive = Field(1, description="Of federaser: rounds between retained updates.")


class OracleSpec(Strict):
    """Membership inference, calibrated on shadow models in the era of the first model and never again."""

    shadow_models: Positive = Field(16, description="Also LiRA's reference models; half of them hold each example.")
    bootstrap: Count = 1000
    lira: bool = True

    @model_validator(mode="after")
    def _referenced(self) -> "OracleSpec":
        if self.lira and self.shadow_models < 4:
            raise ValueError(
                "lira judges a shadow model's examples by others that never saw them: set shadow_models to 4 or more, "
                "or lira to false"
            )
        return self


class FederatedRunSpec(Trainable):
    """One cell: `replicates` federations, each trained, asked to forget in every way, and judged."""

    task: Literal["federated"]
    data: SharesSpec = SharesSpec()
    model: NetworkSpec = NetworkSpec()
    training: FederationSpec = FederationSpec()
    requests: tuple[RequestSpec, ...] = Field((RequestSpec(),), strict=False, min_length=1)
    oracle: OracleSpec = OracleSpec()
    validation: bool = Field(
        False, description="Forget another set than the reported one: what settings are chosen on (never both)."
    )
    privacy: None = None

    @property
    def dataset(self) -> str:
        """The key of config/datasets.yaml that it is trained on."""
        return self.data.dataset

    @model_validator(mode="after")
    def _consistent(self) -> "FederatedRunSpec":
        for request in self.requests:
            if request.method == "federaser" and self.data.forget < 1:
                raise ValueError("requests: federaser forgets whole users only; set data.forget: 1.0")
            if request.method == "sisa" and request.shards > self.data.users:
                raise ValueError(f"requests: sisa: {request.shards} shards for {self.data.users} users")
            if request.method == "placebo" and not self._precedent(request):
                raise ValueError(
                    "requests: placebo takes the norms of Forsaken's updates: add a forsaken with the same settings"
                )
        return self

    def _precedent(self, placebo: RequestSpec) -> bool:
        """Whether Forsaken is asked for with the placebo's settings."""
        return placebo.model_copy(update={"method": "forsaken"}) in self.requests


def passes(spec: FederatedRunSpec) -> float:
    """How many examples users' models meet in one replicate's training, shadow models and requests, roughly."""
    data, training = spec.data, spec.training
    once = data.users * data.examples_per_user * training.local_epochs
    whole = once * training.rounds
    total = whole + spec.oracle.shadow_models * data.shadow_examples / 2 * training.rounds * training.local_epochs
    for request in spec.requests:
        if request.method in ("retrain", "federaser"):
            total += whole * (request.calibration / request.interval if request.method == "federaser" else 1)
        elif request.method == "sisa":
            total += whole * (1 + 1 / request.shards)
        else:
            own = data.forget * data.examples_per_user * request.inner_steps
            total += request.rounds * (own + (once if request.others == "train" else 0))
    return total
