"""`latentsr batch` as a process: what it prints, how it is stopped, and what a full disk leaves."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import ctrl_c
import pytest
from batch_fakes import recording

from latentsr import audio
from latentsr.apps.batch.journal import NAME

HERE = Path(__file__).parent
SRC = HERE.parents[1] / "src"
ENV = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SRC), str(HERE)]), "OMP_NUM_THREADS": "1", "COLUMNS": "100"}


@pytest.fixture
def src(tmp_path) -> Path:
    for index in range(4):
        recording(tmp_path / "src" / "sub" / f"{index}.wav", seed=index)
    return tmp_path / "src"


@pytest.fixture
def dest(tmp_path) -> Path:
    return tmp_path / "dest"


def start(*words, **how) -> subprocess.Popen:
    """The command line with a model that copies."""
    command = [sys.executable, str(HERE / "batch_fakes.py"), "batch", *map(str, words)]
    return subprocess.Popen(
        command, **{"env": ENV, "stdout": -1, "stderr": -1, "text": True, "preexec_fn": ctrl_c.heard, **how}
    )


def batch(*words, **how) -> subprocess.CompletedProcess:
    process = start(*words, **how)
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def journal(dest: Path, event: str) -> list[dict]:
    lines = (dest / NAME).read_text().splitlines() if (dest / NAME).exists() else []
    return [entry for line in lines if (entry := json.loads(line))["event"] == event]


def started(dest: Path) -> set[str]:
    return {entry["file"] for entry in journal(dest, "start")}


def soon(what, seconds: float = 120.0):  # long for a busy machine; nobody waits for it where it happens
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
    return found


def waves(dest: Path) -> list[str]:
    return sorted(path.relative_to(dest).as_posix() for path in dest.rglob("*.wav"))


def parts(dest: Path) -> list[Path]:
    return list(dest.rglob("*.part"))


def running(dest: Path) -> set[int]:
    """Processes that have begun a file of this batch and are still there."""
    pids = {int(entry["worker"].rpartition(":")[2]) for entry in journal(dest, "start")}
    return {pid for pid in pids if Path(f"/proc/{pid}/stat").exists() and _state(pid) != "Z"}


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


# --- what it prints --------------------------------------------------------------------------------


def test_the_table_names_each_failure_once(src, dest):
    (src / "text.wav").write_text("no audio\n" * 9)
    (src / "zero.wav").write_bytes(b"")
    recording(src / "none.wav", seconds=0)
    done = batch(src, dest, "--workers", 2)
    assert done.returncode == 3
    assert done.stdout == ""
    assert [done.stderr.count(name) for name in ("text.wav", "zero.wav", "none.wav", "0.wav")] == [1, 1, 1, 0]
    for row in ("done         4   0:00:00 of audio in", "skipped      1", "failed       2", "real-time factor"):
        assert row in done.stderr
    assert waves(dest) == [f"sub/{index}.wav" for index in range(4)]


def test_what_a_failure_says_to_add_repeats_nothing_that_is_done(src, dest):
    whole = recording(src / "cut.wav").read_bytes()
    (src / "cut.wav").write_bytes(whole[:-2_000])
    done = batch(src, dest, "--engine", "serial")
    assert done.returncode == 3 and "--salvage" in done.stderr and "or to add; then the same command" in done.stderr
    again = batch(src, dest, "--engine", "serial", "--resume", "--salvage", "--on-nonfinite", "zero")
    assert "kept         4" in again.stderr


def test_json_is_one_object_per_file(src, dest):
    (src / "text.wav").write_text("no audio\n" * 9)
    done = batch(src, dest, "--json", "--engine", "serial")
    rows = {row["file"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert sorted(rows) == [*(f"sub/{index}.wav" for index in range(4)), "text.wav"]
    assert rows["sub/0.wav"]["status"] == "done" and Path(rows["sub/0.wav"]["output"]).is_file()
    assert rows["text.wav"]["status"] == "failed" and "holds text" in rows["text.wav"]["error"]
    assert "|" not in done.stderr  # no bar


def test_all_failed_is_exit_1(tmp_path, dest):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.wav").touch()
    assert batch(tmp_path / "src", dest).returncode == 1


USAGE = {
    "no such source": (["nowhere", "out"], "nowhere does not exist"),
    "one file": (["src/sub/0.wav", "out"], "is one file; restore it with latentsr restore"),
    "address without Ray": (["src", "out", "--address", "auto"], "--engine ray"),
    "workers in serial": (["src", "out", "--engine", "serial", "--workers", "2"], "has one worker"),
    "unknown engine": (["src", "out", "--engine", "slurm"], "slurm"),
    "timeout": (["src", "out", "--timeout", "0"], "--timeout"),
    "compat without a model": (["src", "out", "--compat"], "--compat needs an AudioSR model"),
    "sample rate": (["src", "out", "--sample-rate", "fast"], "neither 'source' nor Hz"),
    "DEST is SRC": (["src", "src"], "SRC and DEST are both"),
}


@pytest.mark.parametrize("case", USAGE)
def test_wrong_usage_is_exit_2_and_makes_nothing(src, tmp_path, case):
    words, message = USAGE[case]
    done = batch(*words, cwd=tmp_path)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["src"]


def test_a_c_locale_and_names_that_are_not_utf8(src, dest):
    odd = os.fsdecode(b"caf\xe9 \xe2\x82\xac.wav")
    recording(src / odd)
    (src / os.fsdecode(b"bad\xff.wav")).write_bytes(b"")
    env = {**ENV, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = batch(src, dest, env=env)
    assert (done.returncode, "Traceback" in done.stderr) == (3, False), done.stderr
    assert (dest / odd).is_file()
    again = batch(src, dest, "--resume", "--json", env={**ENV, "LC_ALL": "C.UTF-8", "TZ": "Asia/Tokyo"})
    rows = {row["file"]: row["status"] for row in map(json.loads, again.stdout.splitlines())}
    assert rows[odd] == "kept" and list(rows.values()).count("failed") == 1


# --- how it is stopped -----------------------------------------------------------------------------


@pytest.fixture
def stuck(src, dest):
    """A batch in the middle: some files are done, two workers are busy."""
    (src / "wait").touch()
    for index in range(2):
        recording(src / f"slow{index}.wav", seconds=0.05)
    process = start(src, dest, "--workers", 2, start_new_session=True)
    soon(lambda: {"slow0.wav", "slow1.wav"} <= {entry["file"] for entry in journal(dest, "start")})
    yield process
    if process.poll() is None:
        process.kill()
    process.wait()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_politely_it_says_how_to_go_on(stuck, src, dest, number, code):
    if number == signal.SIGINT:
        os.killpg(stuck.pid, number)  # as a terminal does: the workers get it too
    else:
        stuck.send_signal(number)
    _, err = stuck.communicate(timeout=60)
    assert stuck.returncode == code
    assert "Traceback" not in err
    assert "the same command with --resume goes on" in err
    assert (running(dest), parts(dest)) == (set(), [])
    (src / "wait").unlink()
    assert batch(src, dest, "--resume").returncode == 0
    assert [entry["file"] for entry in journal(dest, "done")].count("sub/0.wav") == 1
    assert len(waves(dest)) == len(journal(dest, "done")) == 6


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ray_is_stopped_with_all_its_processes(src, dest, number, code):
    pytest.importorskip("ray")
    (src / "wait").touch()
    recording(src / "slow.wav", seconds=0.05)
    env = {**ENV, "HOME": str(src.parent)}
    process = start(src, dest, "--engine", "ray", start_new_session=True, env=env)
    try:
        soon(lambda: process.poll() is not None or "slow.wav" in started(dest), 300.0)
        assert process.poll() is None, process.communicate()
        assert len(in_session(process.pid)) > 5  # the batch, the driver, an actor, and Ray's own
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code
    assert "the same command with --resume goes on" in err and "Traceback" not in err
    assert (running(dest), parts(dest)) == (set(), [])
    soon(lambda: not in_session(process.pid), 180.0)  # Ray's own agents take their time on a busy machine
    assert not (src.parent / ".ray").exists()  # a token left there would be asked for by every later `ray start`


def in_session(leader: int) -> set[int]:
    """Living processes of a session."""
    found = set()
    for pid in (int(path.name) for path in Path("/proc").glob("[0-9]*")):
        with suppress(ProcessLookupError):
            if os.getsid(pid) == leader and _state(pid) != "Z":
                found.add(pid)
    return found


def test_a_killed_supervisor_takes_its_workers_along_and_nothing_is_repeated(stuck, src, dest):
    part = dest / ".latentsr-0123456789ab.part"
    part.write_bytes(b"half")
    before = running(dest)
    assert len(before) == 2
    stuck.kill()
    stuck.wait()
    soon(lambda: not running(dest), 5.0)
    refused = batch(src, dest)
    assert (refused.returncode, "--resume" in refused.stderr) == (2, True)
    (src / "wait").unlink()
    again = batch(src, dest, "--resume", "--json")
    assert again.returncode == 0
    rows = {row["file"]: row["status"] for row in map(json.loads, again.stdout.splitlines())}
    assert rows == {**{f"sub/{index}.wav": "kept" for index in range(4)}, "slow0.wav": "done", "slow1.wav": "done"}
    assert len(journal(dest, "done")) == 6
    assert not part.exists() and parts(dest) == []


def test_workers_are_spawned_and_deaf_to_ctrl_c(stuck, src, dest):
    """Forked beside torch's threads they would hang; a terminal's Ctrl-C is for the supervisor alone."""
    for pid in running(dest):
        assert b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        blocked = re.search(r"SigBlk:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())[1]
        assert int(blocked, 16) >> (signal.SIGINT - 1) & 1


def test_the_second_batch_in_one_folder_says_so(stuck, src, dest):
    second = batch(src, dest, "--resume")
    assert second.returncode == 1
    assert second.stderr.count("\n") == 1 and "another latentsr batch is at work" in second.stderr
    (src / "wait").unlink()
    _, err = stuck.communicate(timeout=60)
    assert stuck.returncode == 0, err
    assert len(waves(dest)) == 6


# --- a full disk -----------------------------------------------------------------------------------


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 200 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    if (
        not shutil.which("mount")
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "none", place], capture_output=True).returncode
    ):
        pytest.skip("may not mount a file system here; the limit on file sizes below stands in")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("engine", ["serial", "local"])
def test_a_full_disk_ends_the_job_and_room_lets_it_go_on(tiny_disk, src, engine):
    for index in range(20):
        recording(src / f"{index}.wav", seconds=0.3)  # 28 kB each when restored
    dest = tiny_disk / "dest"
    full = batch(src, dest, "--engine", engine)
    assert full.returncode == 1
    assert full.stderr.strip().splitlines()[-1].startswith("latentsr: cannot write")
    assert "no space left on device" in full.stderr and "--resume" in full.stderr
    assert parts(dest) == []
    done = journal(dest, "done")  # every line is whole
    assert sorted(entry["output"] for entry in done) == waves(dest)
    assert 1 <= len(done) < 24 and all(audio.read(dest / name).samples.shape[1] > 0 for name in waves(dest))
    subprocess.run(["mount", "-o", "remount,size=4m", tiny_disk], check=True)
    assert batch(src, dest, "--engine", engine, "--resume").returncode == 0
    assert len(waves(dest)) == len(journal(dest, "done")) == 24


# --- the real model --------------------------------------------------------------------------------


def test_the_embedded_model_with_options_in_a_process(src, dest):
    words = ["--head", "mamba-gan", "--format", "flac", "--workers", "1", "--device", "cpu"]
    command = [sys.executable, "-m", "latentsr", "batch", str(src), str(dest), *words]
    done = subprocess.run(command, env=ENV, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for index in range(4):
        made = audio.read(dest / "sub" / f"{index}.flac")
        assert (made.sample_rate, made.samples.shape, made.subtype) == (48_000, (1, 4_800), "PCM_16")
    assert {entry["record"]["head"] for entry in journal(dest, "done")} == {"mamba-gan"}
