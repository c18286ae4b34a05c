"""Exploration noise: standard normal, coloured over time (Eberhard et al., ICLR 2023)."""

import numpy as np
from numpy.typing import NDArray

BLOCK = 1024  # steps of a block; blocks are independent, so nothing correlates over longer times


class ColouredNoise:
    """Gaussian noise of unit variance with power density f^-exponent: 0 is white, 1 pink, 2 red.

    pink-noise-rl is not used: its noise is the thirty lines below, and it depends on
    Stable-Baselines3.

    Args:
        exponent: Of the power density, from 0 to 2.
        shape: Of each sample; its entries are independent.
        seed: Of the generator.
    """

    def __init__(self, exponent: float, shape: tuple[int, ...], seed: int):
        if not 0 <= exponent <= 2:
            raise ValueError(
                f"noise exponent must be between 0 (white) and 2 (red), but it is {exponent}. "
                "Use 1 for pink noise."
            )
        self.exponent = exponent
        self.shape = shape
        self.rng = np.random.default_rng(seed)
        self.block = self._draw()
        self.position = 0

    def sample(self) -> NDArray[np.float32]:
        """Return the next sample, of `shape`."""
        if self.position == BLOCK:
            self.block, self.position = self._draw(), 0
        self.position += 1
        return self.block[self.position - 1]

    def _draw(self) -> NDArray[np.float32]:
        """Shape white noise's spectrum, keeping its variance (Timmer & Koenig 1995)."""
        if self.exponent == 0:
            return self.rng.standard_normal((BLOCK, *self.shape), dtype=np.float32)
        frequency = np.fft.rfftfreq(BLOCK)
        frequency[0] = frequency[1]  # the slowest wave's, so that the mean's power is finite
        amplitude = frequency ** (-self.exponent / 2)
        white = np.fft.rfft(self.rng.standard_normal((BLOCK, *self.shape)), axis=0)
        shaped = white * amplitude.reshape(-1, *(1 for _ in self.shape))
        # The inverse transform's variance, from the power of each frequency: all but the first and
        # last count twice.
        power = np.sum(amplitude**2) * 2 - amplitude[0] ** 2 - amplitude[-1] ** 2
        return (np.fft.irfft(shaped, n=BLOCK, axis=0) / np.sqrt(power / BLOCK)).astype(np.float32)
