"""Where windows meet, the embedded heads sound as they do elsewhere: 41 s in windows beside the same in one window."""

import numpy as np
import pytest
import torch

from latentsr import Pipeline, audio
from latentsr.config import AUDIO
from latentsr.evaluation.filters import lowpass
from latentsr.evaluation.metrics import kept_band_error_db
from latentsr.options import Options
from latentsr.restoring.analysis import hear
from latentsr.restoring.engine import CORE, Restorer
from latentsr.signal.degrade import Recipe
from wide import music_like

CLIP = 4 * AUDIO.sample_rate  # samples
SAMPLES = 41 * AUDIO.sample_rate
CUTOFF_HZ = 4000.0
N_FFT, HOP = 2048, 512
NEAR_S = 0.1  # of a seam
EVERY_S = CORE * 8 * AUDIO.hop_length / AUDIO.sample_rate


def recorded(folder):
    """Music, effects and speech, the first 4 s of each, (T,)"""
    for path in sorted((folder / "data" / "dev").rglob("*.flac"))[::4]:
        recording = audio.read(path)
        clip = audio.resample(recording.samples.mean(axis=0), recording.sample_rate, AUDIO.sample_rate)[:CLIP]
        if len(clip) == CLIP:
            yield clip


@pytest.fixture(scope="module", params=["made here", pytest.param("recordings", marks=pytest.mark.slow)])
def truth(request):
    """Clips one after another. (1, T)"""
    if request.param == "recordings":
        clips = recorded(request.getfixturevalue("shared"))
    else:
        clips = (music_like(4.0, seed) for seed in range(11))
    ramp = np.minimum(1, np.minimum(np.arange(CLIP), np.arange(CLIP)[::-1]) / AUDIO.hop_length)
    joined = np.concatenate([0.5 * ramp * clip / np.abs(clip).max() for clip in clips])
    return joined[None, :SAMPLES].astype(np.float32)


@pytest.fixture(scope="module")
def pipe():
    return Pipeline.from_pretrained(heads=["mamba-gan", "vocoder", "diffwave-mamba"])


def restored(pipe, head, low, core):
    asked = Options(head=head, cutoff_hz=CUTOFF_HZ)
    restorer = Restorer(pipe.chains(asked)(hear(lambda: [low], [low], None, asked)))
    restorer.cores = dict.fromkeys(restorer.cores, core)
    with torch.inference_mode():
        return torch.cat([*restorer.push(low), *restorer.finish()], dim=1)


def log_power(wave):
    """(F, L) dB above the cutoff"""
    window = torch.hann_window(N_FFT)
    spectrum = torch.stft(wave[0], N_FFT, HOP, window=window, return_complex=True)[round(1.1 * CUTOFF_HZ / 23.4375) :]
    return 10 * (spectrum.abs().square() + 1e-9).log10()


def high_band_db(log_powers):
    return 10 * (10 ** (log_powers / 10)).sum(0).log10()


@pytest.mark.parametrize("head", ["mamba-gan", "vocoder", "diffwave-mamba"])
def test_seams_are_not_heard(pipe, truth, head):
    low = torch.from_numpy(lowpass(truth, Recipe("cheby1", 8, CUTOFF_HZ)).astype(np.float32))
    chunked, whole = restored(pipe, head, low, CORE), restored(pipe, head, low, 10_000)
    assert chunked.shape == whole.shape == low.shape
    seconds = torch.arange(SAMPLES // HOP + 1) * HOP / AUDIO.sample_rate
    near = ((seconds + EVERY_S / 2) % EVERY_S - EVERY_S / 2).abs() < NEAR_S
    near &= (seconds > 1) & (seconds < SAMPLES / AUDIO.sample_rate - 1)
    assert near.sum() > 7 * 2 * NEAR_S * AUDIO.sample_rate / HOP * 0.8  # eight windows, seven seams

    assert float(kept_band_error_db(low, chunked, 0.8 * CUTOFF_HZ).max()) < -60
    assert float(kept_band_error_db(low, whole, 0.8 * CUTOFF_HZ).max()) < -60

    spectra = [log_power(wave) for wave in (chunked, whole, torch.from_numpy(truth))]
    levels = [high_band_db(spectrum) for spectrum in spectra[:2]]
    change_db = (levels[0] - levels[1])[levels[1] > -40]
    at_seams = near[levels[1] > -40]
    level_db = float(change_db[at_seams].mean() - change_db[~at_seams].mean())
    lsd = [(spectrum - spectra[2]).square().mean(0).sqrt() / 10 for spectrum in spectra[:2]]
    worse = float((lsd[0] - lsd[1])[near].mean() - (lsd[0] - lsd[1])[~near].mean())
    print(f"{head}: high band at seams {level_db:+.2f} dB, LSD {worse:+.3f}")
    assert abs(level_db) < 1.0
    assert worse < 0.05
