"""The heads around their graphs: low band in, wide band out, for a window of a recording at 48 kHz."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from dsp import Array, Processing, head_seed, take
from excitation import Excitation

FORMAT = 3  # of the description


class Model:
    """The graphs of an export, opened when they are first run, and its description."""

    def __init__(self, path: Path, threads: int = 0) -> None:
        self.path, self._sessions = path, {}
        self.threads = threads or os.cpu_count() or 1
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.log_severity_level = 3
        # Threads that go on waiting in a loop for the next graph take the cores from what numpy does between two.
        self._options.add_session_config_entry("session.force_spinning_stop", "1")
        if path.is_dir():
            self.about: dict[str, Any] = json.loads((path / "latentsr.json").read_text("utf-8"))
            self._files = {part: path / name for part, name in self.about["graphs"].items()}
        else:
            session = onnxruntime.InferenceSession(path, self._options, providers=["CPUExecutionProvider"])
            known = session.get_modelmeta().custom_metadata_map
            if "latentsr" not in known:
                raise SystemExit(f"{path} was not written by latentsr export")
            self.about = json.loads(known["latentsr"])
            self._files = {self.about["part"]: path}
            self._sessions[self.about["part"]] = session
        if self.about["format"] != FORMAT:
            version = self.about["latentsr"]
            raise SystemExit(f"{path} was written by latentsr {version}, for another runner; export anew")

    def has(self, part: str) -> bool:
        return part in self._files

    def run(self, part: str, **inputs: Array) -> list[Array]:
        """The outputs of a graph."""
        if part not in self._sessions:
            self._sessions[part] = onnxruntime.InferenceSession(
                self._files[part], self._options, providers=["CPUExecutionProvider"]
            )
        return self._sessions[part].run(None, inputs)


class MambaGan:
    """One pass over the low band: spectra that are turned into noise of the same envelope, or shaped excitations."""

    def __init__(self, model: Model, processing: Processing, seed: int) -> None:
        self.model, self.processing, self.seed = model, processing, head_seed(seed)

    def prepare(self, low_of: Any, total: int, cutoff_hz: Array) -> None:
        """There is nothing to do before the windows."""

    def decode(self, low: Array, cutoff_hz: Array, first: int, last: int, mix: Array) -> Array:
        """Wide-band waves (C, T) of the low bands (C, T) of positions [first, last), which end at (C,) Hz."""
        p = self.processing
        frames = low.shape[1] // p.hop
        first_frame, stride = first * p.about["windows"]["stride"], p.about["noise"]["source_stride"]
        drawn = [p.noise(self.seed, first_frame, frames, 1, p.hop, source * stride) for source in range(mix.shape[1])]
        noise = mix @ np.concatenate(drawn).reshape(len(drawn), -1)
        make = self._shaped if "excitation" in p.about else self._textured
        rows = zip(low, cutoff_hz, noise, strict=True)  # in turn: a batch saves no time on a CPU
        return np.concatenate([make(channel[None], np.float32([end_hz]), own[None]) for channel, end_hz, own in rows])

    def _shaped(self, low: Array, cutoff_hz: Array, noise: Array) -> Array:
        excitation = Excitation(self.processing.about["excitation"], self.processing.rate)
        spectra = excitation.spectra(low)
        heard, mel = excitation.heard(low, spectra), self.processing.log_mel(low)
        amplitudes, _ = self.model.run("mamba-gan", heard=heard, mel=mel, cutoff_hz=cutoff_hz)
        return excitation.shaped(low, spectra, float(cutoff_hz[0]), noise, amplitudes)

    def _textured(self, low: Array, cutoff_hz: Array, noise: Array) -> Array:
        real, imag, _ = self.model.run("mamba-gan", mel=self.processing.log_mel(low), cutoff_hz=cutoff_hz)
        return self.processing.as_noise(self.processing.wave_of(real, imag), noise)


class Vocoder:
    """Latent diffusion, VAE decoder, vocoder."""

    def __init__(self, model: Model, processing: Processing, seed: int, steps: int | None = None) -> None:
        self.model, self.processing, self.seed = model, processing, seed
        self.diffusion = model.about["diffusion"]
        self.steps = steps or self.diffusion["default_steps"]

    def prepare(self, low_of: Any, total: int, cutoff_hz: Array) -> None:
        """Draw the latents (C, Z, total, rows) of the whole recording, window by window, cross-faded."""
        about = self.processing.about["windows"]
        core, margin, fade, multiple = about["core"], about["margin"], about["fade"], self.diffusion["multiple"]
        whole = None
        for start in range(0, total, core):
            stop, first = min(start + core, total), max(start - margin, 0)
            length = min(stop + margin, total) - first
            last = first + -(-length // multiple) * multiple
            latents = self._draw(low_of(first, last), first, last, cutoff_hz)
            at = np.arange(first, last, dtype=np.float32) + 0.5
            rise = np.ones_like(at) if start == 0 else (at - (start - fade / 2)) / fade
            fall = np.ones_like(at) if stop >= total else ((stop + fade / 2) - at) / fade
            weight = np.clip(np.minimum(rise, fall), 0, 1).astype(np.float32)
            if whole is None:
                whole = np.zeros((*latents.shape[:2], total, latents.shape[3]), np.float32)
            end = min(last, total)
            whole[:, :, first:end] += (latents * weight[:, None])[:, :, : end - first]
        self.latents = whole

    def _draw(self, low: Array, first: int, last: int, cutoff_hz: Array) -> Array:
        """DDIM (Song et al. 2021, eq. 12, without its noise) on velocities, trailing times. -> (C, Z, l, rows)"""
        d, channels = self.diffusion, len(low)
        [condition] = self.model.run("vae-encoder", mel=self.processing.log_mel(low)[:, None])
        noise = self.processing.noise(self.seed, first, last - first, d["latent_channels"], d["latent_rows"])
        x = np.repeat(np.float32(d["default_temperature"]) * noise[None], channels, axis=0)
        alphas = np.array(d["alphas_cumprod"], np.float32)
        count = len(alphas)
        times = np.round(np.arange(count, 0, -count / self.steps)).astype(np.int64)[: self.steps] - 1
        for t in times:
            v = self._velocity(x, condition, t, cutoff_hz)
            before = t - count // self.steps
            a, b = alphas[t], alphas[before] if before >= 0 else np.float32(d["final_alpha"])
            clean = np.sqrt(a) * x - np.sqrt(1 - a) * v
            drawn = np.sqrt(a) * v + np.sqrt(1 - a) * x
            x = np.sqrt(b) * clean + np.sqrt(1 - b) * drawn
        return x

    def _velocity(self, x: Array, condition: Array, t: int, cutoff_hz: Array) -> Array:
        """The denoiser, with classifier-free guidance (rescaled: Lin et al. 2024, eqs. 14-16) where that is not 1."""
        d = self.diffusion
        scale = d["default_guidance_scale"]
        if scale != 1:
            x = np.concatenate([x, x])
            condition = np.concatenate([condition, np.full_like(condition, d["unconditional"])])
        inputs = {"noisy": x, "condition": condition, "timestep": np.full(len(x), t)}
        if d["told_cutoff"]:
            inputs["cutoff_hz"] = np.resize(cutoff_hz, len(x)).astype(np.float32)
        [v] = self.model.run("unet", **inputs)
        if scale == 1:
            return v
        told, free = np.split(v, 2)
        v = free + np.float32(scale) * (told - free)
        spread, wanted = (each.std(axis=(1, 2, 3), ddof=1, keepdims=True) for each in (v, told))
        share = np.float32(d["guidance_rescale"])
        return share * v * (wanted / np.maximum(spread, 1e-8)) + (1 - share) * v

    def decode(self, low: Array, cutoff_hz: Array, first: int, last: int, mix: Array) -> Array:
        """Wide-band waves (C, T): the decoded mel, with the given bands put back, through the vocoder."""
        p = self.processing
        channels, depth, _, rows = self.latents.shape
        flat = self.latents.transpose(0, 1, 3, 2).reshape(channels * depth * rows, -1)
        latents = take(flat, first, last).reshape(channels, depth, rows, -1).transpose(0, 1, 3, 2)
        known = np.array(p.about["mel_band_ends_hz"]) <= cutoff_hz[:, None]
        made = []
        for channel, below, drawn in zip(low, known, np.ascontiguousarray(latents), strict=True):
            [mel] = self.model.run("vae-decoder", latents=drawn[None])
            mel = np.where(below, p.log_mel(channel[None])[:, : mel.shape[2]], mel[:, 0])
            outputs = self.model.run("vocoder", mel=np.ascontiguousarray(mel, np.float32))
            made.append(outputs[0] if len(outputs) == 1 else p.wave_of(*outputs))
        return np.concatenate(made)


HEADS = {"mamba-gan": MambaGan, "vocoder": Vocoder}
