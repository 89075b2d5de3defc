"""Stage 1: the mel autoencoder, on clean and degraded mels: its encoder supplies the diffusion's condition.

Two losses are for a finished encoder that shall learn to see through noise, and are on where `loss_weights` names them:
`align` brings the posterior of a noisy low band to that of the clean one; `anchor` holds the posteriors of clean mels
where the starting encoder had them, so that a finished UNet and decoder go on fitting.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import trange

from latentsr.config import ConfigError
from latentsr.data.dataset import Batch, Corpus
from latentsr.evaluation.metrics import lsd
from latentsr.model_folder.loading import EMBEDDED, load_network
from latentsr.models.hifigan import vocode
from latentsr.models.vae import MelAutoencoderKL
from latentsr.signal.degrade import Recipe, degrade
from latentsr.signal.effects import EFFECTS
from latentsr.signal.lowband import cut_sharply
from latentsr.signal.mel import MelSpectrogram
from latentsr.training.draws import Draws
from latentsr.training.losses import kl_to_standard_normal
from latentsr.training.stage import Degraded, Stage, StageConfig, Validation, degraded

NATS_TO_LOG10_POWER = 2 / math.log(10)  # natural log of magnitude to log10 of power, the unit of LSD


class VaeStageConfig(StageConfig):
    model: dict[str, Any] = {}  # arguments of MelAutoencoderKL
    train: Literal["all", "encoder"] = "all"  # encoder: the decoder stays as it is
    degraded_share: float = 0.5  # of the examples of a batch
    statistics_batches: int = 64  # for the latents' scale and shift
    vocoder: str = ""  # folder of a finished vocoder, to look and listen at validation; "": the embedded one


@dataclass
class VaeInputs:
    """Log-mels of a step, and the same without the noise that was added to them."""

    mel: Tensor  # (B, 1, L, M)
    clean: Tensor  # (B, 1, L, M)
    noisy: Tensor  # (B,) bool; where false, both are the same


class Normal(NamedTuple):
    """A diagonal Gaussian posterior in fp32."""

    mean: Tensor  # (B, Z, l, m)
    log_variance: Tensor  # (B, Z, l, m)


class VaeStage(Stage):
    """mel -> posterior -> sample -> mel."""

    config: VaeStageConfig

    def __init__(self, config: VaeStageConfig) -> None:
        super().__init__(config)
        self.mel = MelSpectrogram(config.audio)
        if config.initial_weights:
            self.vae = MelAutoencoderKL.from_pretrained(
                f"{config.initial_weights}/vae", torch_dtype=torch.float32, use_safetensors=True, local_files_only=True
            )
        else:
            self.vae = MelAutoencoderKL(**config.model)
        self.aligned, self.anchored = ("align" in config.loss_weights, "anchor" in config.loss_weights)
        if self.anchored and not config.initial_weights:
            raise ConfigError("anchor holds on to a finished encoder: give its folder as initial_weights")
        if config.train == "encoder":
            for part in (self.vae.post_quant_conv, self.vae.decoder):
                part.requires_grad_(False)
        self.start = copy.deepcopy(self.vae).requires_grad_(False) if self.anchored else None
        self.vocoder = load_vocoder(config.vocoder)

    def trained(self) -> Mapping[str, nn.Module]:
        return {"vae": self.vae}

    def networks(self, phase: str) -> list[nn.Module]:
        return [self.vae.encoder, self.vae.quant_conv] if self.config.train == "encoder" else [self.vae]

    @torch.no_grad()
    def prepare(self, batch: Batch, draws: Draws) -> VaeInputs:
        """A share of the examples is degraded. Where `align` is on, those with noise have a clean partner."""
        chosen, wave = draws.chosen(self.config.degraded_share), batch.wide
        if not bool(chosen.any()):
            mel = self.mel(wave)
            return VaeInputs(mel, mel, torch.zeros_like(chosen))
        example, wave = degraded(batch.part(chosen), self.config, draws.part(chosen)), wave.clone()
        wave[chosen] = example.low
        mel = self.mel(wave)
        inputs = VaeInputs(mel, mel, torch.zeros_like(chosen))
        noisy = noise_only(example.recipes)
        if self.aligned and bool(noisy.any()):
            inputs.noisy[chosen.nonzero()[noisy][:, 0]] = True
            inputs.clean = mel.clone()
            inputs.clean[inputs.noisy] = self.mel(without_noise(example, noisy, self.config.audio.sample_rate))
        return inputs

    def losses(self, phase: str, inputs: VaeInputs, step: int, draws: Draws) -> dict[str, Tensor]:
        """Each a mean over the examples. An aligned example is decoded to its clean mel, as its latents ask for."""
        given = self._posterior(self.vae, inputs.mel)
        noise = draws.normal(*given.mean.shape[1:]).to(given.mean.device)
        reconstruction = self.vae.decode(given.mean + noise * (0.5 * given.log_variance).exp()).sample.float()
        losses = {"mel": F.l1_loss(reconstruction, inputs.clean), "kl": kl_to_standard_normal(*given)}
        if self.aligned or self.anchored:
            clean = self._clean_posterior(given, inputs)
        if self.aligned:  # an example without noise is its own partner, and adds 0
            losses["align"] = kl_of_normals(given, Normal(*(each.detach() for each in clean)))
        if self.start is not None:
            with torch.no_grad():
                wanted = self._posterior(self.start, inputs.clean)
            losses["anchor"] = kl_of_normals(clean, wanted)
        return losses

    def _clean_posterior(self, given: Normal, inputs: VaeInputs) -> Normal:
        """Posterior of the clean mels: only those with noise are encoded again."""
        if not bool(inputs.noisy.any()):
            return given
        with torch.set_grad_enabled(self.anchored and torch.is_grad_enabled()):
            partners = self._posterior(self.vae, inputs.clean[inputs.noisy])
        rows = inputs.noisy.nonzero()[:, 0].to(given.mean.device)
        return Normal(*(all_.index_copy(0, rows, clean) for all_, clean in zip(given, partners, strict=True)))

    @staticmethod
    def _posterior(vae: MelAutoencoderKL, mel: Tensor) -> Normal:
        posterior = cast(Any, vae.encode(mel)).latent_dist
        return Normal(posterior.mean.float(), posterior.logvar.float())

    @torch.no_grad()
    def validate(self, batch: Batch, draws: Draws) -> Validation:
        mel = self.mel(batch.wide)
        reconstruction = self.vae.decode(self.vae.encode(mel).latent_dist.mode()).sample
        result = Validation({"mel_l1": float(F.l1_loss(reconstruction, mel)), "mel_lsd": mel_lsd(mel, reconstruction)})
        wave = vocode(self.vocoder, reconstruction, self.config.audio).float()
        result.metrics["lsd"] = float(lsd(batch.wide[:, 0], wave[:, 0]).mean())
        result.waves = {"truth": batch.wide[0, 0], "reconstruction": wave[0, 0]}
        result.sample_rate = self.config.audio.sample_rate
        if self.aligned:
            result.metrics |= self._validate_alignment(batch, draws)
        return result

    def _validate_alignment(self, batch: Batch, draws: Draws) -> dict[str, float]:
        """Root-mean-square distance of the latents of noisy and clean low bands, over the clean ones' spread."""
        example = degraded(batch, self.config, draws)
        noisy = noise_only(example.recipes)
        if not bool(noisy.any()):
            return {}
        partners = without_noise(example, noisy, self.config.audio.sample_rate)
        given, clean = (self._posterior(self.vae, self.mel(wave)).mean for wave in (example.low[noisy], partners))
        return {"noise_in_latents": float((given - clean).square().mean().sqrt() / clean.std())}

    @torch.no_grad()
    def finish(self, corpus: Corpus) -> None:
        """Scale and shift of the posterior means over the training set, into the VAE's config.

        An anchored encoder keeps those that it started with: the finished UNet knows no others.
        """
        if self.anchored and self.vae.config.scaling_factor is not None:
            return
        self.vae.eval()
        device = next(self.vae.parameters()).device
        total = squares = count = 0.0
        for at in trange(self.config.statistics_batches, desc="latent statistics", mininterval=5, disable=None):
            batch = corpus.batch(at, self.config.batch_size, self.config.samples, seed=self.config.seed + 1)
            mean = self.vae.encode(self.mel(batch.wide.to(device))).latent_dist.mean.double()
            total, squares, count = total + mean.sum(), squares + mean.square().sum(), count + mean.numel()
        shift = float(total / count)
        scale = float((squares / count - shift**2) ** -0.5)
        self.vae.register_to_config(scaling_factor=scale, shift_factor=shift)


