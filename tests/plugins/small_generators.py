"""The real generator classes of transformers and diffusers, small and with random weights, by the Hub ids of the docs.

`write_hub` saves them where huggingface_hub keeps what it downloads, so that `from_pretrained("suno/bark-small")` runs
as it does for a reader, from the cache and without network; `patch_hub` points this process there.
"""

import functools
import json
import string
import tempfile
from pathlib import Path

import huggingface_hub
import sentencepiece
import torch
from diffusers import (
    AudioLDM2Pipeline,
    AudioLDM2ProjectionModel,
    AudioLDM2UNet2DConditionModel,
    AudioLDMPipeline,
    AutoencoderKL,
    AutoencoderOobleck,
    DDIMScheduler,
    EDMDPMSolverMultistepScheduler,
    StableAudioDiTModel,
    StableAudioPipeline,
    StableAudioProjectionModel,
    UNet2DConditionModel,
)
from transformers import (
    BarkConfig,
    BarkModel,
    BarkProcessor,
    BertTokenizer,
    ClapAudioConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapTextConfig,
    ClapTextModelWithProjection,
    EncodecConfig,
    EncodecFeatureExtractor,
    EncodecModel,
    FastSpeech2ConformerConfig,
    FastSpeech2ConformerHifiGanConfig,
    FastSpeech2ConformerWithHifiGan,
    FastSpeech2ConformerWithHifiGanConfig,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    MusicgenProcessor,
    RobertaTokenizer,
    SpeechT5Config,
    SpeechT5FeatureExtractor,
    SpeechT5ForTextToSpeech,
    SpeechT5HifiGan,
    SpeechT5HifiGanConfig,
    SpeechT5Processor,
    SpeechT5Tokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
    VitsConfig,
    VitsModel,
    VitsTokenizer,
)
from transformers.models.bark.generation_configuration_bark import (
    BarkCoarseGenerationConfig,
    BarkFineGenerationConfig,
    BarkSemanticGenerationConfig,
)

LETTERS = "-'.,!?" + string.ascii_lowercase
MELS = 16


def seeded(build):
    """Build once, with the same random weights in every run."""

    @functools.cache
    def built():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return build()

    return built


# --- tokenizers, from a vocabulary of letters ---------------------------------------------------------------------


def t5_tokenizer():
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((letter, -3.0) for letter in LETTERS)]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=64)


def roberta_tokenizer():
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "Ġ", *LETTERS]
    return RobertaTokenizer(vocab={name: i for i, name in enumerate(names)}, merges=[], model_max_length=32)


def bert_tokenizer():
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    return BertTokenizer(vocab={name: i for i, name in enumerate(names)})


def vits_tokenizer():
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "vocab.json")
        file.write_text(json.dumps({letter: i for i, letter in enumerate(["<pad>", " ", *LETTERS])}))
        return VitsTokenizer(file, phonemize=False, is_uroman=False, pad_token="<pad>", unk_token="<pad>")


def speecht5_tokenizer():
    with tempfile.TemporaryDirectory() as folder:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([" ".join(LETTERS), "the quick brown fox jumps over the lazy dog"] * 20),
            model_prefix=f"{folder}/spm_char", vocab_size=40, model_type="char", hard_vocab_limit=False,
            bos_id=0, pad_id=1, eos_id=2, unk_id=3, minloglevel=2,
        )  # fmt: skip
        return SpeechT5Tokenizer(f"{folder}/spm_char.model")


# --- parts --------------------------------------------------------------------------------------------------------


def encodec(sampling_rate, ratios, codebook_size, bandwidth):
    config = EncodecConfig(
        sampling_rate=sampling_rate, upsampling_ratios=ratios, codebook_size=codebook_size, hidden_size=8,
        num_filters=4, num_lstm_layers=1, target_bandwidths=[bandwidth],
    )  # fmt: skip
    return EncodecModel(config)


