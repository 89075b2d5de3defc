"""`latentsr live`: raw samples through pipes, and audio devices that a stand-in plays."""

import contextlib
import os
import sys
import threading
import types

import numpy as np
import pytest
import torch

from latentsr import Live, Pipeline
from latentsr.apps import live as command
from latentsr.errors import UsageError
from latentsr.models.live import LiveGenerator

OPTIONS = {"rate": 16_000, "channels": 2, "pcm": "f32le", "cutoff": 4_000.0, "seed": 0, "on_nonfinite": "error",
           "source": None, "sink": None, "devices": False}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    network = LiveGenerator(hidden=16, layers=1).eval()
    torch.nn.init.normal_(network.gains.weight, std=0.3)
    place = tmp_path_factory.mktemp("model")
    Pipeline(live=network, default_head="live").save_pretrained(place)
    return str(place)


@pytest.fixture
def piped(monkeypatch, folder):
    """Runs the command with these bytes on stdin; gives stdout, of which a reader takes so many bytes."""

    def run(given, reads=None, **options):
        (from_in, to_in), (from_out, to_out) = os.pipe(), os.pipe()
        heard = bytearray()

        def feed():
            with contextlib.suppress(BrokenPipeError), os.fdopen(to_in, "wb") as pipe:
                pipe.write(given)

        def read():
            with os.fdopen(from_out, "rb") as pipe:
                heard.extend(pipe.read() if reads is None else pipe.read(reads))

        threads = [threading.Thread(target=each) for each in (feed, read)]
        with os.fdopen(from_in, "rb") as source, os.fdopen(to_out, "wb") as sink:
            monkeypatch.setattr(sys, "stdin", source)
            monkeypatch.setattr(sys, "stdout", sink)
            for thread in threads:
                thread.start()
            command.live_command(model=folder, **OPTIONS | options)
            monkeypatch.undo()
        for thread in threads:
            thread.join()
        return bytes(heard)

    return run


def samples(seconds=0.3, channels=2, rate=16_000):
    draw = np.random.default_rng(0)
    return (0.1 * draw.standard_normal((channels, round(seconds * rate)))).astype(np.float32)


@pytest.mark.parametrize("pcm", ["f32le", "s16le"])
def test_what_is_piped_through_is_what_live_gives(piped, folder, pcm, capsys):
    kind, scale = ("<f4", 1.0) if pcm == "f32le" else ("<i2", 32_768.0)
    given = np.rint(samples() * scale).astype(kind) if scale > 1 else samples()
    made = np.frombuffer(piped(given.T.tobytes(), pcm=pcm), kind).reshape(-1, 2).T / scale
    live = Live(Pipeline.from_pretrained(folder), 16_000, 2, cutoff_hz=4_000.0)
    wanted = np.concatenate([live.process(given.astype(np.float32) / np.float32(scale)), live.flush()], axis=1)
    assert made.shape == wanted.shape and np.abs(made - wanted).max() <= (1e-5 if scale == 1 else 1e-4)
    assert "16.7 ms late" in capsys.readouterr().err


def test_an_end_within_a_frame_is_said_and_the_rest_is_given(piped, capsys):
    given = samples(0.05).T.tobytes() + b"abc"
    made = piped(given)
    assert "ended within a frame of 8 bytes; its first 3 are left out" in capsys.readouterr().err
    assert len(made) == 8 * (2_400 + 802)  # 50 ms and the delay


def test_a_reader_that_leaves_ends_it_with_a_word(piped, capsys):
    assert len(piped(samples(20.0).T.tobytes(), reads=4_000)) == 4_000
    assert "whoever read stdout has closed it" in capsys.readouterr().err


def test_nan_is_refused_or_counted(piped, capsys):
    given = samples(0.05)
    given[0, 7] = np.nan
    piped(given.T.tobytes(), on_nonfinite="zero")
    assert "1 samples were NaN" in capsys.readouterr().err
    with pytest.raises(Exception, match="NaN or infinite"):
        piped(given.T.tobytes())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pcm": "mp3"}, "s16le or f32le"),
        ({"on_nonfinite": "skip"}, "error or zero"),
        ({"source": "1"}, "48000 Hz"),
        ({"pcm": "s16le", "on_nonfinite": "zero"}, "holds no NaN"),
    ],  # fmt: skip
)
def test_wrong_options_are_refused(folder, options, words):
    with pytest.raises(UsageError, match=words):
        command.live_command(model=folder, **OPTIONS | options)


class Devices(types.ModuleType):
    """A sounddevice whose input goes away after a second."""

    class PortAudioError(Exception):
        pass

    class CallbackAbort(Exception):  # noqa: N818 sounddevice's name
        pass

    def Stream(self, device, callback, samplerate, channels, blocksize, dtype):  # noqa: N802
        self.asked = device, samplerate, channels, blocksize
        blocks = np.split(samples(1.0, channels, samplerate), samplerate // blocksize, axis=1)
        devices = self

        class Played:
            active = True

            def __enter__(self):
                devices.heard = []
                for n, block in enumerate(blocks):
                    out = np.empty((blocksize, channels), np.float32)
                    callback(block.T, out, blocksize, None, n in (3, 5))
                    devices.heard.append(out.T)
                self.active = False
                return self

            def __exit__(self, *_):
                pass

        return Played()


def test_devices_are_played_through_and_late_blocks_counted(monkeypatch, folder, capsys):
    sound = Devices("sounddevice")
    monkeypatch.setitem(sys.modules, "sounddevice", sound)
    with pytest.raises(SystemExit) as ended:
        options = {"rate": 48_000, "channels": 1, "pcm": "s16le", "source": "2", "sink": "USB"}
        command.live_command(model=folder, **OPTIONS | options)
    said = capsys.readouterr().err
    assert ended.value.code == 1 and "it has gone" in said and "2 times a block came or went too late" in said
    assert sound.asked == ((2, "USB"), 48_000, 1, 480)
    live = Live(Pipeline.from_pretrained(folder), 48_000, 1, cutoff_hz=4_000.0)
    wanted = live.process(samples(1.0, 1, 48_000))
    assert np.abs(np.concatenate(sound.heard, axis=1) - wanted).max() <= 1e-5
