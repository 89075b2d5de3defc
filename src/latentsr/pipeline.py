"""The flow on one page: audio -> bandwidth -> mel -> VAE encode -> diffusion -> head -> low-band merge -> audio."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from diffusers import DiffusionPipeline, SchedulerMixin
from torch import Tensor, nn
from transformers import SpeechT5HifiGan

from latentsr import files
from latentsr import folder as folders
from latentsr import source as sources
from latentsr.config import AUDIO
from latentsr.convert import audiosr, audiosr_compat, audiosr_hub
from latentsr.convert.audiosr import AudioSRConfig
from latentsr.heads import DEFAULT_HEAD, HEADS, Head
from latentsr.listening import Heard, listen, peak_of
from latentsr.models.fastconv import speed_up
from latentsr.output import RestorationOutput
from latentsr.progress import LISTENING_SHARE, Bar, Progress
from latentsr.signal.chunks import take
from latentsr.signal.level import network_gain
from latentsr.source import Samples, Source
from latentsr.streaming import MakeRestorer, latency_samples, stream
from latentsr.windowed import EDGE_SAMPLES, Diffusion, OnProgress, Restorer, Sampling, Setting

__all__ = ["Pipeline", "RestorationOutput"]

DIFFUSION = ("vae", "unet", "scheduler")  # the components that make latents
MODEL_VALUES = (
    "default_steps", "default_guidance_scale", "default_temperature", "unconditional_latent", "default_head"
)  # fmt: skip


class Pipeline(DiffusionPipeline):
    """Restores recordings: wide-band audio at 48 kHz, with what was there untouched.

    >>> from latentsr import Pipeline
    >>> pipe = Pipeline.from_pretrained()  # the embedded default
    >>> out = pipe(array, sample_rate=16_000)  # doctest: +SKIP
    """

    _optional_components = ["vae", "unet", "scheduler", "vocoder", "mamba_gan", "diffwave_mamba"]
    model_cpu_offload_seq = "vae->unet->vocoder->mamba_gan->diffwave_mamba"

    def __init__(
        self,
        vae: nn.Module | None = None,
        unet: nn.Module | None = None,
        scheduler: SchedulerMixin | None = None,
        vocoder: nn.Module | None = None,
        mamba_gan: nn.Module | None = None,
        diffwave_mamba: nn.Module | None = None,
        default_steps: int = 4,
        default_guidance_scale: float = 1.0,
        default_temperature: float = 1.0,
        unconditional_latent: float = 0.0,
        default_head: str = DEFAULT_HEAD,
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae, unet=unet, scheduler=scheduler, vocoder=vocoder, mamba_gan=mamba_gan, diffwave_mamba=diffwave_mamba
        )
        self.register_to_config(
            default_steps=default_steps,
            default_guidance_scale=default_guidance_scale,
            default_temperature=default_temperature,
            unconditional_latent=unconditional_latent,
            default_head=default_head,  # of the command line
        )
        self._folders: dict[str, Path] = {}  # where components that are not loaded yet lie
        self._dtype = torch.float32
        self._offload: Callable[..., None] | None = None  # how networks are offloaded

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
            result.lines_hz = heard.lines_hz
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
    ) -> Iterator[np.ndarray]:
        """Restore a recording that comes in blocks; the blocks may have any length.

        What is not known of it yet, its cutoff and its largest absolute sample, is taken from the first
        `stream_latency_s` seconds unless given. With both given the result is that of a call on the whole.

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

        Yields:
            (C, n) float32 at 48 kHz, in order and without gaps, as long in all as what came in.
        """
        make = self._restorers(head, use_latents, steps, guidance_scale, temperature, seed, denoise)
        end_hz = None if cutoff_hz is None else sources.checked_cutoff(cutoff_hz)
        yield from stream(sources.resampled(blocks, sample_rate), make, end_hz, peak, denoise)
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

    @classmethod
    def from_pretrained(
        cls,
        path: str | os.PathLike[str] | None = None,
        heads: Sequence[str] | None = None,
        *,
        vocoder: str | os.PathLike[str] | None = None,
        torch_dtype: torch.dtype = torch.float32,
        local_files_only: bool = False,
        **unknown: Any,
    ) -> Pipeline:
        """Load a model: the embedded default, a folder, or (only when asked by name) one of the Hub.

        Args:
            path: None, a folder in diffusers' layout with a model_index.json, or a Hub id. AudioSR's own,
                haoheliu/audiosr_basic and haoheliu/audiosr_speech, are converted once and kept.
            heads: whose networks to load now; None: the default head's. Others are loaded when first called.
            vocoder: take the vocoder of another model of the same mel: "embedded", a folder, or a Hub id. The embedded
                one is a small fraction of AudioSR's cost.
            torch_dtype: of all networks, whatever the files hold.
            local_files_only: take a Hub id from the cache, without network.

        Raises:
            ModelError: the folder is incomplete, damaged, or not a model.
        """
        if unknown:
            raise TypeError(
                f"from_pretrained() takes path, heads, vocoder, torch_dtype, local_files_only; got {sorted(unknown)}"
            )
        source = _find(path, local_files_only)
        index = folders.read_index(source)
        pipe = cls(**{key: value for key, value in index.items() if key in MODEL_VALUES})
        pipe._dtype = torch_dtype
        pipe._folders = dict.fromkeys(cls._optional_components, source)
        if vocoder is not None:
            pipe._folders["vocoder"] = _find(None if vocoder == "embedded" else vocoder, local_files_only)
        for head in heads if heads is not None else [DEFAULT_HEAD]:
            pipe._parts(head)
        return pipe

    @classmethod
    def from_audiosr(
        cls,
        path: str | os.PathLike[str],
        config: AudioSRConfig = None,
        *,
        vocoder: str | os.PathLike[str] | None = None,
        torch_dtype: torch.dtype = torch.float32,
    ) -> Pipeline:
        """Load an official AudioSR checkpoint as it is, without writing a folder.

        Args:
            path: the file, of torch.save or safetensors.
            config: audiosr's configuration as a mapping or a JSON file; None is the published one.
            vocoder: as in `from_pretrained`.
            torch_dtype: of the networks.

        Raises:
            ModelError: the file is damaged, or not such a checkpoint.
        """
        parts = audiosr.load(path, config, torch_dtype)
        if vocoder is not None:
            del parts["vocoder"]
        pipe = cls(**{name: _prepared(name, part) for name, part in parts.items()})
        pipe._dtype = torch_dtype
        if vocoder is not None:
            pipe._folders["vocoder"] = _find(None if vocoder == "embedded" else vocoder, local_files_only=False)
            pipe._parts(DEFAULT_HEAD)
        return pipe

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], dtype: torch.dtype | None = None, **kwargs: Any
    ) -> None:
        """Write a model folder: safetensors in shards of at most 15 MB, and a hash of every file.

        `dtype` is that of the files; None keeps the networks' own.
        """
        if self._offload is not None:
            raise ValueError("offloaded networks cannot be saved; call remove_all_hooks() first")
        own = {name: c for name, c in self.components.items() if isinstance(c, nn.Module)}
        for stale in (f for name in own for f in Path(save_directory, name).glob("*.safetensors*")):
            stale.unlink()  # shards of another size would be taken for ours
        try:
            if dtype is not None:  # a cast cannot be undone: copies are cast
                cast = {name: nn.Module.to(copy.deepcopy(network), dtype=dtype) for name, network in own.items()}
                self.register_modules(**cast)
            super().save_pretrained(save_directory, max_shard_size=folders.MAX_SHARD_BYTES, **kwargs)
        finally:
            self.register_modules(**own)
        folders.forget_paths(Path(save_directory))
        folders.write_hashes(Path(save_directory))

    def enable_model_cpu_offload(self, gpu_id: int | None = None, device: torch.device | str | None = None) -> None:
        """Keep the networks in main memory and bring each whole to the GPU when it runs: see diffusers.

        Tried with the CPU and with torch's meta device in the GPU's place; on no GPU yet.
        """
        super().enable_model_cpu_offload(gpu_id, device)
        self._offload = self.enable_model_cpu_offload

    def enable_sequential_cpu_offload(
        self, gpu_id: int | None = None, device: torch.device | str | None = None
    ) -> None:
        """Bring each layer to the GPU when it runs, for the smallest memory and at the lowest speed: see diffusers.

        Tried as `enable_model_cpu_offload` was.
        """
        super().enable_sequential_cpu_offload(gpu_id, device)
        self._offload = self.enable_sequential_cpu_offload

    def remove_all_hooks(self) -> None:
        """End offloading; the networks stay in main memory until `to` moves them."""
        super().remove_all_hooks()
        self._offload = None

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
            setting = Setting(heard.cutoff_hz, heard.peak, seed, denoise, own_steps, heard.lines_hz, heard.floor)
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
        if head not in HEADS:
            raise ValueError(f"unknown head {head!r}; choose one of {', '.join(HEADS)}")
        kind = HEADS[head]
        with_latents = kind.needs_latents or use_latents
        self._load([*kind.components, *(DIFFUSION if with_latents else ())])
        device = self._execution_device
        arguments: dict[str, Any] = {component: getattr(self, component) for component in kind.components}
        decoder = kind(**arguments | {"device": device})
        if not with_latents:
            return decoder, None
        sampling = self._sampling(None if _own_steps(head, steps) else steps, guidance_scale, temperature)
        empty = self.config.unconditional_latent
        return decoder, Diffusion(self.vae, self.unet, self.scheduler, sampling, batch_size, empty, device)

    def _load(self, names: Sequence[str]) -> None:
        """Load components that are not there yet, from the folders the pipeline came from."""
        missing = [name for name in dict.fromkeys(names) if getattr(self, name) is None]
        if not set(missing) <= set(self._folders):
            raise ValueError(
                f"this pipeline has no {', '.join(missing)}; pass it to Pipeline() or use from_pretrained()"
            )
        networks = [part for part in self.components.values() if isinstance(part, nn.Module)]
        device, dtype = (self.device, self.dtype) if networks else (torch.device("cpu"), self._dtype)
        for name in missing:
            folder = self._folders[name]
            component = folders.load_component(folder, name, folders.read_index(folder), dtype)
            component = _prepared(name, component)
            self.register_modules(**{name: component})
            if isinstance(component, nn.Module) and self._offload is None:
                component.to(device)
        if missing and self._offload is not None:
            self._offload(device=self._offload_device)  # hooks for what has come

    def _sampling(self, steps: int | None, guidance_scale: float | None, temperature: float | None) -> Sampling:
        """What was asked for, and the model's defaults for the rest."""
        config = self.config
        return Sampling(
            config.default_steps if steps is None else steps,
            config.default_guidance_scale if guidance_scale is None else guidance_scale,
            config.default_temperature if temperature is None else temperature,
        )


