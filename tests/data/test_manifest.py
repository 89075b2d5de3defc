"""A manifest is read as written, and a line that cannot be used is named."""

import pytest

from latentsr.data.manifest import DataError, read_manifest

HEADER = "file,type,bandwidth_hz,seconds,split\n"


def write(folder, text):
    path = folder / "manifest.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_columns_become_fields(tmp_path):
    path = write(tmp_path, HEADER + '"a, b.wav",music,16000,2.5,test\nsub/c.flac,speech,,,\n')
    first, second = read_manifest(path)
    assert (first.path, first.kind) == (tmp_path / "a, b.wav", "music")
    assert (first.bandwidth_hz, first.seconds, first.split) == (16_000, 2.5, "test")
    assert (second.path, second.bandwidth_hz, second.seconds, second.split) == (
        tmp_path / "sub" / "c.flac",
        None,
        None,
        "train",
    )


def test_annotations_are_left_alone_and_a_byte_order_mark_too(tmp_path):
    path = write(tmp_path, "\ufefffile,type,licence,codec\na.wav,music,CC0,FLAC\n")
    assert [clip.bandwidth_hz for clip in read_manifest(path)] == [None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: column 'file' is missing; found nothing"),
        ("path,type\na.wav,music\n", "line 1: column 'file' is missing; found path, type"),
        ("file,kind\na.wav,music\n", "line 1: column 'type' is missing"),
        ("file,type,bandwith_hz\na.wav,music,1\n", "unknown column 'bandwith_hz'; did you mean 'bandwidth_hz'"),
        ("file,type\n", "lists no files"),
        (HEADER + "a.wav,music,,,\nb.wav,music,high,,\n", "line 3: bandwidth_hz must be a positive number or empty"),
        (HEADER + "a.wav,music,nan,,\n", "line 2: bandwidth_hz must be a positive number or empty, got 'nan'"),
        (HEADER + "a.wav,music,0,,\n", "line 2: bandwidth_hz"),
        (HEADER + "a.wav,music,,-1,\n", "line 2: seconds"),
        (HEADER + "a.wav,music,,,valid\n", "line 2: split 'valid' is not one of train, validation, test"),
        (HEADER + "a.wav,,,,\n", "line 2: 'type' is empty"),
        (HEADER + ",music,,,\n", "line 2: 'file' is empty"),
        (HEADER + "a.wav,music\n", "line 2: the number of fields differs"),
        (HEADER + "a, b.wav,music,,,\n", "line 2: the number of fields differs"),
        (HEADER + "a.wav,music,,,\na.wav,music,,,\n", "lists a.wav twice"),
        (HEADER + '"a.wav,music,,,\n', "is not a UTF-8 CSV file"),
    ],
)
def test_bad_lines_are_named(tmp_path, text, message):
    with pytest.raises(DataError) as error:
        read_manifest(write(tmp_path, text))
    assert message in str(error.value)
    assert "manifest.csv" in str(error.value)


@pytest.mark.parametrize(
    "name", ["/etc/a.wav", "../a.wav", "x/../../a.wav", "C:/a.wav", "\\\\host\\a.wav", "..\\a.wav"]
)
def test_a_file_outside_the_folder_is_refused(tmp_path, name):
    with pytest.raises(DataError, match="line 2: .* leads out of the manifest's folder"):
        read_manifest(write(tmp_path, f"{HEADER}{name},music,,,\n"))


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "manifest.csv"
    path.write_bytes(b"\xff\xfe\x00\x01" * 10)
    with pytest.raises(DataError, match="is not a UTF-8 CSV file"):
        read_manifest(path)


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(DataError, match="cannot read manifest .*none.csv: No such file"):
        read_manifest(tmp_path / "none.csv")


def test_the_training_manifest(shared):
    clips = read_manifest(shared / "data" / "train" / "manifest.csv")
    assert len(clips) == 928
    assert {clip.kind for clip in clips} == {"music", "effects", "speech"}
    assert all(15_000 < clip.bandwidth_hz <= 24_000 for clip in clips)
    assert all(clip.path.is_file() for clip in clips)
