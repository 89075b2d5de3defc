"""The flow on one page: audio -> bandwidth -> mel -> VAE encode -> diffusion -> head -> low-band merge -> audio."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers import DiffusionPipeline, SchedulerMixin
from torch import Tensor, nn

from latentsr import folder as folders
from latentsr.config import AUDIO
from latentsr.heads import DEFAULT_HEAD, HEADS, Head
from latentsr.output import RestorationOutput
from latentsr.signal import audio
from latentsr.signal.bandwidth import CutoffEstimator
from latentsr.signal.chunks import take
from latentsr.windowed import EDGE_SAMPLES, Diffusion, Job, Sampling, decode

__all__ = ["Pipeline", "RestorationOutput"]

Samples = np.ndarray | Tensor
Source = str | os.PathLike[str] | Samples
Progress = Callable[[float, float], None]  # (seconds done, seconds in all)

DIFFUSION = ("vae", "unet", "scheduler")  # the components that make latents
DIFFUSION_SHARE = 0.8  # of the progress bar
WAVE_STRIDE = 8  # mel frames that windows come in where there are no latents
BLOCK_SAMPLES = 480_000  # 10 s at a time for the cutoff estimate


class Pipeline(DiffusionPipeline):
    """Restores recordings: wide-band audio at 48 kHz, with what was there untouched.

    >>> from latentsr import Pipeline
    >>> pipe = Pipeline.from_pretrained()  # the embedded default
    >>> out = pipe(array, sample_rate=16_000)  # doctest: +SKIP
    """

    _optional_components = ["vae", "unet", "scheduler", "vocoder", "mamba_gan", "diffwave_mamba"]
    model_cpu_offload_seq = "vae->unet->vocoder"

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
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae, unet=unet, scheduler=scheduler, vocoder=vocoder, mamba_gan=mamba_gan, diffwave_mamba=diffwave_mamba
        )
        self.register_to_config(
            default_steps=default_steps,
            default_guidance_scale=default_guidance_scale,
            default_temperature=default_temperature,
        )
        self._folder: Path | None = None  # where components that are not loaded yet lie
        self._dtype = torch.float32

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
        progress: Progress | None = None,
    ) -> RestorationOutput | list[RestorationOutput]:
        """Restore a recording, or a list of them.

        Args:
            source: a path, or samples (T,) or (C, T) with full scale 1.0 (numpy or torch); or a list of these.
            sample_rate: Hz, of samples; a file knows its own.
            head: which decoder makes the wave; a key of `latentsr.heads.HEADS`.
            steps: evaluations of the denoiser; None takes the model's default.
            guidance_scale: above 1 follows the condition harder, at twice the cost; None takes the model's default.
            temperature: of the initial noise; None takes the model's default.
            seed: same seed, same result, however the recording is cut into windows.
            denoise: filter the known band too, instead of keeping it as it is.
            cutoff_hz: where the known band ends; None estimates it.
            use_latents: let a head that can do without them decode the diffusion's latents.
            batch_size: windows in one batch.
            progress: called with (seconds done, seconds in all) instead of the progress bar.

        Returns:
            One output for a recording, a list for a list.

        Raises:
            AudioError: the recording cannot be read or is not one.
            ValueError: an argument is out of its range.
        """
        decoder, with_latents = self._head(head, use_latents)
        sampling = self._sampling(steps, guidance_scale, temperature)
        cutoff_hz = None if cutoff_hz is None else _checked_cutoff(cutoff_hz)

        def restore(one: Source) -> RestorationOutput:
            # 1. The recording at 48 kHz, and where its pass band ends.
            wave, subtype, tags = _read(one, sample_rate)
            end_hz = _estimate(wave) if cutoff_hz is None else cutoff_hz
            seconds = wave.shape[-1] / AUDIO.sample_rate
            result = RestorationOutput(wave.numpy(), AUDIO.sample_rate, end_hz, seconds, subtype, tags)
            if end_hz >= AUDIO.sample_rate / 2 and not denoise:
                return result
            job = Job(wave, end_hz, seed, denoise)
            with _Bar(self, seconds, progress) as bar:
                # 2. Low band -> mel -> VAE encode -> diffusion -> latents.
                latents, stride, left = None, WAVE_STRIDE, 1.0
                if with_latents:
                    diffusion, left = Diffusion(self.vae, self.unet, self.scheduler), 1 - DIFFUSION_SHARE
                    latents = diffusion(job, sampling, batch_size, bar.scaled(DIFFUSION_SHARE))
                    stride = diffusion.stride
                # 3. Head -> wide band, and the low band put back.
                result.audio = decode(job, decoder, latents, stride, bar.scaled(left)).numpy()
            return result

        if isinstance(source, (list, tuple)):
            return [restore(one) for one in source]
        return restore(cast(Source, source))

    @torch.inference_mode()
    def reconstruct(self, wave: Tensor) -> Tensor:
        """Wide-band waves (B, 1, T) through VAE and vocoder alone: the ceiling of every diffusion row."""
        decoder, _ = self._head("vocoder")
        diffusion = Diffusion(self.vae, self.unet, self.scheduler)
        hop, samples = diffusion.stride * AUDIO.hop_length, wave.shape[-1]
        made = []
        for one in wave:
            job = Job(one, AUDIO.sample_rate / 2)
            whole = take(one, -EDGE_SAMPLES, -(-(samples + EDGE_SAMPLES) // hop) * hop) * job.gain
            latents = diffusion.encode(whole[:, None])
            wide = decoder(whole[:, None].to(latents), job.ends().to(latents), latents, keep_known=False)
            made.append(wide.float().cpu()[..., EDGE_SAMPLES : EDGE_SAMPLES + samples] / job.gain)
        return torch.cat(made)

    @classmethod
    def from_pretrained(
        cls,
        path: str | os.PathLike[str] | None = None,
        heads: Sequence[str] | None = None,
        *,
        torch_dtype: torch.dtype = torch.float32,
        local_files_only: bool = False,
        **unknown: Any,
    ) -> Pipeline:
        """Load a model: the embedded default, a folder, or (only when asked by name) one of the Hub.

        Args:
            path: None, a folder in diffusers' layout with a model_index.json, or a Hub id.
            heads: whose networks to load now; None: the default head's. Others are loaded when first called.
            torch_dtype: of all networks, whatever the files hold.
            local_files_only: take a Hub id from the cache, without network.

        Raises:
            ModelError: the folder is incomplete, damaged, or not a model.
        """
        if unknown:
            raise TypeError(
                f"from_pretrained() takes path, heads, torch_dtype, local_files_only; got {sorted(unknown)}"
            )
        source = folders.find(path, local_files_only=local_files_only)
        index = folders.read_index(source)
        defaults = {key: value for key, value in index.items() if key.startswith("default_")}
        pipe = cls(**defaults)
        pipe._folder, pipe._dtype = source, torch_dtype
        for head in heads if heads is not None else [DEFAULT_HEAD]:
            pipe._head(head)
        return pipe

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], dtype: torch.dtype | None = None, **kwargs: Any
    ) -> None:
        """Write a model folder: safetensors in shards of at most 15 MB, and a hash of every file.

        `dtype` is that of the files; None keeps the networks' own.
        """
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
        folders.write_hashes(Path(save_directory))

    def _head(self, name: str, use_latents: bool = False) -> tuple[Head, bool]:
        """The head by name, with all networks loaded that it runs on, and whether it gets the diffusion's latents."""
        if name not in HEADS:
            raise ValueError(f"unknown head {name!r}; choose one of {', '.join(HEADS)}")
        head = HEADS[name]
        with_latents = head.needs_latents or use_latents
        self._load([*head.components, *(DIFFUSION if with_latents else ())])
        return head(**{component: getattr(self, component) for component in head.components}), with_latents

    def _load(self, names: Sequence[str]) -> None:
        """Load components that are not there yet, from the folder the pipeline came from."""
        missing = [name for name in dict.fromkeys(names) if getattr(self, name) is None]
        if missing and self._folder is None:
            raise ValueError(
                f"this pipeline has no {', '.join(missing)}; pass it to Pipeline() or use from_pretrained()"
            )
        for name in missing:
            assert self._folder is not None
            device = self.device
            component = folders.load_component(self._folder, name, folders.read_index(self._folder), self._dtype)
            self.register_modules(**{name: component})
            if isinstance(component, nn.Module):
                component.to(device)

    def _sampling(self, steps: int | None, guidance_scale: float | None, temperature: float | None) -> Sampling:
        """What was asked for, and the model's defaults for the rest."""
        config = self.config
        return Sampling(
            config.default_steps if steps is None else steps,
            config.default_guidance_scale if guidance_scale is None else guidance_scale,
            config.default_temperature if temperature is None else temperature,
        )