def default_head(model: str | os.PathLike[str] | None) -> str:
    """The head that the command line takes for a model unless told otherwise; the model says so itself."""
    if model is not None and not Path(model).is_dir() and audiosr_hub.is_published(model):
        return DEFAULT_HEAD
    return str(folders.read_index(folders.find(model)).get("default_head", DEFAULT_HEAD))


def _check_denoise(head: str, denoise: bool) -> None:
    if denoise and not HEADS[head].can_denoise:
        able = ", ".join(name for name, kind in HEADS.items() if kind.can_denoise)
        raise ValueError(f"the {head} head makes nothing below the cutoff and cannot denoise; choose one of {able}")


def _own_steps(head: str, steps: int | None) -> int | None:
    """The steps asked for, if they are the head's own and not those of the latents it gets."""
    kind = HEADS[head]
    return steps if kind.takes_steps and not kind.needs_latents else None


def _find(model: str | os.PathLike[str] | None, local_files_only: bool) -> Path:
    """The folder of a model."""
    if model is not None and not Path(model).is_dir() and audiosr_hub.is_published(model):
        return audiosr_hub.fetch(str(model), local_files_only)
    return folders.find(model, local_files_only=local_files_only)


def _prepared(name: str, component: Any) -> Any:
    """A component as inference wants it, in memory of its own.

    A network fresh from a file is views of it. Copied a tensor at a time, they let go of the file's pages, and memory
    never holds both for long.
    """
    if isinstance(component, nn.Module):
        # The denoiser's convolutions are too small to gain: 0.98 s as they are, 1.05 s by fewer multiplications.
        if name != "unet":
            speed_up(component)
        for activation in (m for m in component.modules() if name == "vae" and isinstance(m, nn.SiLU)):
            activation.inplace = True  # always of a fresh tensor there, of 134 MB in AudioSR's decoder
        for tensor in chain(component.parameters(), component.buffers()):
            tensor.data = tensor.data.clone(memory_format=torch.preserve_format)
    return component
