"""What every engine promises, tested alike over all three; Ray on a cluster of two nodes on this machine."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from batch_fakes import FakeModel, recording

from latentsr import audio
from latentsr.apps.batch import command
from latentsr.apps.batch.command import Request, run_batch
from latentsr.apps.batch.journal import NAME, BatchError
from latentsr.apps.restore import Options, UsageError

DEFAULT = Options()
RAY = pytest.param("ray", marks=pytest.mark.slow)  # a cluster takes a minute to come and go
OTHERS = ["local", RAY]  # engines with workers that can be lost
NODES = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster of two nodes with a processor each: a task that is lost may go on at the other one."""
    pytest.importorskip("ray")
    paths = os.pathsep.join([str(Path(command.__file__).parents[3]), str(Path(__file__).parent)])
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": paths}
    # Ray may end whatever process talks to it: not the one with the tests.
    nodes = subprocess.Popen([sys.executable, "-c", NODES], env=environment, stdin=-1, stdout=-1, text=True)
    yield nodes.stdout.readline().strip()
    nodes.communicate(timeout=60)


@pytest.fixture
def src(tmp_path) -> Path:
    """Six recordings, one in a sub-folder, one that is none, and one without a sample."""
    for index in range(5):
        recording(tmp_path / "src" / f"{index}.wav", seconds=0.1 + index / 100, seed=index)
    recording(tmp_path / "src" / "sub" / "5.wav", seed=5)
    (tmp_path / "src" / "bad.wav").write_text("this is text\n" * 9)
    recording(tmp_path / "src" / "empty.wav", seconds=0)
    return tmp_path / "src"


@pytest.fixture
def batch(src, tmp_path, request):
    """Runs a batch of src into dest by an engine: its summary."""

    def run(engine: str, *, model: str = "fake", options: Options = DEFAULT, workers: int = 2, **how):
        address = request.getfixturevalue("cluster") if engine == "ray" else None
        request_ = Request(str(src), tmp_path / "dest", engine, None if engine == "serial" else workers, **how)
        return run_batch(replace(request_, address=address), options, FakeModel(model))

    return run


@pytest.fixture
def dest(tmp_path) -> Path:
    return tmp_path / "dest"


def journal(dest: Path) -> list[dict]:
    return [json.loads(line) for line in (dest / NAME).read_text().splitlines()]


def count(dest: Path, event: str) -> Counter:
    return Counter(entry["file"] for entry in journal(dest) if entry["event"] == event)


def outputs(dest: Path) -> dict[str, bytes]:
    return {path.relative_to(dest).as_posix(): path.read_bytes() for path in dest.rglob("*.wav")}


def parts(dest: Path) -> list[Path]:
    return list(dest.rglob("*.part"))


