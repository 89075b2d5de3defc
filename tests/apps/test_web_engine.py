"""The demo's queue and process: everyone gets their own, and nothing is left of what nobody wants."""

import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
import web_fakes

import demo_files
from latentsr.apps.web.desk import Desk, Limits, WrongOrderError
from latentsr.apps.web.look import WrongFileError
from latentsr.apps.web.store import Store
from latentsr.apps.web.supervisor import Engine, QueueFullError
from latentsr.restoring.chain import Control

SOON_S = 120.0  # for what takes a second or two on a quiet machine


@pytest.fixture(scope="module")
def engine():
    engine = Engine(web_fakes.FakeLoader(), queue=2, time_limit_s=60.0)
    engine.start()
    yield engine
    engine.close()


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = Store()
    yield store
    store.close()
    assert list(tmp_path.glob("latentsr-demo-*")) == []


@pytest.fixture
def desk(engine, store):
    engine.time_limit_s = 60.0
    return Desk(engine, store, Limits(queue=2), ["mamba-gan", "vocoder"])


@pytest.fixture
def upload(store):
    """Puts a recording where gradio puts uploads."""

    def put(name="old.wav", seconds=0.5, seed=0):
        folder = store.files / f"upload-{name}-{seed}"
        folder.mkdir(exist_ok=True)
        return str(demo_files.make(folder, name, seconds, seed=seed))

    return put


def until(condition):
    end = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def end_of(job):
    assert job.ended.wait(SOON_S)
    return job


def test_two_visitors_at_once_get_their_own(desk, upload):
    jobs = [
        desk.submit(session, upload(f"{session}.wav", seconds), head="mamba-gan", cutoff_hz=hz)
        for session, seconds, hz in (("anna", 0.5, 3_000), ("ben", 0.8, 5_000))
    ]
    assert desk.engine.ahead(jobs[1]) == 1
    anna, ben = (end_of(job).result for job in jobs)
    assert (anna.name, anna.duration_s, anna.cutoff_hz) == ("anna.48k.wav", 0.5, 3_000)
    assert (ben.name, ben.duration_s, ben.cutoff_hz) == ("ben.48k.wav", 0.8, 5_000)
    desk.leave("anna")
    assert not Path(jobs[0].order.folder).exists()
    shown = {"ben.48k.wav", "before.flac", "after.flac", "before.png", "after.png"}
    names = {".result", ".source", ".band.wav", ".kept.json", *shown}
    assert {path.name for path in Path(jobs[1].order.folder).iterdir()} == names


def test_a_job_that_is_stopped_ends_and_leaves_nothing(desk, upload):
    job = desk.submit("anna", upload(), head="mamba-gan", seed=web_fakes.WORK)
    until(lambda: job.what.startswith("Restoring"))
    process = desk.engine._process.pid
    with pytest.raises(WrongOrderError, match="still being worked on"):
        desk.submit("anna", upload(), head="mamba-gan")
    desk.leave("anna")
    assert end_of(job).result is None and job.error is None
    assert not Path(job.order.folder).exists()
    assert end_of(desk.submit("ben", upload(), head="mamba-gan")).result is not None
    assert desk.engine._process.pid == process  # it stopped by itself: the model was not loaded again


def test_a_page_that_goes_away_stops_its_job(desk, upload):
    job = desk.submit("anna", upload(), head="mamba-gan", seed=web_fakes.WORK)
    follower = desk.follow(job)
    next(follower)
    follower.close()  # what becomes of it when its connection is lost
    assert end_of(job).result is None and not Path(job.order.folder).exists()


def test_other_gains_act_on_the_kept_band_and_the_head_does_not_run_again(desk, upload):
    first = end_of(desk.submit("anna", upload(), head="mamba-gan", cutoff_hz=3_000))
    process, given = desk.engine._process.pid, soundfile.read(upload())[0]
    given = soxr.resample(given, 16_000, 48_000, quality="VHQ")
    band = torch.from_numpy(web_fakes.made_band(len(given), 1)[None, None, :, 0])
    for amount, tilt in ((50, 0), (30, -6), (0, 0), (100, 0)):
        job = end_of(desk.adjust("anna", amount, tilt))
        assert job.error is None and job.order.made is not None
        made = soundfile.read(Path(job.order.folder) / job.result.name)[0] - given
        gains = Control(amount=amount / 100, tilt=tilt)
        expected = gains(torch.zeros_like(band), band, torch.tensor([3_000.0]))[0, 0].numpy()
        assert np.abs(made - expected)[200:-200].max() < 2**-15  # as 16 bits round
        assert (job.result.cutoff_hz, job.result.samples) == (3_000, len(given))
    assert desk.engine._process.pid == process and not Path(first.order.folder).exists()
    assert len([path for path in desk.store.files.iterdir() if (path / ".result").exists()]) == 2
    assert desk.adjust("ben", 50, 0) is None
    with pytest.raises(WrongOrderError, match="Tilt must be"):
        desk.adjust("anna", 50, 99)