class _Bar:
    """Progress in seconds of audio: the pipeline's own bar, or the caller's function."""

    def __init__(self, pipe: Pipeline, seconds: float, progress: Progress | None) -> None:
        self.pipe, self.seconds, self.progress, self.done = pipe, seconds, progress, 0.0

    def __enter__(self) -> _Bar:
        self.bar = self.pipe.progress_bar(total=self.seconds) if self.progress is None else None
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def scaled(self, part: float) -> Callable[[float], None]:
        """`advance` for a stage that is this part of the whole."""
        return lambda share: self.advance(part * share)

    def advance(self, share: float) -> None:
        before, self.done = self.done, min(self.done + share * self.seconds, self.seconds)
        if self.bar is not None:
            self.bar.update(self.done - before)
        elif self.progress is not None:
            self.progress(self.done, self.seconds)


def _read(source: Source, sample_rate: int | None) -> tuple[Tensor, str | None, dict[str, str]]:
    """(C, T) float32 at 48 kHz, and the subtype and tags of a file."""
    subtype, tags = None, {}
    if isinstance(source, (np.ndarray, Tensor)):
        if sample_rate is None:
            raise ValueError("samples need their rate; pass sample_rate=")
        samples = _checked_samples(source.detach().cpu().numpy() if isinstance(source, Tensor) else source)
    else:
        recording = audio.read(source)
        if sample_rate not in (None, recording.sample_rate):
            raise ValueError(
                f"{source} is at {recording.sample_rate} Hz, not {sample_rate}; leave sample_rate out for files"
            )
        samples, sample_rate, subtype, tags = (
            recording.samples,
            recording.sample_rate,
            recording.subtype,
            recording.tags,
        )
        del recording
    return torch.from_numpy(audio.resample(samples, sample_rate, AUDIO.sample_rate)), subtype, tags