def noise_only(recipes: Sequence[Recipe]) -> Tensor:
    """Which examples have effects that can be left out, (B,) bool.

    Codecs and telephone lines end the band, so that without them there is no low band of the same cutoff. Pairs have no
    recipes, and nothing is known of their noise.
    """
    return torch.tensor(
        [bool(r.effects) and not any(EFFECTS[effect.name].full_band for effect in r.effects) for r in recipes],
        dtype=torch.bool,
    )


def without_noise(example: Degraded, noisy: Tensor, sample_rate: int) -> Tensor:
    """The low bands (N, 1, T) of the N `noisy` examples by the same low-pass, cut where they were, without effects."""
    recipes = [replace(r, effects=()) for r, wanted in zip(example.recipes, noisy.tolist(), strict=True) if wanted]
    clean = degrade(example.wide[noisy], recipes, sample_rate)
    return cut_sharply(clean, example.cutoff_hz[noisy], sample_rate)


def kl_of_normals(p: Normal, q: Normal) -> Tensor:
    """KL(p || q) of diagonal Gaussians, nats per latent element, mean over the examples."""
    squares = (p.mean - q.mean).square() + p.log_variance.exp()
    return 0.5 * (squares * (-q.log_variance).exp() - 1 + q.log_variance - p.log_variance).mean()


def mel_lsd(reference: Tensor, estimate: Tensor) -> float:
    """Log-spectral distance on mel bands (log10 of power): root of the mean over bands, mean over frames."""
    difference = (reference - estimate) * NATS_TO_LOG10_POWER
    return float(difference.square().mean(dim=-1).sqrt().mean())


def load_vae(folder: str) -> MelAutoencoderKL:
    """A finished VAE, frozen, in fp32. Raises ValueError where it has no measured scale."""
    vae = MelAutoencoderKL.from_pretrained(
        folder, torch_dtype=torch.float32, use_safetensors=True, local_files_only=True
    )
    if vae.config.scaling_factor is None:
        raise ValueError(f"{folder} has no scaling_factor; finish its training with train_vae.py, which measures it")
    return vae.requires_grad_(False).eval()


def load_vocoder(folder: str) -> nn.Module:
    """What makes mels into waves to look at and listen to: the vocoder in a folder, frozen; "" is the embedded one."""
    return load_network(Path(folder or EMBEDDED / "vocoder")).requires_grad_(False)
