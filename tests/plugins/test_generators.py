"""Every generator class by name, the real one built small: what `upscale` promises of what it makes."""

import numpy as np
import pytest
import small_generators as small
import torch

from latentsr.audio import output_length, resample
from latentsr.plugins import upscale

RATE = 48_000
TEXTS = ["hello there", "hi"]


def musicgen_inputs(texts):
    return small.musicgen_processor()(text=texts, padding=True, return_tensors="pt")


def vits_inputs(texts):
    return small.vits_tokenizer()(texts, padding=True, return_tensors="pt")


def speecht5_inputs(texts):
    inputs = small.speecht5_processor()(text=texts, padding=True, return_tensors="pt")
    return {**inputs, "speaker_embeddings": torch.zeros(len(texts), 512), "minlenratio": 2.0, "maxlenratio": 3.0}


def fastspeech2_inputs():
    ids = torch.arange(24).view(2, 12) + 1
    mask = torch.ones_like(ids)
    ids[1, 7:] = mask[1, 7:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def bark_inputs(texts):
    return {**small.bark_processor()(texts), "semantic_max_new_tokens": 12}


DRAW = {"prompt": TEXTS, "num_inference_steps": 2}

# class name: (generator, its rate, how it makes a batch of two, where the audio is and what its axes are)
CASES = {
    "MusicgenForConditionalGeneration": (
        small.musicgen_mono, 32_000,
        lambda g: g.generate(**musicgen_inputs(TEXTS), max_new_tokens=16), lambda out: out,
    ),
    "MusicgenForConditionalGeneration, stereo": (
        small.musicgen_stereo, 32_000,
        lambda g: g.generate(**musicgen_inputs(TEXTS), max_new_tokens=16, return_dict_in_generate=True),
        lambda out: out.sequences,
    ),
    "VitsModel": (
        small.vits, 16_000,
        lambda g: g(**vits_inputs(["hello", "hello"])), lambda out: out.waveform[:, None],
    ),
    "SpeechT5ForTextToSpeech": (
        small.speecht5, 16_000,
        lambda g: g.generate(**speecht5_inputs(TEXTS), vocoder=small.speecht5_hifigan()), lambda out: out[:, None],
    ),
    "SpeechT5HifiGan": (
        small.speecht5_hifigan, 16_000,
        lambda g: g(torch.randn(2, 20, small.MELS)), lambda out: out[:, None],
    ),
    "FastSpeech2ConformerWithHifiGan": (
        small.fastspeech2, 22_050,
        lambda g: g(torch.arange(24).view(2, 12) % 12 + 1), lambda out: out.waveform[:, None],
    ),
    "BarkModel": (
        small.bark, 24_000,
        lambda g: g.generate(**bark_inputs(TEXTS)), lambda out: out[:, None],
    ),
    "AudioLDMPipeline": (
        small.audioldm, 16_000, lambda g: g(**DRAW, audio_length_in_s=0.4), lambda out: out.audios[:, None],
    ),
    "AudioLDM2Pipeline": (
        small.audioldm2, 16_000, lambda g: g(**DRAW, audio_length_in_s=0.4), lambda out: out.audios[:, None],
    ),
    "StableAudioPipeline": (
        small.stable_audio, 44_100, lambda g: g(**DRAW, audio_end_in_s=0.4), lambda out: out.audios,
    ),
}  # fmt: skip


def wrapped(generator, **options):
    """FastSpeech2Conformer's configs have no rate."""
    told = {"sample_rate": 22_050} if "FastSpeech2" in type(generator).__name__ else {}
    return upscale(generator, **told, **options)


def from_seed(run, generator):
    torch.manual_seed(0)
    return run(generator)


def array(audio):
    return np.asarray(audio.detach().float() if isinstance(audio, torch.Tensor) else audio, dtype=np.float32)


def band_power(wave, low_hz, high_hz):
    """Power of (..., T) at 48 kHz between two frequencies."""
    frequencies = np.fft.rfftfreq(wave.shape[-1], 1 / RATE)
    inside = (frequencies >= low_hz) & (frequencies < high_hz)
    return float((np.abs(np.fft.rfft(wave * np.hanning(wave.shape[-1])))[..., inside] ** 2).sum())


@pytest.mark.parametrize("name", CASES)
def test_audio_comes_at_48_khz_with_the_generators_own_band_untouched(name):
    build, rate, run, audio_of = CASES[name]
    generator = build()
    assert type(generator).__name__ == name.split(",")[0]
    cutoff_hz = min(0.4 * rate, 12_000)
    own = from_seed(run, generator)
    made = from_seed(run, wrapped(generator, cutoff_hz=cutoff_hz))
    assert type(made) is type(own)
    before, after = audio_of(own), audio_of(made)
    assert (type(after), after.dtype) == (type(before), before.dtype)
    assert after.shape == (*before.shape[:2], output_length(before.shape[-1], rate, RATE))
    assert len(before) == 2 and before.shape[1] == (2 if "stereo" in name or "Stable" in name else 1)
    before, after = resample(array(before), rate, RATE), array(after)
    kept = 0.8 * cutoff_hz
    error = band_power(after - before, 0, kept) / band_power(before, 0, kept)
    assert error < 1e-6, f"{10 * np.log10(error):.1f} dB"
    assert band_power(after, rate / 2, 24_000) > 100 * band_power(before, rate / 2, 24_000)
    assert np.abs(after).max() <= max(1.0, np.abs(before).max())
