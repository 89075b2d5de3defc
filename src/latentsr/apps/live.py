"""`latentsr live`: restore while it is played, from stdin to stdout or from one audio device to another."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from latentsr.apps.loading import Loader
from latentsr.apps.terminal import FAILED, INTERRUPTED, fail, warn
from latentsr.config import AUDIO
from latentsr.errors import UsageError

if TYPE_CHECKING:
    from latentsr.restoring.live import Live

FORMATS: dict[str, np.dtype[Any]] = {"s16le": np.dtype("<i2"), "f32le": np.dtype("<f4")}
BLOCK_S = 0.01
METER_DB, METER_EVERY_S = 60.0, 0.2
FULL_SCALE = 32_768.0  # of s16le


def live_command(
    rate: Annotated[int, typer.Option(metavar="HZ", help="Rate of what comes in through stdin.")] = AUDIO.sample_rate,
    channels: Annotated[int, typer.Option(metavar="N", help="Channels of what comes in.")] = 1,
    pcm: Annotated[str, typer.Option("--format", help="Of both sides: s16le or f32le.")] = "s16le",
    cutoff: Annotated[float | None, typer.Option(metavar="HZ", help="The band ends here; else it is heard.")] = None,
    seed: Annotated[int, typer.Option(help="Draw with this seed.")] = 0,
    on_nonfinite: Annotated[str, typer.Option(help="NaN in f32le: error, or zero.")] = "error",
    model: Annotated[str | None, typer.Option(help="Model folder; the embedded default if not given.")] = None,
    source: Annotated[str | None, typer.Option("--input", help="Input device, by number or name.")] = None,
    sink: Annotated[str | None, typer.Option("--output", help="Output device, by number or name.")] = None,
    devices: Annotated[bool, typer.Option("--devices", help="List audio devices and stop.")] = False,
) -> None:
    """Restore while it is played: raw PCM through stdin and stdout, at 48 kHz out, or from device to device.

    What comes out is as long as what came in, and begins with the delay, which is said on stderr.
    """
    if devices:
        print(_sounddevice().query_devices())
        return
    played = source is not None or sink is not None
    if pcm not in FORMATS:
        raise UsageError(f"--format is {' or '.join(FORMATS)}, got {pcm!r}")
    if on_nonfinite not in ("error", "zero"):
        raise UsageError(f"--on-nonfinite is error or zero, got {on_nonfinite!r}")
    if played and (rate != AUDIO.sample_rate or pcm != "s16le"):
        raise UsageError("devices run at 48000 Hz in their own format; leave out --rate and --format")
    if on_nonfinite == "zero" and not played and pcm == "s16le":
        raise UsageError("s16le holds no NaN; leave out --on-nonfinite, or say --format f32le")
    if not played and sys.stdin.isatty():
        raise UsageError("nothing is piped in; pipe raw PCM to stdin, or name devices by --input and --output")
    sound = _sounddevice() if played else None
    from latentsr.restoring.live import Live

    choices: Any = {"cutoff_hz": cutoff, "seed": seed, "on_nonfinite": on_nonfinite}
    live = Live(Loader(model, "live", "cpu")(), rate, channels, **choices)
    warn(f"{1000 * live.latency_samples / AUDIO.sample_rate:.1f} ms late")
    try:
        if sound is None:
            _through_pipes(live, FORMATS[pcm])
        else:
            _through_devices(live, sound, _device(source), _device(sink))
    except KeyboardInterrupt:
        fail("interrupted", INTERRUPTED)


def _through_pipes(live: Live, kind: np.dtype[Any]) -> None:
    """All of stdin; a reader that has heard enough ends it."""
    try:
        for block in _blocks(live, kind):
            _write(live.process(block), kind)
        _write(live.flush(), kind)
    except BrokenPipeError:
        warn("whoever read stdout has closed it; stopped")
    if live.nonfinite:
        warn(f"{live.nonfinite} samples were NaN or infinite, and became 0")


def _blocks(live: Live, kind: np.dtype[Any]) -> Iterator[np.ndarray]:
    """Blocks (C, n) as soon as they come, 10 ms at most."""
    frame = live.channels * kind.itemsize
    most, held = max(round(BLOCK_S * live.sample_rate), 1) * frame, b""
    while more := os.read(sys.stdin.fileno(), most):
        held += more
        whole = len(held) // frame * frame
        samples = np.frombuffer(held[:whole], kind).reshape(-1, live.channels).T
        held = held[whole:]
        yield samples / np.float32(FULL_SCALE) if kind.kind == "i" else samples
    if held:
        warn(f"stdin ended within a frame of {frame} bytes; its first {len(held)} are left out")


def _write(samples: np.ndarray, kind: np.dtype[Any]) -> None:
    if kind.kind == "i":
        samples = np.clip(np.rint(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1)
    left = samples.T.astype(kind).tobytes()
    while left:
        left = left[os.write(sys.stdout.fileno(), left) :]


def _through_devices(live: Live, sound: Any, source: int | str | None, sink: int | str | None) -> None:
    """Until it is interrupted or a device goes away; the terminal shows level, band and how often it was too late."""
    heard: dict[str, Any] = {"level": 0.0, "xruns": 0, "error": None}

    def callback(given: np.ndarray, out: np.ndarray, _frames: int, _time: Any, status: Any) -> None:
        heard["xruns"] += bool(status)
        try:
            made = live.process(given.T)
        except Exception as error:  # a callback that raises dies in silence
            heard["error"] = error
            raise sound.CallbackAbort from error
        out[:] = made.T
        heard["level"] = float(np.sqrt(np.mean(np.square(made)) + 1e-12))

    size = round(BLOCK_S * live.sample_rate)
    try:
        about = {"samplerate": live.sample_rate, "channels": live.channels, "blocksize": size, "dtype": "float32"}
        with sound.Stream(device=(source, sink), callback=callback, **about) as stream:
            while stream.active:
                _show(heard, live.cutoff_hz)
                time.sleep(METER_EVERY_S)
    except sound.PortAudioError as error:
        fail(f"the audio device fails: {error}; choose others of latentsr live --devices", FAILED)
    finally:
        print(file=sys.stderr)
        warn(f"{heard['xruns']} times a block came or went too late")
    fail(f"the audio device stopped: {heard['error'] or 'it has gone'}", FAILED)


def _show(heard: dict[str, Any], cutoff_hz: float) -> None:
    level_db = 20 * math.log10(heard["level"] + 1e-6)
    bar = "#" * max(round(30 * (1 + level_db / METER_DB)), 0)
    band = f"made above {cutoff_hz:5.0f} Hz" if cutoff_hz < AUDIO.sample_rate / 2 else "nothing is missing "
    print(f"\r{level_db:6.1f} dB |{bar:30}| {band}  xruns {heard['xruns']}", end="", file=sys.stderr, flush=True)


def _device(name: str | None) -> int | str | None:
    return int(name) if name is not None and name.isdecimal() else name


def _sounddevice() -> Any:
    try:
        import sounddevice
    except (ModuleNotFoundError, OSError) as error:  # OSError: the package is there, PortAudio is not
        fail(f"devices need sounddevice ({error}); install it with: pip install 'latentsr[live]'", FAILED)
    return sounddevice