def soon(what, seconds: float = 300.0):  # long for a busy machine; nobody waits for it where it happens
    """What `what` returns as soon as that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := what():
                return found
        except FileNotFoundError:
            pass
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def worker_of(dest: Path, name: str) -> int:
    """The process that has begun a file."""

    def find():
        return [e["worker"] for e in journal(dest) if e["event"] == "start" and e["file"] == name]

    return int(soon(find)[-1].rpartition(":")[2])


@pytest.mark.parametrize("engine", ["serial", "local", RAY])
def test_a_batch_and_what_resuming_it_repeats(batch, src, dest, engine):
    first = batch(engine)
    assert first.counts == {"done": 6, "kept": 0, "skipped": 1, "failed": 1}
    assert (first.exit_code, first.replaced) == (3, 0)
    made = outputs(dest)
    assert sorted(made) == ["0.wav", "1.wav", "2.wav", "3.wav", "4.wav", "sub/5.wav"]
    for name in made:
        assert audio.probe(dest / name).frames == 3 * audio.probe(src / name).frames
    failures = [line for line in first.lines() if "bad.wav" in line]
    assert len(failures) == 1 and "holds text, not audio" in failures[0]
    assert first.audio_s == pytest.approx(0.7, abs=1e-6)

    with pytest.raises(UsageError, match="--resume"):
        batch(engine)

    before = {path: path.stat().st_mtime_ns for path in dest.rglob("*.wav")}
    recording(src / "bad.wav", seed=7)  # mended
    recording(src / "1.wav", seed=8)  # another recording under the same name
    again = batch(engine, resume=True)
    assert again.counts == {"done": 2, "kept": 5, "skipped": 1, "failed": 0}
    assert again.exit_code == 0
    now = outputs(dest)
    assert now["1.wav"] != made["1.wav"] and "bad.wav" in now
    assert {path for path in before if path.stat().st_mtime_ns != before[path]} == {dest / "1.wav"}
    once = dict.fromkeys(["0.wav", "2.wav", "3.wav", "4.wav", "sub/5.wav", "bad.wav"], 1)
    assert count(dest, "done") == {**once, "1.wav": 2}
    assert parts(dest) == []


@pytest.mark.parametrize("engine", OTHERS)
def test_a_worker_killed_in_the_middle_costs_nothing(batch, src, dest, engine):
    (src / "wait").touch()
    for name in ("slow1.wav", "slow2.wav"):
        recording(src / name, seconds=0.3)

    def kill() -> None:
        os.kill(worker_of(dest, "slow1.wav"), signal.SIGKILL)
        soon(lambda: count(dest, "start")["slow1.wav"] == 2)
        (src / "wait").unlink()

    killer = threading.Thread(target=kill)
    killer.start()
    summary = batch(engine)
    killer.join()
    assert summary.counts == {"done": 8, "kept": 0, "skipped": 1, "failed": 1}
    assert summary.replaced >= 1
    assert set(count(dest, "done").values()) == {1}
    starts = count(dest, "start")
    assert starts["slow1.wav"] == 2
    assert all(starts[name] == 1 for name in count(dest, "done") if not name.startswith("slow"))
    assert sorted(outputs(dest)) == [*(f"{i}.wav" for i in range(5)), "slow1.wav", "slow2.wav", "sub/5.wav"]
    assert parts(dest) == []


@pytest.mark.slow
def test_ray_ending_the_process_that_drives_it_is_told_and_resumed(batch, src, dest):
    (src / "wait").touch()
    recording(src / "slow.wav", seconds=0.3)

    def kill() -> None:
        soon(lambda: count(dest, "done") and count(dest, "start")["slow.wav"])
        (driver,) = multiprocessing.active_children()
        os.kill(driver.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(BatchError, match=r"^the process that drives Ray died \(signal 9\); .* add --resume to go on$"):
        batch("ray")
    killer.join()
    assert multiprocessing.active_children() == [] and parts(dest) == []
    kept = len(count(dest, "done"))
    (src / "wait").unlink()
    again = batch("ray", resume=True)
    assert again.counts == {"done": 7 - kept, "kept": kept, "skipped": 1, "failed": 1}
    assert 1 <= kept <= 6 and set(count(dest, "done").values()) == {1}


@pytest.mark.slow
def test_ray_out_of_reach_or_not_installed_is_told(src, dest, monkeypatch):
    request = Request(str(src), dest, "ray", address="127.0.0.1:1")
    with pytest.raises(
        BatchError, match="^cannot reach a Ray cluster at 127.0.0.1:1: .*refused; .*RAY_AUTH_MODE=token$"
    ):
        run_batch(request, DEFAULT, FakeModel())
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'latentsr\[ray\]', or take --engine local$"):
        run_batch(replace(request, resume=True), DEFAULT, FakeModel())


@pytest.mark.parametrize("engine", OTHERS)
def test_a_file_that_kills_its_worker_is_tried_twice_and_named_once(batch, src, dest, engine):
    recording(src / "deadly.wav", seconds=0.3)
    recording(src / "late.wav", seconds=0.3)  # dies behind the rename, in front of the journal
    summary = batch(engine)
    assert summary.counts == {"done": 7, "kept": 0, "skipped": 1, "failed": 2}
    error = summary.outcomes["deadly.wav"].error
    assert "; restore it alone" in error
    assert "worker died" in error and ("signal 9" in error or engine == "ray")
    assert count(dest, "start")["deadly.wav"] == 2
    assert (count(dest, "start")["late.wav"], count(dest, "done")["late.wav"]) == (1, 1)
    assert audio.probe(dest / "late.wav").frames == 14_400
    assert [line for line in summary.lines() if "deadly" in line] == [f"failed: {error}"]


def test_the_last_try_died_behind_the_rename(batch, src, dest):
    """Nobody wrote down that the output was there: the next run finds it, and does not take it for a stranger's."""
    recording(src / "late.wav", seconds=0.3)
    assert "worker died" in batch("local", tries=1).outcomes["late.wav"].error
    made = (dest / "late.wav").stat().st_mtime_ns
    again = batch("local", resume=True)
    assert again.outcomes["late.wav"].status == "done"
    assert ((dest / "late.wav").stat().st_mtime_ns, count(dest, "start")["late.wav"]) == (made, 1)


