"""Which recordings a batch takes, and where their outputs go."""

import os
from pathlib import Path

import pytest
from batch_fakes import recording

from latentsr.apps.batch.plan import Item, find, largest_first, plan
from latentsr.apps.batch.ray_engine import grouped
from latentsr.apps.restore import UsageError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x" * len(name))


def targets(root: Path, dest: Path, format: str | None = None) -> dict[str, str]:
    return {item.name: item.target for item in plan(find(str(root), dest), dest, format=format)}


@pytest.fixture
def src(tmp_path) -> Path:
    (tmp_path / "src").mkdir()
    return tmp_path / "src"


@pytest.fixture
def dest(tmp_path) -> Path:
    return tmp_path / "dest"


# --- what is found ---------------------------------------------------------------------------------


def test_a_folder_is_searched_for_names_of_recordings(src, dest):
    touch(src, "a.wav", "sub/deep/B.FLAC", "c.m4a", "cover.jpg", "notes.txt", "README", "._a.wav", ".hidden/d.wav")
    found = find(str(src), dest)
    assert found.names == ["a.wav", "c.m4a", "sub/deep/B.FLAC"]
    assert found.other == {".jpg": 1, ".txt": 1, "no extension": 1}


def test_outputs_within_src_are_no_inputs(src):
    touch(src, "a.wav", "out/a.wav", "out/latentsr-journal.jsonl")
    assert find(str(src), src / "out").names == ["a.wav"]
    assert find(f"{src}/**", src / "out").names == ["a.wav"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("*.wav", ["a.wav"]), ("**/*.wav", ["a.wav", "sub/b.wav"]), ("s*/*", ["sub/b.wav", "sub/c.data"])],
)
def test_a_pattern_is_taken_at_its_word(src, dest, pattern, expected):
    touch(src, "a.wav", "sub/b.wav", "sub/c.data")
    assert [name for name in find(f"{src}/{pattern}", dest).names] == expected


