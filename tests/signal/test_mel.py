"""The mel spectrogram is AudioSR's."""

import math

import pytest
import torch
from torch.testing import assert_close

from latentsr.config import AUDIO
from latentsr.signal.mel import MelSpectrogram, bands_below, hz_to_mel, mel_edges_hz, mel_filterbank, mel_to_hz


def test_slaney_scale_and_its_inverse():
    hz = torch.tensor([0.0, 500.0, 1000.0, 6400.0, 24000.0], dtype=torch.float64)
    assert_close(mel_to_hz(hz_to_mel(hz)), hz)
    assert float(hz_to_mel(torch.tensor([1000.0]))) == pytest.approx(15.0)
    assert float(hz_to_mel(torch.tensor([6400.0]))) == pytest.approx(42.0)  # 27 log steps above


def test_filters_have_unit_area_per_hertz():
    areas = mel_filterbank().sum(dim=1) * AUDIO.sample_rate / AUDIO.n_fft
    assert_close(areas[160:], torch.ones(96), atol=0.02, rtol=0)  # the lowest are as narrow as a bin


def test_frames_and_floor():
    mel = MelSpectrogram()
    assert mel(torch.zeros(2, 1, 4800)).shape == (2, 1, 10, 256)
    assert float(mel(torch.zeros(1, 1, 4800)).max()) == pytest.approx(math.log(1e-5))
    assert mel(torch.randn(1, 1, 4801)).shape[2] == 10


def test_a_tone_lands_in_its_band_at_its_level():
    t = torch.arange(48_000) / 48_000
    tone = 0.5 * torch.sin(2 * math.pi * 1000 * t)[None, None]
    frame = MelSpectrogram()(tone)[0, 0, 50]
    edges = mel_edges_hz()
    band = int(frame.argmax())
    bin_hz = AUDIO.sample_rate / AUDIO.n_fft
    assert edges[band] - bin_hz < 1000 < edges[band + 2] + bin_hz


def test_bands_below_ends_at_the_cutoff():
    mask = bands_below(torch.tensor([4000.0, 30_000.0]))
    edges = mel_edges_hz()[2:]
    assert edges[mask[0]].max() <= 4000 < edges[~mask[0]].min()
    assert mask[1].all()


def test_short_wave_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="pad to more than 784"):
        MelSpectrogram()(torch.zeros(1, 1, 500))


def test_matches_the_recorded_run_of_audiosr(shared):
    import numpy as np

    recorded = np.load(shared / "oracle/audiosr/oracle.npz")
    wave = torch.from_numpy(recorded["waveform_lowpass"]).float()
    expected = torch.from_numpy(recorded["lowpass_mel"]).float()
    ours = MelSpectrogram()(wave.reshape(1, 1, -1))[:, 0]
    # At the floor of 1e-5 the rounding of the FFT, another one on each processor, is 1e-8, which is 1e-3 of it.
    ours, expected = ((log_mel.exp() + 1e-4).log() for log_mel in (ours, expected.reshape(ours.shape)))
    assert (ours - expected).abs().max() < 1e-3


def test_spectrograms_share_a_filterbank_that_none_of_them_changes():
    with torch.inference_mode():
        first = MelSpectrogram()
        first.gain_of_bins(torch.ones(1, 2, 256))
    moved = MelSpectrogram().double()
    again = MelSpectrogram()
    assert again.filterbank.data_ptr() == first.filterbank.data_ptr() != moved.filterbank.data_ptr()
    assert again.filterbank.dtype == torch.float32 and torch.equal(again.filterbank, mel_filterbank())
    wave = torch.randn(1, 1, 4800, requires_grad=True)
    again(wave).sum().backward()  # made in inference mode, and trained through all the same
    assert float(wave.grad.abs().sum()) > 0
