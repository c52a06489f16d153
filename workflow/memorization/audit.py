"""What the command line does on one data set, one specification or one finished run; each returns plain data."""

import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from memorization import contracts, redaction, runs
from memorization.canaries import CONTEXT, CanaryFormat
from memorization.configuration import ROOT, read_yaml, validate
from memorization.errors import UserError
from memorization.runs import Run
from memorization.specs import AttackSpec, RunSpec, ScoreSpec
from memorization.streams import stream
from memorization.translation_specs import TranslationRunSpec

logger = logging.getLogger(__name__)

AUDIT_DELTA = 1e-5
"""delta of the empirical lower bound where training was not private."""

DATASETS = ROOT / "config" / "datasets.yaml"


def fetch_dataset(name: str, to: Path, cache: Path, on_missing: str, trusted: bool = False) -> None:
    """Fill folder `to` with a data set and its provenance.json; mirror, download, then stand-in."""
    from memorization.data.fetch import fetch

    mirror = os.environ.get("MEMORIZATION_DATA")
    fetch(
        name,
        to,
        registry_path=DATASETS,
        on_missing=on_missing,
        mirror=Path(mirror) if mirror else None,
        cache=cache,
        trusted=trusted,
    )


def train_spec(path: Path, backend: str, data: Path | None, directory: Path | None, device: str) -> None:
    """Train the specification in `path` into `directory`, fetching its data set when no folder is given."""
    spec = runs.read_spec(path)
    if data is None:
        data = Path("results/by_hand/data") / spec.dataset
        fetch_dataset(spec.dataset, data, Path("results/downloads"), "standin")
    directory = directory or Path("results/by_hand") / spec.run_id
    if getattr(spec, "privacy", None) and not (directory / "privacy.csv").exists():
        raise UserError(
            f"{path}: a private training needs its noise first: `python -m memorization account --spec {path} "
            f"--data {data} --run {directory}` (in the driver's environment), then this command with --data and --run"
        )
    runs.train(spec, backend, data, directory, device)
    logger.info("finished run: %s", directory)


def attack_run(directory: Path, spec_path: Path, to: Path) -> None:
    """Write the tables of an attack on a finished run (workflow/schemas/files.yaml)."""
    from memorization.attack import attack

    run = Run.open(directory)
    spec = validate(AttackSpec, read_yaml(spec_path), str(spec_path))
    if isinstance(run.spec, TranslationRunSpec):
        from memorization import translation_runs

        for name, frame in translation_runs.attack_run(run, spec).items():
            contracts.write(name, frame, to)
        return
    fills, included = (np.stack(part) for part in zip(*run.planted(), strict=True))
    coins = included if run.spec.canary.inclusion == "coin" else None
    delta = run.spec.privacy.delta if run.spec.privacy else AUDIT_DELTA
    models = run.models(spec.quantize, to)
    formats = [run.formats(k) for k in range(len(fills))]
    tables = attack(models, formats, fills, spec, run.spec.seed, coins, delta)
    tables = redaction.only_planted(tables, run.spec.dataset, [c["fill"] for c in run.record["canaries"]])
    for name, frame in tables.items():
        contracts.write(name, frame, to)


def score_examples(directory: Path, data: Path, spec_path: Path, to: Path) -> None:
    """Write scores.csv (and, of text, lines.csv): losses of single lines or images under every model of a run."""
    run = Run.open(directory)
    spec = validate(ScoreSpec, read_yaml(spec_path), str(spec_path))
    if isinstance(run.spec, TranslationRunSpec):
        raise UserError(f"{directory}: a run of translators; single examples are scored of text and images only")
    dataset, models = runs.dataset_of(run.spec), run.models(spec.quantize, to)
    if isinstance(run.spec, RunSpec):
        from memorization import oddness, scoring
        from memorization.data.corpora import read_texts

        texts = read_texts(data, dataset, run.spec.corpus.mailbox)
        scores = scoring.score_lines(models, run.vocabulary, texts, spec, run.spec.corpus.fraction)
        lines = oddness.oddness(texts, spec.train_examples) if spec.train_examples else contracts.empty("lines")
    else:
        from memorization import image_scoring

        scores = image_scoring.score_images(models, runs.training_material(run.spec, data, dataset), spec)
        lines = contracts.empty("lines")
    contracts.write("scores", scores, to)
    contracts.write("lines", lines, to)


