"""Lengths that a fast Fourier transform likes."""

from __future__ import annotations


def fast_length(samples: int) -> int:
    """The shortest length from `samples` on that has no prime factor above 5: scipy's `next_fast_len`, not its import.

    >>> fast_length(1), fast_length(97), fast_length(1025)
    (1, 100, 1080)
    """
    best, fives = 1 << (samples - 1).bit_length(), 1
    while fives < best:
        threes = fives
        while threes < best:
            best = min(best, threes << (-(-samples // threes) - 1).bit_length())
            threes *= 3
        fives *= 5
    return best
