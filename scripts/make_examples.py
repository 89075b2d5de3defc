"""Make the recordings of examples/ from public-domain (CC0) recordings of the training corpus.

    python scripts/make_examples.py ../shared/data/train examples

Each loses its top in a way met in practice: a telephone line, a 22.05 kHz game asset, a dull 48 kHz file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import soundfile
import soxr
from scipy.signal import butter, cheby1, sosfiltfilt


def telephone(wave: np.ndarray, rate: int) -> tuple[np.ndarray, int]:
    """300-3400 Hz, 8 kHz, 8-bit mu-law. (T, C) -> (T', 1)."""
    low = soxr.resample(wave.mean(axis=1, keepdims=True), rate, 8000, quality="VHQ")
    band = sosfiltfilt(butter(4, [300, 3400], "bandpass", fs=8000, output="sos"), low, axis=0)
    band *= 0.5 / np.abs(band).max()
    code = np.round(np.sign(band) * np.log1p(255 * np.abs(band)) / np.log(256) * 127) / 127
    return np.sign(code) * (256 ** np.abs(code) - 1) / 255, 8000


def dull(wave: np.ndarray, rate: int, cutoff_hz: float, new_rate: int) -> tuple[np.ndarray, int]:
    """Chebyshev I low-pass (order 8, 0.1 dB, zero phase) at `cutoff_hz`, then `new_rate`. (T, C) -> (T', C)."""
    low = sosfiltfilt(cheby1(8, 0.1, cutoff_hz, fs=rate, output="sos"), wave, axis=0)
    return soxr.resample(low, rate, new_rate, quality="VHQ"), new_rate


def main(train: Path, out: Path) -> None:
    def read(name: str, seconds: float) -> tuple[np.ndarray, int]:
        wave, rate = soundfile.read(train / name, always_2d=True)
        return wave[: int(seconds * rate)], rate

    recordings = {
        "phone_speech.flac": telephone(*read("speech/ohf_en_US_kathleen.mp3", 3.3)),
        "loop_5500hz.flac": dull(*read("effects/sonicpi_loop_garzul.flac", 4.0), cutoff_hz=5500, new_rate=22_050),
        "drumroll_4000hz.flac": dull(*read("effects/sonicpi_drum_roll.flac", 4.0), cutoff_hz=4000, new_rate=48_000),
    }
    for name, (wave, rate) in recordings.items():
        soundfile.write(out / name, wave, rate, subtype="PCM_16")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
