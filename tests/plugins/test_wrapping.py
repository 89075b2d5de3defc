"""What a wrapped generator keeps: containers, lengths, types, attributes; and what decides the result."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import small_generators as small
import torch
from diffusers import AudioPipelineOutput
from transformers import TextToAudioPipeline

from latentsr.audio import output_length, resample
from latentsr.plugins import Upscaler, upscale
from latentsr.plugins.transformers_audio import _two_axes

RATE = 48_000


def noise(*shape, rate=16_000, seed=0):
    """Bursts of noise that fill the band of their rate."""
    wave = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return 0.1 * wave * (1 + 0.8 * np.sin(np.arange(shape[-1]) / rate * 20)).astype(np.float32)


def pipe_of(model, tokenizer):
    return TextToAudioPipeline(model=model, tokenizer=tokenizer, device="cpu")


@pytest.fixture(scope="module")
def speak():
    return upscale(pipe_of(small.vits(), small.vits_tokenizer()))


# --- containers -------------------------------------------------------------------------------------------------------


def test_pipeline_gives_a_dict_for_a_text_and_a_list_for_a_list(speak):
    torch.manual_seed(0)
    own = speak.__wrapped__("hello")
    torch.manual_seed(0)
    one = speak("hello")
    assert type(one) is type(own) and one.keys() == own.keys() and one["sampling_rate"] == RATE
    assert one["audio"].shape == (output_length(own["audio"].shape[-1], 16_000, RATE),)
    assert isinstance(one["audio"], np.ndarray) and one["audio"].dtype == np.float32
    several = speak(["hello", "hi"])
    assert isinstance(several, list) and [each["sampling_rate"] for each in several] == [RATE, RATE]


def test_pipeline_over_a_generator_of_texts_stays_lazy(speak):
    given = []

    def texts():
        for text in ("hello", "hi", "bye"):
            given.append(text)
            yield text

    results = iter(speak(texts()))
    assert next(results)["sampling_rate"] == RATE
    assert len(given) < 3
    assert len(list(results)) == 2


@pytest.mark.parametrize("batch_size", [1, 2])
def test_pipeline_of_stereo_musicgen_gives_two_channels(batch_size):
    compose = upscale(pipe_of(small.musicgen_stereo(), small.t5_tokenizer()))
    assert compose.sampling_rate == 32_000
    made = compose(["a drum", "a drum"], batch_size=batch_size, generate_kwargs={"max_new_tokens": 12})
    shapes = {one["audio"].shape for one in made}
    assert len(shapes) == 1 and shapes.pop()[0] == 2


def test_pipeline_of_speecht5_plays_through_its_own_vocoder():
    speak = upscale(
        TextToAudioPipeline(
            model=small.speecht5(), tokenizer=small.speecht5_processor().tokenizer, vocoder=small.speecht5_hifigan()
        )
    )
    made = speak("hello", forward_params={"speaker_embeddings": torch.zeros(1, 512), "maxlenratio": 2.0})
    assert made["sampling_rate"] == RATE and made["audio"].shape[-1] % (3 * 256) == 0


def test_two_axes_that_a_pipeline_squeezed_are_channels_of_stereo_models_alone():
    assert _two_axes(small.musicgen_stereo()) == "CT"
    assert _two_axes(small.musicgen_mono()) == _two_axes(small.vits()) == "BT"
    assert _two_axes(torch.nn.Linear(1, 1)) is None


def test_forward_without_return_dict_gives_the_same_tuple():
    speak = upscale(small.vits())
    inputs = small.vits_tokenizer()(["hello", "hello"], padding=True, return_tensors="pt")
    torch.manual_seed(0)
    fields = speak(**inputs)
    torch.manual_seed(0)
    plain = speak(**inputs, return_dict=False)
    torch.manual_seed(0)
    own = speak.__wrapped__(**inputs)
    assert isinstance(plain, tuple) and torch.equal(plain[0], fields.waveform)
    assert plain[1].tolist() == fields.sequence_lengths.tolist() == [3 * n for n in own.sequence_lengths.tolist()]
    assert torch.equal(fields.spectrogram, own.spectrogram)
    torch.manual_seed(0)
    assert torch.equal(speak.forward(**inputs).waveform, fields.waveform)


def test_diffusers_tuple_latents_and_torch_come_as_asked_for():
    draw = upscale(small.audioldm2(), cutoff_hz=6_000)
    ask = {"prompt": "rain", "num_inference_steps": 1, "audio_length_in_s": 0.2}
    (audios,) = draw(**ask, return_dict=False)
    assert isinstance(audios, np.ndarray) and audios.shape == (1, 9_600)
    torched = draw(**ask, output_type="pt")
    assert isinstance(torched, AudioPipelineOutput) and isinstance(torched.audios, torch.Tensor)
    assert draw(**ask, output_type="latent").audios.ndim == 4
    assert draw(**ask, num_waveforms_per_prompt=2).audios.shape == (2, 9_600)


# --- padding ----------------------------------------------------------------------------------------------------------


def check_padded(own, lengths, made, scaled, rate):
    """Each item is what it is alone, and silence follows."""
    alone = Upscaler()
    assert [int(n) for n in scaled] == [output_length(int(n), rate, RATE) for n in lengths]
    assert min(int(n) for n in lengths) < own.shape[-1]
    for wave, length, out, end in zip(own, lengths, made, scaled, strict=True):
        assert torch.equal(out[: int(end)], alone(wave[: int(length)].detach(), rate))
        assert not out[int(end) :].any()


def test_padding_of_vits():
    speak = upscale(small.vits())
    inputs = small.vits_tokenizer()(["hello there", "hi"], padding=True, return_tensors="pt")
    torch.manual_seed(0)
    own = speak.__wrapped__(**inputs)
    torch.manual_seed(0)
    made = speak(**inputs)
    assert made.sequence_lengths.dtype == own.sequence_lengths.dtype
    check_padded(own.waveform, own.sequence_lengths, made.waveform, made.sequence_lengths, 16_000)


@pytest.mark.parametrize("return_dict", [True, False])
def test_padding_of_fastspeech2_is_known_from_durations(return_dict):
    speak = upscale(small.fastspeech2(), sample_rate=22_050)
    ids = torch.arange(24).view(2, 12) + 1
    mask = torch.ones_like(ids)
    ids[1, 7:] = mask[1, 7:] = 0
    own = speak.__wrapped__(ids, attention_mask=mask)
    made = speak(ids, attention_mask=mask, return_dict=return_dict)
    wave = made.waveform if return_dict else made[-1]
    lengths = (own.duration_outputs.sum(dim=1) * 256).tolist()
    check_padded(own.waveform, lengths, wave, [output_length(n, 22_050, RATE) for n in lengths], 22_050)


def test_lengths_of_bark_and_speecht5_are_scaled():
    speak = upscale(small.bark())
    inputs = small.bark_processor()(["hello there", "hi"])
    wave, lengths = speak.generate(**inputs, semantic_max_new_tokens=12, return_output_lengths=True)
    assert isinstance(lengths, list) and max(lengths) == wave.shape[-1] == 2 * 5760
    speak = upscale(small.speecht5())
    inputs = small.speecht5_processor()(text=["hello there", "hi"], padding=True, return_tensors="pt")
    wave, lengths = speak.generate(
        **inputs, speaker_embeddings=torch.zeros(2, 512), vocoder=small.speecht5_hifigan(), minlenratio=1.0,
        maxlenratio=2.0, return_output_lengths=True,
    )  # fmt: skip
    assert isinstance(lengths, list) and max(lengths) == wave.shape[-1]


def test_trailing_zeros_stay_zeros_and_a_zero_item_too():
    batch = np.stack([noise(16_000), np.zeros(16_000, np.float32)])
    batch[0, 8_000:] = 0
    made = Upscaler()(batch, 16_000, layout="BT")
    assert made[0, :24_000].any() and not made[0, 24_000 + 48 * 60 :].any() and not made[1].any()


def test_filters_may_ring_after_the_last_sound():
    wave = np.sin(np.arange(16_000) * 2 * np.pi * 1_000.3 / 16_000).astype(np.float32) * 0.3
    wave[8_000:] = 0  # in the middle of a period
    made, own = Upscaler(cutoff_hz=6_000)(wave, 16_000), resample(wave, 16_000, RATE)
    low = np.abs(np.fft.rfft(made - own))[: int(0.8 * 6_000)] ** 2
    assert low.sum() < 1e-6 * (np.abs(np.fft.rfft(own))[: int(0.8 * 6_000)] ** 2).sum()


# --- what decides the result ------------------------------------------------------------------------------------------


def test_seed_decides_and_a_call_may_say_another():
    speak = upscale(lambda: noise(16_000), sample_rate=16_000, seed=1)
    first, again, other = speak(), speak(), speak(restore={"seed": 2})
    assert np.array_equal(first, again)
    assert np.abs(first - other).max() > 1e-4
    assert np.array_equal(other, upscale(lambda: noise(16_000), sample_rate=16_000, seed=2)())


def test_an_item_does_not_depend_on_its_companions():
    dull = np.cumsum(noise(16_000, seed=1)) / 200
    batch = np.stack([noise(16_000), dull.astype(np.float32)])
    made = Upscaler()(batch, 16_000, layout="BT")
    assert np.array_equal(made[1], Upscaler()(batch[1], 16_000))


def test_cutoff_is_estimated_unless_told():
    wave = noise(32_000)  # fills its 8 kHz: 2 s, so that a bin is half a Hz
    own, estimated, told = (
        np.fft.rfft(made * np.hanning(len(made)))[10_000:12_000]  # 5 to 6 kHz
        for made in (resample(wave, 16_000, RATE), Upscaler()(wave, 16_000), Upscaler(cutoff_hz=4_000)(wave, 16_000))
    )
    assert (np.abs(estimated - own) ** 2).sum() < 1e-6 * (np.abs(own) ** 2).sum()
    assert (np.abs(told - own) ** 2).sum() > 0.1 * (np.abs(own) ** 2).sum()


def test_a_restorer_of_ones_own_is_used_as_it_is(tmp_path):
    from tiny import tiny_pipeline

    pipe = tiny_pipeline()
    made = upscale(lambda: noise(8_000), pipe, sample_rate=16_000, head="vocoder", steps=1)()
    assert np.array_equal(made, pipe(noise(8_000), 16_000, steps=1).audio[0])
    with pytest.raises(TypeError, match="model folder or a Hub id, not dict"):
        upscale(lambda: noise(8_000), {"seed": 3})


def test_full_band_at_48_khz_comes_back_bit_for_bit():
    wave = noise(48_000, rate=RATE) * np.float64(1 + 1e-12)  # what float32 has no room for
    assert not np.array_equal(wave, wave.astype(np.float32))
    made = upscale(lambda: wave, sample_rate=RATE)()
    assert made.dtype == np.float64 and np.array_equal(made, wave)


def test_a_dull_48_khz_generator_is_restored():
    from tiny import programme

    wave = programme(1.0, cutoff_hz=6_000)[0]
    made = upscale(lambda: wave, sample_rate=RATE)()
    high = np.abs(np.fft.rfft(made))[8_000:16_000]
    assert (high**2).sum() > 1e3 * (np.abs(np.fft.rfft(wave))[8_000:16_000] ** 2).sum()


def test_level_stays_and_nothing_clips():
    wave = noise(16_000)
    wave /= np.abs(wave).max()
    made = Upscaler()(wave, 16_000)
    assert np.abs(made).max() <= max(1.0, np.abs(wave).max() * 1.2) and abs(np.std(made) / np.std(wave) - 1) < 0.15


# --- the wrapper ------------------------------------------------------------------------------------------------------


def test_the_rest_of_the_generator_is_within_reach():
    model = small.vits()
    speak = upscale(model, head="mamba-gan")
    assert speak.config is model.config and speak.__wrapped__ is model and "posterior_encoder" in dir(speak)
    assert speak.to("cpu") is speak and speak.eval() is speak and speak.requires_grad_(True) is speak
    speak.speaking_rate = 3.0
    assert model.speaking_rate == 3.0
    model.speaking_rate = model.config.speaking_rate
    assert "VitsModel at 16000 Hz, upscaled to 48000 Hz" in repr(speak) and "mamba-gan" in repr(speak)
    with pytest.raises(AttributeError, match="nonsense"):
        speak.nonsense  # noqa: B018
    assert copy.copy(speak).__wrapped__ is model
    make = upscale(noise, sample_rate=16_000)
    assert repr(pickle.loads(pickle.dumps(make))) == repr(make)


def test_a_call_that_makes_no_audio_is_the_models_own():
    model = small.musicgen_mono()
    inputs = small.musicgen_processor()(text=["a drum"], padding=True, return_tensors="pt")
    tokens = torch.full((4, 1), 64)
    assert torch.equal(
        upscale(model)(**inputs, decoder_input_ids=tokens).logits, model(**inputs, decoder_input_ids=tokens).logits
    )


def test_vocoder_that_is_upscaled_already_fits_into_speecht5():
    speak = upscale(small.speecht5())
    ids = small.speecht5_processor()(text="hello", return_tensors="pt")["input_ids"]
    torch.manual_seed(0)
    once = speak.generate_speech(ids, torch.zeros(1, 512), vocoder=small.speecht5_hifigan(), maxlenratio=4.0)
    torch.manual_seed(0)
    twice = speak.generate_speech(ids, torch.zeros(1, 512), vocoder=upscale(small.speecht5_hifigan()), maxlenratio=4.0)
    assert torch.equal(once, twice)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_type_of_a_model_stays(dtype):
    vocoder = copy.deepcopy(small.speecht5_hifigan()).to(dtype)
    made = upscale(vocoder)(torch.randn(10, small.MELS, dtype=dtype))
    assert made.dtype == dtype and made.shape == (3 * 10 * 256,) and torch.isfinite(made).all()


def test_importing_the_plugins_imports_no_libraries():
    code = (
        "import sys, latentsr.plugins, latentsr.plugins.comfyui as c; c.LatentsrRestore.INPUT_TYPES();"
        "print(sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
