"""The demo through its HTTP interface, on the embedded model."""

import io
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
import soxr

import demo_files
from demo_server import processes_of, running
from latentsr import Pipeline
from latentsr import __file__ as package

gradio_client = pytest.importorskip("gradio_client")


def connect(demo):
    return gradio_client.Client(demo.url, verbose=False)


def restore(client, path, head="mamba-gan", steps=0, denoise=False, seed=0, cutoff_hz=0, mend=False):
    """What the demo says of a recording, for programs."""
    upload = gradio_client.handle_file(str(path))
    words = {"head": head, "steps": steps, "denoise": denoise, "seed": seed, "cutoff_hz": cutoff_hz, "mend": mend}
    return client.predict(recording=upload, **words, api_name="/restore")[-1]


def fetch(demo, url):
    answer = httpx.get(f"{demo.url}/{url}")
    assert answer.status_code == 200
    return soundfile.read(io.BytesIO(answer.content), always_2d=True), answer


@pytest.fixture(scope="module")
def client(demo):
    return connect(demo)


def kept_band_db(before, rate_hz, after, high_hz):
    """Error of the known band against its energy, dB."""
    known = soxr.resample(before, rate_hz, 48_000, quality="VHQ")[: len(after)]
    error = demo_files.band_db(after[: len(known)] - known, 48_000, 50, high_hz)
    return error - demo_files.band_db(known, 48_000, 50, high_hz)


def test_of_an_amount_of_0_nothing_is_made(demo, client, recordings):
    path = demo_files.make(recordings, "none.wav", seconds=1.0)
    said = client.predict(
        recording=gradio_client.handle_file(str(path)), head="mamba-gan", cutoff_hz=4_000, amount=0, tilt=3,
        api_name="/restore",
    )[-1]  # fmt: skip
    assert said["copied"] == "an amount of 0%"
    given, rate_hz = soundfile.read(path, always_2d=True)
    (wave, _), _ = fetch(demo, said["download"])
    assert np.abs(soxr.resample(given, rate_hz, 48_000, quality="VHQ")[4_800:-4_800] - wave[4_800:-4_800]).max() < 1e-4


def test_gains_on_the_kept_band_are_those_of_the_command(demo, client, recordings, tmp_path):
    path = demo_files.make(recordings, "gains.wav", seconds=3.0)
    said = client.predict(
        recording=gradio_client.handle_file(str(path)), head="mamba-gan", cutoff_hz=4_000, amount=50, tilt=-3,
        api_name="/restore",
    )[-1]  # fmt: skip
    (wave, _), _ = fetch(demo, said["download"])
    how = {"head": "mamba-gan", "cutoff_hz": 4_000, "amount": 0.5, "tilt": -3.0}
    Pipeline.from_pretrained(heads=["mamba-gan"]).restore_file(path, tmp_path / "gains.wav", **how)
    expected = soundfile.read(tmp_path / "gains.wav", always_2d=True)[0]
    assert np.abs(wave - expected).max() <= 2.1 * 2**-15  # both are rounded to 16 bits


@pytest.mark.parametrize("name", ["old.flac", "old.wav", "old.mp3"])
def test_a_recording_comes_back_in_its_own_format_with_its_band_kept(demo, client, recordings, name):
    path = demo_files.make(recordings, name, seconds=3.0)
    said = restore(client, path)
    (wave, rate_hz), answer = fetch(demo, said["download"])
    assert said["name"] == f"old.48k.{path.suffix[1:]}" and 'filename="old.48k' in answer.headers["content-disposition"]
    assert (rate_hz, said["sample_rate"]) == (48_000, 48_000)
    before, source_hz = soundfile.read(path)
    assert len(wave) == len(before) * 48_000 // source_hz
    assert said["cutoff_hz"] == pytest.approx(3_500, rel=0.1)
    if name != "old.mp3":  # written by a codec that changes all of it
        assert kept_band_db(before, source_hz, wave[:, 0], 0.8 * said["cutoff_hz"]) < -60
    made = demo_files.band_db(wave[:, 0], 48_000, 6_000, 16_000)
    assert made > demo_files.band_db(wave[:, 0], 48_000, 100, 3_000) - 60
    for side in ("before", "after"):
        (copy, copy_hz), _ = fetch(demo, said[side])
        assert (len(copy), copy_hz) == (len(wave), 48_000)
        gap = demo_files.band_db(copy[:, 0], 48_000, 100, 2_500) - demo_files.band_db(wave[:, 0], 48_000, 100, 2_500)
        assert abs(gap) < (0.3 if name == "old.mp3" else 0.02)  # dB: the level is as it is


def test_a_format_that_cannot_be_written_comes_back_as_flac_and_says_so(demo, client, recordings):
    av = pytest.importorskip("av")
    path = recordings / "memo.m4a"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        wave = demo_files.programme(2.0).astype(np.float32)
        for start in range(0, len(wave) - 1023, 1024):
            frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="fltp", layout="mono")
            frame.sample_rate = 16_000
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    said = restore(client, path)
    assert said["name"] == "memo.48k.flac" and "m4a came back as flac" in said["notes"]


