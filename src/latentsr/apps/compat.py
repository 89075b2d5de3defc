"""`--compat`: a file restored as audiosr 0.0.7 does it, in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from latentsr import audio
from latentsr.convert.audiosr_preset import compat
from latentsr.options import Options
from latentsr.restoring.files import RestoredFile
from latentsr.restoring.output import RestorationOutput


def restore_as_audiosr(
    model: Any,
    source: audio.SourceFile,
    target: Path,
    options: Options,
    progress: Callable[[float, float], None] | None = None,
) -> RestoredFile:
    """Restore a file; steps and guidance that are not given are audiosr's own."""
    info = source.info
    given = {"steps": options.steps, "guidance_scale": options.guidance_scale, "filter": options.compat_filter}
    words: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    recording = audio.read(source.path, **options.reading)
    made = compat(model, recording.samples, recording.sample_rate, seed=options.seed, progress=progress, **words)
    out = RestorationOutput(
        made.audio, made.sample_rate, made.cutoff_hz, made.seconds, info.subtype, info.metadata,
        notes=tuple(recording.notes), cutoff_track=[[(0.0, made.cutoff_hz)]],
    )  # fmt: skip
    rate, written = options.output_rate(info.sample_rate), audio.Target.of(target, options.format, like=info.subtype)
    gain = out.save(target, overwrite=options.overwrite, format=written.format, sample_rate=rate)
    channels, samples = out.audio.shape
    return RestoredFile(
        path=target,
        sample_rate=rate,
        channels=channels,
        samples=audio.output_length(samples, out.sample_rate, rate),
        subtype=written.subtype,
        cutoff_hz=out.cutoff_hz,
        cutoff_track=out.cutoff_track,
        seconds=samples / out.sample_rate,
        gain=gain,
        head=options.head,
        account=recording.account,
        notes=(out.note,) if out.note else (),
    )
