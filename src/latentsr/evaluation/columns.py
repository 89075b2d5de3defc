"""The figures of a table: how each is pooled over clips, printed and explained, and which way is better."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Record = dict[str, Any]
Values = Sequence[float]

MISS_PERCENT = 10.0  # a cutoff estimate further off than this is a miss


def _misses(errors_percent: Values) -> float:
    return sum(abs(error) > MISS_PERCENT for error in errors_percent)


@dataclass(frozen=True)
class Column:
    """One figure of the table."""

    key: str
    heading: str
    digits: int
    better: str  # "lower", "higher", or the target
    meaning: str  # for those who did not write the table
    pool: Callable[[Values], float] | None = statistics.fmean  # None: it is not made of the clips' figures
    source: str = ""  # key of the records; the same as `key` unless given
    noisy_only: bool = False  # printed only where noise was added, and it is defined
    interval: bool = False  # has a confidence interval, and a difference from the baseline
    title: str = ""  # where the heading alone does not say it

    @property
    def name(self) -> str:
        """The heading where no other column stands to its left."""
        return self.title or self.heading

    @property
    def median(self) -> bool:
        return self.pool is statistics.median

    def of(self, records: Iterable[Record]) -> float | None:
        """The figure of all records together; None where none of them has it."""
        if self.pool is None:
            return None
        values = [record[self.source or self.key] for record in records]
        known = [value for value in values if value is not None]
        return self.pool(known) if known else None


COLUMNS = (
    Column("lsd", "LSD", 2, "lower",
           "Log-spectral distance to the original (window 2048, hop 512), from 0 Hz to where the original ends",
           interval=True),
    Column("lsd_full", "(full)", 2, "lower", "The same up to 24 kHz, whatever the original holds there",
           interval=True, title="LSD (full)"),
    Column("ssr_eval", "ssr_eval", 2, "lower",
           "The same idea in the definition of NVSR and AudioSR; figures of the two do not compare", interval=True),
    Column("ssr_eval_full", "(full)", 2, "lower", "The same up to 24 kHz", interval=True, title="ssr_eval (full)"),
    Column("lsd_hf", "LSD-HF", 2, "lower", "Distance above the cutoff only: what was invented", interval=True),
    Column("lsd_hf_change_percent", "HF %", 0, "lower", "LSD-HF against that of the unprocessed input", None),
    Column("lsd_lf", "LSD-LF", 2, "lower", "Distance at and below the cutoff: what was given", interval=True),
    Column("hf_energy_db", "HF dB", 1, "0", "Energy above the cutoff against the original's; median",
           statistics.median, interval=True),
    Column("hf_spread", "HF spread", 2, "1",
           "How lively the band above the cutoff is over time, against the original; below 1 is a blur",
           statistics.median, interval=True),
    Column("level_error_db", "level dB", 3, "0",
           "By how much the given band's level was moved; the worst clip", lambda values: max(values, key=abs)),
    Column("kept_error_db", "kept dB", 1, "lower",
           "What was changed in the given band, against that band; the worst clip", max),
    Column("si_sdr_db", "SI-SDR dB", 1, "higher", "Scale-invariant distance of the waves; for noise, not for bandwidth",
           noisy_only=True, interval=True),
    Column("snr_db", "SNR dB", 1, "higher", "Distance of the waves", noisy_only=True),
    Column("si_sdr_kept_db", "kept SI-SDR", 1, "higher", "SI-SDR of the given band", noisy_only=True, interval=True),
    Column("si_sdr_gain_db", "gain dB", 1, "higher", "The same, less the unprocessed input's",
           noisy_only=True, interval=True),
    Column("tone_db", "tone dB", 1, "lower", "Level at the added tone's frequency against the input's",
           noisy_only=True),
    Column("tone_vs_clean_db", "vs clean dB", 1, "0", "The same against the original's", noisy_only=True),
    Column("tone_left", "left", 0, "lower", "Clips on which the tone is still there", sum, noisy_only=True),
    Column("visqol", "ViSQOL", 2, "higher",
           "ViSQOL v3, audio mode: opinion predicted by a model of hearing, 1 to 4.73", interval=True),
    Column("zimtohrli", "Zimtohrli", 4, "lower", "Zimtohrli: distance by another model of hearing", interval=True),
    Column("zimtohrli_mos", "Z-MOS", 2, "higher", "The same as an opinion, 1 to 5", interval=True),
    Column("cutoff_error_percent", "cutoff err %", 1, "0", "How far off the estimated cutoff was; median",
           lambda values: statistics.median(map(abs, values))),
    Column("cutoff_within_percent", "within 10 %", 0, "higher", "Clips on which it was at most 10 % off",
           lambda values: 100 * (1 - _misses(values) / len(values)), source="cutoff_error_percent"),
    Column("cutoff_misses", "misses", 0, "lower", "Clips on which it was more than 10 % off", _misses,
           source="cutoff_error_percent"),
)  # fmt: skip
COST = (
    Column("seconds_per_second", "s/s", 3, "lower", "Seconds of computing per second of sound, model loaded", None),
    Column("peak_memory_mb", "MB", 0, "lower",
           "Highest memory of a fresh process that loads the model and restores one clip", None),
)  # fmt: skip
