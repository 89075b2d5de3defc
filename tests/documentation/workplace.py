"""The folder in which a page's blocks run: what a reader has who types them, only shorter."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import offline
import soundfile
import soxr
import torch
from blocks import ROOT

RATE = 48_000
FROM_THE_CLONE = (
    "configs",
    "scripts",
    "benchmarks",
    "vocoder",
    "src",
    "train.py",
    "train_vae.py",
    "train_ldm.py",
    "train_cutoff.py",
)


def furnish(folder: Path, page: str) -> None:
    """Recordings and folders by the names that pages use."""
    shutil.copytree(ROOT / "examples", folder / "examples")
    for name in FROM_THE_CLONE:
        (folder / name).symlink_to(ROOT / name)
    speech, rate = soundfile.read(ROOT / "examples/phone_speech.flac")
    loop, loop_rate = soundfile.read(ROOT / "examples/loop_5500hz.flac")
    short, stereo = speech[: 2 * rate], loop[: 2 * loop_rate]
    soundfile.write(folder / "old.wav", soxr.resample(short, rate, 2 * rate), 2 * rate)
    soundfile.write(folder / "reel7.wav", stereo, loop_rate)
    soundfile.write(folder / "song.flac", stereo, loop_rate)
    soundfile.write(folder / "song.mp3", stereo, loop_rate)
    write_m4a(folder / "song.m4a", stereo.astype(np.float32), loop_rate)
    for at, name in enumerate(("transfers/reel1.wav", "transfers/box2/reel2.wav", "box1/a/reel3.wav")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, short[at * rate // 4 :], rate)
    (folder / "transfers/side_a.flac").write_bytes((folder / "song.flac").read_bytes())
    if page in ("README.md", "cookbook.md"):
        (folder / "album").mkdir()
        for at in range(2):
            soundfile.write(folder / f"album/0{at + 1}.flac", stereo[at * loop_rate : (at + 1) * loop_rate], loop_rate)
    (folder / "list.csv").write_text("file\nold.wav\ntransfers/reel1.wav\n")
    cut = folder / "transfer.wav"  # cut short: a third of what its header says
    cut.write_bytes((folder / "old.wav").read_bytes()[: 44 + 2 * 2 * rate * 2 // 3])
    for name in ("REF_DIR", "recordings"):
        for group in ("music", "speech"):
            (folder / name / group).mkdir(parents=True)
            soundfile.write(folder / name / group / "one.flac", wide_band(1.2, seed=len(group)), RATE)
    pairs = page in ("finetuning.md",)
    for at in range(4):
        wave = wide_band(1.5, seed=at)
        if pairs:
            for name, made in (("high", wave), ("low", cut_at(wave, 6000))):
                (folder / "DIR" / name).mkdir(parents=True, exist_ok=True)
                soundfile.write(folder / "DIR" / name / f"{at}.wav", made, RATE)
        else:
            (folder / "DIR" / "music").mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / "DIR" / "music" / f"{at}.wav", wave, RATE)
    if page == "plugins.md":
        (folder / "generators").touch()  # names of the Hub are taken then
    if page == "evaluation.md":
        speaker = folder / "VCTK/wav48_silence_trimmed/p360"
        speaker.mkdir(parents=True)
        soundfile.write(speaker / "p360_001_mic1.flac", wide_band(1.2, seed=9), RATE)
        for name in ("DIR1", "DIR2"):
            (folder / name).symlink_to(ROOT / "src/latentsr/weights")
    if page == "aeromamba.md":
        from authors_aeromamba import authors_shapes, synthetic

        torch.save(synthetic(authors_shapes()), folder / "checkpoint.th")
    if page in ("README.md", "from_audiosr.md"):
        import small_audiosr

        small_audiosr.make(offline.LEVELS).write(folder / "pytorch_model.bin")


def wide_band(seconds: float, seed: int) -> np.ndarray:
    """Bursts of noise that falls with frequency, up to 24 kHz. (T,)"""
    rng, samples = np.random.default_rng(seed), round(seconds * RATE)
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    wave = np.fft.irfft(spectrum / np.sqrt(1 + (np.fft.rfftfreq(samples, 1 / RATE) / 1000) ** 2), n=samples)
    wave *= np.abs(np.sin(np.arange(samples) / (3000 + 500 * seed)))
    return (0.3 * wave / np.abs(wave).max()).astype(np.float32)


def cut_at(wave: np.ndarray, cutoff_hz: float) -> np.ndarray:
    spectrum = np.fft.rfft(wave)
    spectrum[np.fft.rfftfreq(len(wave), 1 / RATE) > cutoff_hz] = 0
    return np.fft.irfft(spectrum, n=len(wave)).astype(np.float32)


def write_m4a(path: Path, wave: np.ndarray, rate: int) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=rate, layout="stereo")
        for at in range(0, len(wave), 1024):
            part = np.ascontiguousarray(wave[at : at + 1024].T)
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = rate, at
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def shims(folder: Path, warm: list[str]) -> dict[str, str]:
    """Environment of the blocks: `latentsr`, `python` and `accelerate` go to the server, `pip` installs nothing.

    `ray` stops no cluster but theirs: other tests, and whoever works on this machine, may have one.
    """
    place = folder / "bin"
    place.mkdir()
    for name in ("latentsr", "python", "python3", "accelerate"):
        program = "python" if name == "python3" else name
        text = f'#!/bin/sh\nexec {shlex.join(warm)} {program} "$@"\n'
        (place / name).write_text(text)
    for name, script in (("pip", "pip.py"), ("ray", "own_ray.py")):
        (place / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).with_name(script)}" "$@"\n')
    for shim in place.iterdir():
        shim.chmod(0o755)
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "ACCELERATE"))}
    return keep | {
        "PATH": f"{place}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "WARM_PRELUDE": "documentation.offline",
        "ACCELERATE_USE_CPU": "true",
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "120",
        "RAY_TMPDIR": f"{tempfile.gettempdir()}/ray{os.getpid()}",  # short: sockets lie in it
    }