def sounding(codec):
    """Codebooks are zeros until they are trained: give them something to say."""
    for name, buffer in codec.named_buffers():
        if name.endswith("codebook.embed"):
            buffer.normal_()
    return codec


def hifigan(kind, config_class, rate, upsample_rates, **more):
    config = config_class(
        model_in_dim=MELS, upsample_initial_channel=16, upsample_rates=upsample_rates,
        upsample_kernel_sizes=[2 * r for r in upsample_rates], resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3]], initializer_range=0.2, **({"sampling_rate": rate} if rate else {}), **more,
    )  # fmt: skip
    return kind(config)


def audioldm_vocoder():
    return hifigan(SpeechT5HifiGan, SpeechT5HifiGanConfig, 16_000, [5, 4, 4, 2], normalize_before=False)


def audioldm_vae():
    return AutoencoderKL(
        block_out_channels=[8, 8], in_channels=1, out_channels=1, latent_channels=4, norm_num_groups=4,
        down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2,
    )  # fmt: skip


def ddim():
    return DDIMScheduler(
        beta_start=0.0015, beta_end=0.0195, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False
    )


def clap_text_config():
    return ClapTextConfig(
        vocab_size=64, hidden_size=16, intermediate_size=16, num_attention_heads=2, num_hidden_layers=1,
        projection_dim=16, bos_token_id=0, pad_token_id=1, eos_token_id=2,
    )  # fmt: skip


def t5_config():
    return T5Config(vocab_size=64, d_model=16, d_ff=16, d_kv=8, num_heads=2, num_layers=1)


# --- transformers -------------------------------------------------------------------------------------------------


def musicgen(channels):
    codec = encodec(32_000, [8, 5, 4, 4], 64, 50 * 4 * 6 / 1000)
    decoder = MusicgenDecoderConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=1, ffn_dim=16, num_attention_heads=2,
        num_codebooks=4 * channels, audio_channels=channels, pad_token_id=64, bos_token_id=64,
    )  # fmt: skip
    model = MusicgenForConditionalGeneration(
        MusicgenConfig(
            text_encoder=t5_config().to_dict(), audio_encoder=codec.config.to_dict(), decoder=decoder.to_dict()
        )
    ).eval()
    sounding(model.audio_encoder)
    generation = model.generation_config
    generation.update(do_sample=True, guidance_scale=3.0, max_length=1500)
    generation.update(decoder_start_token_id=64, pad_token_id=64, bos_token_id=64)
    return model


@seeded
def musicgen_mono():
    return musicgen(1)


@seeded
def musicgen_stereo():
    return musicgen(2)


@seeded
def musicgen_processor():
    extractor = EncodecFeatureExtractor(feature_size=1, sampling_rate=32_000)
    return MusicgenProcessor(feature_extractor=extractor, tokenizer=t5_tokenizer())


@seeded
def vits():
    config = VitsConfig(
        vocab_size=len(LETTERS) + 2, hidden_size=16, num_hidden_layers=1, ffn_dim=16, flow_size=16,
        spectrogram_bins=17, upsample_initial_channel=16, resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1, 3]],
        duration_predictor_filter_channels=16, prior_encoder_num_flows=1, prior_encoder_num_wavenet_layers=1,
        posterior_encoder_num_wavenet_layers=1, initializer_range=0.03, speaking_rate=4.0, noise_scale_duration=0.0,
    )  # fmt: skip
    return VitsModel(config).eval()


@seeded
def speecht5():
    config = SpeechT5Config(
        vocab_size=60, hidden_size=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=16,
        decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=16, num_mel_bins=MELS,
        speech_decoder_prenet_units=16, speech_decoder_postnet_units=16, speaker_embedding_dim=512,
    )  # fmt: skip
    return SpeechT5ForTextToSpeech(config).eval()


@seeded
def speecht5_hifigan():
    return hifigan(SpeechT5HifiGan, SpeechT5HifiGanConfig, 16_000, [4, 4, 4, 4]).eval()


