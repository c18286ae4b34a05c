"""Exploration noise: unit variance, and the spectrum it is named for."""

import numpy as np
import pytest
from numpy.typing import NDArray

from posteriori.experience.noise import BLOCK, ColouredNoise

exponents = pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0])


def series(exponent: float, entries: int = 500, steps: int = BLOCK, seed: int = 0) -> NDArray:
    """Return samples [steps entries]."""
    noise = ColouredNoise(exponent, (entries,), seed)
    return np.stack([noise.sample() for _ in range(steps)]).astype(np.float64)


@exponents
def test_noise_has_zero_mean_and_unit_variance_at_every_step(exponent: float) -> None:
    # Over 5000 independent entries the standard error of a variance of 1 is sqrt(2 / 5000) = 0.02.
    samples = series(exponent, entries=5000, steps=40)
    assert np.all(np.abs(samples.mean(axis=1)) < 5 / np.sqrt(5000))
    assert np.all(np.abs(samples.var(axis=1) - 1) < 5 * 0.02)


@exponents
def test_the_spectrum_falls_with_the_exponent(exponent: float) -> None:
    power = np.mean(np.abs(np.fft.rfft(series(exponent), axis=0)) ** 2, axis=1)[1:-1]
    slope, _ = np.polyfit(np.log(np.fft.rfftfreq(BLOCK)[1:-1]), np.log(power), 1)
    assert slope == pytest.approx(-exponent, abs=0.02)


@pytest.mark.parametrize(("exponent", "correlated"), [(0.0, False), (1.0, True), (2.0, True)])
def test_white_noise_forgets_and_coloured_noise_remembers(
    exponent: float, correlated: bool
) -> None:
    samples = series(exponent)
    correlation = np.mean(samples[1:] * samples[:-1])
    assert (correlation > 0.5) == correlated
    if not correlated:
        assert abs(correlation) < 5 / np.sqrt(samples.size)


def test_entries_are_independent() -> None:
    noise = ColouredNoise(1.0, (2, 2), 0)
    samples = np.stack([noise.sample().ravel() for _ in range(60 * BLOCK)])
    # Pink noise has few slow waves, so that 60 blocks count for much less than 60 * 1024 samples.
    assert np.all(np.abs(np.corrcoef(samples.T) - np.eye(4)) < 0.2)


def test_noise_goes_on_beyond_its_block_without_repeating() -> None:
    samples = series(1.0, entries=1, steps=2 * BLOCK + 10)
    assert len(np.unique(samples)) == len(samples)


def test_noise_depends_on_its_seed_alone() -> None:
    np.testing.assert_array_equal(series(1.0, steps=5, seed=3), series(1.0, steps=5, seed=3))
    assert not np.any(series(1.0, steps=5, seed=3) == series(1.0, steps=5, seed=4))


def test_samples_have_the_shape_and_type_asked_for() -> None:
    sample = ColouredNoise(1.0, (4, 3), 0).sample()
    assert sample.shape == (4, 3)
    assert sample.dtype == np.float32


@pytest.mark.parametrize("exponent", [-0.5, 2.5])
def test_an_exponent_out_of_range_is_refused(exponent: float) -> None:
    with pytest.raises(ValueError, match=rf"between 0 .* and 2 .*{exponent}.*Use 1 for pink"):
        ColouredNoise(exponent, (1,), 0)