MANIFESTS = {
    "m.csv": b"file,type\na.wav,music\nsub/b.wav,speech\n",
    "bom.csv": b"\xef\xbb\xbffile\r\na.wav\r\nsub/b.wav\r\na.wav\r\n",
    "m.jsonl": b'{"file": "a.wav"}\n\n{"file": "sub/b.wav", "type": "music"}\n',
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_names_files_relative_to_itself(src, dest, name):
    touch(src, "a.wav", "sub/b.wav", "other.wav")
    (src / name).write_bytes(MANIFESTS[name])
    found = find(str(src / name), dest)
    assert (found.root, found.names) == (src, ["a.wav", "sub/b.wav"])


def test_a_manifest_holds_names_that_are_not_utf8(src, dest):
    name = os.fsdecode(b"caf\xe9.wav")
    touch(src, name)
    (src / "m.csv").write_bytes(b"file\ncaf\xe9.wav\n")
    assert find(str(src / "m.csv"), dest).names == [name]


BAD = {
    "no column": ("m.csv", b"name\na.wav\n", "column 'file' is missing"),
    "empty": ("m.csv", b"", "column 'file' is missing"),
    "escape": ("m.csv", b"file\n../../secret.wav\n", "leads out of the manifest's folder"),
    "absolute": ("m.csv", b"file\n/etc/passwd\n", "leads out of the manifest's folder"),
    "drive": ("m.csv", b"file\nC:\\x.wav\n", "leads out of the manifest's folder"),
    "inner escape": ("m.jsonl", b'{"file": "sub/../../x.wav"}\n', "leads out of the manifest's folder"),
    "no CSV": ("m.csv", b'file\n"a.wav\n', "is not CSV"),
    "huge field": ("m.csv", b"file\n" + b"x" * 200_000 + b"\n", "is not CSV"),
    "no JSON": ("m.jsonl", b"file\n", "is not JSON"),
    "deep JSON": ("m.jsonl", b"[" * 100_000, "is not JSON"),
    "no object": ("m.jsonl", b'["a.wav"]\n', "'file' is not a name"),
    "a number": ("m.jsonl", b'{"file": 7}\n', "'file' is not a name"),
    "NUL": ("m.jsonl", b'{"file": "a\\u0000.wav"}\n', "'file' is not a name"),
    "blank": ("m.jsonl", b'{"file": " "}\n', "'file' is empty"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_manifest_is_refused_with_its_line(src, dest, case):
    name, data, message = BAD[case]
    (src / name).write_bytes(data)
    with pytest.raises(UsageError, match=message):
        find(str(src / name), dest)


@pytest.mark.parametrize("src_is", ["missing", "one file", "empty", "dest", "only text", "pattern without match"])
def test_what_is_no_source_is_wrong_usage(src, dest, src_is):
    touch(src, "sub/notes.txt", "one.wav")
    (src / "empty").mkdir()
    given = {
        "missing": src / "nowhere",
        "one file": src / "one.wav",
        "empty": src / "empty",
        "dest": dest,
        "only text": src / "sub",
        "pattern without match": src / "*.flac",
    }
    dest.mkdir()
    with pytest.raises(UsageError):
        find(str(given[src_is]), dest)


def test_links_and_what_is_no_file_are_left_out_with_a_reason(src, dest, tmp_path):
    touch(tmp_path / "elsewhere", "secret.wav", "sub/b.wav")
    touch(src, "a.wav")
    (src / "link.wav").symlink_to(tmp_path / "elsewhere" / "secret.wav")
    (src / "sub").symlink_to(tmp_path / "elsewhere" / "sub")
    os.mkfifo(src / "pipe.wav")
    (src / "zero.wav").symlink_to("/dev/zero")
    found = find(str(src), dest)
    assert found.names == ["a.wav"]
    assert {name: reason.split(",")[0] for name, reason in found.left_out} == {
        "link.wav": "a symbolic link; --follow-links takes it",
        "sub": "a symbolic link; --follow-links takes it",
        "pipe.wav": "a named pipe",
        "zero.wav": "a symbolic link; --follow-links takes it",
    }
    followed = find(str(src), dest, follow_links=True)
    assert followed.names == ["a.wav", "link.wav", "sub/b.wav"]
    assert dict(followed.left_out)["zero.wav"] == "a device, not a recording"
    (src / "m.csv").write_text("file\nsub/b.wav\na.wav\n")
    assert find(str(src / "m.csv"), dest).names == ["a.wav"]


def test_a_circle_of_links_ends(src, dest):
    touch(src, "sub/a.wav")
    (src / "sub" / "up").symlink_to(src)
    assert find(str(src), dest, follow_links=True).names == ["sub/a.wav"]


# --- where it goes ---------------------------------------------------------------------------------


def test_names_and_folders_are_kept(src, dest):
    touch(src, "a.wav", "sub/b.mp3", "sub/c.m4a", "d.e.flac")
    assert targets(src, dest) == {
        "a.wav": "a.wav", "sub/b.mp3": "sub/b.mp3", "sub/c.m4a": "sub/c.flac", "d.e.flac": "d.e.flac"
    }  # fmt: skip
    assert targets(src, dest, "flac")["d.e.flac"] == "d.e.flac"


def test_names_that_meet_keep_their_old_extension(src, dest):
    touch(src, "a.wav", "a.mp3", "b.wav")
    assert targets(src, dest, "flac") == {"a.wav": "a.wav.flac", "a.mp3": "a.mp3.flac", "b.wav": "b.flac"}


def test_names_that_differ_in_case_are_numbered(src, dest):
    touch(src, "a.wav", "A.wav", "Sub/x.wav", "sub/x.wav")
    assert targets(src, dest) == {
        "A.wav": "A.wav.wav", "a.wav": "a.wav (2).wav", "Sub/x.wav": "Sub/x.wav.wav", "sub/x.wav": "sub/x.wav (2).wav"
    }  # fmt: skip


def test_an_accent_written_in_two_ways_is_one_name(src, dest):
    touch(src, "caf\u00e9.wav", "cafe\u0301.wav")
    assert len({name.casefold() for name in targets(src, dest).values()}) == 2
    assert "caf\u00e9.wav (2).wav" in targets(src, dest).values()


def test_a_folder_named_like_an_output(src, dest):
    touch(src, "a.wav", "a.flac/b.wav")
    assert targets(src, dest, "flac") == {"a.wav": "a.wav.flac", "a.flac/b.wav": "a.flac/b.flac"}


@pytest.mark.parametrize("letter", ["x", "\u00e9", "\udce9"])
def test_names_too_long_for_their_new_extension_are_cut_and_stay_apart(src, dest, letter):
    stem = os.fsdecode((os.fsencode(letter) * 251)[: 250 if letter == "\u00e9" else 251])
    first, second = f"{stem}.wav", f"{stem[:-1]}y.wav" if letter != "\u00e9" else f"{stem[:-1]}yy.wav"
    touch(src, first, second)
    made = targets(src, dest, "flac")
    assert len(set(made.values())) == 2
    assert all(len(os.fsencode(name)) <= 255 and name.endswith(".flac") for name in made.values())
    for name in made.values():
        touch(dest, name)  # the file system takes them


def test_outputs_never_replace_inputs(src, tmp_path):
    touch(src, "a.wav", "sub/a.wav")
    with pytest.raises(UsageError, match="would replace the input a.wav"):
        plan(find(f"{src}/s*/..*", src), src) if False else plan(find(str(src), src / "other"), src)
    dest = tmp_path / "dest"
    dest.mkdir()
    os.link(src / "a.wav", dest / "a.wav")
    with pytest.raises(UsageError, match=r"the output of a\.wav would replace the input a\.wav"):
        plan(find(str(src), dest), dest)


def test_the_largest_come_first(src, dest):
    for name, seconds in {"a": 0.1, "b": 0.3, "c": 0.2}.items():
        recording(src / f"{name}.wav", seconds=seconds)
    assert [item.name for item in largest_first(plan(find(str(src), dest), dest))] == ["b.wav", "c.wav", "a.wav"]


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_groups_hold_about_equal_seconds_of_audio(workers):
    """One recording of an hour, many short ones, and some that nothing is known of."""
    seconds = [3_600.0, *([20.0] * 500), *([0.0] * 100)]
    items = [Item(f"{index:03}.wav", Path("x"), "x") for index in range(len(seconds))]
    groups = grouped(items, seconds, workers)
    assert sorted(item.name for group in groups for item in group) == [item.name for item in items]
    known = dict(zip((item.name for item in items), seconds, strict=True))
    sums = [sum(known[item.name] for item in group) for group in groups]
    limit = sum(seconds) / (8 * workers)
    assert all(total <= limit or len(group) == 1 for total, group in zip(sums, groups, strict=True))
    assert (sums[0], len(groups[0])) == (3_600.0, 1 if limit < 3_620 else len(groups[0]))
    assert max(map(len, groups)) <= 64
    assert len(groups) >= workers
