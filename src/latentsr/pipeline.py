"""The flow on one page: audio -> bandwidth -> mel -> VAE encode -> diffusion -> head -> low-band merge -> audio."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor
from transformers import SpeechT5HifiGan

from latentsr import files
from latentsr import source as sources
from latentsr.components import DIFFUSION, Components, components_of
from latentsr.config import AUDIO
from latentsr.convert import audiosr_compat
from latentsr.diffusion import Diffusion, Sampling
from latentsr.heads import DEFAULT_HEAD, HEADS, Head
from latentsr.listening import Heard, listen, peak_of
from latentsr.output import RestorationOutput
from latentsr.progress import LISTENING_SHARE, Bar, Progress
from latentsr.signal.chunks import take
from latentsr.signal.image import Image
from latentsr.signal.level import network_gain
from latentsr.source import Samples, Source
from latentsr.streaming import MakeRestorer, latency_samples, stream
from latentsr.windowed import EDGE_SAMPLES, OnProgress, Restorer, Setting

__all__ = ["Pipeline", "RestorationOutput"]


class Pipeline(Components):
    """Restores recordings: wide-band audio at 48 kHz, with what was there untouched.

    >>> from latentsr import Pipeline
    >>> pipe = Pipeline.from_pretrained()  # the embedded default
    >>> out = pipe(array, sample_rate=16_000)  # doctest: +SKIP
    """

    @torch.inference_mode()
    def __call__(
        self,
        source: Source | Sequence[Source],
        sample_rate: int | None = None,
        *,
        head: str = DEFAULT_HEAD,
        steps: int | None = None,
        guidance_scale: float | None = None,
        temperature: float | None = None,
        seed: int = 0,
        denoise: bool = False,
        cutoff_hz: float | None = None,
        use_latents: bool = False,
        batch_size: int = 1,
        salvage: bool = False,
        on_nonfinite: Literal["error", "zero"] = "error",
        progress: Progress | None = None,
    ) -> RestorationOutput | list[RestorationOutput]:
        """Restore a recording, or a list of them.

        Args:
            source: a path, or samples (T,) or (C, T) with full scale 1.0 (numpy or torch); or a list of these.
            sample_rate: Hz, of samples; a file knows its own.
            head: which decoder makes the wave; a key of `latentsr.heads.HEADS`.
            steps: evaluations of the denoiser: the head's own if it has one, else that of the latents; None takes the
                model's default.
            guidance_scale: above 1 follows the condition harder, at twice the cost; None takes the model's default.
            temperature: of the initial noise; None takes the model's default.
            seed: same seed, same result, however the recording is cut into windows.
            denoise: filter the known band too, instead of keeping it as it is.
            cutoff_hz: where the known band ends; None estimates it.
            use_latents: let a head that can do without them decode the diffusion's latents.
            batch_size: windows in one batch.
            salvage: restore what can be decoded of a file that is cut short, and note it.
            on_nonfinite: "zero" replaces samples of a file that are NaN or infinite, and notes it.
            progress: called with (seconds done, seconds in all) instead of the progress bar.

        Returns:
            One output for a recording, a list for a list.

        Raises:
            AudioError: the recording cannot be read or is not one.
            ValueError: an argument is out of its range.
        """
        make = self._restorers(head, use_latents, steps, guidance_scale, temperature, seed, denoise, batch_size)
        cutoff_hz = None if cutoff_hz is None else sources.checked_cutoff(cutoff_hz)

        def restore(one: Source) -> RestorationOutput:
            recording = sources.read(one, sample_rate, salvage=salvage, on_nonfinite=on_nonfinite)
            wave = sources.at_our_rate(recording)
            heard = listen(lambda: [wave], denoise, cutoff_hz)
            seconds = wave.shape[-1] / AUDIO.sample_rate
            result = RestorationOutput(
                wave.numpy(), AUDIO.sample_rate, heard.cutoff_hz, seconds, recording.subtype, recording.metadata
            )
            result.notes = recording.notes
            if heard.leaves_alone(denoise):
                return result
            result.lines_hz, result.image = heard.lines_hz, heard.image
            with Bar(self.progress_bar, seconds, progress) as bar:
                restorer = make(heard, bar.update)
                restored, at = np.empty_like(result.audio), 0
                for piece in chain(restorer.push(wave), restorer.finish()):
                    restored[:, at : at + piece.shape[-1]] = piece.numpy()
                    at += piece.shape[-1]
            result.audio, result.notes = restored, (*recording.notes, *restorer.notes)
            return result

        one = not isinstance(source, (list, tuple))
        made = [restore(each) for each in cast(Sequence[Source], [source] if one else source)]
        self.maybe_free_model_hooks()
        return made[0] if one else made

    @torch.inference_mode()
    def restore_file(
        self,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str],
        *,
        head: str = DEFAULT_HEAD,
        steps: int | None = None,
        guidance_scale: float | None = None,
        temperature: float | None = None,
        seed: int = 0,
        denoise: bool = False,
        cutoff_hz: float | None = None,
        use_latents: bool = False,
        batch_size: int = 1,
        sample_rate: files.Rate = None,
        format: str | None = None,
        subtype: str | None = None,
        overwrite: bool = False,
        salvage: bool = False,
        on_nonfinite: Literal["error", "zero"] = "error",
        progress: Progress | None = None,
    ) -> files.RestoredFile:
        """Restore a file into a file, in bounded memory whatever its length: what a call and `save` do, in blocks.

        Args:
            source: the recording; it is read twice, and with denoise more often.
            target: where; its extension says the format unless `format` does. It appears when it is whole.
            head: as in a call; so are steps, guidance_scale, temperature, seed, denoise, cutoff_hz, use_latents,
                batch_size, salvage, on_nonfinite and progress.
            steps: evaluations of the denoiser.
            guidance_scale: how hard to follow the condition.
            temperature: of the initial noise.
            seed: same seed, same result.
            denoise: filter the known band too.
            cutoff_hz: where the known band ends.
            use_latents: let a head that can do without them decode the diffusion's latents.
            batch_size: windows in one batch.
            sample_rate: of the target, Hz; "source": the recording's own; None: 48000. What the recording has above
                24 kHz is kept where the rate has room for it.
            format: 'wav', 'flac', 'mp3', 'ogg', 'opus', ...
            subtype: libsndfile's, 'PCM_24'; None takes the shallowest that is as deep as the recording.
            overwrite: replace an existing file.
            salvage: restore what can be decoded of a recording that is cut short.
            on_nonfinite: "zero" replaces samples that are NaN or infinite.
            progress: called with (seconds done, seconds in all).

        Raises:
            AudioError: the recording cannot be read, or the target not written; no target is left then.
            ValueError: an argument is out of its range.
        """
        make = self._restorers(head, use_latents, steps, guidance_scale, temperature, seed, denoise, batch_size)
        cutoff_hz = None if cutoff_hz is None else sources.checked_cutoff(cutoff_hz)
        recording = files.SourceFile(source, salvage=salvage, on_nonfinite=on_nonfinite)
        with Bar(self.progress_bar, recording.declared_s, progress, LISTENING_SHARE) as bar:
            heard = listen(recording.blocks, denoise, cutoff_hz, bar.heard)
            bar.seconds = heard.samples / AUDIO.sample_rate
            restorer = None if heard.leaves_alone(denoise) else make(heard, bar.update)
            written = files.restore_file(
                recording, target, heard, restorer,
                sample_rate=sample_rate, format=format, subtype=subtype, overwrite=overwrite,
            )  # fmt: skip
            bar.finish()
        self.maybe_free_model_hooks()
        return written

    def stream(
        self,
        blocks: Iterable[Samples],
        sample_rate: int,
        *,
        head: str = DEFAULT_HEAD,
        steps: int | None = None,
        guidance_scale: float | None = None,
        temperature: float | None = None,
        seed: int = 0,
        denoise: bool = False,
        cutoff_hz: float | None = None,
        peak: float | None = None,
        use_latents: bool = False,
        image: Image | None = None,
    ) -> Iterator[np.ndarray]:
        """Restore a recording that comes in blocks; the blocks may have any length.

        What is not known of it yet, its cutoff, its largest absolute sample and how alike its channels are, is taken
        from the first `stream_latency_s` seconds unless given. With all three given the result is that of a call on the
        whole.

        Args:
            blocks: samples (T,) or (C, T), full scale 1.0, all with as many channels.
            sample_rate: of the blocks, Hz.
            head: as in a call; so are steps, guidance_scale, temperature, seed, denoise, cutoff_hz and use_latents.
            steps: evaluations of the denoiser.
            guidance_scale: how hard to follow the condition.
            temperature: of the initial noise.
            seed: same seed, same result.
            denoise: filter the known band too.
            cutoff_hz: where the known band ends.
            peak: largest absolute sample to come.
            use_latents: let a head that can do without them decode the diffusion's latents.
            image: correlations of the channels, as a call's output has them.

        Yields:
            (C, n) float32 at 48 kHz, in order and without gaps, as long in all as what came in.
        """
        make = self._restorers(head, use_latents, steps, guidance_scale, temperature, seed, denoise)
        end_hz = None if cutoff_hz is None else sources.checked_cutoff(cutoff_hz)
        yield from stream(sources.resampled(blocks, sample_rate), make, end_hz, peak, denoise, image)
        self.maybe_free_model_hooks()

    def stream_latency_s(self, head: str = DEFAULT_HEAD, use_latents: bool = False) -> float:
        """A sample that goes into `stream` comes out when so many more seconds have gone in, at the latest."""
        return latency_samples(self._restorers(head, use_latents)) / AUDIO.sample_rate

    @torch.inference_mode()
    def reconstruct(self, wave: Tensor) -> Tensor:
        """Wide-band waves (B, 1, T) through VAE and vocoder alone: the ceiling of every diffusion row."""
        decoder, diffusion = self._parts("vocoder", True, None, None, None, batch_size=1)
        assert diffusion is not None
        hop, samples = diffusion.stride * AUDIO.hop_length, wave.shape[-1]
        made = []
        for one in wave:
            gain = network_gain(peak_of(one))
            whole = take(one, -EDGE_SAMPLES, -(-(samples + EDGE_SAMPLES) // hop) * hop)[:, None] * gain
            latents = diffusion.encode(whole)
            wide = decoder(whole.to(latents.device), torch.zeros(1).to(latents), latents, keep_known=False)
            made.append(wide.float().cpu()[..., EDGE_SAMPLES : EDGE_SAMPLES + samples] / gain)
        self.maybe_free_model_hooks()
        return torch.cat(made)

    @torch.inference_mode()
    def compat(
        self,
        source: Source,
        sample_rate: int | None = None,
        *,
        filter: str = "ellip",
        steps: int = 50,
        guidance_scale: float = 3.5,
        seed: int = 42,
        progress: Progress | None = None,
    ) -> RestorationOutput:
        """Restore a recording as audiosr 0.0.7 does, for comparison: one channel, its level lost, whole in memory.

        Args:
            source: a path, or samples (T,) or (C, T); channel 0 is restored.
            sample_rate: Hz, of samples.
            filter: of its low-pass, which it draws at random: butter, cheby1, ellip or bessel.
            steps: of its stochastic DDIM.
            guidance_scale: 1 leaves the unconditional half out.
            seed: of its noise, as on a CPU.
            progress: as in a call.

        Raises:
            ValueError: this is not an AudioSR model, or audiosr 0.0.7 fails here.
        """
        if self._offload is not None:
            raise ValueError("the compat preset does not run offloaded; call remove_all_hooks() first")
        self._load([*DIFFUSION, "vocoder"])
        betas = self.scheduler.config.get("trained_betas")
        if betas is None or not isinstance(self.vocoder, SpeechT5HifiGan):
            raise ValueError("the compat preset is audiosr's; load a converted AudioSR checkpoint with its own vocoder")
        recording = sources.read(source, sample_rate)
        seconds = recording.samples.shape[-1] / recording.sample_rate
        times = audiosr_compat.step_times(steps)
        with Bar(self.progress_bar, seconds, progress) as bar:

            def on_step(t: int, latents: Tensor) -> None:
                done = (times.index(t) + 1) / len(times) * seconds * AUDIO.sample_rate
                bar.update(int(done), 0)

            stages = audiosr_compat.restore(
                recording.samples, recording.sample_rate, self.vae, self.unet, self.vocoder, betas,
                filter=filter, steps=steps, guidance_scale=guidance_scale, seed=seed, on_step=on_step,
            )  # fmt: skip
            samples = int(seconds * AUDIO.sample_rate)
            bar.update(samples, samples)
        made = stages.audio[0, :, : stages.samples].numpy()
        return RestorationOutput(
            made, AUDIO.sample_rate, stages.cutoff_hz, seconds, recording.subtype, recording.metadata
        )

    def _restorers(
        self,
        head: str,
        use_latents: bool = False,
        steps: int | None = None,
        guidance_scale: float | None = None,
        temperature: float | None = None,
        seed: int = 0,
        denoise: bool = False,
        batch_size: int = 1,
    ) -> MakeRestorer:
        """Check what was asked for, load its networks, and say how a restorer is made of what was heard."""
        decoder, diffusion = self._parts(head, use_latents, steps, guidance_scale, temperature, batch_size)
        own_steps = _own_steps(head, steps)
        _check_denoise(head, denoise)

        def make(heard: Heard, on_progress: OnProgress | None = None) -> Restorer:
            setting = Setting(
                heard.cutoff_hz, heard.peak, seed, denoise, own_steps, heard.lines_hz, heard.floor, heard.image
            )
            return Restorer(decoder, diffusion, setting, on_progress)

        return make

    def _parts(
        self,
        head: str,
        use_latents: bool = False,
        steps: int | None = None,
        guidance_scale: float | None = None,
        temperature: float | None = None,
        batch_size: int = 1,
    ) -> tuple[Head, Diffusion | None]:
        """The head by name and the diffusion that it gets latents from, with all their networks loaded."""
        self._load(components_of(head, use_latents))
        kind = HEADS[head]
        device = self._execution_device
        arguments: dict[str, Any] = {component: getattr(self, component) for component in kind.components}
        decoder = kind(**arguments | {"device": device})
        if not (kind.needs_latents or use_latents):
            return decoder, None
        sampling = self._sampling(None if _own_steps(head, steps) else steps, guidance_scale, temperature)
        empty = self.config.unconditional_latent
        return decoder, Diffusion(self.vae, self.unet, self.scheduler, sampling, batch_size, empty, device)

    def _sampling(self, steps: int | None, guidance_scale: float | None, temperature: float | None) -> Sampling:
        """What was asked for, and the model's defaults for the rest."""
        config = self.config
        return Sampling(
            config.default_steps if steps is None else steps,
            config.default_guidance_scale if guidance_scale is None else guidance_scale,
            config.default_temperature if temperature is None else temperature,
        )


def _check_denoise(head: str, denoise: bool) -> None:
    if denoise and not HEADS[head].can_denoise:
        able = ", ".join(name for name, kind in HEADS.items() if kind.can_denoise)
        raise ValueError(f"the {head} head makes nothing below the cutoff and cannot denoise; choose one of {able}")


def _own_steps(head: str, steps: int | None) -> int | None:
    """The steps asked for, if they are the head's own and not those of the latents it gets."""
    kind = HEADS[head]
    return steps if kind.takes_steps and not kind.needs_latents else None
