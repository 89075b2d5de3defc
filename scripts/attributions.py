"""Credits of the training recordings, from their manifests: the same text for NOTICE and for the model card.

    python scripts/attributions.py ../shared/data/train ../shared/data/train2   # print it
    python scripts/attributions.py DIR [DIR ...] --update NOTICE CARD           # replace what stands between the marks

All networks learned from the first folder's recordings; from those of the folders after it the cutoff estimator and the
generator of the default head alone. That one learned from music besides which scripts/render_music.py made: `RENDERED`.
The table below says, per source of the manifest, under which licence we take the files and whom to credit;
for what scripts/gather.py fetched, its list says it.
A source that the table does not know is an error, so no recording can be trained on without its credit.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

BEGIN = "<!-- training data: begin (written by scripts/attributions.py) -->"
END = "<!-- training data: end -->"

GATHERED = Path(__file__).resolve().parents[1] / "configs" / "sets" / "gathered.csv"

CC0, BY3, BY4, MIT = "CC0 1.0", "CC BY 3.0", "CC BY 4.0", "MIT"
LICENCES = {
    CC0: "https://creativecommons.org/publicdomain/zero/1.0/",
    BY3: "https://creativecommons.org/licenses/by/3.0/",
    BY4: "https://creativecommons.org/licenses/by/4.0/",
    MIT: "text at the end of this list",
}

VCTK = (
    BY4,
    "CSTR VCTK Corpus, Junichi Yamagishi, Christophe Veaux, Kirsten MacDonald, The Centre for Speech Technology "
    "Research, University of Edinburgh, https://doi.org/10.7488/ds/2645",
)

# (source, licence) as the manifest has them -> (taken under, credit)
CREDITS: dict[tuple[str, str], tuple[str, str]] = {
    ("github:karolpiczak/ESC-10 @553c8f1", "CC-BY-3.0 (clips CC0/CC-BY, see its README)"): (
        BY3,
        "ESC-10: Dataset for Environmental Sound Classification, Karol J. Piczak, "
        "https://github.com/karolpiczak/ESC-10; its clips are from freesound.org, listed under 'Clips of ESC-10'",
    ),
    ("github:openclonk/openclonk Sound.ocg", "CC-BY-3.0 / CC0 (authors.txt)"): (
        BY3,
        "sounds of OpenClonk, https://github.com/openclonk/openclonk; authors under 'Sounds of OpenClonk'",
    ),
    ("github:openclonk/openclonk Sound.ocg", "CC-BY-3.0 (ala / OpenClonk)"): (
        BY3,
        "character and animal voices of OpenClonk by ala, https://github.com/openclonk/openclonk",
    ),
    ("deb:openclonk-data (openclonk/openclonk Music.ocg)", "CC-BY-3.0 (K-Pone / OpenClonk)"): (
        BY3,
        "music of OpenClonk by K-Pone, https://github.com/openclonk/openclonk",
    ),
    ("deb:sonic-pi-samples", "CC0-1.0"): (CC0, "samples of Sonic Pi, https://github.com/sonic-pi-net/sonic-pi"),
    ("github:Calinou/kenney-*", "CC0-1.0 (Kenney)"): (CC0, "interface sounds by Kenney, https://kenney.nl"),
    ("deb:endless-sky-data", "public domain (freesound CC0)"): (
        CC0,
        "sounds of Endless Sky, made from public-domain sounds of freesound.org, https://endless-sky.github.io",
    ),
    ("github:OHF-Voice/voice-datasets", "CC0-1.0"): (
        CC0,
        "Nabu Casa Voice Datasets (Year of Voice), https://github.com/OHF-Voice/voice-datasets",
    ),
    ("render/gen.py + deb:musescore-general-soundfont-lossless", "own MIDI (CC0), soundfont MIT"): (
        MIT,
        "own General MIDI pieces (CC0) played with the MuseScore_General_HQ sound font",
    ),
    ("deb:naev-data", "Nikola Whallon: GPL-3 or CC-BY-3.0"): (
        BY3,
        "music of Naev by Nikola Whallon, https://naev.org (offered under GPL-3 or CC BY 3.0; taken under CC BY 3.0)",
    ),
    ("deb:naev-data", "Zeropage: CC-BY-3.0"): (BY3, "music of Naev by Zeropage, https://naev.org"),
    ("github:sfzinstruments/body_percussion", "CC0-1.0"): (
        CC0,
        "body percussion, https://github.com/sfzinstruments/body_percussion",
    ),
    ("github:modelscope/ClearerVoice-Studio train/data_generation (VCTK)", "CC-BY-4.0 (VCTK)"): VCTK,
    ("github:dioco-group/jenny-tts-dataset", "Jenny (Dioco) licence: attribution, commercial use permitted"): (
        "Jenny licence (attribution; commercial use permitted)",
        "the voice of Jenny (Dioco), https://github.com/dioco-group/jenny-tts-dataset",
    ),
    ("deb:fretsonfire-songs-sectoid", "MIT (Carlos Viola Iborra)"): (
        MIT,
        "songs by Sectoid (Carlos Viola Iborra), from the Sectoid song pack for Frets on Fire",
    ),
    ("deb:lomiri-sounds", "Mauricio Duarte CC-BY-4.0"): (BY4, "Lomiri sounds by Mauricio Duarte (UBports)"),
    ("deb:lomiri-sounds", "Amber Forest CC-BY-3.0"): (BY3, "Lomiri sounds by Amber Forest (UBports)"),
    ("deb:lomiri-sounds", "TMetso CC-BY-4.0"): (BY4, "Lomiri sounds by TMetso (UBports)"),
    ("github:vocobox/human-voice-dataset", "MIT"): (
        MIT,
        "human voice data set by vocobox, https://github.com/vocobox/human-voice-dataset",
    ),
    ("github:digabi/map-tiles", "CC-BY-3.0 (White Noise Audio)"): (
        BY3,
        "music by White Noise Audio, https://soundcloud.com/bleep-box",
    ),
    ("github:digabi/map-tiles", "CC-BY-3.0 (Hyde)"): (
        BY3,
        "'Acoustic/Pop/Rock/Alternative - Acoustically driven instrumental' by Hyde, "
        "https://soundcloud.com/davidhydemusic/acoustic-pop-rock-alternative",
    ),
    ("github:digabi/map-tiles", "CC-BY-3.0 (MadDirtMonkey)"): (
        BY3,
        "'Electronic Happy Song' by MadDirtMonkey, https://soundcloud.com/maddirtmonkey",
    ),
    ("github:petegordon/Tandemonium", "CC-BY-4.0 (Kevin MacLeod)"): (
        BY4,
        "music by Kevin MacLeod, https://incompetech.com",
    ),
    ("github:therealmanraj/coswara @b8c17ae (data of iiscleap/Coswara-Data)", "CC-BY-4.0 (Coswara, IISc LEAP Lab)"): (
        BY4,
        "Coswara data set, copyright (c) 2021 LEAP Lab, Indian Institute of Science, Bangalore, India, "
        "https://github.com/iiscleap/Coswara-Data (by way of https://github.com/therealmanraj/coswara; silences cut); "
        "N. Sharma et al., 'Coswara - A Database of Breathing, Cough, and Voice Sounds for COVID-19 Diagnosis', "
        "Interspeech 2020",
    ),
    ("deb:gcin-voice", "CC-BY-3.0 (ChionMeilin, voice Chu Lo)"): (
        BY3,
        "Mandarin syllables of gcin-voice, 聲優 羅竺與徵音梅林開發委員會錄音組 (ChionMeilin with the vocal source from "
        "Chu Lo), http://hyperrate.com/thread.php?tid=30325#30325 (joined)",
    ),
    ("github:sfzinstruments/karoryfer.weresax", "CC0-1.0 (Karoryfer Samples)"): (
        CC0,
        "alto saxophone Weresax by Karoryfer Samples, https://github.com/sfzinstruments/karoryfer.weresax",
    ),
    ("github:bigpon/AudioDec_demo (VCTK)", "CC-BY-4.0 (VCTK)"): VCTK,
    ("github:deezer/spleeter", "CC-BY-3.0 (Steven M Bryant, feat. CSoul, Alex Beroza, Robert Siekawitch)"): (
        BY3,
        "'Slow Motion Dream' by Steven M Bryant, (c) 2011, featuring CSoul, Alex Beroza and Robert Siekawitch, "
        "http://dig.ccmixter.org/files/stevieb357/34740 (an excerpt, from https://github.com/deezer/spleeter)",
    ),
}

# the authors of Open Surge whose works are used, by licence; each work is listed with its author
OPEN_SURGE = {
    BY3: [
        "Alexandre Martins (alemart)",
        "Carlos Quinones (MoonDeLaAxel)",
        "Colin Beard (SilverstepP)",
        "Eddy Bergman",
        "InspectorJ",
        "Mateus Reis (KZR)",
        "Victor Seven (TheSeventhEmerald)",
        "Viktor Kraus",
    ],
    BY4: ["Alexandre Almeida (M374LX)", "Carlos Quinones (MoonDeLaAxel)", "Cody Licorish (svgmovement)"],
    CC0: ["Selector", "cynicmusic", "daboy291", "kyles", "little_dog4000", "mas123456"],
}
CREDITS |= {
    ("github:alemart/opensurge", f"{licence.replace(' ', '-')} ({author})"): (
        licence,
        "works of Open Surge, https://github.com/alemart/opensurge; authors under 'Works of Open Surge'",
    )
    for licence, authors in OPEN_SURGE.items()
    for author in authors
}

# what scripts/gather.py fetches: its words for a licence -> ours
NAMES = {
    "CC0-1.0": CC0,
    "CC-BY-3.0": BY3,
    "MIT": MIT,
    "BSD-2-Clause": "BSD 2-Clause (text at the end of this list)",
    "public domain": "public domain",
}


def gathered() -> list[dict[str, str]]:
    """The lines of the list of packages."""
    with GATHERED.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def source_and_licence(line: dict[str, str]) -> tuple[str, str]:
    """What a manifest says of the files of one line."""
    return f"{line['registry']}:{line['package']} {line['version']}", f"{line['licence']} ({line['author']})"


CREDITS |= {source_and_licence(line): (NAMES[line["licence"]], line["credit"]) for line in gathered()}

# credits that name the works too
TITLED = ("Nikola", "Zeropage", "K-Pone", "Kevin", "Mauricio", "Amber", "TMetso", "White Noise", "Sectoid")

RENDERED = (
    "The generator of the default head learned from 80 minutes of music besides, composed by rule and rendered by "
    "scripts/render_music.py (own MIDI, CC0) with the sound fonts MuseScore_General and FluidR3_GM, MIT."
)
MIT_HOLDERS = [
    "Copyright (c) 2014 vocobox (human voice data set)",
    "Copyright (c) 2006/2007 Carlos Viola Iborra (songs of Sectoid)",
    "MuseScore_General_HQ sound font: adaptation (c) 2018-2021 S. Christian Collins; packaging and metronome (c) "
    "2018-2021 mirabilos; Fluid (R3) Mono (c) 2014-2017 Michael Cowgill; temple blocks (c) 2002 Ethan Winer; drumline "
    "cymbals (c) 2016 Michael Schorsch; Fluid (R3) (c) 2000-2002, 2008 Frank Wen; (c) 2008 Toby Smithe",
]
MIT_TEXT = """\
Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."""
BSD_TEXT = """\
Redistribution and use in source and binary forms, with or without modification, are permitted provided that the
following conditions are met:

