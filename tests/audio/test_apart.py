"""What FFmpeg decodes is decoded in a process of its own, whose death costs one file."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tiny
from latentsr.audio import AudioError, Reader, read

pytest.importorskip("av")
sys.path.append(str(Path(__file__).parent))
from containers import CASES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are found by /proc")


def decoding():
    """Process ids of the children of this process that decode, or wait for a file."""
    found = [int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()]
    return [pid for pid in found if b"audio.apart" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def crash(*_):
    for pid in decoding():
        os.kill(pid, signal.SIGSEGV)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


@pytest.fixture(scope="module")
def alac(tmp_path_factory):
    """A second of ALAC, many times over: long enough to be in the middle of it."""
    folder = tmp_path_factory.mktemp("apart")
    path = CASES["alac.m4a"].make(folder)
    path.with_name("long.m4a").write_bytes(20 * path.read_bytes())
    return path.with_name("long.m4a")


def test_a_crash_is_one_clear_error_and_the_next_file_is_read(alac):
    whole = read(alac).samples
    with Reader(alac, block_frames=1_000) as reader:
        blocks = iter(reader)
        next(blocks)
        crash()
        with pytest.raises(AudioError, match=r"FFmpeg crashed reading .*long\.m4a \(signal 11\); .*fetch it again"):
            list(blocks)
    assert np.array_equal(read(alac).samples, whole)


def test_a_process_that_died_while_it_waited_costs_nothing(alac):
    before = read(alac).samples
    crash()
    assert np.array_equal(read(alac).samples, before)


def test_nothing_half_written_is_left_of_a_crash(alac, tmp_path):
    pipe = tiny.tiny_pipeline()
    with pytest.raises(AudioError, match="FFmpeg crashed reading"):
        pipe.restore_file(alac, tmp_path / "out.wav", head="vocoder", steps=1, cutoff_hz=3000.0, progress=crash)
    assert list(tmp_path.iterdir()) == []


def test_one_process_serves_many_files_and_several_at_once(alac):
    with Reader(alac, block_frames=5_000) as one, Reader(alac, block_frames=7_000) as other:
        first, second = iter(one), iter(other)
        pairs = [(next(first), next(second)) for _ in range(3)]
    whole = read(alac).samples
    assert np.array_equal(np.concatenate([a for a, _ in pairs], axis=1), whole[:, :15_000])
    assert np.array_equal(np.concatenate([b for _, b in pairs], axis=1), whole[:, :21_000])
    count = len(decoding())
    for _ in range(5):
        read(alac)
    assert len(decoding()) == count


def test_an_interrupted_reader_leaves_nothing_behind_in_the_next(alac):
    with Reader(alac, block_frames=1_000) as reader:
        next(iter(reader))
    assert np.array_equal(read(alac).samples[:, :1_000], read(alac).samples[:, :1_000])
    assert read(alac).account.frames_decoded == 20 * 48_000


def _in_a_worker(path, pipe):
    read(path)
    pipe.send(len(decoding()))


@pytest.mark.slow
def test_a_worker_of_a_supervisor_decodes_by_itself(alac):
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_in_a_worker, args=(alac, theirs), daemon=True)
    process.start()
    assert ours.poll(60) and ours.recv() == 0
    process.join()


def test_it_ends_with_the_process_that_asked(alac):
    code = (
        "import sys, pathlib; from latentsr.audio import Reader; r = Reader(sys.argv[1]); next(iter(r));"
        "print(*[p.read_text() for p in pathlib.Path('/proc/self/task').glob('*/children')], flush=True);"
        "import os; os.kill(os.getpid(), 9)"
    )
    # This waits for all that hold its stderr: that process too.
    done = subprocess.run([sys.executable, "-c", code, str(alac)], capture_output=True, timeout=60)
    assert done.returncode == -9 and len(done.stdout.split()) == 1
