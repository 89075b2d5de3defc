"""The journal and the locks: what is written survives its writers."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from latentsr.apps.batch.journal import NAME, Journal, JournalError
from latentsr.apps.batch.locks import SUPERVISOR, BusyError, remove_parts, share_workers_lock, supervisor_lock


def done(journal, name, key="k"):
    return journal.append("done", name, key=key, output=name, identity=[1, 2], record={"input": name})


def test_a_line_is_one_event_and_is_read_once(tmp_path):
    ours, theirs = Journal(tmp_path, "r"), Journal(tmp_path, "r")
    ours.append("run")
    ours.append("start", "caf\udce9.wav", key="k", output="o", replaces=None)
    assert theirs.histories["caf\udce9.wav"].tries == 0
    assert [entry["event"] for entry in theirs.refresh()] == ["run", "start"]
    assert (theirs.latest_run, theirs.histories["caf\udce9.wav"].tries) == ("r", 1)
    assert theirs.refresh() == []
    done(ours, "caf\udce9.wav")
    assert len(theirs.refresh()) == 1
    history = theirs.histories["caf\udce9.wav"]
    assert (history.last["event"], history.begun, history.tries) == ("done", None, 0)
    (tmp_path / NAME).read_text(encoding="ascii")


@pytest.mark.parametrize(
    "torn", [b'{"event": "done", "ru', b"\0" * 100, b"\xff\xfe", b'"text"', b"[]", b"{}", b"9" * 9]
)
def test_a_torn_line_costs_no_other(tmp_path, torn):
    journal = Journal(tmp_path, "r")
    done(journal, "a")
    with (tmp_path / NAME).open("ab") as file:
        file.write(torn)
    done(journal, "b")
    reader = Journal(tmp_path, "r")
    assert [entry["file"] for entry in reader.refresh()] == ["a", "b"]


@pytest.mark.parametrize("field", ["key", "output", "identity", "record", "run"])
def test_an_entry_that_lacks_a_field_is_none(tmp_path, field):
    journal = Journal(tmp_path, "r")
    entry = done(journal, "a")
    (tmp_path / NAME).write_text(json.dumps({k: v for k, v in entry.items() if k != field}) + "\n")
    assert journal.refresh() == []


def _append_many(dest, count):
    journal = Journal(dest, "r")
    for index in range(count):
        journal.append("lost", f"{os.getpid()}-{index}", error="x" * 2_000)


def test_many_writers_lose_nothing(tmp_path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append_many, args=(tmp_path, 100)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
    entries = Journal(tmp_path, "r").refresh()
    assert len({entry["file"] for entry in entries}) == 400
    assert len((tmp_path / NAME).read_bytes().splitlines()) == 400


FULL = """
import resource, signal, sys
from pathlib import Path
from latentsr.apps.batch.journal import Journal, JournalError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
journal = Journal(Path(sys.argv[1]), "r")
for index in range(99):
    try:
        journal.append("lost", f"{index}", error="x" * 99)
    except JournalError as error:
        sys.exit(f"{index} {error}")
"""


def test_a_full_disk_leaves_only_whole_lines_and_says_so(tmp_path):
    run = subprocess.run([sys.executable, "-c", FULL, tmp_path], capture_output=True, text=True, timeout=60)
    written = int(run.stderr.split()[0])
    assert "cannot write the journal" in run.stderr and "--resume" in run.stderr
    assert written > 0
    assert [entry["file"] for entry in Journal(tmp_path, "r").refresh()] == [str(index) for index in range(written)]
    assert (tmp_path / NAME).read_bytes().endswith(b"}\n")


@pytest.mark.parametrize("what", ["link", "pipe", "folder"])
def test_a_journal_that_is_no_file_is_refused(tmp_path, what):
    (tmp_path / "precious").write_text("precious")
    make = {
        "link": lambda path: path.symlink_to(tmp_path / "precious"),
        "pipe": os.mkfifo,
        "folder": lambda path: path.mkdir(),
    }
    make[what](tmp_path / NAME)
    with pytest.raises(JournalError, match="cannot write the journal"):
        Journal(tmp_path, "r").append("run")
    assert (tmp_path / "precious").read_text() == "precious"


# --- locks -----------------------------------------------------------------------------------------


def test_the_second_of_two_runs_says_so(tmp_path):
    busy = pytest.raises(BusyError, match="another latentsr batch is at work")
    with supervisor_lock(tmp_path, print), busy, supervisor_lock(tmp_path, print):
        pass
    with supervisor_lock(tmp_path, print):
        pass


def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / SUPERVISOR).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Exception, match="cannot write"), supervisor_lock(tmp_path, print):
        pass
    assert not (tmp_path / "elsewhere").exists()


HOLD = """
import sys, time
from pathlib import Path
from latentsr.apps.batch.locks import share_workers_lock
share_workers_lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_run_waits_for_leftover_workers_and_then_clears_up(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    part, kept = tmp_path / "sub" / ".latentsr-0123456789ab.part", tmp_path / "sub" / ".latentsr-x.part"
    part.parent.mkdir()
    part.touch(), kept.touch()
    said: list[str] = []

    def end(text: str) -> None:
        said.append(text)
        assert part.exists()
        holder.send_signal(signal.SIGKILL)

    began = time.monotonic()
    with supervisor_lock(tmp_path, end):
        assert len(said) == 1 and "waiting for workers" in said[0]
        assert not part.exists() and kept.exists()
        os.close(share_workers_lock(tmp_path))
    assert time.monotonic() - began < 10
    holder.wait()


def test_only_half_written_files_are_removed(tmp_path):
    names = [".latentsr-0123456789ab.part", "x.part", ".latentsr-0123456789ab.part.wav", ".latentsr-0123456789AB.part"]
    for name in names:
        (tmp_path / name).touch()
    remove_parts(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])
