"""A run on disk: the folder that training fills and that everything later reads.

run.json      specification, vocabulary, canaries with their positions, data provenance, versions, hardware
model.npz     weights with a leading replicate axis
curves.csv    losses per epoch            (workflow/schemas/files.yaml)
measures.csv  exposure while training
details.csv   whatever else the task measures
"""

import json
import os
import platform
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from memorization import NUMERICS_VERSION, backends, contracts
from memorization.backends.base import LanguageModel
from memorization.canaries import CanaryFormat
from memorization.cells import task_of
from memorization.classifier_specs import ClassifierRunSpec
from memorization.configuration import ROOT, read_yaml, validate
from memorization.contracts import atomic
from memorization.data.corpora import TrainingCorpus, build_corpora
from memorization.data.registry import DatasetSpec, lookup
from memorization.errors import UserError
from memorization.federated_specs import FederatedRunSpec
from memorization.federated_text_specs import FederatedTextRunSpec
from memorization.specs import ImageRunSpec, RunSpec, Trainable
from memorization.translation_specs import TranslationRunSpec
from memorization.vocabulary import Vocabulary

DETAILED = (ClassifierRunSpec, FederatedRunSpec, FederatedTextRunSpec)
"""Tasks that write details.csv themselves; every run has the file."""


@dataclass(frozen=True)
class Run:
    """A finished run. Of images: without vocabulary and canaries."""

    directory: Path
    spec: Trainable
    backend: str
    vocabulary: Vocabulary
    canaries: tuple[str, ...]
    record: dict[str, Any]

    @classmethod
    def open(cls, directory: Path) -> "Run":
        """Raises UserError when `directory` is not a finished run."""
        path = Path(directory) / "run.json"
        if not path.exists() or not (Path(directory) / "model.npz").exists():
            raise UserError(f"{directory}: not a finished run (no run.json and model.npz); train it first")
        record = json.loads(path.read_text())
        spec = validate(task_of(record["spec"], str(path)), record["spec"], str(path))
        return cls(
            directory=Path(directory),
            spec=spec,
            backend=record["backend"],
            vocabulary=Vocabulary(tuple(record.get("vocabulary", ())), _unit(spec)),
            canaries=tuple(c["fill"] for c in record.get("canaries", ()) if c.get("index", 0) == 0),
            record=record,
        )

    @cached_property
    def format(self) -> CanaryFormat:
        """As specified; see `formats` for what each canary made of its {x}."""
        return CanaryFormat.parse(self.spec.canary.format, self.vocabulary.words)

    def formats(self, replicate: int) -> list[CanaryFormat]:
        """The own format of each of a replicate's canaries."""
        own = [c for c in self.record["canaries"] if c["replicate"] == replicate]
        parsed: dict[str, CanaryFormat] = {}
        for text in (c.get("format", self.spec.canary.format) for c in own):
            parsed.setdefault(text, CanaryFormat.parse(text, self.vocabulary.words))
        return [parsed[c.get("format", self.spec.canary.format)] for c in own]

    def fills(self) -> list[np.ndarray]:
        """The fill of each replicate's first canary, int64[holes]."""
        return [self.format.parse_fill(text) for text in self.canaries]

    def planted(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Per replicate all canaries: (fills int64[canary.count, holes], bool[canary.count]: included or left out)."""
        planted = []
        for k in range(self.spec.replicates):
            own = [c for c in self.record["canaries"] if c["replicate"] == k]
            fills = np.stack([self.format.parse_fill(c["fill"]) for c in own])
            planted.append((fills, np.array([c.get("included", True) for c in own])))
        return planted

    def models(self, quantize: str = "none", to: Path | None = None) -> list[LanguageModel]:
        """One model per replicate, loaded by the run's back end.

        quantize "int8": computed from 8-bit weights (quantization.py), which are written to folder `to`.
        """
        engine = backends.load(self.backend)
        if quantize == "none":
            return engine.load(self.directory, self.spec, self.vocabulary)
        from memorization import quantization

        with tempfile.TemporaryDirectory() as folder:
            stored, rounded = Path(to or folder), Path(folder)
            quantization.write_quantized(self.directory, stored)
            quantization.write_dequantized(stored, rounded)
            return engine.load(rounded, self.spec, self.vocabulary)


def train(spec: Trainable, backend: str, data: Path, directory: Path, device: str = "auto") -> None:
    """Train every replicate of `spec` on the fetched data set in `data`; fill `directory`. Resumes if interrupted."""
    backends.require_able(backend, spec, "--spec")
    material = training_material(spec, data, dataset_of(spec))
    engine = backends.load(backend)
    began = time.perf_counter()
    directory.mkdir(parents=True, exist_ok=True)
    contracts.remove_leftovers(directory)
    engine.train(spec, material, directory, device=device)
    if not isinstance(spec, DETAILED):
        contracts.write("details", contracts.empty("details"), directory)
    provenance = json.loads((Path(data) / "provenance.json").read_text())
    took = {"wall_s": round(time.perf_counter() - began, 3), "device": str(engine.choose_device(device))}
    record = _record(spec, backend, provenance) | _about(spec, material) | took
    with atomic(directory / "run.json") as path:
        path.write_text(json.dumps(record, indent=1) + "\n")


def _unit(spec: Trainable) -> str:
    return spec.corpus.unit if isinstance(spec, RunSpec) else "character"


def dataset_of(spec: Trainable) -> DatasetSpec:
    """The registry's entry of the data set that `spec` is trained on."""
    return lookup(spec.dataset, ROOT / "config" / "datasets.yaml")


def training_material(spec: Trainable, data: Path, dataset: DatasetSpec) -> Any:
    """What a back end trains on: list[TrainingCorpus], list[PairCorpus], list[Shares] or list[TextShares], one
    per replicate, ImageData or LabelledData.
    """
    if isinstance(spec, RunSpec):
        return build_corpora(spec, data, dataset, range(spec.replicates))
    if isinstance(spec, TranslationRunSpec):
        from memorization.data.pairs import build_pairs

        return build_pairs(spec, data, dataset)
    if isinstance(spec, ClassifierRunSpec):
        from memorization.data.labelled import build_labelled

        return build_labelled(spec, data, dataset)
    if isinstance(spec, FederatedRunSpec):
        from memorization.data.rows import read_pool
        from memorization.data.shares import build_shares

        pool = read_pool(data, dataset, spec.data.side)
        return [build_shares(spec, k, pool) for k in range(spec.replicates)]
    if isinstance(spec, FederatedTextRunSpec):
        from memorization.data.text_shares import build_text_shares

        return build_text_shares(spec, data, dataset, range(spec.replicates))
    from memorization.data.images import build_images

    return build_images(spec, data, dataset)


def _record(spec: Trainable, backend: str, provenance: dict[str, Any]) -> dict[str, Any]:
    return {
        "run": spec.run_id,
        "backend": backend,
        "numerics_version": NUMERICS_VERSION,
        "spec": spec.model_dump(mode="json"),
        "data": provenance,
        "environment": environment(),
    }


def _about(spec: Trainable, material: Any) -> dict[str, Any]:
    """What run.json says of the data, by the task."""
    if isinstance(spec, RunSpec):
        return _text_record(spec, material)
    if isinstance(spec, ImageRunSpec):
        return _image_record(material)
    if isinstance(spec, ClassifierRunSpec):
        from memorization.data import labelled

        return labelled.record(material)
    if isinstance(spec, FederatedRunSpec):
        return {"shares": [own.record() for own in material]}
    if isinstance(spec, FederatedTextRunSpec):
        return {
            "vocabulary": list(material[0].vocabulary.symbols),
            "shares": [own.record() for own in material],
            "canaries": [
                {"replicate": k, "index": 0, "fill": own.fill_text, "text": own.line} for k, own in enumerate(material)
            ],
        }
    from memorization import translation_runs

    return translation_runs.record(material)


def _image_record(images: Any) -> dict[str, Any]:
    return {"images": {"train": len(images.train), "test": len(images.test)}}


def _text_record(spec: RunSpec, corpora: list[TrainingCorpus]) -> dict[str, Any]:
    vocabulary = corpora[0].vocabulary
    parsed = CanaryFormat.parse(spec.canary.format, vocabulary.words)
    return {
        "vocabulary": list(vocabulary.symbols),
        "characters": {part: len(getattr(corpora[0], part)) for part in ("train", "validation", "test")},
        "canaries": [
            {
                "replicate": k,
                "index": i,
                "fill": parsed.fill_text(canary.fill),
                "text": canary.text,
                "format": canary.format or spec.canary.format,
                "included": canary.included,
                "positions": canary.positions.tolist(),
            }
            for k, corpus in enumerate(corpora)
            for i, canary in enumerate(corpus.canaries)
        ],
    }


def environment() -> dict[str, Any]:
    """Versions, hardware and commit, for the record. Holds no path and no host name."""
    packages = ("torch", "tensorflow", "tensorflow-privacy", "opacus", "numpy", "scipy", "snakemake")
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "packages": versions,
        "cpu": _cpu(),
        "logical_cpus": os.cpu_count(),
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def commit() -> str:
    """The checkout's commit, with "+" when the tree differs from it; "unknown" outside git."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        head = git("rev-parse", "--short=12", "HEAD")
        return (head + ("+" if git("status", "--porcelain") else "")) if head else "unknown"
    except FileNotFoundError:
        return "unknown"


def _cpu() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        return found.group(1).strip() if found else platform.processor()
    except OSError:
        return platform.processor()


def read_spec(path: Path) -> Trainable:
    """A specification from a JSON or YAML file. Raises UserError naming the file and the key."""
    tree = read_yaml(path)
    return validate(task_of(tree, str(path)), tree, str(path))