def test_two_at_once_get_their_own_results(demo, recordings):
    jobs = {"first.wav": (2.0, 1), "second.flac": (3.0, 2)}
    paths = [demo_files.make(recordings, name, seconds, seed=seed) for name, (seconds, seed) in jobs.items()]
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda path: restore(connect(demo), path), paths))
    for path, said in zip(paths, answers, strict=True):
        (wave, _), _ = fetch(demo, said["download"])
        before, source_hz = soundfile.read(path)
        assert said["name"] == f"{path.stem}.48k{path.suffix}"
        assert kept_band_db(before, source_hz, wave[:, 0], 0.8 * said["cutoff_hz"]) < -60


@pytest.mark.parametrize("name", demo_files.WRONG)
def test_a_wrong_file_is_one_sentence(demo, client, recordings, name):
    said = restore(client, demo_files.wrong(recordings, name))
    assert set(said) == {"error"} and said["error"].startswith(name)
    assert "/" not in said["error"] and "Traceback" not in said["error"]


def test_hours_in_a_small_file_are_refused(demo, client, recordings):
    said = restore(client, demo_files.long_opus(recordings))
    assert said == {"error": "long.opus is longer than 120 s; cut it into shorter pieces"}


def test_a_file_that_is_too_large_is_refused_while_it_comes(demo, client, recordings):
    path = recordings / "large.wav"
    soundfile.write(path, np.zeros(4_000_000), 48_000)
    with pytest.raises(Exception, match="exceeds the maximum") as error:
        restore(client, path)
    assert str(demo.temporary) not in str(error.value)
    assert not [folder for folder in demo.files if list(folder.glob("large*"))]


def test_no_other_file_is_given(demo, client, recordings):
    said = restore(client, demo_files.make(recordings, "mine.flac", seconds=1.0))
    folder = said["download"].split("/")[1]
    root = next(demo.temporary.glob("latentsr-demo-*"))
    for path in ("/etc/passwd", package, f"{root}/.lock", f"{root}/files/../.lock", "pyproject.toml"):
        assert httpx.get(f"{demo.url}/gradio_api/file={path}").status_code in (403, 404)
    for path in (f"files/{folder}/.source", f"files/{folder}/.result", f"files/{folder}/%2e%2e/examples", "files/x/y",
                 "files/examples/phone_speech.flac", f"files/{folder}/..%2f..%2f.lock"):  # fmt: skip
        assert httpx.get(f"{demo.url}/{path}").status_code == 404
    assert "root:" not in httpx.get(f"{demo.url}/files/{folder}/..%2f..%2f..%2f..%2fetc%2fpasswd").text


@pytest.mark.parametrize(
    "address", ["/etc/passwd", package, "../.lock", "http://127.0.0.1:{port}/secret", "https://x.y/z"]
)
def test_nothing_but_an_upload_can_be_named(demo, client, address):
    with listening() as (port, asked):
        named = {"path": address.format(port=port), "meta": {"_type": "gradio.FileData"}}
        for words in (
            [named, "mamba-gan", 0, False, 0, 0, False, False, 100, 0],
            [{**named, "url": named["path"]}, "vocoder", 0, False, 0, 0, 0, False, 100, 0],
        ):
            started = httpx.post(f"{demo.url}/gradio_api/call/restore", json={"data": words}).json()
            answer = httpx.get(f"{demo.url}/gradio_api/call/restore/{started['event_id']}", timeout=60).text
            assert answer.startswith("event: error"), answer
            assert "root:" not in answer and "Traceback" not in answer and str(demo.temporary) not in answer
        assert asked == []
    names = {path.name for folder in demo.files for path in folder.rglob("*")}
    assert not names & {"passwd", "__init__.py", ".lock", "secret", "z"}


@contextmanager
def listening():
    """A server that nobody should ask: its port, and who asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1], asked
    server.shutdown()


def test_the_page_asks_no_other_host_and_answers_to_none(demo):
    answer = httpx.get(demo.url)
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "fonts.googleapis" not in answer.text and "fonts.gstatic" not in answer.text
    assert httpx.get(demo.url, headers={"host": "evil.example"}).status_code == 421
    assert httpx.get(f"{demo.url}/docs").status_code == 404


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGINT, 130)])
def test_stopping_the_server_in_mid_run_leaves_nothing(tmp_path, recordings, number, code):
    with running(tmp_path) as demo:
        path = demo_files.make(recordings, "long.flac", seconds=60.0)
        client = connect(demo)
        client.submit(gradio_client.handle_file(str(path)), "vocoder", 100, False, 0, 0, False, api_name="/restore")
        demo.until(lambda: any(list(folder.glob(".latentsr-*.part")) for folder in demo.files), "nothing is written")
        workers = processes_of(demo.process.pid)
        assert demo.stop(number) == code, demo.said
        end = time.monotonic() + 30
        while [pid for pid in workers if Path(f"/proc/{pid}").exists()]:  # multiprocessing's own helper ends behind it
            assert time.monotonic() < end, "a process is left"
            time.sleep(0.05)
        assert workers
        assert list(tmp_path.glob("latentsr-demo-*")) == []  # torch makes an empty folder of its own