@pytest.mark.parametrize("engine", ["serial", "local", RAY])
def test_a_file_that_hangs_runs_out_of_time(batch, src, dest, engine):
    recording(src / "hang.wav", seconds=0.3)
    summary = batch(engine, timeout_s=1.5, tries=1)
    assert summary.counts == {"done": 6, "kept": 0, "skipped": 1, "failed": 2}
    assert (
        "took longer than 1.5 s; give it more with --timeout, and --resume" in summary.outcomes["hang.wav"].error
    ) or engine == "ray"


def test_a_stopped_worker_runs_out_of_time(batch, src, dest):
    """It can do nothing about it itself: not even look at a clock."""
    (src / "wait").touch()
    recording(src / "slow.wav", seconds=0.3)

    def stop() -> None:
        os.kill(worker_of(dest, "slow.wav"), signal.SIGSTOP)
        (src / "wait").unlink()

    stopper = threading.Thread(target=stop)
    stopper.start()
    summary = batch("local", timeout_s=3.0)
    stopper.join()
    lost = [e for e in journal(dest) if e["event"] == "lost"]
    # A busy machine may make other files late too: each costs a worker, none is lost for good.
    assert (summary.counts["done"], summary.replaced) == (7, len(lost))
    assert "slow.wav" in {e["file"] for e in lost}
    assert {e["error"] for e in lost} == {"took longer than 3 s"}


# --- whose output it is ----------------------------------------------------------------------------


def test_another_option_or_model_is_done_anew(batch, dest):
    batch("serial")
    assert batch("serial", options=Options(seed=1), resume=True).counts["done"] == 6
    assert batch("serial", options=Options(seed=1), model="other", resume=True).counts["done"] == 6
    assert batch("serial", options=Options(seed=1), model="other", resume=True).counts["kept"] == 6
    assert batch("serial", options=Options(seed=1, overwrite=True), model="other").counts["done"] == 6


def test_what_the_batch_did_not_make_stays(batch, dest):
    dest.mkdir()
    (dest / "0.wav").write_bytes(b"precious")
    summary = batch("serial")
    assert "exists already" in summary.outcomes["0.wav"].error
    assert summary.counts == {"done": 5, "kept": 0, "skipped": 1, "failed": 2}
    (dest / "1.wav").write_bytes(b"edited by somebody")
    again = batch("serial", resume=True, options=Options(seed=1))
    assert "exists already" in again.outcomes["1.wav"].error
    assert (dest / "0.wav").read_bytes() == b"precious"
    assert (dest / "1.wav").read_bytes() == b"edited by somebody"
    assert batch("serial", resume=True, options=Options(seed=1, overwrite=True)).counts["done"] == 2


def test_an_output_that_was_removed_is_made_again(batch, dest):
    batch("serial")
    (dest / "3.wav").unlink()
    assert batch("serial", resume=True).counts == {"done": 1, "kept": 5, "skipped": 1, "failed": 1}


def test_no_output_leaves_dest_over_a_link(batch, dest, tmp_path):
    dest.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (dest / "sub").symlink_to(tmp_path / "elsewhere")
    summary = batch("serial")
    assert "is a symbolic link; outputs stay within" in summary.outcomes["sub/5.wav"].error
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_journal_cannot_lead_out_of_dest(batch, src, dest, tmp_path):
    recording(tmp_path / "secret.wav")
    batch("serial")
    text = (dest / NAME).read_text().replace('"output": "0.wav"', '"output": "../secret.wav"')
    (dest / NAME).write_text(text)
    summary = batch("serial", resume=True)
    assert "leads out of" in summary.outcomes["0.wav"].error
    assert summary.counts["kept"] == 5


@pytest.mark.parametrize("engine", ["serial", "local", RAY])
def test_a_model_that_does_not_load_ends_the_job(batch, dest, engine):
    with pytest.raises((BatchError, ValueError), match="no such model"):
        batch(engine, model="missing")
    assert outputs(dest) == {}


def test_workers_that_die_while_loading_end_the_job(batch):
    with pytest.raises(
        BatchError, match=r"workers end before they have loaded the model: its worker died \(signal 9\)"
    ):
        batch("local", model="deadly")
