"""The generator that shapes excitations: it regresses first, then against spectral discriminators of the made band."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from latentsr.config import AUDIO, Config
from latentsr.data.dataset import Batch
from latentsr.models import excitation
from latentsr.models.discriminators import BandDiscriminators
from latentsr.models.excited import ExcitationGenerator
from latentsr.models.mamba_gan import MambaGenerator
from latentsr.signal.lowband import cut_sharply, merge
from latentsr.signal.mel import MelSpectrogram
from latentsr.training.adversarial import features_for_generator
from latentsr.training.draws import Draws
from latentsr.training.gan_stage import GanInputs, GanStage, GanStageConfig
from latentsr.training.losses import balanced, filtered_error, patch_losses
from latentsr.training.stage import SHOWN, degraded


class BandDiscriminatorSize(Config):
    sizes: tuple[int, ...] = (2048, 512, 128)
    channels: int = 16
    layers: int = 4


class ExcitationStageConfig(GanStageConfig):
    architecture: Literal["excitation"] = "excitation"
    discriminators: BandDiscriminatorSize = BandDiscriminatorSize()
    adversarial_frames: int = 48
    front_from_step: int = 0  # layers of front and back stay as they came before
    stft_sizes: tuple[int, ...] = (128, 256, 512, 1024, 2048)
    latents_share: float = 0.15  # of the examples, where `vae` is given
    front: str = ""  # folder of a finished Mamba-GAN, from whose front and back the new generator starts
    teacher: str = ""  # folder of a finished Mamba-GAN, whose envelope is a target besides the truth


@dataclass
class ExcitationInputs(GanInputs):
    noise: Tensor  # (B, T)
    taught: Tensor | None  # (B, 2 L, bins) the teacher's envelope, log power
    made: Tensor | None = None  # (B, 1, T) the band that the generator made in this step


class ExcitationStage(GanStage):
    """Low band -> wave, judged above the cutoff alone, as the merge keeps nothing else."""

    config: ExcitationStageConfig
    kind = ExcitationGenerator
    discriminators: BandDiscriminators
    phases = ("generator", "discriminator")  # the second hears what the first has made

    def __init__(self, config: ExcitationStageConfig) -> None:
        super().__init__(config, BandDiscriminators(**config.discriminators.model_dump()))
        self.teacher = MambaGenerator.from_pretrained(config.teacher).requires_grad_(False) if config.teacher else None

    def fresh(self) -> ExcitationGenerator:
        generator = ExcitationGenerator(**self.config.model)
        if self.config.front:
            take_up(generator, Path(self.config.front))
        return generator

    @torch.no_grad()
    def prepare(self, batch: Batch, draws: Draws) -> ExcitationInputs:
        example = degraded(batch, self.config, draws)
        told = draws.chosen(self.config.latents_share).to(example.wide.device)
        shared = self.shared_inputs(example, told)
        noise = draws.normal(example.wide.shape[-1]).to(example.wide)
        return ExcitationInputs(**shared, noise=noise, taught=self._taught(shared["mel"], example.cutoff_hz))

    def _taught(self, mel: Tensor, cutoff_hz: Tensor) -> Tensor | None:
        """The envelope under which the teacher's head would put noise: 5 ms, smoothed over 500 Hz."""
        if self.teacher is None:
            return None
        with torch.autocast(mel.device.type, dtype=torch.bfloat16, enabled=self.config.precision == "bf16"):
            wave = self.teacher(mel, cutoff_hz)[0].float()
        power = torch.view_as_real(excitation.spectra(wave)).square().sum(-1)
        return F.avg_pool2d(power, (3, 5), 1, (1, 2), count_include_pad=False).clamp(min=excitation.SILENT).log()

    def _generate(self, inputs: ExcitationInputs) -> tuple[Tensor, Tensor, Tensor]:
        """Wave (B, 1, T), log-mel (B, L, M) and envelope (B, 2 L, bins), in fp32."""
        wave, mel, envelope = self.generator(
            inputs.low[:, 0], inputs.mel, inputs.cutoff_hz, inputs.noise, inputs.latents, inputs.told
        )
        return wave.float()[:, None], mel.float(), envelope

    def _made_band(self, wave: Tensor, inputs: ExcitationInputs) -> Tensor:
        """What the merge keeps of a wave, up to where the truth has content."""
        rate = self.config.audio.sample_rate
        above = merge(torch.zeros_like(wave), wave, inputs.cutoff_hz, rate)
        return cut_sharply(above, inputs.bandwidth_hz, rate)

    def losses(self, phase: str, inputs: ExcitationInputs, step: int, draws: Draws) -> dict[str, Tensor]:
        given = self.generator
        for network in (given.embed_mel, given.embed_cutoff, given.mixers, given.embed, given.blocks):
            network.requires_grad_(step >= self.config.front_from_step)
        real, heard = self._made_band(inputs.wide, inputs), self._heard(draws, inputs.wide.shape[-1])
        band = torch.stack([inputs.cutoff_hz, inputs.bandwidth_hz], dim=1) / (self.config.audio.sample_rate / 2)
        if phase == "discriminator":
            assert inputs.made is not None, "the generator's phase comes first"
            return {"discriminator": self._unmasked(real[..., heard], inputs.made[..., heard], band)}
        wave, mel, envelope = self._generate(inputs)
        with torch.autocast(wave.device.type, enabled=False):
            fake = self._made_band(wave, inputs)
            inputs.made = fake.detach()
            shown = patch_losses(real, fake, self.config.stft_sizes)
            losses = {"filtered": filtered_error(inputs.low, inputs.wide, mel, inputs.edge_hz, self.mel)}
            losses["front"] = self._front_loss(mel, inputs)
            if inputs.taught is not None:
                losses["taught"] = self._taught_loss(envelope, inputs.taught, band)
        judged = {"spectral": self._weighted(shown)}
        if step >= self.config.adversarial_from_step:
            told = self._adversarial(real[..., heard], fake[..., heard], band)
            judged["told"] = self._weighted(told)
            shown = shown | told
        losses["balanced"] = balanced(judged, self.config.loss_weights, wave)
        return losses | {f"{name}{SHOWN}": value.detach() for name, value in shown.items()}

    def _unmasked(self, real: Tensor, fake: Tensor, band: Tensor) -> Tensor:
        """Least-squares GAN, discriminator side (HiFi-GAN eq. 1), over the scores of the made band."""
        pairs = zip(self.discriminators(real, band), self.discriminators(fake, band), strict=True)
        parts = [
            ((r[-1].float() - 1).square() * weight).sum() + (f[-1].float().square() * weight).sum()
            for (r, weight), (f, _) in pairs
        ]
        return torch.stack(parts).mean()

    def _weighted(self, losses: dict[str, Tensor]) -> Tensor:
        return torch.stack([self.config.loss_weights[name] * value for name, value in losses.items()]).sum()

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        return super().total({name: value for name, value in losses.items() if not name.endswith(SHOWN)})

    def _adversarial(self, real: Tensor, fake: Tensor, band: Tensor) -> dict[str, Tensor]:
        wanted, got = features_for_generator(self.discriminators, real, fake, band)
        scores = [((f[-1].float() - 1).square() * weight).sum() for f, weight in got]
        features = [
            (a.float() - b.float()).abs().mean() / a.float().abs().mean().clamp(min=1e-3)
            for (r, _), (f, _) in zip(wanted, got, strict=True)
            for a, b in zip(r[:-1], f[:-1], strict=True)
        ]
        return {"adversarial": torch.stack(scores).mean(), "features": torch.stack(features).mean()}

    def _taught_loss(self, envelope: Tensor, taught: Tensor, band: Tensor) -> Tensor:
        """L1 between envelopes, in nats of amplitude, in the made band."""
        place = torch.linspace(0, 1, envelope.shape[-1], device=envelope.device)
        inside = ((place >= band[:, :1]) & (place <= band[:, 1:])).float()[:, None]
        difference = 0.5 * (envelope - taught).abs() * inside
        return difference.mean(dim=1).sum() / inside.sum().clamp(min=1)


