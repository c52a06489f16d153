"""Random streams: every random decision names its purpose, so that no decision shifts another."""

import zlib

import numpy as np


def stream(seed: int, replicate: int, purpose: str) -> np.random.Generator:
    """The generator of one purpose ("canary", "position", "init", "shuffle", …) of one replicate.

    It depends on nothing else, above all not on how many replicates are trained together. Equal seeds in two cells
    give paired replicates; cells that must be independent trials take different seeds.
    """
    return np.random.default_rng([seed, replicate, zlib.crc32(purpose.encode())])
