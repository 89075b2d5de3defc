"""Draw what each step of the flow sees and makes, for docs/how_it_works.md: python scripts/flow_pictures.py OUT_DIR.

3.84 s of a recording goes through the embedded model step by step, with the functions that the pipeline calls.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from latentsr import Pipeline
from latentsr.audio import read, resample
from latentsr.bandwidth import BandEstimator
from latentsr.config import AUDIO
from latentsr.diffusion.drawing import Diffusion
from latentsr.evaluation.report import spectrogram_db
from latentsr.heads.vocoder import VocoderHead
from latentsr.models.vae import to_mel
from latentsr.options import Options
from latentsr.restoring.analysis import hear
from latentsr.signal.level import network_gain
from latentsr.signal.lowband import cut_sharply, merge
from latentsr.signal.noise import absolute_noise

RECORDING = Path(__file__).parents[1] / "examples/loop_5500hz.flac"
SAMPLES = 384 * AUDIO.hop_length  # 48 latent frames: a multiple of what the denoiser halves
RANGE_DB = 100.0


@torch.inference_mode()
def stages(path: Path) -> dict[str, Tensor]:
    """Every intermediate of the vocoder head's flow, by the name that the page gives it."""
    pipe = Pipeline.from_pretrained(heads=["vocoder"])
    audio = read(path)
    wave = torch.from_numpy(resample(audio.samples.mean(axis=0), audio.sample_rate, AUDIO.sample_rate))[:SAMPLES]
    band = BandEstimator(AUDIO.sample_rate)
    band.update(wave[None].float())
    heard = hear(lambda: [wave[None].float()], [wave[None].float()], band, Options())
    cutoff_hz, gain = torch.tensor([heard.track.cutoff_hz]), network_gain(heard.peak)
    given = wave[None, None].float()
    low = cut_sharply(given * gain, cutoff_hz, AUDIO.sample_rate)
    diffusion = Diffusion.of(pipe, Options(head="vocoder"))
    condition = diffusion.encode(low)
    noise = absolute_noise(0, 0, condition.shape[2], *diffusion.shape)[None]
    latents = diffusion.denoise(condition, noise, cutoff_hz)
    wide = VocoderHead(pipe.vae, pipe.vocoder)(low, cutoff_hz, latents) / gain
    return {
        "cutoff_hz": cutoff_hz,
        "given": given,
        "low": low / gain,
        "mel": diffusion.mel(low),
        "condition": condition,
        "noise": noise,
        "latents": latents,
        "decoded": to_mel(pipe.vae, latents),
        "wide": wide,
        "restored": merge(given, wide, cutoff_hz, AUDIO.sample_rate),
    }


def draw_waves(waves: dict[str, Tensor], cutoff_hz: float, path: Path) -> None:
    """Spectrograms side by side in one colour scale, the cutoff as a line."""
    levels = {name: spectrogram_db(wave[0, 0].double().numpy(), AUDIO.sample_rate) for name, wave in waves.items()}
    top_db = max(level.max() for level in levels.values())
    figure, axes = _row(len(waves))
    for axis, (name, level) in zip(axes, levels.items(), strict=True):
        extent = (0.0, SAMPLES / AUDIO.sample_rate, 0.0, AUDIO.sample_rate / 2000)
        axis.imshow(
            level, origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=top_db - RANGE_DB, vmax=top_db
        )
        axis.axhline(cutoff_hz / 1000, color="white", linewidth=0.8, linestyle="--")
        axis.set_title(name)
        axis.set_xlabel("seconds")
    axes[0].set_ylabel("kHz")
    _save(figure, path)


def draw_maps(maps: dict[str, Tensor], path: Path, label: str) -> None:
    """(1, C, L, M) tensors with time to the right; the mean over channels where there are several."""
    figure, axes = _row(len(maps))
    images = [each[0].float().mean(0).T.numpy() for each in maps.values()]
    low, high = (float(np.percentile(np.concatenate(images, axis=1), p)) for p in (1, 99.5))
    for axis, name, image in zip(axes, maps, images, strict=True):
        axis.imshow(image, origin="lower", aspect="auto", cmap="magma", vmin=low, vmax=high, interpolation="nearest")
        axis.set_title(name)
        axis.set_xlabel("frames")
    axes[0].set_ylabel(label)
    _save(figure, path)


def _row(count: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(3.2 * count, 2.7), layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(1, count, sharey=True)))


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=90, pil_kwargs={"quality": 82})
    print(path)


def main(out: Path) -> None:
    made = stages(RECORDING)
    cutoff_hz = float(made["cutoff_hz"])
    out.mkdir(parents=True, exist_ok=True)
    draw_waves({"given": made["given"], "low band": made["low"]}, cutoff_hz, out / "flow_low.webp")
    draw_maps(
        {"log-mel of the low band": made["mel"], "decoded log-mel": made["decoded"]}, out / "flow_mel.webp", "mel band"
    )
    draw_maps(
        {"condition": made["condition"], "noise": made["noise"], "drawn": made["latents"]},
        out / "flow_latents.webp",
        "latent row",
    )
    draw_waves(
        {"given": made["given"], "the head's wave": made["wide"], "restored": made["restored"]},
        cutoff_hz,
        out / "flow_wide.webp",
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
