"""Cut the third set of clips, on which nothing is chosen, and list what is left to train on.

    python scripts/cut_sets.py DATA

DATA holds the folders (or links to folders) `train`, `train2`, `rendered` and `third_rendered`, each with its
`manifest.csv`; the last two come from `render_music.py`. `configs/sets/third.csv` says which files are cut and where:
DATA/third gets kind/NAME.flac, at most 5 s each, at the rate of the source, and `manifest.csv`. DATA/train.csv is the
manifest of the first three folders without what `configs/sets/left_out.txt` names: `data=DATA/train.csv` trains on it.
"""

from __future__ import annotations

import argparse
import csv
from fnmatch import fnmatchcase
from pathlib import Path

import soundfile as sf

SETS = Path(__file__).resolve().parents[1] / "configs" / "sets"
TRAINING = ("train", "train2", "rendered")
LENGTH_S = 5.0

Row = dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    rows = {row["file"]: row for folder in (*TRAINING, "third_rendered") for row in rows_of(data, folder)}
    write(data / "third" / "manifest.csv", [cut(data, clip, rows) for clip in read(SETS / "third.csv")])
    write(data / "train.csv", left_to_train(rows))


def cut(data: Path, clip: Row, rows: dict[str, Row]) -> Row:
    """Write one clip, and return its row of the manifest."""
    source, start_s = data / clip["source"], float(clip["start_s"])
    with sf.SoundFile(source) as file:
        file.seek(round(start_s * file.samplerate))
        wave, rate = file.read(round(LENGTH_S * file.samplerate), always_2d=True), file.samplerate
    name = f"{clip['kind']}/{clip['name']}.flac"
    path = data / "third" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, wave, rate, subtype="PCM_24")
    changed = {"file": name, "original": clip["source"], "seconds": f"{len(wave) / rate:.2f}"}
    return {**rows[clip["source"]], **changed, "bytes": str(path.stat().st_size)}


def left_to_train(rows: dict[str, Row]) -> list[Row]:
    """Rows of the training folders that left_out.txt does not match; a pattern without any match is an error."""
    lines = (SETS / "left_out.txt").read_text(encoding="utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    for pattern in patterns:
        if not any(fnmatchcase(file, pattern) for file in rows):
            raise SystemExit(f"left_out.txt: no recording matches {pattern!r}; correct the line or remove it")
    files = [file for file in rows if file.split("/")[0] in TRAINING]
    return [rows[file] for file in files if not any(fnmatchcase(file, pattern) for pattern in patterns)]


def rows_of(data: Path, folder: str) -> list[Row]:
    return [{**row, "file": f"{folder}/{row['file']}"} for row in read(data / folder / "manifest.csv")]


def read(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