def exposure(
    directory: Path, canary: str, text: str | None, replicate: int, references: int, max_steps: int, seed: int
) -> dict[str, Any]:
    """Rank and exposure of one canary under one model, by every method that applies."""
    from memorization.exposure import measure

    run, model = _open(directory, replicate)
    fmt = CanaryFormat.parse(text, run.vocabulary.words) if text else run.formats(replicate)[0]
    fill = fmt.parse_fill(canary)
    fmt.tokens(run.vocabulary)
    sample = fmt.sample(stream(seed, replicate, "command-line-references"), references, exclude=fill)
    rows = measure(
        model,
        fmt,
        fill,
        np.empty((0, len(fmt.holes)), dtype=np.int64),
        sample,
        exact_steps=max_steps,
        bootstrap=100,
        rng=stream(seed, replicate, "command-line"),
    )
    kept = [
        "method", "algorithm", "cost_bits", "rank", "rank_low", "rank_high", "exposure_bits", "exposure_low_bits",
        "exposure_high_bits", "extrapolated", "references", "planned_steps", "model_steps", "seconds",
    ]  # fmt: skip
    return {
        "run": run.spec.run_id,
        "replicate": replicate,
        "canary": fmt.render(fill),
        "inserted": run.spec.canary.insertions > 0 and fmt.render(fill) == _inserted(run, replicate),
        "space_bits": fmt.bits,
        "prefix_cost_bits": float(rows["prefix_cost_bits"].iloc[0]),
        "results": _plain_rows(rows[kept].to_dict("records")),
    }


def extract(directory: Path, text: str | None, replicate: int, top: int, max_steps: int) -> dict[str, Any]:
    """The `top` most likely fills by the shortest-path search with the provable stop."""
    from memorization.search import shortest_path

    run, model = _open(directory, replicate)
    fmt = CanaryFormat.parse(text, run.vocabulary.words) if text else run.formats(replicate)[0]
    began = time.perf_counter()
    found = shortest_path(model, fmt.tokens(run.vocabulary), k=top, max_steps=max_steps)
    inserted = _inserted(run, replicate)
    fills = [
        {
            "position": place,
            "fill": fmt.fill_text(fill),
            "cost_bits": float(cost),
            "inserted": fmt.render(fill) == inserted,
        }
        for place, (fill, cost) in enumerate(zip(found.fills, found.costs_bits, strict=True), start=1)
    ]
    return {
        "run": run.spec.run_id,
        "replicate": replicate,
        "format": fmt.text,
        "provable": bool(found.provable),
        "lower_bound_bits": _number(found.lower_bound_bits),
        "model_steps": int(found.model_steps),
        "sequential_equivalent": int(found.sequential_equivalent),
        "seconds": round(time.perf_counter() - began, 4),
        "fills": fills,
    }


def score(directory: Path, path: Path, replicate: int) -> dict[str, Any]:
    """Log-perplexity in bits of each line, as if it began a line of the corpus (zero state, one newline)."""
    run, model = _open(directory, replicate)
    text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        ids = run.vocabulary.encode(CONTEXT + line, what=f"{path}:{number}")
        bits = float(model.log_perplexity(ids[None])[0]) if line else 0.0
        rows.append({"line": number, "characters": len(line), "log_perplexity_bits": bits, "text": line})
    return {"run": run.spec.run_id, "replicate": replicate, "lines": rows}


def _inserted(run: Run, replicate: int) -> str:
    """The text of a replicate's first canary."""
    return run.formats(replicate)[0].render(run.fills()[replicate])


def _open(directory: Path, replicate: int) -> tuple[Run, Any]:
    run = Run.open(directory)
    if not isinstance(run.spec, RunSpec):
        raise UserError(f"{directory}: a run of task {run.spec.task}; this command is for language models")
    if not 0 <= replicate < run.spec.replicates:
        raise UserError(f"--replicate {replicate}: this run has replicates 0 to {run.spec.replicates - 1}")
    return run, run.models()[replicate]


def _plain_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """NumPy scalars as Python numbers, "not measured" as null: JSON has no NaN."""
    return [{key: _number(value) for key, value in row.items()} for row in rows]


def _number(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
