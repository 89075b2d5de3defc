"""What is no audio, or not plainly audio, is one clear line, said before the generator has worked where that can be."""

import numpy as np
import pytest
import small_generators as small
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from transformers import BertConfig, BertModel, TextToAudioPipeline

from latentsr import AudioError, EmptyAudio, InvalidAudio
from latentsr import Pipeline as Restorer
from latentsr.plugins import Upscaler, upscale
from latentsr.plugins.samples import LAYOUTS

RATE = 48_000


def noise(*shape):
    return (0.1 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


def one_line(error):
    text = str(error.value)
    assert "\n" not in text and len(text) < 300
    return text


# --- when wrapping ----------------------------------------------------------------------------------------------------


def speecht5_pipeline(vocoder):
    tokenizer = small.speecht5_processor().tokenizer
    return TextToAudioPipeline(model=small.speecht5(), tokenizer=tokenizer, vocoder=vocoder)


def bert():
    return BertModel(
        BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    )


@pytest.mark.parametrize(
    ("generator", "says"),
    [
        ("facebook/musicgen-small", "str makes no audio: pass a pipeline, a model"),
        (None, "NoneType makes no audio"),
        (bert, "BertModel is not known to make audio"),
        (lambda: upscale(small.vits()), "VitsModel is upscaled already"),
        (
            lambda: speecht5_pipeline(upscale(small.speecht5_hifigan())),
            "vocoder of TextToAudioPipeline is upscaled already",
        ),
        (lambda: Restorer.from_pretrained(heads=[]), "this is the restorer"),
    ],
)
def test_what_makes_no_audio_is_refused(generator, says):
    with pytest.raises(TypeError) as error:
        upscale(generator() if callable(generator) else generator)
    assert says in one_line(error)


def image_pipeline():
    unet = UNet2DModel(
        sample_size=8, in_channels=3, out_channels=3, layers_per_block=1, block_out_channels=(8, 8), norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    pipe = DDPMPipeline(unet=unet, scheduler=DDPMScheduler(num_train_timesteps=10))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_pipeline_of_images_has_no_rate_and_no_audios():
    with pytest.raises(ValueError, match="configs of DDPMPipeline do not say its sampling rate") as error:
        upscale(image_pipeline())
    assert "sample_rate=" in one_line(error)
    with pytest.raises(TypeError, match="DDPMPipeline made ImagePipelineOutput, which has no audios"):
        upscale(image_pipeline(), sample_rate=16_000)(num_inference_steps=1)


@pytest.mark.parametrize(
    ("options", "kind", "says"),
    [
        ({"head": "mamba"}, ValueError, "unknown head 'mamba'"),
        ({"head": "diffwave-mamba", "denoise": True}, ValueError, "diffwave-mamba head .* cannot denoise"),
        ({"cutoff_hz": 10}, ValueError, "cutoff_hz must be 500 to 24000"),
        ({"seeds": 3}, TypeError, "unknown option seeds; there are head, steps"),
        ({"on_nonfinite": "skip"}, ValueError, "unknown on_nonfinite 'skip'; choose one of error, zero"),
        ({"sample_rate": 22.05}, ValueError, "whole Hz from 1000 to 768000, got 22.05"),
        ({"sample_rate": True}, ValueError, "whole Hz"),
        ({"layout": "CBT"}, ValueError, "unknown layout 'CBT'"),
        ({"seed": "three"}, ValueError, "seed must be a whole number of 64 bits"),
        ({"steps": 0}, ValueError, "steps must be"),
    ],
)
def test_options_are_checked_before_anything_is_made(options, kind, says):
    with pytest.raises(kind, match=says) as error:
        upscale(lambda: pytest.fail("it was called"), **{"sample_rate": 16_000, **options})
    one_line(error)


def test_a_wrong_option_of_a_call_is_refused_before_the_generator_works():
    make = upscale(lambda: pytest.fail("it was called"), sample_rate=16_000)
    with pytest.raises(TypeError, match="unknown option sead"):
        make(restore={"sead": 3})
    with pytest.raises(TypeError, match="restore takes a mapping of options"):
        make(restore=3)


def test_fastspeech2_needs_its_rate():
    with pytest.raises(ValueError, match="FastSpeech2ConformerWithHifiGan do not say its sampling rate.*sample_rate="):
        upscale(small.fastspeech2())


# --- what a generator returned ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "kind", "says"),
    [
        (None, TypeError, "returned nothing"),
        ("audio.wav", TypeError, "an object of type str"),
        ([], TypeError, "a list of nothing"),
        ([0.0, 0.1], TypeError, "a list of float, float"),
        (noise(16_000).astype(np.complex64), TypeError, "not complex64"),
        (noise(16_000).astype(np.int64), TypeError, "int64 have no full scale"),
        (torch.zeros(16_000, dtype=torch.bool), TypeError, "bool have no full scale"),
        (np.zeros(0, np.float32), EmptyAudio, "made no audio: its output has the shape"),
        (np.zeros((2, 1, 0), np.float32), EmptyAudio, "made no audio"),
        (torch.tensor(0.1), ValueError, "audio of shape"),
        (noise(2, 2, 2, 100), ValueError, "audio of shape"),
        (noise(2, 8_000), ValueError, "may be 2 channels or 2 items"),
        (1e9 * noise(16_000), AudioError, "integers stored as floats"),
    ],
)
def test_what_is_no_audio_is_named(made, kind, says):
    with pytest.raises(kind, match=says) as error:
        upscale(lambda: made, sample_rate=16_000)()
    one_line(error)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_is_an_error_that_names_the_generator_or_zeros(bad):
    def broken():
        wave = noise(2, 1, 16_000)
        wave[1, 0, 100:103] = bad
        return wave

    with pytest.raises(
        InvalidAudio, match="3 of the 16000 samples that broken made are NaN or infinite, the first at 100"
    ):
        upscale(broken, sample_rate=16_000)()
    made = upscale(broken, sample_rate=16_000, on_nonfinite="zero")()
    assert made.shape == (2, 1, 48_000) and np.isfinite(made).all()


def test_nan_in_the_padding_is_nobodys_business():
    wave = torch.from_numpy(noise(2, 16_000))
    wave[1, 8_000:] = torch.nan
    assert torch.isfinite(Upscaler().restore(wave, 16_000, "BT", lengths=[16_000, 8_000])).all()


def test_an_unknown_rate_says_which_argument_to_give():
    with pytest.raises(ValueError, match="does not say at which rate.*sample_rate="):
        upscale(lambda: noise(16_000))()


def test_speecht5_without_a_vocoder_makes_a_spectrogram():
    ids = small.speecht5_processor()(text="hello", return_tensors="pt")["input_ids"]
    with pytest.raises(ValueError, match="spectrogram unless the call names a vocoder"):
        upscale(small.speecht5()).generate_speech(ids, torch.zeros(1, 512), maxlenratio=2.0)


# --- axes and types ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_means_the_same_samples(layout):
    items = noise(2, 2, 8_000)  # (B, C, T)
    given = {"T": items[0, 0], "CT": items[0], "TC": items[0].T, "BT": items[:, 0], "BCT": items}[layout]
    made = upscale(lambda: given, sample_rate=16_000, layout=layout)()
    assert made.shape == tuple(24_000 if n == 8_000 else n for n in given.shape)
    first = {"T": made, "CT": made, "TC": made.T, "BT": made[0], "BCT": made[0]}[layout]
    alone = Upscaler()(items[0] if first.ndim == 2 else items[0, 0], 16_000)
    assert np.array_equal(first, alone)


def test_axes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\(8000,\) is not BT"):
        upscale(lambda: noise(8_000), sample_rate=16_000, layout="BT")()
    with pytest.raises(ValueError, match="8000 channels of 2 samples.*axes swapped.*TC"):
        Upscaler()(noise(8_000, 2), 16_000)
    assert upscale(lambda: noise(1, 8_000), sample_rate=16_000)().shape == (1, 24_000)


@pytest.mark.parametrize(("kind", "full"), [(np.int16, 2**15), (np.int32, 2**31), (np.uint8, 2**7)])
def test_pcm_has_the_full_scale_of_its_type_and_comes_back_as_pcm(kind, full):
    wave = noise(16_000).astype(np.float64)
    silence = 128 if kind == np.uint8 else 0
    made = Upscaler(cutoff_hz=7_000)(np.round(wave * full + silence).astype(kind), 16_000)
    expected = Upscaler(cutoff_hz=7_000)((np.round(wave * full) / full).astype(np.float32), 16_000)
    assert made.dtype == kind
    assert np.abs((made.astype(np.float64) - silence) / full - expected).max() <= 0.51 / full + 1e-7
    assert (Upscaler()(np.full(1_600, silence, kind), 16_000) == silence).all()


def test_pcm_that_would_pass_full_scale_is_turned_down():
    square = (np.sign(np.sin(np.arange(16_000) / 30)) * 32_767).astype(np.int16)
    made = Upscaler(cutoff_hz=4_000)(square, 16_000).astype(np.float64)
    expected = Upscaler(cutoff_hz=4_000)(square / np.float32(2**15), 16_000)
    peak = np.abs(expected).max()
    assert peak > 1.05  # what was cut off rings
    assert np.abs(made / 2**15 - expected / peak).max() < 1e-4  # turned down, not clipped


def test_arrays_that_share_no_memory_or_order_are_read_right():
    wave = noise(2, 16_000)
    big_endian = wave.astype(">f4")
    assert np.array_equal(Upscaler()(big_endian, 16_000), Upscaler()(wave, 16_000))
    assert np.array_equal(Upscaler()(wave[:, ::-1][:, ::-1], 16_000), Upscaler()(wave, 16_000))
    frozen = wave.copy()
    frozen.flags.writeable = False
    assert np.array_equal(Upscaler()(frozen, 16_000), Upscaler()(wave, 16_000)) and np.array_equal(frozen, wave)
    with pytest.raises(TypeError, match="numpy array or a torch tensor, not list"):
        Upscaler()([0.0, 0.1], 16_000)


def test_one_sample_and_odd_rates_have_the_length_that_is_promised():
    assert Upscaler()(np.ones(1, np.float32) * 0.1, 16_000).shape == (3,)
    assert Upscaler()(noise(1_001), 22_050).shape == (2_179,)
    assert Upscaler()(noise(9_601), 96_000).shape == (4_801,)  # half up


@pytest.mark.parametrize("container", ["pair", "mapping", "list"])
def test_functions_may_name_the_rate_or_make_several(container):
    wave = torch.from_numpy(noise(16_000))
    made = {
        "pair": lambda: (wave, 16_000),
        "mapping": lambda: {"waveform": wave, "sample_rate": 16_000, "text": "hi"},
        "list": lambda: [wave, wave[:8_000]],
    }[container]
    out = upscale(made, sample_rate=16_000 if container == "list" else None)()
    if container == "pair":
        assert out[1] == RATE and out[0].shape == (48_000,)
    elif container == "mapping":
        assert out["sample_rate"] == RATE and out["waveform"].shape == (48_000,) and out["text"] == "hi"
    else:
        assert [one.shape[0] for one in out] == [48_000, 24_000]


def test_a_torch_module_with_gradients_is_a_function_too():
    class Generator(torch.nn.Module):
        sample_rate = 24_000

        def __init__(self):
            super().__init__()
            self.gain = torch.nn.Parameter(torch.tensor(0.5))

        def forward(self, wave):
            return self.gain * wave

    generator = upscale(Generator())
    made = generator(torch.from_numpy(noise(2, 1, 12_000)))
    assert made.shape == (2, 1, 24_000) and not made.requires_grad
    assert len(list(generator.parameters())) == 1
