"""The flow on one page: open the recording, analyse it, run the chain on each of its windows, write.

    audio -> bandwidth -> mel -> VAE encode -> diffusion -> head -> low-band merge -> audio

`Restores` is what every model can do, whatever holds its networks: `Pipeline`, which is one of diffusers, and `Model`,
which is not.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain as chained
from typing import Any, Unpack, cast

import numpy as np
import torch

from latentsr.audio import Album, SourceFile
from latentsr.audio.arrays import Samples, checked_rate
from latentsr.config import AUDIO
from latentsr.errors import UsageError
from latentsr.heads.live import LiveHead
from latentsr.options import Choices, FileChoices, Options
from latentsr.restoring import source as sources
from latentsr.restoring.analysis import NO_HOLES, Heard, listen, of_array
from latentsr.restoring.chain import Chain
from latentsr.restoring.engine import OnProgress, Restorer
from latentsr.restoring.files import Beside, RestoredFile, write_restored
from latentsr.restoring.live import LiveRestorer, live_stream
from latentsr.restoring.output import RestorationOutput
from latentsr.restoring.progress import LISTENING_SHARE, Progress, told
from latentsr.restoring.source import Source
from latentsr.restoring.stream import latency_samples, stream


class Restores(ABC):
    """Restores recordings with the networks of a model."""

    config: Any  # the model's own values: default_steps, default_guidance_scale, default_temperature, ...
    default_head: str  # of calls that name none
    progress_bar: Callable[..., Any] | None = None  # makes a bar, given its `total`; None: there is none
    execution_device: Any  # where networks run
    threads = 1  # windows of a recording that are restored at once on a CPU, where no latents are drawn

    @abstractmethod
    def load(self, names: Sequence[str]) -> dict[str, Any]:
        """The components of these names, ready."""

    @abstractmethod
    def rest(self) -> None:
        """Let the networks rest: called behind every restoration."""

    @torch.inference_mode()
    def __call__(
        self,
        source: Source | Sequence[Source],
        sample_rate: int | None = None,
        *,
        progress: Progress | None = None,
        options: Options | None = None,
        **choices: Unpack[Choices],
    ) -> RestorationOutput | list[RestorationOutput]:
        """Restore a recording, or a list of them.

        Args:
            source: a path, or samples (T,) or (C, T) with full scale 1.0 (numpy or torch); or a list of these.
            sample_rate: Hz, of samples; a file knows its own.
            progress: called with (seconds done, seconds in all) instead of the progress bar.
            options: every choice in one object; keywords change it.
            choices: head, steps, guidance_scale, temperature, seed, denoise, repair, cutoff_hz, use_latents, amount,
                tilt, sibilance, ceiling_hz, batch_size, salvage, on_nonfinite, track and no_timeline: see
                `latentsr.options.Options`.

        Returns:
            One output for a recording, a list for a list.

        Raises:
            AudioError: the recording cannot be read or is not one.
            ValueError: a choice is out of its range, or of no use to the head.
        """
        asked = self.asked(options, choices)
        restorer = self.restorers(asked)

        def restore(one: Source) -> RestorationOutput:
            recording = sources.read(one, sample_rate, asked)
            nyquist_hz = recording.sample_rate / 2
            wave, heard = of_array(recording, asked)
            if asked.repair and not heard.holed:
                recording.notes += (NO_HOLES,)
            result = RestorationOutput.of(recording, wave.numpy(), heard)
            if heard.why_copied(asked) is None:
                with told(self.progress_bar, result.seconds, progress) as bar:
                    result.audio, notes = restorer(heard, nyquist_hz, None if bar is None else bar.update).whole(wave)
                result.notes, result.lines_hz = (*recording.notes, *notes), heard.lines_hz
                result.channel_correlation = heard.channel_correlation
            return result

        one = not isinstance(source, (list, tuple))
        made = [restore(each) for each in cast(Sequence[Source], [source] if one else source)]
        self.rest()
        return made[0] if one else made

    @torch.inference_mode()
    def restore_file(
        self,
        source: str | os.PathLike[str] | SourceFile,
        target: str | os.PathLike[str],
        *,
        write_band: str | os.PathLike[str] | None = None,
        bands: bool = False,
        progress: Progress | None = None,
        options: Options | None = None,
        **choices: Unpack[FileChoices],
    ) -> RestoredFile:
        """Restore a file into a file, in bounded memory whatever its length: what a call and `save` do, in blocks.

        Args:
            source: the recording; it is read twice, and with denoise more often.
            target: where; its extension says the format unless `format` does. It appears when it is whole.
            write_band: a second file, of the made band alone: with the recording at the same rate it sums to `target`.
            bands: measure what was kept, raised and made, per band and second.
            progress: called with (seconds done, seconds in all).
            options: every choice in one object; keywords change it.
            choices: those of a call, and how to write: sample_rate, format, subtype and overwrite: see
                `latentsr.options.Options`. At another rate than 48000, what the recording has above 24 kHz is kept
                where the rate has room for it.

        Raises:
            AudioError: the recording cannot be read, or the target not written; no target is left then.
            ValueError: a choice is out of its range, or of no use to the head.
        """
        asked = self.asked(options, choices)
        source = source if isinstance(source, SourceFile) else SourceFile(source, **asked.reading)
        return self._restored(Album([source]), [target], asked, Beside(write_band, bands), progress)[0]

    @torch.inference_mode()
    def restore_album(
        self,
        sources: Sequence[str | os.PathLike[str] | SourceFile],
        targets: Sequence[str | os.PathLike[str]],
        *,
        bands: bool = False,
        progress: Progress | None = None,
        options: Options | None = None,
        **choices: Unpack[FileChoices],
    ) -> list[RestoredFile]:
        """Restore the tracks of an album, each into a file of its own, as the one recording that they are.

        One gain and one hearing of the band hold for all; tracks that play through are restored through their joints.

        Args:
            sources: the tracks, in the order in which they play; all of one rate and number of channels.
            targets: a file for each.
            bands: as in `restore_file`, as are progress, options and choices.
            progress: see there.
            options: see there.
            choices: see there.

        Raises:
            AudioError: a track cannot be read, and none is written; or written: those before it stay.
            ValueError: rates or channels differ; a choice is out of its range, or of no use to the head.
        """
        asked = self.asked(options, choices)
        if len(sources) != len(targets) or not sources:
            raise UsageError(f"{len(sources)} tracks need as many files to be written to, got {len(targets)}")
        opened = []
        for source in sources:
            opened.append(source if isinstance(source, SourceFile) else SourceFile(source, **asked.reading))
            opened[-1].release()  # a system opens a thousand files at once, and no more
        return self._restored(Album(opened), targets, asked, Beside(table=bands), progress)

    def _restored(
        self,
        album: Album,
        targets: Sequence[str | os.PathLike[str]],
        asked: Options,
        beside: Beside,
        progress: Progress | None,
    ) -> list[RestoredFile]:
        restorers = self.restorers(asked)
        with told(self.progress_bar, album.declared_s, progress, LISTENING_SHARE) as bar:
            heard = listen(album, asked, None if bar is None else bar.heard)
            if bar is not None:
                bar.seconds = heard.samples / AUDIO.sample_rate
            nyquist_hz, update = album.sample_rate / 2, None if bar is None else bar.update
            written = write_restored(
                album, targets, heard,
                lambda own, start_s: None if own.why_copied(asked)
                else restorers(own, nyquist_hz, update and partial(update, before_s=start_s)),
                asked, beside,
            )  # fmt: skip
        self.rest()
        return written

    def stream(
        self,
        blocks: Iterable[Samples],
        sample_rate: int,
        *,
        peak: float | None = None,
        channel_correlation: Any = None,
        options: Options | None = None,
        **choices: Unpack[Choices],
    ) -> Iterator[np.ndarray]:
        """Restore a recording that comes in blocks; the blocks may have any length.

        What is not known of it yet, its cutoff, its largest absolute sample and how alike its channels are, is taken
        from the first `stream_latency_s` seconds unless given. With all three given the result is that of a call on the
        whole.

        Args:
            blocks: samples (T,) or (C, T), full scale 1.0, all with as many channels.
            sample_rate: of the blocks, Hz.
            peak: largest absolute sample to come.
            channel_correlation: of the channels, as a call's output has it.
            options: every choice in one object; keywords change it.
            choices: as in a call, but for those that say how to read a file.

        Returns:
            Blocks (C, n) float32 at 48 kHz, in order and without gaps, as long in all as what came in.
        """
        asked, sample_rate = self.asked(options, choices), checked_rate(sample_rate)
        if asked.kind.live:
            made = live_stream(blocks, LiveRestorer(self.live_head(), asked, sample_rate / 2), sample_rate)
        else:
            made = stream(blocks, sample_rate, self.chains(asked), asked, peak, channel_correlation)
        return chained(made, self._at_rest())

    def _at_rest(self) -> Iterator[np.ndarray]:
        self.rest()
        yield from ()

    def stream_latency_s(self, head: str | None = None, use_latents: bool = False, repair: bool = False) -> float:
        """A sample that goes into `stream` comes out when so many more seconds have gone in, at the latest."""
        asked = self.asked(None, {"head": head, "use_latents": use_latents, "repair": repair})
        samples = LiveRestorer.latency_samples if asked.kind.live else latency_samples(self.chains(asked), asked)
        return samples / AUDIO.sample_rate

    def asked(self, options: Options | None, choices: Choices | FileChoices) -> Options:
        """What is wanted, checked before anything is loaded or read."""
        options = options or Options()
        return (options.but(**choices) if choices else options).with_head(self.default_head)

    def live_head(self) -> LiveHead:
        """The live head, loaded: `latentsr.Live` asks for it."""
        return LiveHead(**self.load(("live",)), device=self.execution_device)

    def restorers(self, options: Options) -> Callable[[Heard, float, OnProgress | None], Restorer | LiveRestorer]:
        """Load what is needed, and say who restores a recording of which something was heard and that has nothing above
        a frequency."""
        if options.kind.live:
            head = self.live_head()
            return lambda _, nyquist_hz, on_progress: LiveRestorer(head, options, nyquist_hz, on_progress)
        chain = self.chains(options)
        return lambda heard, _, on_progress: Restorer(chain(heard), on_progress, self.threads)

    def chains(self, options: Options) -> Callable[[Heard], Chain]:
        """Load the networks that are needed, and say how a chain is made of what was heard of a recording."""
        kind, diffusion = options.kind, None
        parts = self.load(kind.needs(options.use_latents))
        head = kind.load()(**{name: parts[name] for name in kind.components}, device=self.execution_device)
        if kind.needs_latents or options.use_latents:
            from latentsr.diffusion.drawing import Diffusion  # it imports diffusers

            diffusion = Diffusion.of(self, parts, options)
        return partial(Chain, head, diffusion, options=options)