def take_up(generator: ExcitationGenerator, folder: Path) -> None:
    """Begin with front and back of a finished Mamba-GAN of the same sizes, and as loud as it is.

    Its head's log magnitudes, averaged around each knot, are a linear function of its back: that is what `loudness`
    begins as. What the waves' overlapping frames make of them is measured once, on noise that comes and goes.
    """
    theirs = MambaGenerator.from_pretrained(folder).requires_grad_(False)
    own, given = generator.state_dict(), theirs.state_dict()
    shared = {name: tensor for name, tensor in given.items() if name in own and own[name].shape == tensor.shape}
    generator.load_state_dict(shared, strict=False)
    bins = theirs.config.n_fft // 2 + 1
    around = excitation.between_knots(torch.linspace(0, excitation.SAMPLE_RATE / 2, bins, device="cpu"))
    around = around / around.sum(dim=1, keepdim=True)
    with torch.no_grad():
        generator.loudness.weight.copy_(around @ theirs.head.weight[:bins])
        generator.loudness.bias.copy_(around @ theirs.head.bias[:bins])
        low, cutoff_hz = _swelling_noise(), torch.full((4,), 4_000.0)
        mel = MelSpectrogram(AUDIO)(cut_sharply(low, cutoff_hz, AUDIO.sample_rate))[:, 0]
        power = torch.view_as_real(excitation.spectra(theirs(mel, cutoff_hz)[0])).square().sum(-1)
        smooth = F.avg_pool2d(power, (3, 5), 1, (1, 2), count_include_pad=False) / (excitation.FRAME / 2)
        wanted = 0.5 * smooth.clamp(min=excitation.SILENT).log()
        knots = (excitation.knots_hz() / (excitation.SAMPLE_RATE / 2) * (excitation.BINS - 1)).round().long()
        said = generator.loudness(generator.back(*generator.front(mel, cutoff_hz))).repeat_interleave(2, dim=1)
        generator.loudness.bias.add_((wanted[..., knots] - said).flatten(0, 1).median(dim=0).values)


def _swelling_noise() -> Tensor:
    """(4, 1, T): pink noise at four levels that rises and falls, so that all is heard that a mel may hold."""
    samples, draw = 96_000, torch.Generator().manual_seed(0)
    spectrum = torch.fft.rfft(torch.randn(4, samples, generator=draw))
    pink = torch.fft.irfft(spectrum / torch.arange(1, spectrum.shape[1] + 1).sqrt(), n=samples)
    swell = torch.sin(torch.arange(samples) * (6 * torch.pi / samples)).abs() ** 2
    levels = torch.tensor([0.3, 0.1, 0.03, 0.01])[:, None]
    return (levels * swell * pink / pink.std(dim=1, keepdim=True))[:, None]
