"""The faithful mode by itself: what it refuses, its step counts, its resampler and its sampler against references."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from scipy import signal

from latentsr.convert.audiosr_arch import Architecture
from latentsr.convert.audiosr_compat import (
    UNCONDITIONAL,
    Networks,
    Noises,
    Settings,
    ddim,
    guided_velocity,
    restore,
    step_times,
)
from latentsr.convert.audiosr_compat_signal import (
    energy_index,
    front_end,
    low_pass,
    normalise,
    padded_frames,
    replace_low_band,
    resample,
)

FAILS = r"audiosr 0\.0\.7 fails here.*the default mode does not"


def cosine_betas() -> torch.Tensor:
    """AudioSR's schedule (1000,), not clipped: the last one is 1."""
    bars = torch.cos((torch.arange(1001, dtype=torch.float64) / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - bars[1:] / bars[:-1]).float()


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- lengths and steps ------------------------------------------------------------------------------------------------


def test_the_original_fails_on_2195_of_these_lengths():
    def runs(samples: int) -> bool:
        try:
            return padded_frames(samples, 48_000) % 512 == 0
        except ValueError:
            return False

    failing = [samples for samples in range(24_000, 768_000) if not runs(samples)]
    assert (len(failing), failing[0]) == (2195, 24_002)
    with pytest.raises(ValueError, match=FAILS):
        padded_frames(24_002, 48_000)


@pytest.mark.parametrize(
    ("samples", "rate", "frames"),
    [(1, 48_000, 512), (245_760, 48_000, 512), (245_761, 48_000, 1024), (112_896, 22_050, 512)],
)
def test_recordings_are_padded_to_multiples_of_five_seconds(samples, rate, frames):
    assert padded_frames(samples, rate) == frames


def test_an_empty_recording_is_refused():
    with pytest.raises(ValueError, match=FAILS):
        padded_frames(0, 48_000)


@pytest.mark.parametrize(
    ("steps", "made"), [(50, 50), (200, 200), (5, 5), (1, 1), (30, 31), (60, 63), (120, 125), (150, 167)]
)
def test_step_counts(steps, made):
    times = step_times(steps)
    assert len(times) == made and times[-1] == 1
    assert {a - b for a, b in zip(times, times[1:], strict=False)} <= {1000 // steps}


def test_766_step_counts_fail():
    """599 reach the time 1000, which does not exist; 167 begin at 999, where the original's arithmetic gives NaN."""

    def why(steps: int) -> str:
        try:
            step_times(steps)
        except ValueError as error:
            return "nan" if "NaN" in str(error) else "crash"
        return "runs"

    reasons = {steps: why(steps) for steps in range(1, 1001)}
    crash = [steps for steps, reason in reasons.items() if reason == "crash"]
    assert len(crash) == 599
    assert crash[:6] == [3, 9, 27, 36, 37, 101] and crash[-500:] == list(range(501, 1001))
    assert [steps for steps, reason in reasons.items() if reason == "nan"] == list(range(334, 501))


def test_the_time_999_is_nan_in_float32_alone():
    bars = torch.cumprod(1 - cosine_betas().double(), dim=0).float()
    for t, is_nan in ((997, False), (998, False), (999, True)):
        a, before = bars[t].double(), bars[t - 2].double()
        sigma = ((1 - before) / (1 - a) * (1 - a / before)).sqrt().float()
        assert (1 - before.float() - sigma**2).sqrt().isnan().item() is is_nan


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_step_counts_out_of_range(steps):
    with pytest.raises(ValueError, match=FAILS):
        step_times(steps)


# --- signal -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 96_000])
def test_resampler_against_the_same_filter_in_float64(rate):
    wave = noise(rate // 4) * 0.1
    common = math.gcd(rate, 48_000)
    up, down = 48_000 // common, rate // common
    half = math.ceil(6 * max(up, down) / 0.99)
    t = np.clip(np.arange(-half, half + 1) * 0.99 / max(up, down), -6, 6)
    taps = np.sinc(t) * np.cos(np.pi * t / 12) ** 2 * 0.99 / max(up, down)
    expected = signal.resample_poly(wave.double().numpy(), up, down, window=taps)
    made = resample(wave, rate, 48_000).numpy()
    assert len(made) == math.ceil(len(wave) * 48_000 / rate) == len(expected)
    assert np.abs(made - expected).max() < 1e-5  # the kernel is in float32


@pytest.mark.parametrize("samples", [1, 37, 4_405])
def test_resampler_with_more_phases_than_are_made_at_a_time(samples):
    time = torch.arange(samples) / 44_056
    made = resample(torch.sin(2 * math.pi * 1000 * time), 44_056, 48_000)
    assert len(made) == math.ceil(samples * 48_000 / 44_056)
    expected = torch.sin(2 * math.pi * 1000 * torch.arange(len(made)) / 48_000)
    assert samples < 100 or (made - expected)[100:-100].abs().max() < 0.01


def test_resampling_to_the_same_rate_changes_nothing():
    wave = noise(1000)
    assert torch.equal(resample(wave, 48_000, 48_000), wave)


def test_front_end_takes_channel_0_without_mean_at_half_scale():
    left, right = noise(2, 48_000).numpy() * 0.01 + 0.1
    wave = front_end(np.stack([left, right]), 48_000)
    assert wave.shape == (1, 1, 245_760)
    assert torch.equal(wave, front_end(left[None], 48_000))
    assert wave.abs().max().item() == pytest.approx(0.5, abs=1e-6)
    assert abs(wave[..., :48_000].mean().item()) < 1e-6 and wave[..., 48_000:].abs().max() == 0


def test_energy_index_is_the_last_row_that_starts_below_the_share():
    assert energy_index(torch.ones(200, 3)) == 195  # 196 of 200 rows hold 98 %, 197 hold 98.5 % exactly
    assert energy_index(torch.zeros(200, 3)) == 0
    assert energy_index(torch.eye(1, 200).T) == 0  # all in row 0


def test_low_pass_refuses():
    wave = noise(1, 1, 4800)
    with pytest.raises(ValueError, match="unknown filter 'brick'; choose one of butter, cheby1, ellip, bessel"):
        low_pass(wave, 4000, "brick")
    with pytest.raises(ValueError, match=FAILS):
        low_pass(wave, 999.9, "ellip")


@pytest.mark.parametrize("filter", ["butter", "cheby1", "ellip", "bessel"])
def test_low_pass_keeps_a_low_tone_and_stops_a_high_one(filter):
    time = torch.arange(48_000) / 48_000
    low, high = (torch.sin(2 * math.pi * hz * time)[None, None] for hz in (300, 12_000))
    inside = slice(4_800, -4_800)
    assert (low_pass(low, 4000.7, filter) - low)[..., inside].abs().max() < 0.05
    assert low_pass(high, 4000.7, filter)[..., inside].abs().max() < 1e-3


def test_low_band_ratio_is_held_within_a_fifth():
    low = low_pass(noise(1, 1, 48_000), 6000, "ellip")
    loud, quiet = (replace_low_band(low, low * gain) for gain in (10.0, 0.1))
    for made, ratio in ((loud, 0.8), (quiet, 1.2)):
        kept = low_pass(made, 4000, "butter")
        assert (kept.std() / low_pass(low, 4000, "butter").std()).item() == pytest.approx(1 / ratio, rel=1e-3)


def test_final_level_takes_the_mean_away_last():
    wave = normalise(torch.tensor([[[1.0, 2.0, -1.0, 2.0]]]))
    assert torch.allclose(wave, torch.tensor([[[0.0, 0.25, -0.5, 0.25]]]))


# --- sampler ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [5, 30, 50, 250])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_ddim_against_diffusers(steps, eta):
    betas, times = cosine_betas(), step_times(steps)
    scheduler = DDIMScheduler(
        trained_betas=betas.tolist(), prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False
    )
    scheduler.num_inference_steps = steps  # its own list would end after as many, whatever is asked for
    noises = [noise(1, 2, 4, 4, seed=1 + i) for i in range(len(times))]

    def velocity(x: torch.Tensor, t: int) -> torch.Tensor:
        return torch.tanh(x.flip(-1)) * (t / 1000)

    start = noise(1, 2, 4, 4)
    expected, made = start, dict(ddim(velocity, start, betas, times, noises, eta))
    assert list(made) == times
    for t, drawn in zip(times, noises, strict=True):
        settings = {"eta": eta, "variance_noise": drawn} if eta else {}
        expected = scheduler.step(velocity(expected, t), t, expected, **settings).prev_sample
        assert (made[t] - expected).abs().max() < 2e-5


def test_ddim_wants_one_noise_for_each_step():
    with pytest.raises(ValueError, match="got 1 noises for 5 steps"):
        list(ddim(lambda x, t: x, noise(1, 2, 4, 4), cosine_betas(), step_times(5), [noise(1)]))


class CountingUNet(torch.nn.Module):
    """Half of the noisy latents plus the condition, and a list of the conditions that were seen."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(0.5))
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor, t: torch.Tensor, encoder_hidden_states: None) -> "CountingUNet":
        noisy, condition = x.chunk(2, dim=1)
        self.seen.append(condition)
        self.sample = self.scale * noisy + condition
        return self


def test_guidance():
    unet, x, condition = CountingUNet(), noise(1, 2, 4, 4), noise(1, 2, 4, 4, seed=1)
    with torch.no_grad():
        v = guided_velocity(unet, condition, 0.3, 3.5)(x, 7)
    unconditional = torch.full_like(x, UNCONDITIONAL * 0.3)
    assert torch.allclose(v, 0.5 * x + unconditional + 3.5 * (0.3 * condition - unconditional), atol=1e-5)
    assert len(unet.seen) == 2
    with torch.no_grad():
        guided_velocity(unet, condition, 0.3, 1.0)(x, 7)
    assert len(unet.seen) == 3  # one more: guidance 1 does without the unconditional half


def test_noises_are_one_stream():
    drawn = Noises.draw(torch.Size([1, 2, 8, 4]), 3, seed=42)
    generator = torch.Generator().manual_seed(42)
    expected = [torch.randn(1, 2, 8, 4, generator=generator) for _ in range(6)]
    for ours, theirs in zip([drawn.discarded, drawn.condition, drawn.start, *drawn.steps], expected, strict=True):
        assert torch.equal(ours, theirs)


# --- the whole, with small random networks ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    sizes = Architecture(
        latent_channels=2,
        vae_channels=(32, 32, 32, 32),
        vae_layers=1,
        unet_channels=(32, 32, 32, 32),
        unet_layers=1,
        head_channels=16,
        vocoder_channels=32,
    )
    made = sizes.build("cpu")
    made["vae"].register_to_config(scaling_factor=0.4)
    return made["vae"], made["unet"], made["vocoder"], cosine_betas()


def test_whole(networks):
    wave = low_pass(noise(1, 1, 96_000), 5000, "butter")[0].numpy()
    stereo = np.concatenate([wave, np.full_like(wave, 0.7)])
    seen = []
    made = restore(
        stereo, 48_000, Networks(*networks), Settings(steps=2), on_step=lambda t, x: seen.append((t, x.shape))
    )
    assert made.audio.shape == made.vocoded.shape == (1, 1, 480 * 512 + 16)
    assert made.samples == 96_000
    assert seen == [(501, (1, 2, 64, 32)), (1, (1, 2, 64, 32))]
    assert 0.4 < made.audio.abs().max() < 0.6 and abs(made.audio.mean()) < 1e-6
    assert 4000 < made.cutoff_hz < 6000
    again = restore(wave, 48_000, Networks(*networks), Settings(steps=2))
    assert torch.equal(again.audio, made.audio)  # channel 0 alone counts, and the seed


@pytest.mark.parametrize("recording", ["silence", "bass"])
def test_what_the_original_crashes_on_fails_before_any_network_runs(recording):
    wave = np.zeros((1, 16_000), dtype=np.float32)
    if recording == "bass":
        wave[0] = np.sin(2 * np.pi * 80 * np.arange(16_000) / 16_000)
    with pytest.raises(ValueError, match=FAILS):
        restore(wave, 16_000, Networks(None, None, None, cosine_betas()))
