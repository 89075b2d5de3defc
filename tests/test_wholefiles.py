"""A file or folder is whole under its name, or what was there is as it was; nothing else is left."""

import hashlib
import os
from pathlib import Path

import pytest

from latentsr import wholefiles


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_at_the_end_of_the_block(tmp_path):
    path = tmp_path / ("n" * 255)
    path.write_bytes(b"old")
    with wholefiles.replacing(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
        (part,) = set(names(tmp_path)) - {path.name}
        assert wholefiles.PART.fullmatch(part)
    assert path.read_bytes() == b"new" and names(tmp_path) == [path.name]


def test_a_block_that_fails_leaves_what_was_there(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    for name in ("a", "b"):
        with pytest.raises(KeyboardInterrupt), wholefiles.replacing(tmp_path / name) as file:
            file.write(b"new")
            raise KeyboardInterrupt
    assert names(tmp_path) == ["a"] and (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize("links", [True, False])
def test_what_came_into_being_meanwhile_stays(tmp_path, monkeypatch, links):
    if not links:

        def refuse(*_):
            raise PermissionError

        monkeypatch.setattr(os, "link", refuse)
    for name in ("made", "more"):
        (tmp_path / name).write_bytes(name.encode())
    wholefiles.publish(tmp_path / "made", tmp_path / "a", replace=False)
    with pytest.raises(FileExistsError):
        wholefiles.publish(tmp_path / "more", tmp_path / "a", replace=False)
    assert names(tmp_path) == ["a", "more"] and (tmp_path / "a").read_bytes() == b"made"


def test_a_folder_takes_the_place_of_another_or_leaves_it(tmp_path):
    target = tmp_path / "model"
    for name in ("first", "second"):
        with wholefiles.replacing_folder(target) as folder:
            (folder / name).mkdir()
        assert names(tmp_path) == ["model"] and names(target) == [name]
    with pytest.raises(OSError, match="full"), wholefiles.replacing_folder(target) as folder:
        raise OSError("full")
    assert names(tmp_path) == ["model"] and names(target) == ["second"]


def test_a_folder_that_cannot_get_its_name_gives_it_back(tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(FileNotFoundError):
        wholefiles.publish_folder(tmp_path / "missing", tmp_path / "model")
    assert names(tmp_path) == ["model"]


def test_the_hash_is_that_of_the_whole_file(tmp_path):
    content = os.urandom(wholefiles.BLOCK_BYTES + 7)
    (tmp_path / "a").write_bytes(content)
    assert wholefiles.sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()
    with (tmp_path / "a").open("rb") as file:
        assert wholefiles.sha256_of(file, b"before") == hashlib.sha256(b"before" + content).hexdigest()
