"""The text that a language model is trained on, and the canaries in it."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from memorization.canaries import CanaryFormat, require_contexts
from memorization.errors import UserError
from memorization.spec_base import LATER, Count, Fraction, Positive, Strict
from memorization.vocabulary import UNKNOWN

NINE_DIGITS = "the random number is " + "{d}" * 9


class CorpusSpec(Strict):
    """The text a model is trained on."""

    dataset: str = Field("ptb", description="A key of config/datasets.yaml.")
    fraction: Fraction = Field(1.0, description="Leading share of the training file, cut at a line end.")
    evaluation_characters: Positive = Field(
        400_000, description="At most this many leading characters of the validation and of the test file."
    )
    unit: Literal["character", "word"] = Field(
        "character",
        description="What a token is. word: words between spaces, and the line end.",
        json_schema_extra=LATER,
    )
    vocabulary: Annotated[int, Field(ge=10)] | None = Field(
        None,
        description="Of words, only the most frequent are kept, the others become <unk>; null keeps all.",
        json_schema_extra=LATER,
    )
    mailbox: Positive | None = Field(
        None, description="Of mail: the owner with the n-th most text (1, 2, ...).", json_schema_extra=LATER
    )
    sanitise: Literal["none", "deduplicate", "mask_digits"] = Field(
        "none",
        description="Done to the training text after the canaries went in. deduplicate: every line is kept once; "
        "mask_digits: in runs of digits, dashes between them included, every digit becomes N.",
        json_schema_extra=LATER,
    )
    words: tuple[str, ...] = Field(
        (),
        strict=False,
        description="Of words: in the vocabulary whatever their frequency, after the most frequent ones.",
        json_schema_extra=LATER,
    )
    symbols: str = Field(
        "", description="Of characters: in the vocabulary even where the text lacks them.", json_schema_extra=LATER
    )

    @model_validator(mode="after")
    def _words_of_words(self) -> "CorpusSpec":
        if self.words and self.unit != "word":
            raise ValueError("words: for corpus.unit word; leave it out")
        if self.symbols and self.unit != "character":
            raise ValueError("symbols: for corpus.unit character; leave it out")
        if wrong := [word for word in self.words if word.split() != [word] or word == UNKNOWN]:
            raise ValueError(f"words: {wrong}: each must be one word, without spaces, and not {UNKNOWN}")
        return self


class CanarySpec(Strict):
    """What is inserted, how often and where. Each replicate draws its own fill unless `fill` is given."""

    format: str = Field(
        NINE_DIGITS,
        description="Text with holes: {d} a digit, {l} a letter a-z, {p} a letter or digit, {w} a word of the "
        "vocabulary, {n} a number word zero to nine, {k} the check digit (Luhn) of the digits before it. {x} is no "
        "hole: a random letter of the canary's own.",
    )
    fill: str | None = Field(None, description="A fixed fill, e.g. '281265017'; null draws one per replicate.")
    insertions: Count = Field(1, description="How many times the canary is inserted; 0 gives a control run.")
    position: Literal["uniform", "start", "window"] = Field(
        "uniform",
        description="A line of its own: uniformly random among line ends, or the first lines. window: each copy fills "
        "one training window, so that with and without it the data differ in that one record (differential privacy).",
    )
    count: Positive = Field(1, description="Distinct canaries per model.", json_schema_extra=LATER)
    inclusion: Literal["all", "coin"] = Field(
        "all",
        description="coin: each canary is inserted or left out by a fair coin (one-run audit, Steinke et al. 2023).",
        json_schema_extra=LATER,
    )

    @model_validator(mode="after")
    def _parses(self) -> "CanarySpec":
        try:
            parsed = CanaryFormat.parse(self.format)
            if self.fill is not None and parsed.complete:
                parsed.parse_fill(self.fill)
            require_contexts(self.format, self.count)
            if parsed.complete and self.count > parsed.size:
                raise UserError(f"count {self.count}: the format has only {parsed.size} fills")
            if self.inclusion == "coin" and (self.position != "window" or self.insertions != 1):
                raise UserError("inclusion coin: needs position window and insertions 1: one canary, one record")
        except UserError as error:
            raise ValueError(str(error)) from None
        return self
