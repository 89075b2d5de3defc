"""Pairs that the user brings: low/NAME degraded and high/NAME clean, equal in time. Nothing is shifted in silence."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import scipy.fft

from latentsr.config import AUDIO
from latentsr.data.decode import Recording, decode
from latentsr.data.layouts import is_audio
from latentsr.data.manifest import Clip, DataError

log = logging.getLogger(__name__)
LENGTH_TOLERANCE_S = 0.1  # the longer file of a pair may be so much longer, and is trimmed
SEARCHED_S, LONGEST_S = 0.25, 20.0  # lags up to the first are looked for, in so much of the middle of a pair
LOW_BAND_HZ = (80.0, 3_000.0)  # what both files of any pair should hold: even a telephone passes most of it
UNLIKE = 0.1  # correlation below which two files are not the same recording


def open_pairs(
    high: list[Clip], data: Path, *, max_lag: int = 1, on_bad: str = "error", cache: str | Path | None = None
) -> list[Recording]:
    """Decode the clean clips `high` of `data`, each with its degraded partner as `low`.

    Args:
        high: files below data/high.
        data: the folder of low/ and high/.
        max_lag: samples at 48 kHz by which the two may be apart.
        on_bad: 'error' stops at a pair that cannot be used, 'skip' leaves it out and logs it; a lacking partner stops.
        cache: a folder for decoded samples.
    """
    partners = _partners(high, data)
    low = decode(list(partners.values()), on_bad=on_bad, cache=cache)
    by_path = {r.clip.path: r for r in low}
    pairs, bad = [], []
    for recording in decode(high, on_bad=on_bad, cache=cache):
        partner = by_path.get(partners[recording.clip.path].path)
        if partner is None:
            continue  # unreadable, which has been said
        try:
            pairs.append(_joined(recording, partner, max_lag))
        except DataError as error:
            if on_bad == "error":
                raise DataError(f"{error}; or set on_bad=skip") from None
            bad.append(str(error))
    if not pairs:
        raise DataError(
            f"none of the {len(high)} pairs of {data} can be used; the first: {(bad or ['see the log'])[0]}"
        )
    if bad:
        log.warning("left out %d of %d pairs: %s", len(bad), len(high), "; ".join(bad))
    return pairs


def _partners(high: list[Clip], data: Path) -> dict[Path, Clip]:
    """Path of a clean file -> its degraded clip: the same path within low/, whatever the suffix."""
    found = _by_name((p for p in (data / "low").rglob("*") if is_audio(p, data)), data / "low")
    names = _by_name((clip.path for clip in high), data / "high")
    lacking = [str(path) for name, path in names.items() if name not in found]
    if lacking:
        raise DataError(f"{len(lacking)} files have no partner in {data / 'low'}, the first is {lacking[0]}; add it or remove the file")  # fmt: skip  # noqa: E501
    # The bandwidth of a degraded file is measured example by example; any number saves measuring it here.
    return {path: Clip(found[name], "low", AUDIO.sample_rate / 2) for name, path in names.items()}


def _by_name(paths: Iterable[Path], root: Path) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for path in sorted(paths):
        name = path.relative_to(root).with_suffix("").as_posix()
        if name in named:
            raise DataError(f"{path} and {named[name].name} differ in their suffix alone; remove one of them")
        named[name] = path
    return named


def _joined(high: Recording, low: Recording, max_lag: int) -> Recording:
    """`high` with its partner, both as long as the shorter one; `DataError` names the file that does not fit."""
    difference_s = low.seconds - high.seconds
    if abs(difference_s) > LENGTH_TOLERANCE_S:
        raise DataError(
            f"{low.clip.path} is {abs(difference_s):.2f} s {'longer' if difference_s > 0 else 'shorter'} than "
            f"{high.clip.path}; cut both to the same time"
        )
    length = min(len(high.samples), len(low.samples))
    high, low = (replace(r, samples=r.samples[:length]) for r in (high, low))
    lag, likeness = alignment(high, low)
    if abs(likeness) < UNLIKE:
        raise DataError(f"{low.clip.path} is nothing like {high.clip.path} (correlation {likeness:.2f}); pair it anew")
    if abs(lag) > max_lag:
        raise DataError(
            f"{low.clip.path} lies {abs(lag)} samples (at 48 kHz) {'after' if lag > 0 else 'before'} {high.clip.path}; "
            f"shift it, or allow it with pair_lag={abs(lag)}"
        )
    if likeness < 0:
        raise DataError(f"{low.clip.path} is {high.clip.path} upside down; turn one of them over")
    return replace(high, low=low)


def alignment(high: Recording, low: Recording) -> tuple[int, float]:
    """Samples by which `low` comes later, and the correlation of the two low bands there; (0, 1) for silence."""
    length = min(len(high.samples), round(LONGEST_S * AUDIO.sample_rate))
    first = (len(high.samples) - length) // 2
    reach = min(round(SEARCHED_S * AUDIO.sample_rate), length - 1)
    size = scipy.fft.next_fast_len(length + reach, real=True)
    hz = np.fft.rfftfreq(size, 1 / AUDIO.sample_rate)
    band = (hz >= LOW_BAND_HZ[0]) & (hz <= LOW_BAND_HZ[1])
    a, b = (scipy.fft.rfft(r.wave(first, first + length), size) * band for r in (high, low))
    energy = math.sqrt(float(np.vdot(a, a).real) * float(np.vdot(b, b).real))
    if energy == 0:
        return 0, 1.0
    around = scipy.fft.irfft(b * a.conj(), size)
    correlation = np.concatenate([around[size - reach :], around[: reach + 1]]) * (size / 2) / energy
    best = int(np.argmax(np.abs(correlation)))
    return best - reach, float(correlation[best])
