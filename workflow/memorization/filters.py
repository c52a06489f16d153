"""How much structure convolutional filters have (A Closer Look, section 3.1, Fig 2). Pure NumPy.

Filters are [filters, rows, columns, channels]; both numbers are independent of a filter's scale.
"""

import numpy as np


def total_variation(weight: np.ndarray) -> np.ndarray:
    """float64[filters]: mean absolute difference of neighbouring weights over the mean absolute deviation from the
    filter's mean. 4/3 for independent uniform weights, less where neighbours are alike.
    """
    weight = weight.astype(np.float64)
    down = np.abs(np.diff(weight, axis=1)).mean(axis=(1, 2, 3))
    across = np.abs(np.diff(weight, axis=2)).mean(axis=(1, 2, 3))
    centred = weight - weight.mean(axis=(1, 2, 3), keepdims=True)
    return (down + across) / 2 / np.abs(centred).mean(axis=(1, 2, 3))


def low_frequency_share(weight: np.ndarray) -> np.ndarray:
    """float64[filters]: share of the energy at spatial frequencies below half the Nyquist frequency (0.25 cycles per
    pixel, both directions), the mean included, over all channels. 9/25 for independent weights of 5x5 filters.
    """
    energy = np.abs(np.fft.fft2(weight.astype(np.float64), axes=(1, 2))) ** 2
    low = [np.abs(np.fft.fftfreq(edge)) < 0.25 for edge in weight.shape[1:3]]
    return energy[:, low[0][:, None] & low[1]].sum(axis=(1, 2)) / energy.sum(axis=(1, 2, 3))
