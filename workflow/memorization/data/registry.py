"""config/datasets.yaml: what each data set is, where its files come from and what they must be."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Discriminator, Field, Tag, TypeAdapter, ValidationError, model_validator

from memorization.errors import UserError
from memorization.specs import Strict

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="64 lower-case hex digits.")]
GitBlob = Annotated[
    str,
    Field(pattern=r"^[0-9a-f]{40}$", description="git's id of the content: SHA-1 of `blob <size>`, NUL, content."),
]
Url = Annotated[str, Field(pattern=r"^https?://\S+$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]


def _checksum(spec: "SourceSpec | FileSpec") -> str | None:
    given = {"sha256": spec.sha256, "gitblob": spec.gitblob, "content": getattr(spec, "content", None)}
    return next((f"{kind}:{value}" for kind, value in given.items() if value is not None), None)


class SourceSpec(Strict):
    """One public address of a file. `member`, and a checksum of the archive, only where it is an archive."""

    url: Url
    sha256: Sha256 | None = Field(None, description="Of the archive.")
    gitblob: GitBlob | None = Field(None, description="Of the archive, where no sha256 is known.")
    member: str | None = Field(None, description="Path inside the archive.")
    content: Sha256 | None = Field(
        None, description="Where the file is an archive that this host packs in its own way: `archives.content_digest`."
    )

    @property
    def checksum(self) -> str | None:
        """`sha256:...` or `gitblob:...` of the archive, or `content:...`."""
        return _checksum(self)

    @model_validator(mode="after")
    def _archive_has_both(self) -> "SourceSpec":
        if (self.sha256 is not None) + (self.gitblob is not None) != (self.member is not None):
            raise ValueError(
                "an archive needs both a checksum (one of sha256 and gitblob, of the archive) and member, "
                "a plain file neither"
            )
        if self.content is not None and self.member is not None:
            raise ValueError("content is for a file that is an archive itself, member for a file inside one")
        return self


class FileSpec(Strict):
    """One canonical file: its checksum, its size in bytes, and its sources in order of preference.

    Without a checksum of its own it is as good as its archives' are: every source must then be an archive.
    """

    sha256: Sha256 | None = None
    gitblob: GitBlob | None = None
    bytes: Annotated[int, Field(ge=1)] | None = None
    sources: tuple[SourceSpec, ...] = Field(strict=False, min_length=1)

    @property
    def checksum(self) -> str | None:
        """`sha256:...`, `gitblob:...`, or None where only its archives' are known."""
        return _checksum(self)

    @model_validator(mode="after")
    def _verifiable(self) -> "FileSpec":
        if self.sha256 is not None and self.gitblob is not None:
            raise ValueError("give one checksum: sha256 or gitblob")
        if self.checksum is None and any(source.member is None for source in self.sources):
            raise ValueError("needs a checksum (sha256 or gitblob), because a source is no archive with one of its own")
        return self


class Roles(Strict):
    """Which text file plays which part."""

    train: FileName
    validation: FileName
    test: FileName


class ImageRoles(Strict):
    """Which gzip-compressed idx file plays which part."""

    train_images: FileName
    train_labels: FileName
    test_images: FileName
    test_labels: FileName


class PairRoles(Strict):
    """Which file of sentences, line by line translations of each other, plays which part."""

    train_source: FileName
    train_target: FileName
    validation_source: FileName
    validation_target: FileName
    test_source: FileName
    test_target: FileName


class BatchesRoles(Strict):
    """The archive of pickled batches of colour images, as CIFAR-10's python version."""

    batches_archive: FileName


class MailRoles(Strict):
    """The archive of all mail."""

    mail_archive: FileName


class RowRoles(Strict):
    """Files of examples that each make one row of numbers and a class; `layout` of the data set says how."""

    rows: FileName
    more_rows: FileName | None = None


_ROLES = {
    "text": Roles,
    "images": ImageRoles,
    "batches": BatchesRoles,
    "pairs": PairRoles,
    "mail": MailRoles,
    "rows": RowRoles,
}
"""Kind of data -> its roles."""
_STANDINS = {
    "text": "text",
    "images": "digits",
    "batches": "colour_digits",
    "pairs": "pairs",
    "mail": "mail",
    "rows": "table",
}
"""Kind of data -> the only stand-in that fits."""


def _kind(roles: Any) -> str:
    """Of which kind `roles` are, text unless they name images, batches of them, sources of pairs, mail, or rows."""
    names = " ".join(map(str, roles if isinstance(roles, dict) else type(roles).model_fields))
    words = {"images": "images", "pairs": "source", "mail": "mail", "batches": "batches", "rows": "rows"}
    return next((kind for kind, word in words.items() if word in names), "text")


