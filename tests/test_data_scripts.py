"""What trains: scripts/compose.py, render_music.py, gather.py, cut_sets.py and configs/sets."""

import csv
import importlib
import io
import sys
import tarfile
import zipfile
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import firwin, lfilter

ROOT = Path(__file__).resolve().parents[1]
SETS = ROOT / "configs" / "sets"


@pytest.fixture(scope="module")
def script():
    """Imports a script by its name."""
    sys.path.insert(0, str(ROOT / "scripts"))
    yield importlib.import_module
    sys.path.remove(str(ROOT / "scripts"))


def messages(midi):
    """(tick, bytes) of every message of a one-track file without running status, and the ticks per beat."""
    assert midi[:4] == b"MThd" and midi[14:18] == b"MTrk" and len(midi) == 22 + int.from_bytes(midi[18:22], "big")
    at, tick, found = 22, 0, []
    while at < len(midi):
        ticks = 0
        while True:
            ticks, more = ticks << 7 | midi[at] & 127, midi[at] & 128
            at += 1
            if not more:
                break
        size = 3 + midi[at + 2] if midi[at] == 0xFF else 2 if midi[at] & 0xF0 == 0xC0 else 3
        tick += ticks
        found.append((tick, midi[at : at + size]))
        at += size
    return found, int.from_bytes(midi[12:14], "big")


def test_a_seed_and_a_number_are_one_piece(script):
    compose = script("compose").compose
    assert compose("piano", 3, 7).midi == compose("piano", 3, 7).midi
    assert len({compose("piano", seed, number).midi for seed in range(4) for number in range(10)}) == 40


@pytest.mark.parametrize("kind", ["piano", "bells", "strings", "choir", "drums", "ensembles"])
def test_notes_lie_in_the_range_of_their_instrument_and_end(script, kind):
    compose = script("compose")
    for number in range(12):
        found, _ = messages(compose.compose(kind, 0, number).midi)
        banks = {m[0] & 15: m[2] for _, m in found if m[0] & 0xF0 == 0xB0 and m[1] == 0}
        programs = {m[0] & 15: m[1] for _, m in found if m[0] & 0xF0 == 0xC0}
        by_place = {(i.bank, i.program): i for i in compose.INSTRUMENTS.values()}
        sounding = Counter()
        for _, message in found:
            channel, note = message[0] & 15, message[1]
            if message[0] & 0xF0 in (0x80, 0x90):
                bank = compose.DRUM_BANK if channel == compose.DRUM_CHANNEL else banks[channel]
                instrument = by_place[bank, programs[channel]]
                assert instrument.low <= note <= instrument.high
                sounding[channel, note] += 1 if message[0] & 0xF0 == 0x90 else -1
                assert sounding[channel, note] in (0, 1)
        assert found[-1][1] == b"\xff\x2f\x00" and not any(sounding.values())


def test_a_piece_is_about_as_long_as_its_clip(script):
    compose = script("compose")
    for number in range(20):
        piece = compose.compose(compose.kind_of(0, number), 0, number)
        found, ticks_per_beat = messages(piece.midi)
        tempo = next(int.from_bytes(m[3:], "big") for _, m in found if m[:2] == b"\xff\x51") / 1e6
        played_s = found[-1][0] / ticks_per_beat * tempo * piece.render_hz / compose.RATE_HZ
        assert 0.7 * piece.seconds < played_s < 1.05 * piece.seconds + 12  # at most a bar and a last note more


def test_every_role_and_instrument_of_a_line_up_exists_and_the_shares_hold(script):
    compose = script("compose")
    for kind in compose.KINDS.values():
        for part in (part for lineup in kind.lineups for part in lineup.split(", ")):
            name, role = part.split("/")
            assert name in compose.INSTRUMENTS and role in compose.ROLES
    total = sum(kind.share for kind in compose.KINDS.values())
    drawn = Counter(compose.kind_of(5, number) for number in range(2 * total))
    assert drawn == {name: 2 * kind.share for name, kind in compose.KINDS.items()}


@pytest.mark.parametrize("end_hz", [9_000, 16_000, 20_000])
def test_the_measured_bandwidth_is_where_a_filter_cut(script, end_hz):
    noise = np.random.default_rng(0).normal(0, 0.1, (96_000, 2))
    cut = lfilter(firwin(2001, end_hz, fs=48_000, window=("kaiser", 12)), 1, noise, axis=0)
    found_hz, top_db = script("render_music").measure(cut)
    assert abs(found_hz - end_hz) <= 500 and (top_db < -60) == (end_hz < 16_000)


