"""Sums released with discrete Gaussian noise: integers all the way, so that no float leaks.

The low bits of a float tell what was added to it; an integer with discrete Gaussian noise
(Canonne, Kamath and Steinke 2020, arXiv 2004.00010) tells what the proof says. Each unit's numbers
are clipped, written on a grid, checked on the grid, summed exactly, and noised there.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from assay.errors import UsageError

if TYPE_CHECKING:
    from assay.privacy.randomness import Reader, Stream

#: standard deviation of the noise in steps of the grid, and the largest there is
SIGMA = 2**24
#: least noise multiplier of a sum, with which a unit's squares still fit 63 bits
LEAST_NOISE = 2.0**-6
#: a discrete Laplace variable beyond this many scales is rejected unseen (a chance of e^-8000)
_FAR = 127
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def discrete_gaussian(stream: Stream, purpose: str, step: int, size: int, sigma: int) -> Ints:
    """Integers with probability proportional to exp(-y^2 / (2 sigma^2)), `[size]` int64.

    Exact: only integers are compared, with uniform ones of the stream (algorithms 1 to 3 of
    Canonne, Kamath and Steinke 2020). About a microsecond each; how long it takes depends on the
    values a little.

    Args:
        stream: where randomness comes from.
        purpose: what for.
        step: the step.
        size: how many.
        sigma: in 1..2^24; from 4 on the standard deviation equals it to 100 digits.

    Raises:
        ValueError: sigma is no integer in its range.
    """
    if sigma != int(sigma) or not 1 <= sigma <= SIGMA:
        raise ValueError(f"sigma is an integer in 1..{SIGMA}, not {sigma}")
    reader = stream.reader("discrete gaussian", purpose, step)
    found: list[Ints] = []
    missing = size
    while missing > 0:
        # about 0.62 of uniform numbers become Laplacian, 0.76 of these Gaussian
        drawn = _laplace(reader, sigma, 16 + 9 * missing // 4)
        square = np.square(np.abs(drawn) - sigma)
        whole, rest = np.divmod(square, 2 * sigma**2)
        accepted = _exp_coins(reader, rest, 2 * sigma**2)
        accepted[accepted] = _geometric(reader, int(accepted.sum())) >= whole[accepted]
        found.append(drawn[accepted][:missing])
        missing -= len(found[-1])
    return np.concatenate([np.zeros(0, np.int64), *found])


def _exp_coins(reader: Reader, numerator: Ints, denominator: int) -> npt.NDArray[np.bool_]:
    """Coins with probability exp(-numerator / denominator), for fractions in 0..1."""
    out = np.zeros(len(numerator), bool)
    alive, k = np.arange(len(numerator)), 1
    while len(alive):
        hit = reader.below(denominator * k, len(alive)) < numerator[alive].astype(np.uint64)
        out[alive[~hit]] = k % 2 == 1
        alive, k = alive[hit], k + 1
    return out


def _geometric(reader: Reader, n: int) -> Ints:
    """How often in a row a coin of probability 1/e is true, `[n]`."""
    out, alive = np.zeros(n, np.int64), np.arange(n)
    while len(alive):
        alive = alive[_exp_coins(reader, np.ones(len(alive), np.int64), 1)]
        out[alive] += 1
    return out


def _laplace(reader: Reader, scale: int, tries: int) -> Ints:
    """Integers with probability proportional to exp(-|y| / scale): at most `tries` of them."""
    low = reader.below(scale, tries).astype(np.int64)
    low = low[_exp_coins(reader, low, scale)]
    times = _geometric(reader, len(low))
    negative = (reader.words(len(low)) & np.uint64(1)).astype(bool)
    # zero has two signs; counting both would make it twice as likely
    kept = (times < _FAR) & ~(negative & (low == 0) & (times == 0))
    value = low + scale * np.minimum(times, _FAR)
    signed: Ints = np.where(negative, -value, value)[kept]
    return signed


def on_grid(values: Floats, bound: float, noise_multiplier: float) -> tuple[Ints, float]:
    """Each unit's numbers, clipped to L2 norm `bound`, on the grid that the noise has.

    Rounding to the nearest point lengthens a vector of D numbers by at most sqrt(D) / 2 steps
    (Kairouz, Liu and Steinke 2021, arXiv 2102.06387); the step is chosen so that this is allowed
    for, and then every unit is held to its length in exact integers: whatever floats did before,

        sum of squares of a row  <=  (SIGMA / noise_multiplier)^2.

    Args:
        values: `[U, D]`; a unit with a number that is not finite counts as zeros.
        bound: above 0.
        noise_multiplier: noise over the length of a unit, at least 2^-6.

    Returns:
        Integers `[U, D]`, and the size of a step of the grid, in the unit of the values.

    Raises:
        UsageError: so many numbers with so much noise that rounding would be all there is.
        ValueError: bound or noise are out of range.
    """
    if not (0 < bound < math.inf):
        raise ValueError(f"a bound is above 0 and finite, not {bound}")
    if not (LEAST_NOISE <= noise_multiplier < math.inf):
        raise ValueError(f"a noise multiplier is at least {LEAST_NOISE}, not {noise_multiplier}")
    longest, rounding = SIGMA / noise_multiplier, math.sqrt(values.shape[1]) / 2
    if 2 * rounding > longest:
        raise UsageError(
            f"{values.shape[1]:,} numbers with a noise multiplier of {noise_multiplier:g} are "
            "finer than the grid",
            where="bounded_sum",
            mend="ask for fewer numbers at once, or spend more on them",
        )
    step = bound / (longest - rounding)
    finite = np.isfinite(values).all(axis=1, keepdims=True)
    rows = np.where(finite, values, 0.0)
    # in units of its largest number no square of a row overflows
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=bound)
    rows = np.ascontiguousarray(rows / largest)
    norm = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), bound / largest)
    grid = np.rint(rows / norm * (longest - rounding)).astype(np.int64)
    most = int((Fraction(SIGMA) / Fraction(noise_multiplier)) ** 2)
    over = np.flatnonzero(np.square(grid).sum(axis=1) > most)
    while len(over):
        grid[over] -= np.sign(grid[over])
        over = over[np.square(grid[over]).sum(axis=1) > most]
    return grid, step


def noisy_sum(
    values: Floats,
    bound: float,
    noise_multiplier: float,
    stream: Stream,
    *,
    purpose: str,
    step: int = 0,
) -> Floats:
    """Sum of units, each clipped to L2 norm `bound`, with discrete Gaussian noise.

    The standard deviation of the noise of each number is `noise_multiplier * bound`, more by a
    factor of 1 / (1 - noise_multiplier sqrt(D) / 2^25). To one unit more or less it is a Gaussian
    mechanism of that noise multiplier: the discrete Gaussian is concentrated as the continuous one
    is (Canonne, Kamath and Steinke 2020), and its delta at an epsilon is larger by some parts in
    the square of the 2^24 steps to a standard deviation, less than an accountant rounds up. The
    sum is of integers, so the order of units changes no bit of it.

    Args:
        values: `[U, ...]`, one entry a unit; none of U = 0.
        bound: L2 norm that a unit has at most.
        noise_multiplier: of the mechanism, at least 2^-6.
        stream: where the noise comes from.
        purpose: names the noise; another sum needs another purpose or step.
        step: see `purpose`.

    Returns:
        The noised sum, `[...]`.

    Raises:
        UsageError: there are more numbers than the grid bears.
        ValueError: bound or noise are out of range, or there are too many units for 64 bits.
    """
    values = np.asarray(values, dtype=np.float64)
    shape = values.shape[1:]
    rows, size = on_grid(values.reshape(len(values), math.prod(shape)), bound, noise_multiplier)
    if len(rows) * (SIGMA / noise_multiplier) >= 2**61:
        raise ValueError(f"{len(rows):,} units are more than 64 bits can sum")
    total = rows.sum(axis=0, dtype=np.int64)
    total += discrete_gaussian(stream, purpose, step, len(total), SIGMA)
    released: Floats = (total * size).reshape(shape)
    return released
