"""Error of the cutoff estimate on real recordings, as tables: python benchmarks/cutoff_error.py [DATA_DIR]

Every recording below DATA_DIR (default: ../shared/data/dev where it is there) is made narrow in every way of the tables
and estimated as the file that it then is: at its rate, depth and level. The truth is the -3 dB point of narrow against
wide, measured on the clip; a codec's has 2 kHz above it that stay down, for the gaps that codecs leave are no end.
Where nothing was cut, full band and the clip's own end are right, and only what lies more than 10 % below is wrong. A
clip whose own band ends below 1.15 x the cut does not count for it (n); one whose cut lies under hiss or rounding is
counted apart (hidden).
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import signal

from latentsr.audio import resample
from latentsr.bandwidth import estimate_cutoff
from latentsr.evaluation.cases import CASES, FULL_BAND_HZ, CutCase, Step, codec, error_percent, generator, iir, truth_hz
from latentsr.evaluation.noises import Wave
from latentsr.evaluation.references import find_clips, load_mono
from latentsr.evaluation.resamplers import with_length
from latentsr.signal.codecs import TELEPHONE_RATE_HZ, ffmpeg_coded, telephone
from latentsr.signal.degrade import PASS_RIPPLE_DB, STOP_BAND_DB

RATE = 48_000
DEV = Path(__file__).parents[2] / "shared" / "data" / "dev"
MISS_PERCENT = 10.0
HEADINGS = ("n", "within 10 %", "says full", "too low", "too high", "median %", "hidden", "s/s")


# --- what is done to a recording -------------------------------------------------------------------------------------


def ffmpeg(name: str, rate: int, kbps: float) -> Step:
    """Through FFmpeg's encoder and decoder; the file is at the rate that comes out, unless its case says another."""
    return lambda wave, _, __: ffmpeg_coded(wave, name, rate, kbps)


def line(wave: Wave, rate: int, _: Any) -> tuple[Wave, int]:
    """300 to 3400 Hz in 8 bits of mu-law."""
    return telephone(wave.astype(np.float32), rate).astype(np.float64), rate


def at_peak(peak_db: float) -> Step:
    """The loudest sample at so many dB of full scale."""

    def run(wave: Wave, rate: int, _: Any) -> tuple[Wave, int]:
        return wave * 10 ** (peak_db / 20) / max(float(np.abs(wave).max()), 1e-9), rate

    return run


def coded(words: str, rate: int, *steps: Step) -> dict[str, CutCase]:
    """A codec's own edge is measured: it may have none."""
    return {f"{words}, {rate / 1000:g} kHz": CutCase(words, FULL_BAND_HZ, steps, rate)}


FOUR = CASES["file-44k1"]
THREE = iir(signal.butter, 8, 3_000)
CODECS = (
    coded("MP3 64 kb/s", 44_100, ffmpeg("libmp3lame", 44_100, 64))
    | coded("MP3 128 kb/s", 44_100, ffmpeg("libmp3lame", 44_100, 128))
    | coded("MP3 32 kb/s", 48_000, codec("mp3", 32))
    | coded("MP3 96 kb/s", 48_000, ffmpeg("libmp3lame", 48_000, 96))
    | coded("AAC 32 kb/s", 44_100, ffmpeg("aac", 44_100, 32))
    | coded("AAC 64 kb/s", 44_100, ffmpeg("aac", 44_100, 64))
    | coded("AAC 48 kb/s", 48_000, ffmpeg("aac", 48_000, 48))
    | coded("Vorbis 64 kb/s", 48_000, codec("vorbis", 64))
    | coded("Vorbis 96 kb/s", 44_100, codec("vorbis", 96))
    | coded("Opus 10 kb/s", 48_000, ffmpeg("libopus", 48_000, 10))
    | coded("Opus 16 kb/s", 48_000, ffmpeg("libopus", 48_000, 16))
    | coded("Opus 32 kb/s", 48_000, ffmpeg("libopus", 48_000, 32))
    | coded("AC-3 40 kb/s", 48_000, ffmpeg("ac3", 48_000, 40))
    | coded("AC-3 96 kb/s", 48_000, ffmpeg("ac3", 48_000, 96))
    | coded("MP2 56 kb/s", 44_100, ffmpeg("mp2", 44_100, 56))
    | coded("MP2 96 kb/s", 48_000, ffmpeg("mp2", 48_000, 96))
    | coded("WMA 32 kb/s", 44_100, ffmpeg("wmav2", 44_100, 32))
    | coded("WMA 64 kb/s", 44_100, ffmpeg("wmav2", 44_100, 64))
    | coded("AMR 12.2 kb/s", 44_100, ffmpeg("libopencore_amrnb", TELEPHONE_RATE_HZ, 12.2))
    | coded("AMR 4.75 kb/s", 48_000, ffmpeg("libopencore_amrnb", TELEPHONE_RATE_HZ, 4.75))
    | coded("G.722", 48_000, ffmpeg("g722", 16_000, 64))
    | coded("mu-law", 44_100, ffmpeg("pcm_mulaw", TELEPHONE_RATE_HZ, 64))
    | coded("telephone line", 48_000, line)
)
LEVELS = {
    f"peak {peak_db} dBFS, {'float' if bits is None else f'{bits} bit'}": replace(
        FOUR, steps=(*FOUR.steps, at_peak(peak_db)), bits=bits
    )
    for bits in (16, 24, None)
    for peak_db in (0, -20, -40, -60)
}
RATES = {
    f"{rate} Hz, {words}": CutCase(words, end_hz, steps, rate)
    for rate in (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 37_800, 44_056, 44_100, 48_000, 88_200, 96_000)
    for words, end_hz, steps in (
        ("as it is", 0.945 * rate / 2 if rate < 40_000 else FULL_BAND_HZ, ()),
        ("cut at 3 kHz", 3_000, (THREE,)),
    )
}
DESIGNS = {
    "butter": signal.butter,
    "bessel": partial(signal.bessel, norm="mag"),
    "cheby1": lambda order, hz, **how: signal.cheby1(order, PASS_RIPPLE_DB, hz, **how),
    "ellip": lambda order, hz, **how: signal.ellip(order, PASS_RIPPLE_DB, STOP_BAND_DB, hz, **how),
}
ORDERS = {
    f"{family} {order}, {'both ways' if both else 'one way'}": CutCase(
        "", 5_000, (iir(design, order, 5_000, both=both),)
    )
    for family, design in DESIGNS.items()
    for order in (2, 4, 8, 12)
    for both in (False, True)
}
TABLES = {
    "Cases of `latentsr eval`": CASES,
    "Codecs": CODECS,
    "Levels: Chebyshev 8 at 4 kHz, 44.1 kHz": LEVELS,
    "Rates of the file, 16 bit": RATES,
    "Families and orders at 5 kHz, 44.1 kHz, 16 bit": ORDERS,
}