1. Redistributions of source code must retain the above copyright notice, this list of conditions and the following
   disclaimer.
2. Redistributions in binary form must reproduce the above copyright notice, this list of conditions and the following
   disclaimer in the documentation and/or other materials provided with the distribution.

THIS SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND: ANY EXPRESS OR IMPLIED WARRANTIES, INCLUDING, BUT NOT
LIMITED TO, THE IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE ARE DISCLAIMED. IN NO EVENT
SHALL THE AUTHORS OR CONTRIBUTORS BE LIABLE FOR ANY DIRECT, INDIRECT, INCIDENTAL, SPECIAL, EXEMPLARY, OR CONSEQUENTIAL
DAMAGES (INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS OR SERVICES; LOSS OF USE, DATA, OR PROFITS; OR
BUSINESS INTERRUPTION) HOWEVER CAUSED AND ON ANY THEORY OF LIABILITY, WHETHER IN CONTRACT, STRICT LIABILITY, OR TORT
(INCLUDING NEGLIGENCE OR OTHERWISE) ARISING IN ANY WAY OUT OF THE USE OF THIS SOFTWARE, EVEN IF ADVISED OF THE
POSSIBILITY OF SUCH DAMAGE."""


def attributions(folders: list[Path]) -> str:
    """Markdown list of every credit for the recordings in the `manifest.csv` of each folder, folder by folder."""
    manifests = [_rows(folder) for folder in folders]
    first, total = len(manifests[0]), sum(map(len, manifests))
    who = (
        ": the cutoff estimator and the generator of the default head on all, every other network on the first "
        f"{first} alone"
        if total > first
        else ""
    )
    parts = [
        f"The embedded weights were trained on recordings from these {total} files, cut, joined, mixed, filtered and "
        f"converted for training{who}. They are taken under the licences named here, and thanks are due to:"
    ]
    for folder, rows in zip(folders, manifests, strict=True):
        if folder != folders[0]:
            parts.append(
                f"Further files ({len(rows)}), from which the cutoff estimator and that generator alone learned:"
            )
        parts += ["\n".join(_sources(rows)), *_lists(rows, folder / "licences")]
    if total > first:
        parts.append(RENDERED)
    parts += [
        "Licences: " + "; ".join(f"{name} ({url})" for name, url in LICENCES.items()) + ".",
        _text("MIT", MIT_HOLDERS + _notices(manifests, "MIT"), MIT_TEXT),
    ]
    if holders := _notices(manifests, "BSD-2-Clause"):
        parts.append(_text("BSD 2-Clause", holders, BSD_TEXT))
    return "\n\n".join(parts)


def _text(name: str, holders: list[str], text: str) -> str:
    return f"{name}, for:\n\n" + "\n".join(f"- {holder}" for holder in holders) + "\n\n" + text


def _notices(manifests: list[list[dict[str, str]]], licence: str) -> list[str]:
    """The copyright notices of the gathered packages under a licence that are in the manifests."""
    used = {(row["source"], row["licence"]) for rows in manifests for row in rows}
    return [line["notice"] for line in gathered() if line["licence"] == licence and source_and_licence(line) in used]


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _sources(rows: list[dict[str, str]]) -> Iterable[str]:
    keys = [(row["source"], row["licence"]) for row in rows]
    unknown = set(keys) - CREDITS.keys()
    if unknown:
        raise SystemExit(f"no credit for {sorted(unknown)}; add it to CREDITS in scripts/attributions.py")
    for (licence, credit), count in Counter(CREDITS[key] for key in keys).most_common():
        works = sorted({_title(row) for row, key in zip(rows, keys, strict=True) if CREDITS[key] == (licence, credit)})
        titles = f" ({', '.join(works)})" if any(name in credit for name in TITLED) else ""
        yield f"- {credit}{titles}: {count} {'file' if count == 1 else 'files'}, {licence}"


def _lists(rows: list[dict[str, str]], licences: Path) -> Iterable[str]:
    """The lists of single works and people of those sources that want one."""
    sources = {row["source"] for row in rows}
    if any("ESC-10" in source for source in sources):
        yield "Clips of ESC-10 (title, author, source, the clip's own licence):"
        yield "\n".join(_esc10(rows, licences / "ESC-10-README.txt"))
    if any("Sound.ocg" in source for source in sources):
        yield "Sounds of OpenClonk (authors; CC BY 3.0, or CC0 where said):"
        yield "\n".join(_openclonk(licences / "openclonk-Sound-authors.txt"))
    if any("OHF" in source for source in sources):
        yield "Voices of the Nabu Casa data sets (CC0): " + ", ".join(_voices(rows)) + "."
    if any("opensurge" in source for source in sources):
        yield "Works of Open Surge (file, author, where the author is found, licence; notes):"
        yield "\n".join(_open_surge(rows, licences / "opensurge-copyright_data.csv"))


def _title(row: dict[str, str]) -> str:
    original = Path(row["original"]).stem
    if original == "song":  # a song pack: the folder, kept in our file name, is the title
        return Path(row["file"]).stem.partition("_")[2].replace("_", " ")
    return original.lstrip("@")


def _esc10(rows: list[dict[str, str]], readme: Path) -> list[str]:
    text = readme.read_text(encoding="utf-8")
    found = re.findall(r"\[(\S+\.ogg)\]:\s+clip derived from (.+) \((http\S+?)/?\) by (.+) \[(CC\S+)\]", text)
    clips = {name: (title, author, url, licence) for name, title, url, author, licence in found}
    used = {clips[row["original"]] for row in rows if "ESC-10" in row["source"]}
    return sorted(f"- {title}, {a}, {url.removeprefix('http://www.')}, {licence}" for title, a, url, licence in used)


def _openclonk(authors: Path) -> list[str]:
    """One line per author, continuation lines folded in."""
    text = authors.read_text(encoding="utf-8").expandtabs(4)
    attributed, public = text.split("The following sound effects are licensed under the CC 0 license", 1)
    lines = []
    for body, licence in ((attributed, ""), (public, " [CC0]")):
        for name, works in re.findall(r"^(\w[^\n]*?) *- +(.*(?:\n[ ,].*)*)", body, flags=re.MULTILINE):
            works = re.sub(r"https?://(www\.)?", "", works)
            works = re.sub(r"\s+", " ", re.sub(r"\n *- +", "; ", works)).strip(" ,-")
            lines.append(f"- {name.strip(' ,')}{licence}: {works}")
    return lines


def _voices(rows: list[dict[str, str]]) -> list[str]:
    files = [Path(row["file"]).stem for row in rows if "OHF" in row["source"]]
    return sorted({file.removeprefix("ohf_").split("_", 2)[-1] for file in files})


def _open_surge(rows: list[dict[str, str]], authors: Path) -> list[str]:
    with authors.open(newline="", encoding="utf-8") as file:
        works = {work["File"]: work for work in csv.DictReader(file, delimiter=";")}
    lines = set()
    for row in (row for row in rows if "opensurge" in row["source"]):
        work = works.get(row["original"])
        if work is None or row["licence"] != f"{work['License']} ({work['Author']})":
            raise SystemExit(f"{authors} does not have {row['original']} as {row['licence']}; correct the manifest")
        told = [Path(work["File"]).name, work["Author"], work["Website"], work["License"]]
        lines.add("- " + ", ".join(filter(None, told)) + (f"; {work['Notes']}" if work["Notes"] else ""))
    return sorted(lines)


def update(path: Path, text: str) -> None:
    """Replace what stands between the marks in `path`."""
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{path} has no place for the credits; put these two lines there:\n{BEGIN}\n{END}")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="folder with manifest.csv and licences/")
    parser.add_argument("--update", type=Path, nargs="+", default=[], metavar="FILE", help="files that hold the marks")
    arguments = parser.parse_args()
    text = attributions(arguments.folders)
    for path in arguments.update:
        update(path, text)
    if not arguments.update:
        sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
