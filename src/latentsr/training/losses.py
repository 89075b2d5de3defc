"""Losses as plain functions of tensors; each returns a scalar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from latentsr.models.discriminators import Features
from latentsr.signal.denoise import mel_gain
from latentsr.signal.mel import MelSpectrogram

# Magnitude per root sample: 1e-4 at n_fft 2048, the floor of LSD. A higher one leaves quiet speech untrained.
STFT_FLOOR = 1e-4 / 2048**0.5
ENERGY_PATCH = (16, 8)  # bins x frames
FLAT_PATCH = {True: (24, 1), False: (2, 12)}  # bins x frames, of windows from `LONG_WINDOW` samples on, of shorter ones
LONG_WINDOW = 1024
NOTHING_LEFT, SILENT = 3e-3, 1e-3  # -25 dB of the clean energy; energy of a silent band
POWER_FLOOR = 1e-7  # of |STFT|^2 in `resolution_losses`, Parallel WaveGAN's


class Resolution(NamedTuple):
    """One STFT of `resolution_losses`, in samples. The Hann window lies in the middle of `n_fft`."""

    n_fft: int
    hop_length: int
    window_length: int


# Of Parallel WaveGAN, AERO and AEROMamba.
RESOLUTIONS = (Resolution(1024, 120, 600), Resolution(2048, 240, 1200), Resolution(512, 50, 240))


def spectral_losses(reference: Tensor, estimate: Tensor, sizes: Sequence[int]) -> dict[str, Tensor]:
    """Multi-resolution STFT losses of waves (B, 1, T) (Parallel WaveGAN, arXiv 1910.11480, eqs. 2-4).

    `convergence` is the Frobenius norm of the difference over that of the reference; `log_magnitude` is an L1 in nats.
    `energy` is an L1 in nats between powers averaged over patches: where a spectrogram is noise, log_magnitude alone is
    won by its median, which is 3 to 5 dB too quiet.
    """
    convergence, log_magnitude, energy = [], [], []
    for n_fft in sizes:
        window = torch.hann_window(n_fft, device=reference.device)
        x, y = (
            torch.stft(w.squeeze(1).float(), n_fft, n_fft // 4, window=window, return_complex=True)
            .abs()
            .clamp(min=STFT_FLOOR * n_fft**0.5)
            for w in (reference, estimate)
        )
        convergence.append(_convergence(x, y))
        log_magnitude.append(F.l1_loss(y.log(), x.log()))
        pooled = [F.avg_pool2d(m.square(), ENERGY_PATCH).log() for m in (x, y)]
        energy.append(0.5 * F.l1_loss(pooled[1], pooled[0]))
    terms = {"convergence": convergence, "log_magnitude": log_magnitude, "energy": energy}
    return {name: torch.stack(values).mean() for name, values in terms.items()}


def patch_losses(reference: Tensor, estimate: Tensor, sizes: Sequence[int]) -> dict[str, Tensor]:
    """`log_magnitude` and `energy` of `spectral_losses`, counted where either wave is above the floor.

    For waves of which only a band is judged: the rest of the spectrum lies at the floor in both, and would weigh by its
    width. `level` is the same of powers summed over the whole time, in bands of 1.5 kHz: an L1 in nats over short
    patches is won by the median, and what is loud now and then, as consonants are, would come out too quiet.
    `flatness` is an L1 in nats between spectral flatnesses, geometric over arithmetic mean of the power, of patches
    that are narrow in time for long windows (lines or hiss) and narrow in frequency for short ones (attacks or decay).
    """
    log_magnitude, energy, level, flatness = [], [], [], []
    for n_fft in sizes:
        window = torch.hann_window(n_fft, device=reference.device)
        floor = STFT_FLOOR * n_fft**0.5
        x, y = (
            torch.stft(w.squeeze(1).float(), n_fft, n_fft // 4, window=window, return_complex=True).abs()
            for w in (reference, estimate)
        )
        heard = ((x > floor) | (y.detach() > floor)).float()
        x, y = x.clamp(min=floor), y.clamp(min=floor)
        log_magnitude.append(((y.log() - x.log()).abs() * heard).sum() / heard.sum().clamp(min=1))
        patch = (max(n_fft // 128, 1), 8)
        pooled = [F.avg_pool2d(m.square(), patch) for m in (x, y)]
        share = F.avg_pool2d(heard, patch)
        difference = (pooled[1].log() - pooled[0].log()).abs() * share
        energy.append(0.5 * difference.sum() / share.sum().clamp(min=1))
        band = max(n_fft // 32, 1)
        summed = [F.avg_pool2d(m.square(), (band, m.shape[-1])).log() for m in (x, y)]
        part = F.avg_pool2d(heard, (band, heard.shape[-1]))
        level.append(0.5 * ((summed[1] - summed[0]).abs() * part).sum() / part.sum().clamp(min=1e-3))
        flat = FLAT_PATCH[n_fft >= LONG_WINDOW]
        spread = [F.avg_pool2d(m.square(), flat).log() - F.avg_pool2d(2 * m.log(), flat) for m in (x, y)]
        full = (F.avg_pool2d(heard, flat) > 0.99).float()  # at the band's edge the floor looks like a line
        flatness.append(0.5 * ((spread[1] - spread[0]).abs() * full).sum() / full.sum().clamp(min=1))
    terms = {"log_magnitude": log_magnitude, "energy": energy, "level": level, "flatness": flatness}
    return {name: torch.stack(values).mean() for name, values in terms.items()}


def balanced(losses: Mapping[str, Tensor], weights: Mapping[str, float], output: Tensor) -> Tensor:
    """A scalar whose gradient at `output` is that of the losses, each scaled to its weight's share of the whole.

    Encodec's balancer (Defossez et al. 2022, arXiv 2210.13438, eq. 5), without its average over steps: a loss counts by
    its weight, however steep it is.
    """
    combined = torch.zeros_like(output)
    for name, loss in losses.items():
        (gradient,) = torch.autograd.grad(loss, output, retain_graph=True)
        combined += weights[name] / sum(weights.values()) * gradient / gradient.norm().clamp(min=1e-12)
    return (combined.detach() * output).sum()


def _convergence(reference: Tensor, estimate: Tensor) -> Tensor:
    """Spectral convergence of magnitudes (B, bins, frames), mean over the examples.

    Each example against its own norm, not the batch against the batch's: a quiet one counts as much as a loud one, and
    the loss does not depend on how a batch is shared out.
    """
    difference = torch.linalg.matrix_norm(reference - estimate)
    return (difference / torch.linalg.matrix_norm(reference).clamp(min=1e-3)).mean()


def resolution_losses(reference: Tensor, estimate: Tensor, resolutions: Sequence[Resolution]) -> dict[str, Tensor]:
    """Multi-resolution STFT losses of waves (B, 1, T) of Parallel WaveGAN (arXiv 1910.11480, eqs. 2-4), per example.

    Against `spectral_losses`: any hop and window, an absolute floor, and no `energy`.
    """
    convergence, log_magnitude = [], []
    for n_fft, hop_length, length in resolutions:
        window = torch.hann_window(length, device=reference.device)
        x, y = (
            torch.view_as_real(torch.stft(w.squeeze(1).float(), n_fft, hop_length, length, window, return_complex=True))
            .square()
            .sum(-1)
            .clamp(min=POWER_FLOOR)
            .sqrt()
            for w in (reference, estimate)
        )
        convergence.append(_convergence(x, y))
        log_magnitude.append(F.l1_loss(y.log(), x.log()))
    return {"convergence": torch.stack(convergence).mean(), "log_magnitude": torch.stack(log_magnitude).mean()}


def discriminator_loss(real: Features, fake: Features) -> Tensor:
    """Least-squares GAN, discriminator side (HiFi-GAN eq. 1), mean over the sub-discriminators."""
    parts = [(r[-1] - 1).square().mean() + f[-1].square().mean() for r, f in zip(real, fake, strict=True)]
    return torch.stack(parts).mean()


def adversarial_loss(fake: Features) -> Tensor:
    """Least-squares GAN, generator side (HiFi-GAN eq. 2), mean over the sub-discriminators."""
    return torch.stack([(f[-1] - 1).square().mean() for f in fake]).mean()


def feature_loss(real: Features, fake: Features) -> Tensor:
    """Feature matching (HiFi-GAN eq. 4): L1 between feature maps, relative to the size of each example's real maps."""
    parts = [
        ((f - r.detach()).abs().flatten(1).mean(1) / r.detach().abs().flatten(1).mean(1).clamp(min=1e-3)).mean()
        for real_maps, fake_maps in zip(real, fake, strict=True)
        for r, f in zip(real_maps[:-1], fake_maps[:-1], strict=True)
    ]
    return torch.stack(parts).mean()


