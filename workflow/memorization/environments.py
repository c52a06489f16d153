"""Back ends' environments: whether they are built from the pins they have now, and building them.

Not a rule: its output would be an input of every training, and whenever the environment is built anew all trainings
would be due again (or, marked ancient, Snakemake 9.27 forgets the jobs behind it: DAG.update_needrun).
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from memorization.configuration import ROOT
from memorization.errors import UserError

SCRIPT = Path("workflow") / "scripts" / "environment.sh"
VERSIONS = Path(".venv") / "versions.txt"
"""Written last by the script, inside the environment: its pins' digest, then every version."""


def is_built(backend: str, root: Path = ROOT) -> bool:
    """Whether envs/<backend> was built from the pyproject.toml that is there now."""
    folder = root / "envs" / backend
    if not (folder / VERSIONS).exists():
        return False
    pins = hashlib.sha256((folder / "pyproject.toml").read_bytes()).hexdigest()[:12]
    return (folder / VERSIONS).read_text().startswith(f"# pins {pins}\n")


def build(backend: str, say: Callable[[str], None] = print, root: Path = ROOT) -> None:
    """Build envs/<backend> with uv if its pins ask for it. Raises UserError with the last line of its log."""
    if is_built(backend, root):
        return
    say(f"Building the environment of back end {backend} (once; seconds to minutes) ...")
    log = root / "results" / "logs" / "environment" / f"{backend}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    # uv is installed beside the interpreter that runs this.
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    with log.open("w") as stream:
        ended = subprocess.run(
            ["bash", str(SCRIPT), f"envs/{backend}", str(VERSIONS)],
            cwd=root,
            env={**os.environ, "PATH": search},
            stdout=stream,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if ended.returncode:
        last = (log.read_text().strip().splitlines() or ["no output"])[-1]
        raise UserError(f"envs/{backend} could not be built: {last} (all of it: {log.relative_to(root)})")


def build_all(backends: Iterable[str], say: Callable[[str], None] = print, root: Path = ROOT) -> None:
    """Build what is not built of several environments, side by side. Raises UserError as `build`, for the first."""
    with ThreadPoolExecutor() as pool:
        for built in [pool.submit(build, backend, say, root) for backend in backends]:
            built.result()
