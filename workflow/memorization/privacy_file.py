"""privacy.csv, read by a back end: how much noise a private training adds. Imports no accounting library."""

from dataclasses import dataclass
from pathlib import Path

from memorization import contracts
from memorization.errors import UserError


@dataclass(frozen=True)
class Mechanism:
    """The sampled Gaussian mechanism of one private training, the same for all its replicates.

    noise_multiplier  sigma: the noise on a batch's sum of clipped gradients has s.d. sigma * clip; 0: clipping only
    clip              l2 bound of one record's gradient
    sample_rate       q, the probability that a step takes a record (Poisson), or the batches' share of the data
    steps_per_epoch   examples // batch_size, at least 1
    batch_size        what the noisy sum is divided by, whatever Poisson sampling draws
    """

    noise_multiplier: float
    clip: float
    sample_rate: float
    steps_per_epoch: int
    batch_size: int


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Steps of a private epoch: full batches only, at least one."""
    return max(1, examples // batch_size)


def read(run_dir: Path) -> Mechanism:
    """The mechanism in <run_dir>/privacy.csv. Raises UserError where the file is missing or its rows disagree."""
    path = Path(run_dir) / "privacy.csv"
    if not path.exists():
        raise UserError(f"{path}: missing, so the noise of this private training is not known; run `account` first")
    rows = contracts.read("privacy", run_dir)
    names = ["noise_multiplier", "clip", "sample_rate", "examples", "batch_size"]
    distinct = rows[names].drop_duplicates()
    if len(distinct) != 1:
        raise UserError(f"{path}: {len(distinct)} different mechanisms, not one; run `account` again")
    row = distinct.iloc[0]
    return Mechanism(
        noise_multiplier=float(row["noise_multiplier"]),
        clip=float(row["clip"]),
        sample_rate=float(row["sample_rate"]),
        steps_per_epoch=steps_per_epoch(int(row["examples"]), int(row["batch_size"])),
        batch_size=int(row["batch_size"]),
    )