@seeded
def speecht5_processor():
    return SpeechT5Processor(SpeechT5FeatureExtractor(num_mel_bins=MELS), speecht5_tokenizer())


@seeded
def fastspeech2():
    acoustic = FastSpeech2ConformerConfig(
        hidden_size=16, vocab_size=78, num_mel_bins=MELS, encoder_layers=1, encoder_linear_units=16, decoder_layers=1,
        decoder_linear_units=16, speech_decoder_postnet_layers=1, speech_decoder_postnet_units=16,
        duration_predictor_channels=16, energy_predictor_channels=16, pitch_predictor_layers=1,
        pitch_predictor_channels=16,
    )  # fmt: skip
    vocoder = FastSpeech2ConformerHifiGanConfig(
        model_in_dim=MELS, upsample_initial_channel=16, resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1, 3]],
        initializer_range=0.2,
    )  # fmt: skip
    config = FastSpeech2ConformerWithHifiGanConfig(model_config=acoustic.to_dict(), vocoder_config=vocoder.to_dict())
    model = FastSpeech2ConformerWithHifiGan(config).eval()
    with torch.no_grad():
        model.model.duration_predictor.linear.bias.fill_(1.6)  # four frames or so per phoneme
    return model


@seeded
def bark():
    codec = encodec(24_000, [8, 5, 4, 2], 1024, 6.0)
    small = dict(hidden_size=8, num_layers=1, num_heads=2)
    config = BarkConfig(
        semantic_config=dict(input_vocab_size=129_600, output_vocab_size=10_048, **small),
        coarse_acoustics_config=dict(input_vocab_size=12_096, output_vocab_size=12_096, **small),
        fine_acoustics_config=dict(input_vocab_size=1_056, output_vocab_size=1_056, **small),
        codec_config=codec.config.to_dict(),
    )  # fmt: skip
    model = BarkModel(config).eval()
    sounding(model.codec_model)
    model.generation_config = GenerationConfig(  # as it comes from the Hub: the model reads mappings
        sample_rate=24_000,
        codebook_size=1024,
        semantic_config=BarkSemanticGenerationConfig(max_new_tokens=24).to_dict(),
        coarse_acoustics_config=BarkCoarseGenerationConfig().to_dict(),
        fine_acoustics_config=BarkFineGenerationConfig().to_dict(),
    )
    return model


@seeded
def bark_processor():
    return BarkProcessor(tokenizer=bert_tokenizer())


# --- diffusers ----------------------------------------------------------------------------------------------------


@seeded
def audioldm():
    unet = UNet2DConditionModel(
        block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, sample_size=8, in_channels=4, out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=(8, 16), class_embed_type="simple_projection", projection_class_embeddings_input_dim=16,
        class_embeddings_concat=True, attention_head_dim=4,
    )  # fmt: skip
    return quiet(
        AudioLDMPipeline(
            vae=audioldm_vae(),
            text_encoder=ClapTextModelWithProjection(clap_text_config()).eval(),
            tokenizer=roberta_tokenizer(),
            unet=unet,
            scheduler=ddim(),
            vocoder=audioldm_vocoder().eval(),
        )  # fmt: skip
    )