def hinge_discriminator_loss(real: Features, fake: Features) -> Tensor:
    """Hinge GAN, discriminator side (MelGAN, arXiv 1910.06711, eq. 1), summed over the sub-discriminators.

    It asks for scores of 1 and more on the real and of -1 and less on the fake.
    """
    parts = [F.relu(1 - r[-1]).mean() + F.relu(1 + f[-1]).mean() for r, f in zip(real, fake, strict=True)]
    return torch.stack(parts).sum()


def hinge_adversarial_loss(fake: Features) -> Tensor:
    """Hinge GAN, generator side as in AERO (arXiv 2211.12232): content with scores of 1 and more.

    Summed over the sub-discriminators. MelGAN's own, the mean of -score, has no such end.
    """
    return torch.stack([F.relu(1 - f[-1]).mean() for f in fake]).sum()


def scale_feature_loss(real: Features, fake: Features) -> Tensor:
    """Feature matching (MelGAN eq. 3) as its code and AERO's weigh it: L1 x 4 / (n + 1) / number of discriminators.

    Summed over all maps; n is the number of strided layers, of which a `ScaleDiscriminator` has two others beside.
    """
    parts = [
        F.l1_loss(f, r.detach()) * 4 / (len(real_maps) - 2) / len(real)
        for real_maps, fake_maps in zip(real, fake, strict=True)
        for r, f in zip(real_maps[:-1], fake_maps[:-1], strict=True)
    ]
    return torch.stack(parts).sum()


