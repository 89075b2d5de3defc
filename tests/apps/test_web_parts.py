"""The demo's pieces that need neither a model nor a browser: looks at uploads, files, pictures, words."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import demo_files
from latentsr.apps.web.desk import shown_name
from latentsr.apps.web.look import WrongFileError, hear_from_outside, look_from_outside
from latentsr.apps.web.store import Store
from latentsr.apps.web.work import output_name

SENTENCES = {
    "paper.pdf": "paper.pdf holds text, not audio; check what was saved under this name",
    "empty.wav": "empty.wav is empty (0 bytes); fetch it again from its source",
    "text.wav": "text.wav holds text, not audio; check what was saved under this name",
    "nan.wav": "nan.wav has 3 samples that are no numbers (NaN or infinite); export it again, or switch on",
    "cut.wav": "cut.wav is damaged or cut short: 1.9 of 3.0 s can be read; fetch a whole copy, or switch on",
    "silent.wav": "silent.wav holds no samples; there is nothing to restore",
}


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


@pytest.mark.parametrize("name", demo_files.WRONG)
def test_a_wrong_file_is_one_sentence_without_a_path(tmp_path, name):
    with pytest.raises(WrongFileError) as error:
        look_from_outside(demo_files.wrong(tmp_path, name), name, 300.0)
    assert str(error.value).startswith(SENTENCES[name])
    assert str(tmp_path) not in str(error.value) and "\n" not in str(error.value)


def test_mending_takes_what_is_left(tmp_path):
    seen = [
        look_from_outside(demo_files.wrong(tmp_path, name), name, 300.0, mend=True) for name in ("nan.wav", "cut.wav")
    ]
    assert [round(each.seconds, 1) for each in seen] == [1.0, 1.9]


@pytest.mark.slow
def test_an_upload_is_heard_and_a_wrong_one_is_not(tmp_path):
    heard = hear_from_outside(demo_files.make(tmp_path, "old.flac", seconds=3.0))
    assert 3_000 < heard["cutoff_hz"] < 4_000 and heard["restore"].startswith("would make 3,")
    assert hear_from_outside(demo_files.wrong(tmp_path, "paper.pdf")) is None
    nan = demo_files.wrong(tmp_path, "nan.wav")
    assert hear_from_outside(nan) is None and hear_from_outside(nan, mend=True)["notes"]


def test_two_hours_of_opus_in_five_megabytes_are_refused_by_length(tmp_path):
    path = demo_files.long_opus(tmp_path)
    assert path.stat().st_size < 5e6
    with pytest.raises(WrongFileError, match=r"^long\.opus is longer than 300 s; cut it into shorter pieces$"):
        look_from_outside(path, path.name, 300.0)


def test_a_length_that_no_header_tells_is_counted(tmp_path):
    path = demo_files.make(tmp_path, "old.flac", seconds=3.0)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # of STREAMINFO: the number of samples, 0 for not known
    data[22:26] = bytes(4)
    path.write_bytes(data)
    assert look_from_outside(path, path.name, 3.1).seconds == 3.0
    with pytest.raises(WrongFileError, match="longer than 2.5 s"):
        look_from_outside(path, path.name, 2.5)


def test_a_name_that_is_no_path_stays_whole():
    assert shown_name(Path("/tmp/x/old.wav")) == "old.wav"
    long = shown_name(Path(f"/tmp/x/{'a' * 250}.flac"))
    assert len(long) == 80 and long.endswith("a….flac")
    assert [output_name(name) for name in ("old.wav", "memo.m4a", "clip.mp4", "noname", "a.OPUS")] == [
        "old.48k.wav", "memo.48k.flac", "clip.48k.flac", "noname.48k.flac", "a.48k.OPUS",
    ]  # fmt: skip


def test_a_session_takes_only_its_own_files_along():
    store = Store()
    shared, own = store.files / "aaa", store.files / "bbb"
    for folder in (shared, own):
        folder.mkdir()
        (folder / "old.wav").write_bytes(b"x")
    store.claim("anna", shared / "old.wav")
    store.claim("ben", shared / "old.wav")  # the same bytes under the same name are one file for gradio
    store.claim("anna", own / "old.wav")
    result = store.new_folder("anna")
    (result / "old.48k.wav").write_bytes(b"y")
    assert store.find(result.name, "old.48k.wav") == result / "old.48k.wav"
    for token, name in ((result.name, ".result"), (result.name, "../bbb/old.wav"), ("bbb", "old.wav"), ("..", "files")):
        assert store.find(token, name) is None
    store.forget("anna")
    assert sorted(path.name for path in store.files.iterdir()) == ["aaa"]
    store.forget("ben")
    assert list(store.files.iterdir()) == []
    store.close()


def test_a_new_result_replaces_the_last_one_and_old_things_go():
    store = Store()
    first, second = store.new_folder("anna"), store.new_folder("anna")
    assert not first.exists() and second.exists()
    (store.files / "half an upload").write_bytes(b"x")
    for path in (second, store.files / "half an upload"):
        os.utime(path, (0, 0))
    (store.files / "fresh").mkdir()
    store.tidy()
    assert [path.name for path in store.files.iterdir()] == ["fresh"]
    store.close()


def test_leftovers_of_a_killed_server_go_and_those_of_a_living_one_stay(temporary):
    code = (
        "from latentsr.apps.web.store import Store; import os; print(Store().root, flush=True); os.kill(os.getpid(), 9)"
    )
    surroundings = {**os.environ, "TMPDIR": str(temporary)}
    run = subprocess.run([sys.executable, "-c", code], env=surroundings, capture_output=True)
    left = Path(run.stdout.decode().strip())
    assert left.is_dir()
    living = temporary / "latentsr-demo-living"
    living.mkdir()
    with (living / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        store = Store()
        assert not left.exists() and living.is_dir() and store.root.is_dir()
    store.close()
    assert not store.root.exists()


@pytest.mark.parametrize("blocks", [1, 7, 400])
def test_a_picture_shows_what_is_there_however_the_blocks_are_cut(blocks):
    picture = pytest.importorskip("latentsr.apps.web.spectrogram", exc_type=ImportError)
    samples = 96_000
    wave = np.sin(2 * np.pi * 6_000 * np.arange(samples) / 48_000).astype(np.float32)
    wave[: samples // 2] = 0
    columns = picture.Columns(samples)
    for block in np.array_split(wave[None], blocks, axis=1):
        columns.push(block)
    levels = columns.levels_db()
    assert levels.shape == (1025, picture.WIDTH) and columns.peak == pytest.approx(1.0, abs=1e-3)
    quiet, loud = levels[:, : picture.WIDTH // 2 - 20], levels[:, picture.WIDTH // 2 + 20 : -20]
    assert quiet.max() == picture.FLOOR_DB
    assert set(loud.argmax(axis=0)) == {256} and loud[256] == pytest.approx(0.0, abs=0.1)  # 6000 Hz / (48000 / 2048)


def test_a_picture_has_high_notes_at_the_top_and_one_scale(tmp_path):
    picture = pytest.importorskip("latentsr.apps.web.spectrogram", exc_type=ImportError)
    from PIL import Image

    levels = np.full((1025, picture.WIDTH), picture.FLOOR_DB)
    levels[256] = levels[257] = levels[258] = 0.0  # 6 kHz
    picture.draw(levels, 0.0, tmp_path / "line.png")
    drawn = np.asarray(Image.open(tmp_path / "line.png").convert("L")).astype(int)
    assert drawn.shape == (picture.HEIGHT, picture.WIDTH)
    assert abs(drawn[:, 0].argmax() - 0.75 * picture.HEIGHT) <= 1.5 and drawn.max() > 240 and np.median(drawn) < 5


def test_what_was_heard_is_a_line_with_what_to_do():
    from latentsr.apps.web import panels

    facts = {"full_band": False, "cutoff_hz": 3_412.0, "cause": {"name": "x", "sentence": "a <line>"}, "lines": [],
             "holes_hz": [None]}  # fmt: skip
    text = "Ends at 3.4 kHz. Probable cause: a &lt;line&gt;."
    assert panels.heard({**facts, "hum": None}) == f'<p class="lsr-heard">{text}</p>'
    assert "Tick Denoise: there is hum at 50 Hz." in panels.heard({**facts, "hum": {"mains_hz": 50}})
    assert "a tone at 15,625 Hz" in panels.heard({**facts, "hum": None, "lines": [{"hz": 15_625.1}]})
    assert "Tick Repair codec holes" in panels.heard({**facts, "hum": None, "holes_hz": [None, 6_000.0]})
    assert panels.heard(None) == ""


def test_what_visitors_write_is_text_in_the_page():
    from latentsr.apps.web import panels
    from latentsr.apps.web.look import Seen

    shown = panels.seen("<img src=x onerror=alert(1)>.wav", Seen(1.0, 8_000, 1, "WAV", "PCM_16"))
    assert "<img" not in shown and "&lt;img src=x onerror=alert(1)&gt;.wav: 1.0 s, 8 kHz, mono" in shown
    assert panels.error('<b>"x"').count("<") == 2