def _checked_samples(samples: np.ndarray) -> np.ndarray:
    """(C, T) float32 of an array; raise AudioError where it is no audio."""
    if samples.ndim not in (1, 2) or samples.size == 0 or not np.issubdtype(samples.dtype, np.floating):
        raise audio.AudioError(
            "samples must be float, (samples,) or (channels, samples), full scale 1.0; "
            f"got {samples.dtype} {samples.shape}"
        )
    samples = np.atleast_2d(samples).astype(np.float32)
    if samples.shape[0] > audio.MAX_CHANNELS:
        raise audio.AudioError(f"samples are (channels, samples); {samples.shape[0]} channels are too many: transpose?")
    bad = np.flatnonzero(~np.isfinite(samples).all(axis=0))
    if bad.size:
        raise audio.AudioError(f"{bad.size} samples are NaN or infinite, the first at {bad[0]}; repair them first")
    return samples


def _estimate(wave: Tensor) -> float:
    """Cutoff of a recording (C, T) in Hz, the highest of its channels."""
    estimator = CutoffEstimator(AUDIO.sample_rate)
    for block in wave.split(BLOCK_SAMPLES, dim=-1):
        estimator.update(block[:, None])
    return float(estimator.result().max())


def _checked_cutoff(cutoff_hz: float) -> float:
    if not 500 <= cutoff_hz <= AUDIO.sample_rate / 2:
        raise ValueError(f"cutoff_hz must be 500 to {AUDIO.sample_rate // 2}, got {cutoff_hz}")
    return float(cutoff_hz)
