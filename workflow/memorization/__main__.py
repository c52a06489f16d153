"""The command line, also what the workflow's rules run: `python -m memorization COMMAND --help`."""

import argparse
import json
import logging
import os
import resource
import sys
from pathlib import Path
from typing import Any

from memorization import warm
from memorization.errors import UserError

EXAMPLE = """examples (on any finished run; DIR is results/<scale>/runs/<backend>/<run>):
  python -m memorization exposure --run DIR --canary "the random number is 281265017" --json
  python -m memorization extract --run DIR --format "the random number is {d}{d}{d}{d}{d}{d}{d}{d}{d}" --top 9
  python -m memorization score --run DIR --file lines.txt --json
  python -m memorization train --spec my_run.yaml --data DATA --run DIR"""


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(
        prog="python -m memorization",
        description="Unintended memorisation: train, score, measure exposure and extract, one finished run at a time.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    for add in (_data_commands, _training_commands, _table_commands, _asking_commands):
        add(commands)
    return top


def _data_commands(commands: Any) -> None:
    """What fills a folder with a data set."""
    fetch = commands.add_parser("fetch", help="fetch a data set: mirror (MEMORIZATION_DATA), download, or stand-in")
    fetch.add_argument("--dataset", required=True, help="a key of config/datasets.yaml")
    fetch.add_argument("--to", type=Path, required=True, help="folder to fill")
    fetch.add_argument("--cache", type=Path, default=Path("results/downloads"), help="where downloads are kept")
    fetch.add_argument("--on-missing", choices=("standin", "error"), default="standin")
    fetch.add_argument("--trust-local", action="store_true", help="accept mirror files whose checksum differs")

    adopt = commands.add_parser("adopt", help="put a text of your own in place as a data set (snakemake audit)")
    adopt.add_argument("--corpus", type=Path, required=True, help="UTF-8 text")
    adopt.add_argument("--characters", type=_positive, required=True, help="of which so many leading ones are used")
    adopt.add_argument("--to", type=Path, required=True, help="folder to fill")


def _training_commands(commands: Any) -> None:
    """What makes a run."""
    train = commands.add_parser("train", help="train all replicates of a specification; resumes if interrupted")
    train.add_argument("--spec", type=Path, required=True, help="RunSpec as JSON or YAML (config/schema.json)")
    train.add_argument("--data", type=Path, help="folder filled by `fetch` (default: fetch the spec's data set)")
    train.add_argument("--run", type=Path, help="folder to fill (default: results/by_hand/<run id>)")
    train.add_argument("--backend", default="torch")
    train.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))

    account = commands.add_parser("account", help="noise and epsilon of a private training, before it (privacy.csv)")
    account.add_argument("--spec", type=Path, required=True, help="specification with `privacy`")
    account.add_argument("--data", type=Path, required=True, help="folder filled by `fetch`")
    account.add_argument("--run", type=Path, required=True, help="the run's folder")


def _table_commands(commands: Any) -> None:
    """What writes the tables of a finished run."""
    examples = commands.add_parser("examples", help="losses of single lines or images under a finished run, as CSV")
    examples.add_argument("--run", type=Path, required=True)
    examples.add_argument("--data", type=Path, required=True, help="folder filled by `fetch`")
    examples.add_argument("--spec", type=Path, required=True, help="ScoreSpec as JSON or YAML")
    examples.add_argument("--to", type=Path, required=True, help="folder to fill")

    attack = commands.add_parser("attack", help="scores, exposure and extraction of a finished run, as CSV files")
    attack.add_argument("--run", type=Path, required=True)
    attack.add_argument("--spec", type=Path, required=True, help="AttackSpec as JSON or YAML")
    attack.add_argument("--to", type=Path, required=True, help="folder to fill")


def _asking_commands(commands: Any) -> None:
    """What answers about a finished run, on standard output."""
    exposure = commands.add_parser("exposure", help="rank and exposure of one canary: exact where affordable")
    exposure.add_argument("--canary", required=True, help="the whole line, or only what fills the holes")
    exposure.add_argument("--references", type=_positive, default=20_000, help="uniform fills for the estimates")
    exposure.add_argument("--max-steps", type=_positive, default=2_000_000, help="model steps an exact rank may take")

    extract = commands.add_parser("extract", help="the most likely fills of a format, provably")
    extract.add_argument("--top", type=_positive, default=1, help="how many fills")
    extract.add_argument("--max-steps", type=_positive, default=2_000_000)

    score = commands.add_parser("score", help="log-perplexity in bits of each line of a file")
    score.add_argument("--file", type=Path, required=True, help="UTF-8 text, one sequence per line; - for stdin")

    for command in (exposure, extract, score):
        command.add_argument("--run", type=Path, required=True, help="folder of a finished run")
        command.add_argument("--replicate", type=int, default=0, help="which of the run's models (default 0)")
        command.add_argument("--json", action="store_true", help="one JSON document on standard output")
    for command in (exposure, extract):
        command.add_argument("--format", help="text with holes {d}, {l} (default: the run's own canary format)")
        command.add_argument("--seed", type=int, default=0)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 when it worked, 1 after a UserError (one line on standard error)."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    options = parser().parse_args(arguments)
    try:
        shown = _run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.strerror or error}: {error.filename or ''}".rstrip(": "), file=sys.stderr)
        return 1
    if options.command in ("train", "attack", "examples"):
        # Read by costing.records: Snakemake's benchmark of a warm job sees its client only.
        print(f"peak memory: {_peak_mb()} MB", file=sys.stderr)
    if shown is not None:
        print(json.dumps(shown, indent=1) if options.json else _plain(shown))
    return 0


def _peak_mb() -> int:
    """Of this process, so far: the most memory that it held at once."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3))


def _run(options: argparse.Namespace) -> Any:
    from memorization import audit

    if options.command == "fetch":
        return audit.fetch_dataset(options.dataset, options.to, options.cache, options.on_missing, options.trust_local)
    if options.command == "adopt":
        from memorization.data.own import adopt

        adopt(options.corpus, options.characters, options.to)
        return None
    if options.command == "train":
        return audit.train_spec(options.spec, options.backend, options.data, options.run, options.device)
    if options.command == "attack":
        return audit.attack_run(options.run, options.spec, options.to)
    if options.command == "account":
        from memorization.accounting_cli import account_run

        return account_run(options.spec, options.data, options.run)
    if options.command == "examples":
        return audit.score_examples(options.run, options.data, options.spec, options.to)
    if options.command == "exposure":
        return audit.exposure(
            options.run,
            options.canary,
            options.format,
            options.replicate,
            options.references,
            options.max_steps,
            options.seed,
        )
    if options.command == "extract":
        return audit.extract(options.run, options.format, options.replicate, options.top, options.max_steps)
    return audit.score(options.run, options.file, options.replicate)


def _plain(shown: Any) -> str:
    """Rows as aligned text for people."""
    import pandas as pd

    rows = next((v for v in shown.values() if isinstance(v, list)), None)
    head = "\n".join(f"{key}: {value}" for key, value in shown.items() if not isinstance(value, list))
    return head + ("\n" + pd.DataFrame(rows).to_string(index=False) if rows else "")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(warm.call("memorization.__main__:main", {"arguments": sys.argv[1:]}))