# --- what comes of it ------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """The estimates under one case."""

    errors: list[float] = field(default_factory=list)  # percent, signed
    full: int = 0  # says that nothing is missing where something was cut
    hidden: int = 0
    listened_s: float = 0.0
    heard_s: float = 0.0

    def add(self, case: CutCase, wide: Wave, own_hz: float, rng: np.random.Generator) -> None:
        """Make a file of a wide wave (T,) and estimate it."""
        narrow, rate = case.make(wide, rng)
        end_hz = truth_hz(case.cutoff_hz, with_length(resample(narrow, rate, RATE), len(wide)), wide, own_hz)
        if end_hz is None:
            return
        if np.isinf(end_hz) and case.cutoff_hz < FULL_BAND_HZ:
            self.hidden += 1
            return
        samples, started = narrow[None].astype(np.float32), time.perf_counter()
        estimate_hz = estimate_cutoff(samples, rate)
        self.listened_s += time.perf_counter() - started
        self.heard_s += len(narrow) / rate
        self.errors.append(error_percent(estimate_hz, end_hz, own_hz))
        self.full += bool(np.isfinite(end_hz)) and estimate_hz >= FULL_BAND_HZ

    def figures(self) -> tuple[float | int | None, ...]:
        """In the order of HEADINGS; shares of n."""
        errors, n = np.array(self.errors), len(self.errors)
        if not n:
            return (0, *[None] * 5, self.hidden, None)
        high = (errors > MISS_PERCENT).sum() - self.full
        shares = ((abs(errors) <= MISS_PERCENT).sum(), self.full, (errors < -MISS_PERCENT).sum(), high)
        middle = float(np.median(abs(errors)))
        return (n, *(float(count) / n for count in shares), middle, self.hidden, self.listened_s / self.heard_s)


def clips_of(folder: Path, every: int) -> Iterable[tuple[str, Wave, float]]:
    """Name, wave (T,) and own band in Hz."""
    for clip in find_clips(folder)[::every]:
        wave = load_mono(clip.path)
        yield clip.name, wave, clip.bandwidth_hz or estimate_cutoff(wave[None].astype(np.float32), RATE)


def text(value: float | int | None) -> str:
    return "n/a" if value is None else str(value) if isinstance(value, int) else f"{value:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path, nargs="?", default=DEV if DEV.is_dir() else None)
    parser.add_argument("--every", type=int, default=1, help="take every N-th recording")
    parser.add_argument("--case", default="", help="only rows with this in their name")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--csv", type=Path, help="write the rows here too")
    args = parser.parse_args()
    if args.data_dir is None:
        parser.error(f"{DEV} is not there; pass a folder of wide recordings")
    torch.set_num_threads(1)
    clips = list(clips_of(args.data_dir, args.every))
    estimate_cutoff(np.zeros((1, RATE), np.float32), RATE)  # loads the network, untimed
    lines = []
    for title, cases in TABLES.items():
        asked = {name: case for name, case in cases.items() if args.case in name}
        if asked:
            width = max(map(len, asked))
            print(f"\n{title}\n\n| {'':{width}} | {' | '.join(HEADINGS)} |")
            print(f"|{'-' * (width + 2)}|{'---:|' * len(HEADINGS)}")
        for name, case in asked.items():
            row = Row()
            for clip, wave, own_hz in clips:
                row.add(case, wave, own_hz, generator(args.seed, clip, name))
            figures = row.figures()
            lines.append(dict(zip(("table", "case", *HEADINGS), (title, name, *figures), strict=True)))
            cells = (f"{text(value):>{len(heading)}}" for value, heading in zip(figures, HEADINGS, strict=True))
            print(f"| {name:{width}} | {' | '.join(cells)} |", flush=True)
    if args.csv is not None and lines:
        with args.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(lines)


if __name__ == "__main__":
    main()