def filtered_error(noisy: Tensor, clean: Tensor, mel: Tensor, below_hz: Tensor, front: MelSpectrogram) -> Tensor:
    """What is left of the noise after `denoise`: log of error energy over clean energy, nats, mean over the examples.

    The known band of `noisy` is filtered by the gain that the predicted clean mel implies and compared with `clean`,
    bin by bin, in the complex plane: what SI-SDR measures. An L1 between log-mels alone is won by the median, which
    says little of where the energy is. Errors below `NOTHING_LEFT` hardly count, so that clean examples weigh little.

    Args:
        noisy: (B, 1, T).
        clean: (B, 1, T).
        mel: (B, L, M) log-mel that the network predicts for the clean wave.
        below_hz: (B,) bins from here on are left out.
        front: whose frames and bands they are.
    """
    given, wanted = front.complex(noisy), front.complex(clean)  # (B, F, L)
    gain = front.gain_of_bins(mel_gain(mel, front.of_magnitude(given.abs())))
    bins_hz = torch.linspace(0, front.config.sample_rate / 2, given.shape[1], device=given.device)
    inside = (bins_hz < below_hz[:, None]).to(gain)[:, :, None]
    error = ((gain * given - wanted).abs().square() * inside).sum(dim=(1, 2))
    energy = (wanted.abs().square() * inside).sum(dim=(1, 2))
    return ((error + SILENT) / (energy + SILENT) + NOTHING_LEFT).log().mean()


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence of a diagonal Gaussian posterior to N(0, 1), nats per latent element."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