def rows(name):
    with (SETS / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_sets_have_their_sizes_and_their_sources_are_left_out_of_training():
    third, patterns = rows("third.csv"), (SETS / "left_out.txt").read_text(encoding="utf-8").splitlines()
    assert Counter(row["kind"] for row in third) == {"music": 30, "effects": 30, "speech": 30}
    assert len({row["name"] for row in third}) == 90
    for source in (row["source"] for row in third if not row["source"].startswith("third_rendered/")):
        assert any(fnmatchcase(source, pattern) for pattern in patterns), source
    assert Counter(row["kind"] for row in rows("choose.csv")) == {"music": 4, "effects": 4, "speech": 4}


def test_clips_are_cut_where_the_list_says_and_their_sources_are_not_trained_on(script, tmp_path, monkeypatch):
    cut_sets, rng = script("cut_sets"), np.random.default_rng(1)
    sources = {"train": ["a", "b"], "train2": ["c"], "rendered": ["d"], "third_rendered": ["e"]}
    for folder, names in sources.items():
        (tmp_path / folder).mkdir()
        lines = [f"{name}.flac,music,9.0,{name}.wav,1\n" for name in names]
        (tmp_path / folder / "manifest.csv").write_text("file,type,seconds,original,bytes\n" + "".join(lines))
        for name in names:
            soundfile.write(tmp_path / folder / f"{name}.flac", rng.uniform(-0.5, 0.5, 9 * 8_000), 8_000)
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "third.csv").write_text("name,kind,source,start_s\nx,music,train/a.flac,2.5\n")
    (tmp_path / "sets" / "left_out.txt").write_text("# why\ntrain/a*\n")
    monkeypatch.setattr(cut_sets, "SETS", tmp_path / "sets")
    monkeypatch.setattr(sys, "argv", ["cut_sets.py", str(tmp_path)])
    cut_sets.main()
    whole, cut = (soundfile.read(tmp_path / name)[0] for name in ("train/a.flac", "third/music/x.flac"))
    assert np.array_equal(cut, whole[20_000:60_000])
    assert [row["file"] for row in cut_sets.read(tmp_path / "third" / "manifest.csv")] == ["music/x.flac"]
    left = [row["file"] for row in cut_sets.read(tmp_path / "train.csv")]
    assert left == ["train/b.flac", "train2/c.flac", "rendered/d.flac"]
    (tmp_path / "sets" / "left_out.txt").write_text("train/z*\n")
    with pytest.raises(SystemExit, match="no recording matches 'train/z\\*'"):
        cut_sets.main()


def test_every_gathered_package_is_pinned_permissive_and_credited(script):
    attributions, gather = script("attributions"), script("gather")
    lines, keys = rows("gathered.csv"), {}
    for line in lines:
        assert line["registry"] in gather.FETCH and line["version"] and line["credit"], line
        assert line["kind"] in ("music", "speech", "effects") and line["clips"] in ("each", "joined"), line
        assert bool(line["notice"]) == (line["licence"] in ("MIT", "BSD-2-Clause")), line
        key = attributions.source_and_licence(line)
        taken_under = (attributions.NAMES[line["licence"]], line["credit"])
        assert attributions.CREDITS[key] == keys.setdefault(key, taken_under) == taken_under
    held_out = {"exotic-birds", "nitro", "river_loop", "waterfall_loop_2", "metal_clang", "clock"}  # evaluated on
    for line in (line for line in lines if line["package"] == "supertuxkart-data"):
        assert not any(gather.matches(f"data/sfx/{name}.ogg", line["files"]) for name in held_out)


@pytest.fixture
def package(tmp_path, script, monkeypatch):
    """Lays a package where gather.py finds it, so that nothing is fetched, and gathers it."""
    gather = script("gather")
    monkeypatch.setattr(gather.subprocess, "run", lambda *_, **__: pytest.fail("a client was called"))

    def run(files, clips, inside=""):
        place = tmp_path / "packages" / "npm_@a_b_1.0.0"
        place.mkdir(parents=True, exist_ok=True)
        with tarfile.open(place / "b-1.0.0.tgz", "w:gz") as tar:
            for name, data in files.items():
                member = tarfile.TarInfo(f"package/{name}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        line = {"registry": "npm", "package": "@a/b", "version": "1.0.0", "inside": inside, "files": "*.wav !*/not_*"}
        line |= {"kind": "music", "clips": clips, "name": "n", "licence": "CC0-1.0", "author": "A. B."}
        gather.gather(tmp_path, line)
        return gather.read_rows(tmp_path / "manifest.csv")

    return run


def wav(seconds, rate=48_000, end_hz=24_000.0, channels=1):
    wave = np.random.default_rng(round(seconds * 10)).normal(0, 0.1, (round(seconds * rate), channels))
    if end_hz < rate / 2:
        wave = lfilter(firwin(2001, end_hz, fs=rate, window=("kaiser", 12)), 1, wave, axis=0)
    data = io.BytesIO()
    soundfile.write(data, wave, rate, format="WAV", subtype="PCM_16")
    return data.getvalue()


def test_recordings_are_taken_whole_or_their_middle_and_dull_ones_left_out(package, tmp_path, capsys):
    files = {"a.wav": wav(1.5, 44_100), "b.wav": wav(41), "c.wav": wav(2, end_hz=9_000), "d.wav": wav(2, 22_050)}
    files |= {"not_e.wav": wav(1), "f.txt": b"no sound"}
    found = package(files, "each")
    assert [(row["file"], row["seconds"]) for row in found] == [
        ("music/n_a.flac", "1.5"),
        ("music/n_b.flac", "40.0"),
    ]
    assert found[0]["source"] == "npm:@a/b 1.0.0" and found[0]["licence"] == "CC0-1.0 (A. B.)"
    assert "left out n_c: ends at" in capsys.readouterr().out
    wave, rate = soundfile.read(tmp_path / "music" / "n_a.flac")
    assert (rate, len(wave)) == (44_100, 66_150)
    assert len(package(files, "each")) == 2  # again: nothing twice


def test_notes_are_joined_and_channels_and_rates_kept_apart(package):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        for number in range(11):
            archive.writestr(f"x/{number:02}.wav", wav(5 + number / 10))
        archive.writestr("x/20.wav", wav(2, 44_100))
        archive.writestr("x/21.wav", wav(2, 44_100, channels=2))
    found = package({"sounds.pk3": inner.getvalue()}, "joined", inside="*.pk3")
    assert [(row["seconds"], row["sample_rate"], row["channels"]) for row in found] == [
        ("40.0", "48000", "1"),
        ("4.0", "48000", "1"),
        ("2.0", "44100", "1"),
        ("2.0", "44100", "2"),
    ]
    assert found[0]["original"].startswith("00.wav + 01.wav + ")