def test_a_visitor_who_leaves_the_queue_is_in_nobody_s_way(desk, upload):
    busy = desk.submit("anna", upload(), head="mamba-gan", seed=web_fakes.WORK)
    desk.submit("ben", upload(), head="mamba-gan")
    last = desk.submit("cleo", upload(), head="mamba-gan")
    assert desk.engine.ahead(last) == 2
    desk.stop("ben")  # what a closed tab does first
    assert desk.engine.ahead(last) == 1
    extra = desk.submit("dora", upload(), head="mamba-gan")  # there is room for one more
    desk.leave("anna")
    assert end_of(busy).result is None and end_of(last).result is not None and end_of(extra).result is not None


def test_the_queue_ends_somewhere(desk, upload):
    busy = desk.submit("anna", upload(), head="mamba-gan", seed=web_fakes.WORK)
    waiting = [desk.submit(name, upload(), head="mamba-gan") for name in ("ben", "cleo")]
    assert [desk.engine.ahead(job) for job in waiting] == [1, 2]
    with pytest.raises(QueueFullError, match="^2 recordings are waiting already; try again in a minute$"):
        desk.submit("dora", upload(), head="mamba-gan")
    assert len([path for path in desk.store.files.iterdir() if (path / ".result").exists()]) == 3
    desk.stop("anna")
    assert [end_of(job).result is not None for job in (busy, *waiting)] == [False, True, True]


def test_a_decoder_that_crashes_costs_one_job(desk, upload):
    before = desk.engine._process.pid
    dead = end_of(desk.submit("anna", upload(), head="mamba-gan", seed=web_fakes.DIE))
    assert dead.error == "old.wav could not be restored: its decoder failed; save it as WAV or FLAC"
    assert end_of(desk.submit("ben", upload(), head="mamba-gan")).result is not None
    assert desk.engine._process.pid != before


def test_a_job_that_hangs_is_ended_at_its_limit(desk, upload):
    desk.engine.time_limit_s = 2.0
    job = end_of(desk.submit("anna", upload(), head="mamba-gan", seed=web_fakes.HANG))
    assert job.error is not None and job.error.startswith("old.wav took longer than 2 s, which is the most; take a ")
    assert not Path(job.order.folder).exists()


def test_faults_of_ours_show_no_path(desk, upload, capfd):
    job = end_of(desk.submit("anna", upload(), head="mamba-gan", seed=web_fakes.FAIL))
    assert job.error == "old.wav could not be restored; the server's log says why"
    assert "RuntimeError: cannot open" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({"head": "best"}, "There is no such head; choose one of mamba-gan, vocoder"),
        ({"steps": 101}, "Steps are 1 to 100; 0 takes the model's own"),
        ({"steps": 2.5}, "Steps must be 1 to 1000, got 2.5"),
        ({"seed": -(2**70)}, "Seed must be a whole number of 64 bits"),
        ({"seed": "seven"}, "The seed must be a number"),
        ({"cutoff_hz": float("nan")}, "The cutoff must be a number"),
        ({"amount": 401}, "Amount must be 0% to 400%"),
        ({"tilt": "dark"}, "The tilt must be a number"),
        ({"cutoff_hz": 100}, "Cutoff_hz must be 500 to 24000, got 100"),
    ],
)
def test_an_order_that_makes_no_sense_is_one_sentence(desk, upload, words, text):
    with pytest.raises(WrongOrderError, match=text):
        desk.submit("anna", upload(), **{"head": "mamba-gan", **words})
    assert [path for path in desk.store.files.iterdir() if (path / ".result").exists()] == []


def test_an_upload_that_is_gone_or_too_large_is_one_sentence(desk, upload, store):
    with pytest.raises(WrongFileError, match=r"^gone\.wav is no longer here; choose it again$"):
        desk.submit("anna", str(store.files / "x" / "gone.wav"), head="mamba-gan")
    desk.limits = Limits(max_mb=0.01)
    with pytest.raises(WrongFileError, match=r"^old\.wav is larger than 0\.01 MB; cut it, or save it as FLAC$"):
        desk.look("anna", upload())


def test_a_model_that_cannot_be_loaded_is_told_once_and_keeps_nobody_waiting(store, upload):
    told = []
    engine = Engine(web_fakes.FakeLoader("missing"), queue=2, time_limit_s=60.0, on_broken=told.append)
    engine.start()
    desk = Desk(engine, store, Limits(), ["mamba-gan"])
    job = end_of(desk.submit("anna", upload(), head="mamba-gan"))
    engine.close()
    assert len(told) == 1 and "no such model" in told[0]
    assert job.error == "The model could not be loaded; whoever runs this server can read why in its log"