@seeded
def audioldm2():
    unet = AudioLDM2UNet2DConditionModel(
        block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, sample_size=8, in_channels=4, out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=([None, 16, 16], [None, 16, 16]), attention_head_dim=4,
    )  # fmt: skip
    hearing = ClapAudioConfig(
        spec_size=64, window_size=4, num_mel_bins=64, intermediate_size=16, depths=[1, 1], num_attention_heads=[2, 2],
        num_hidden_layers=2, hidden_size=32, projection_dim=16, patch_size=2, patch_stride=2,
        patch_embed_input_channels=4, patch_embeds_hidden_size=16,
    )  # fmt: skip
    clap = ClapModel(
        ClapConfig(text_config=clap_text_config().to_dict(), audio_config=hearing.to_dict(), projection_dim=16)
    )
    language = GPT2LMHeadModel(GPT2Config(n_embd=16, n_head=2, n_layer=1, vocab_size=64, n_positions=99))
    language.config.max_new_tokens = 4
    return quiet(
        AudioLDM2Pipeline(
            vae=audioldm_vae(),
            text_encoder=clap.eval(),
            text_encoder_2=T5EncoderModel(t5_config()).eval(),
            projection_model=AudioLDM2ProjectionModel(16, 16, 16),
            language_model=language.eval(),
            tokenizer=roberta_tokenizer(),
            tokenizer_2=t5_tokenizer(),
            feature_extractor=ClapFeatureExtractor(),
            unet=unet,
            scheduler=ddim(),
            vocoder=audioldm_vocoder().eval(),
        )  # fmt: skip
    )


@seeded
def stable_audio():
    vae = AutoencoderOobleck(
        encoder_hidden_size=4, downsampling_ratios=[2, 4, 4, 8, 8], channel_multiples=[1, 1, 1, 1, 1],
        decoder_channels=4, decoder_input_channels=4, audio_channels=2, sampling_rate=44_100,
    )  # fmt: skip
    transformer = StableAudioDiTModel(
        sample_size=64, in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2,
        num_key_value_attention_heads=1, out_channels=4, cross_attention_dim=16, time_proj_dim=8,
        global_states_input_dim=32, cross_attention_input_dim=16,
    )  # fmt: skip
    # The Hub's is a CosineDPMSolverMultistepScheduler, which needs torchsde.
    scheduler = EDMDPMSolverMultistepScheduler(prediction_type="v_prediction", sigma_data=1.0)
    return quiet(
        StableAudioPipeline(
            vae=vae.eval(),
            text_encoder=T5EncoderModel(t5_config()).eval(),
            projection_model=StableAudioProjectionModel(
                text_encoder_dim=16, conditioning_dim=16, min_value=0, max_value=512
            ),
            tokenizer=t5_tokenizer(),
            transformer=transformer,
            scheduler=scheduler,
        )  # fmt: skip
    )


def quiet(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe


HUB = {  # what lies in each repository
    "facebook/musicgen-small": (musicgen_mono, musicgen_processor),
    "facebook/musicgen-stereo-small": (musicgen_stereo, musicgen_processor),
    "facebook/mms-tts-eng": (vits, vits_tokenizer),
    "microsoft/speecht5_tts": (speecht5, speecht5_processor),
    "microsoft/speecht5_hifigan": (speecht5_hifigan,),
    "espnet/fastspeech2_conformer_with_hifigan": (fastspeech2,),
    "suno/bark-small": (bark, bark_processor),
    "cvssp/audioldm-s-full-v2": (audioldm,),
    "cvssp/audioldm2": (audioldm2,),
    "stabilityai/stable-audio-open-1.0": (stable_audio,),
}


# --- where huggingface_hub looks ----------------------------------------------------------------------------------


def write_hub(folder):
    """Save everything as huggingface_hub keeps what it downloaded, in `folder`: what HF_HUB_CACHE is to name."""
    revision = "0" * 40
    for repository, parts in HUB.items():  # blobs and links to them are not needed
        home = Path(folder, "models--" + repository.replace("/", "--"))
        snapshot = home / "snapshots" / revision
        for part in parts:
            part().save_pretrained(snapshot)
        (home / "refs").mkdir()
        (home / "refs" / "main").write_text(revision)


@functools.cache
def hub():
    """The cache, written once per process; it goes when the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="hub-")
    write_hub(folder.name)
    return folder


def patch_hub(monkeypatch):
    """Let `from_pretrained` and `pipeline` in this process find the ids of `HUB` as if downloaded, and nothing else."""
    folder = hub().name
    monkeypatch.setenv("HF_HUB_CACHE", folder)  # for processes that it starts
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", folder)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
