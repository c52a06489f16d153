"""Which images private training does not learn: the gap in loss between private and normal classifiers, per image.

Replicate k of both arms starts from the same weights (streams.py), so gaps are taken replicate by replicate.
Choices where the source is silent (the post shows one picture without a caption): gap = loss under the private model
minus loss under the normal one; outlier is the largest mean gap in a class, typical the one nearest to zero (the most
negative gaps are odd digits too: those that only the normal model gets wrong).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from memorization.data.images import ImageData
from memorization.errors import UserError

NEIGHBOUR = 10
"""The neighbour whose distance says how odd an image is."""
CHUNK = 512
"""Images whose distances to their class are held at once."""


def gallery(scores: pd.DataFrame, data: ImageData, k: int = NEIGHBOUR) -> pd.DataFrame:
    """`pick`'s rows of all scored training images, with `neighbour_distance` (see there) and, for the typical and the
    outlier of each class, `pixels_hex`. `data` are the images that both arms were trained on.
    """
    rows = pick(scores)
    index = rows["index"].to_numpy()
    shown = rows["kind"] != ""
    rows["neighbour_distance"] = neighbour_distance(data.train, data.labels, index, k)
    rows["pixels_hex"] = ""
    rows.loc[shown, "pixels_hex"] = pixels(data.train, index[shown])
    return rows


def pick(scores: pd.DataFrame) -> pd.DataFrame:
    """One row per training image of `scores`, which has the columns private (bool), replicate, index, label, loss_nats,
    and optionally split; ordered by falling gap.

    index, label
    seeds                replicates that both arms have; the others are left out
    loss_normal_nats, loss_private_nats, gap_nats    means over them
    mean_rank            mean over them of the image's rank by gap within the replicate, 1 = smallest. With n images
                         Kendall's W is 12 var(mean_rank) / (n^2 - 1), var over images, dividing by n.
    kind                 typical: the gap of its class nearest to zero; outlier: the largest; else ""

    Raises UserError where an arm is missing or the arms do not share replicates and images.
    """
    if "split" in scores:
        scores = scores[scores["split"] == "train"]
    arms = {private: _losses(scores[scores["private"] == private], private) for private in (False, True)}
    normal, private = (
        arm.reindex(columns=arms[False].columns.intersection(arms[True].columns)) for arm in arms.values()
    )
    if not len(normal.columns) or not normal.index.equals(private.index):
        raise UserError("digit gallery: private and normal models must share replicates and scored images")
    gaps = private - normal
    rows = pd.DataFrame(
        {
            "seeds": len(gaps.columns),
            "loss_normal_nats": normal.mean(axis=1),
            "loss_private_nats": private.mean(axis=1),
            "gap_nats": gaps.mean(axis=1),
            "mean_rank": gaps.rank().mean(axis=1),
        }
    ).reset_index()
    by_class = rows.groupby("label")["gap_nats"]
    rows["kind"] = ""
    rows.loc[rows["gap_nats"].abs().groupby(rows["label"]).idxmin(), "kind"] = "typical"
    rows.loc[by_class.idxmax(), "kind"] = "outlier"
    return rows.sort_values("gap_nats", ascending=False, ignore_index=True)


def _losses(scores: pd.DataFrame, private: bool) -> pd.DataFrame:
    """(index, label) by replicate."""
    if scores.empty:
        raise UserError(f"digit gallery: no scores of {'private' if private else 'normal'} models")
    return scores.pivot(index=["index", "label"], columns="replicate", values="loss_nats").sort_index()


def pixels(images: np.ndarray, indices: Sequence[int] | np.ndarray) -> list[str]:
    """The 784 bytes of each image, row by row, as hexadecimal digits; float32[N, 28, 28] `images` in [0, 1]."""
    return [np.rint(images[i] * 255).astype(np.uint8).tobytes().hex() for i in indices]


def picture(pixels_hex: str) -> np.ndarray:
    """uint8[28, 28] of one of `pixels`' texts."""
    flat = np.frombuffer(bytes.fromhex(pixels_hex), dtype=np.uint8)
    edge = int(len(flat) ** 0.5)
    return flat.reshape(edge, edge)


def neighbour_distance(
    images: np.ndarray, labels: np.ndarray, indices: Sequence[int] | np.ndarray, k: int = NEIGHBOUR
) -> np.ndarray:
    """float64[n]: Euclidean distance, in pixels of 0..1, from each of the images int64[n] `indices` to its k-th nearest
    other image of its class among float32[N, ...] `images` with int64[N] `labels`. Exact; NaN in a class of at most k.
    """
    flat = images.reshape(len(images), -1)
    indices = np.asarray(indices, dtype=np.int64)
    result = np.full(len(indices), np.nan)
    for label in np.unique(labels[indices]):
        members = np.flatnonzero(labels == label)
        asked = np.flatnonzero(labels[indices] == label)
        if len(members) <= k:
            continue
        others = flat[members].astype(np.float64)
        lengths = np.einsum("ij,ij->i", others, others)
        for first in range(0, len(asked), CHUNK):
            rows = asked[first : first + CHUNK]
            own = np.searchsorted(members, indices[rows])
            squares = lengths[own][:, None] + lengths - 2 * others[own] @ others.T
            squares[np.arange(len(rows)), own] = np.inf
            result[rows] = np.sqrt(np.partition(squares, k - 1, axis=1)[:, k - 1].clip(min=0))
    return result
