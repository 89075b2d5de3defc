"""Compose music by rule, render it through soundfonts, and list it in a manifest to train on.

    apt install fluidsynth musescore-general-soundfont-lossless fluid-soundfont-gm
    python scripts/render_music.py OUT --minutes 80 --seed 0

Clip n of a seed is the same music every time (`compose.py` beside this file). OUT gets FLAC at 48 kHz and
`manifest.csv`, line by line, so that training may start on what is there; the same command again goes on after the
last clip.

Most General MIDI instruments of these fonts (MIT) are kept at 22 to 32 kHz, or dulled by a low-pass: what lies above
is then only the player's interpolation. `orchestra.yaml` takes presets sampled at 44.1 kHz or more, and `compose.py`
opens the low-pass; choirs, saxophones, horns and organs, sampled at 32 kHz, are rendered at 38 kHz and read as 48 kHz,
all of it a third higher and faster. What still has no top is left out.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import soxr
from compose import RATE_HZ, Piece, compose, kind_of
from scipy.signal import stft

from latentsr.bandwidth import estimate_cutoff

FONTS = Path("/usr/share/sounds/sf2")
MAIN_FONT, FLUID_FONT = FONTS / "MuseScore_General_Full.sf2", FONTS / "FluidR3_GM.sf2"
FLUID_BANK = 100  # where orchestra.yaml looks for the second font
BAND_HZ = 250  # grid of the bandwidth
RANGE_DB = 85  # of 70 to 90 what agrees best with the bandwidths in a manifest of recordings: 370 Hz off in the mean
OVERSAMPLED = 2  # what fluidsynth's interpolation leaves above 24 kHz is cut off, and does not fold down into the band
LEAST_HZ = 16_000  # a clip that ends below has nothing to teach about the top
FADE_S = 0.02
COLUMNS = (  # as in the manifests of the recordings
    *("file", "type", "source", "original", "licence", "licence_class", "seconds", "sample_rate", "channels"),
    *("codec", "bandwidth_hz", "energy_above_16k_db", "bytes"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=80.0, help="length of all clips together")
    parser.add_argument(
        "--seconds", type=float, nargs=2, default=(20.0, 40.0), metavar=("LEAST", "MOST"), help="a clip"
    )
    parser.add_argument("--kinds", nargs="*", default=(), help="only these; default: all, in their shares")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for needed in (MAIN_FONT, FLUID_FONT):
        if not needed.is_file() or not shutil.which("fluidsynth"):
            parser.error(f"fluidsynth and {needed} are needed; the first lines of this file say what to install")
    render_all(args.out, args.minutes, tuple(args.seconds), args.kinds, args.seed)


def render_all(out: Path, minutes: float, seconds: tuple[float, float], kinds: list[str], seed: int) -> None:
    """Render clip after clip until `minutes` are there; clips that the manifest lists already are not made again."""
    (out / "music").mkdir(parents=True, exist_ok=True)
    rows = read_rows(out / "manifest.csv")
    total_s = sum(float(row["seconds"]) for row in rows)
    numbers = [int(row["file"].rsplit("_", 1)[1].removesuffix(".flac")) for row in rows if f"_s{seed}_" in row["file"]]
    for number in itertools.count(max(numbers, default=-1) + 1):
        if total_s >= 60 * minutes:
            break
        piece = compose(kind_of(seed, number, kinds), seed, number, seconds)
        wave = render(piece)
        bandwidth_hz, top_db = measure(wave)
        bandwidth_hz = min(bandwidth_hz, int(estimate_cutoff(wave.mean(axis=1), RATE_HZ)))  # it sees a sample's cliff
        if bandwidth_hz < LEAST_HZ:
            print(f"left out {piece.name}: ends at {bandwidth_hz} Hz", flush=True)
            continue
        path = out / "music" / f"{piece.name}.flac"
        sf.write(path, wave, RATE_HZ, subtype="PCM_24")
        append_row(out / "manifest.csv", row_of(piece, path, len(wave) / RATE_HZ, bandwidth_hz, top_db))
        total_s += len(wave) / RATE_HZ


def render(piece: Piece) -> np.ndarray:
    """The sound of a piece, (T, 2) float64 at 48 kHz, its peak at `piece.peak_db`."""
    with tempfile.TemporaryDirectory() as folder:
        midi, wav, commands = Path(folder, "in.mid"), Path(folder, "out.wav"), Path(folder, "commands")
        midi.write_bytes(piece.midi)
        # 7: the longest interpolation there is; it leaves the least of the images above a sample's own band
        commands.write_text(f"interp 7\nload {FLUID_FONT} 1 {FLUID_BANK}\n", encoding="utf-8")
        settings = {
            "synth.dynamic-sample-loading": 1,
            "synth.chorus.active": 0,
            "synth.reverb.active": int(piece.room > 0),
            "synth.reverb.room-size": piece.room,
            "synth.polyphony": 512,
        }
        options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        command = [
            "fluidsynth",
            "-niq",
            "-f",
            str(commands),
            "-r",
            str(OVERSAMPLED * piece.render_hz),
            "-g",
            "0.3",
            *options,
        ]
        command += ["-O", "float", "-T", "wav", "-F", str(wav), str(MAIN_FONT), str(midi)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wave, _ = sf.read(wav, always_2d=True, stop=OVERSAMPLED * round(piece.seconds * RATE_HZ))
    wave = soxr.resample(wave, OVERSAMPLED, 1, quality="VHQ")
    fade = round(FADE_S * RATE_HZ)
    wave[-fade:] *= np.linspace(1, 0, fade)[:, None]
    return wave * (10 ** (piece.peak_db / 20) / np.abs(wave).max())


def measure(wave: np.ndarray) -> tuple[int, float]:
    """Where the content ends, in Hz, and the energy above 16 kHz against all of it, in dB. `wave`: (T, C) at 48 kHz.

    The end is the upper edge of the highest band of 250 Hz that is within `RANGE_DB` of the loudest band, each by its
    upper quartile over the frames that are at most 30 dB under the loudest frame.
    """
    freqs_hz, _, spectrum = stft(wave.mean(axis=1), RATE_HZ, nperseg=4096, window="blackmanharris")
    power = np.abs(spectrum) ** 2
    bands = np.add.reduceat(power, np.searchsorted(freqs_hz, np.arange(0, RATE_HZ // 2, BAND_HZ)))
    heard = bands.sum(axis=0) > 1e-3 * bands.sum(axis=0).max()
    loud_db = 10 * np.log10(np.percentile(bands[:, heard], 75, axis=1) + 1e-20)
    highest = int(np.nonzero(loud_db > loud_db.max() - RANGE_DB)[0].max())
    top_db = 10 * np.log10(power[freqs_hz >= 16_000].sum() / power.sum() + 1e-20)
    return (highest + 1) * BAND_HZ, float(top_db)


def row_of(piece: Piece, path: Path, seconds: float, bandwidth_hz: int, top_db: float) -> dict[str, Any]:
    fonts = "deb:musescore-general-soundfont-lossless, deb:fluid-soundfont-gm"
    return {
        "file": f"music/{path.name}",
        "type": "music",
        "source": f"scripts/render_music.py + {fonts}",
        "original": f"{piece.name}.mid",
        "licence": "own MIDI (CC0), soundfonts MIT",
        "licence_class": "permissive",
        "seconds": round(seconds, 2),
        "sample_rate": RATE_HZ,
        "channels": 2,
        "codec": "flac from WAV/FLOAT",
        "bandwidth_hz": bandwidth_hz,
        "energy_above_16k_db": round(top_db, 1),
        "bytes": path.stat().st_size,
    }


def read_rows(manifest: Path) -> list[dict[str, str]]:
    if not manifest.exists():
        with manifest.open("w", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writeheader()
    with manifest.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def append_row(manifest: Path, row: dict[str, Any]) -> None:
    with manifest.open("a", encoding="utf-8", newline="") as file:
        csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(row)


if __name__ == "__main__":
    main()