class DatasetSpec(Strict):
    """One data set of the registry."""

    title: str
    licence: str = Field(description="In plain words.")
    citation: str
    homepage: Url
    standin: Literal["text", "digits", "colour_digits", "pairs", "mail", "table"] | None = Field(
        description="Embedded replacement where the data cannot be had."
    )
    roles: Annotated[
        Annotated[Roles, Tag("text")]
        | Annotated[ImageRoles, Tag("images")]
        | Annotated[BatchesRoles, Tag("batches")]
        | Annotated[PairRoles, Tag("pairs")]
        | Annotated[MailRoles, Tag("mail")]
        | Annotated[RowRoles, Tag("rows")],
        Discriminator(_kind),
    ]
    examples: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Training examples, where the training file's size does not tell (images)."
    )
    words: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Of a text: words of the training file, line ends included, as a model of words reads it."
    )
    layout: Literal["table", "census", "counts", "stories"] | None = Field(
        None, description="Of rows: how the files hold them (data/row_files.py)."
    )
    files: dict[FileName, FileSpec]

    @property
    def kind(self) -> Literal["text", "images", "batches", "pairs", "mail", "rows"]:
        """What the data are."""
        return next(kind for kind, roles in _ROLES.items() if isinstance(self.roles, roles))

    @model_validator(mode="after")
    def _roles_name_files(self) -> "DatasetSpec":
        unknown = sorted(set(self.roles.model_dump(exclude_none=True).values()) - self.files.keys())
        if unknown:
            raise ValueError(f"roles name {unknown}, which files lacks; it has {sorted(self.files)}")
        fitting = _STANDINS[self.kind]
        if self.standin not in (None, fitting):
            raise ValueError(f"standin of {self.kind} must be {fitting} or null, not {self.standin}")
        if (self.layout is not None) != (self.kind == "rows"):
            raise ValueError("layout says how files of rows hold them: rows need it, nothing else has one")
        return self


_MODEL_AT_DEPTH = {1: DatasetSpec, 3: FileSpec, 5: SourceSpec}
"""Length of an unknown key's parent path in the YAML -> the model whose keys are allowed there."""


def registry(path: Path) -> dict[str, DatasetSpec]:
    """Name -> specification of every data set in the YAML file `path`.

    Raises UserError naming the file, the key, the bad value and what is allowed.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        return TypeAdapter(dict[FileName, DatasetSpec]).validate_python(content)
    except OSError as error:
        raise UserError(f"{path}: the data set registry cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        raise UserError(f"{path}: {_first_problem(error)}") from None


OWN = re.compile(r"own_[0-9a-f]{12}")
"""Names of data sets that stand in no registry: a user's own text, put in place by `data.own.adopt`."""


def own_dataset(characters: int = 0) -> DatasetSpec:
    """What a user's own text is, of about so many characters of training text. It has no public address, hence none of
    the registry's checks.
    """
    return DatasetSpec.model_construct(
        title="a text of the user's own",
        licence="the user's own; not distributed",
        citation="",
        homepage="",
        standin=None,
        roles=Roles(train="train.txt", validation="validation.txt", test="test.txt"),
        files={"train.txt": FileSpec.model_construct(bytes=characters, sources=())},
    )


def lookup(name: str, path: Path) -> DatasetSpec:
    """The data set `name` of the registry at `path`, or a user's own. Raises UserError listing the known ones."""
    if OWN.fullmatch(name):
        return own_dataset()
    known = registry(path)
    if name not in known:
        raise UserError(f"data set {name!r} is not in {path}; known: {', '.join(sorted(known))}")
    return known[name]


def _first_problem(error: ValidationError) -> str:
    """One line about the first of pydantic's findings: key, bad value, what is allowed."""
    first = error.errors()[0]
    location = first["loc"]
    roles = None
    if location[1:2] == ("roles",) and len(location) > 2:
        # Here pydantic puts the kind of roles into the path; the file has no such key.
        roles, location = _ROLES[location[2]], location[:2] + location[3:]
    key = ".".join(str(part) for part in location) or "(top level)"
    if first["type"] == "extra_forbidden":
        model = roles or _MODEL_AT_DEPTH[len(location) - 1]
        text = f"{key}: unknown key; allowed: {', '.join(model.model_fields)}"
    elif first["type"] == "missing":
        text = f"{key}: missing"
    else:
        value = repr(first["input"])
        shown = value if len(value) <= 80 else value[:77] + "..."
        text = f"{key}: {first['msg'].removeprefix('Value error, ')}, but it is {shown}"
    more = error.error_count() - 1
    return text + (f" (and {more} more)" if more else "")
