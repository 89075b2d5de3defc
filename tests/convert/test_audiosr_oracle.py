"""The faithful mode against a recorded run of audiosr 0.0.7 (random weights in the official layout).

Every stage is run twice: on the recorded input of that stage, and in the chain from the recording on. To see the
table: `pytest -s tests/convert/test_audiosr_oracle.py -k table`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor
from torch.testing import assert_close

from latentsr.convert import audiosr, audiosr_names
from latentsr.convert.audiosr_compat import (
    Networks,
    Noises,
    Settings,
    Stages,
    ddim,
    decode,
    encode,
    guided_velocity,
    replace_known_bands,
    restore,
    step_times,
    vocode,
)
from latentsr.convert.audiosr_compat_signal import (
    FILTERS,
    find_cutoff_hz,
    front_end,
    low_pass,
    normalise,
    padded_frames,
    replace_low_band,
)
from latentsr.signal.mel import MelSpectrogram

STEPS, GUIDANCE, SEED = 5, 3.5, 42  # of the recorded run
MAPPED_MODULES = 1258  # of the 1321 recorded ones with weights; the others are their containers

Error = tuple[float, float]  # (worst error, tolerance)


def absolute(ours: Any, theirs: Any, tolerance: float) -> Error:
    """Largest difference of any element."""
    ours, theirs = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max()), tolerance


def relative(ours: Any, theirs: Any, tolerance: float = 1e-4) -> Error:
    """Largest difference of any element, over the largest element."""
    return absolute(ours, theirs, tolerance)[0] / float(np.abs(np.asarray(theirs)).max()), tolerance


def heard(log_mel: Any) -> np.ndarray:
    """A log-mel that counts in full 20 dB above its floor of 1e-5.

    At the floor the FFT's rounding, another one on each processor, is 1e-3 to 1e-2 of what is there.
    """
    return np.log(np.exp(np.asarray(log_mel, dtype=np.float64)) + 1e-4)


@dataclass
class Oracle:
    """The recorded tensors, and our networks with the recorded weights."""

    folder: Path

    def __post_init__(self) -> None:
        self.config = json.loads((self.folder / "config.json").read_text())
        self.parts = audiosr.load(self.folder / "pytorch_model.bin", self.config)
        self.first_stage = audiosr.first_stage_encoder(self.folder / "pytorch_model.bin", self.config)
        self.scale = self.parts["vae"].config.scaling_factor
        self.betas = self.parts["scheduler"].config.trained_betas
        with np.load(self.folder / "oracle.npz") as recorded:
            self.arrays = dict(recorded)
        samples, self.rate = soundfile.read(self.folder / "input_16k.wav", dtype="float32", always_2d=True)
        self.recording = samples.T

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[name])

    @property
    def noises(self) -> Noises:
        return Noises(self["noise_z"], self["noise_cond"], self["x_T"], list(self["noise_steps"]))

    def restore(self, seed: int = SEED, **draws: Any) -> Stages:
        networks = Networks(*(self.parts[name] for name in ("vae", "unet", "vocoder")), self.betas)
        return restore(self.recording, self.rate, networks, Settings(steps=STEPS, seed=seed), **draws)

    @cached_property
    def rows(self) -> dict[str, Error]:
        """{stage: (worst error, tolerance)}."""
        with torch.inference_mode():
            return dict([*self._each_from_its_recorded_input(), *self._direct_calls(), *self._chain()])

    def _each_from_its_recorded_input(self) -> Iterator[tuple[str, Error]]:
        mel, vae = MelSpectrogram(), self.parts["vae"]
        wave, low = self["waveform"], self["waveform_lowpass"]
        yield "resampled, normalised, padded", absolute(front_end(self.recording, self.rate), wave, 1e-6)
        yield "log-mel", absolute(heard(mel(wave)[0]), heard(self["log_mel_spec"]), 1e-3)
        cutoff_hz = find_cutoff_hz(mel.linear(wave)[0])
        yield "cutoff (Hz)", absolute(cutoff_hz, 7453.125, 0)
        yield "low-pass", absolute(low_pass(wave, cutoff_hz, "ellip"), low, 1e-6)
        yield "log-mel of the low-passed", absolute(heard(mel(low)[0]), heard(self["lowpass_mel"]), 1e-3)

        for name, network, source, prefix in (
            ("first-stage encoder", self.first_stage, "log_mel_spec", "first_stage"),
            ("condition encoder", vae, "lowpass_mel", "cond"),
        ):
            mean, std = encode(network, self[source][None])
            yield f"{name}, mean", relative(mean, self[f"{prefix}_mean"])
            yield f"{name}, std", relative(std, (0.5 * self[f"{prefix}_logvar"]).exp())
        for name, prefix, noise, recorded, scale in (
            ("first-stage latents, sampled and scaled", "first_stage", "noise_z", "z", self.scale),
            ("condition, sampled", "cond", "noise_cond", "cond_latent", 1.0),
        ):
            std = (0.5 * self[f"{prefix}_logvar"]).exp()
            yield name, absolute(scale * (self[f"{prefix}_mean"] + std * self[noise]), self[recorded], 1e-6)

        noisy = [self["x_T"], *self["ddim_x"][:-1]]
        for name, guidance, recorded in (("condition", 1.0, "ddim_v_cond"), ("no condition", 0.0, "ddim_v_uncond")):
            velocity = guided_velocity(self.parts["unet"], self["cond_latent"], self.scale, guidance)
            made = [velocity(x, int(t)) for x, t in zip(noisy, self["ddim_t"], strict=True)]
            yield f"UNet, {name}, all steps", relative(torch.stack(made), self[recorded])

        times = step_times(STEPS)
        yield "DDIM time steps", absolute(times, self["ddim_t"], 0)
        recorded_v = self["ddim_v_uncond"] + GUIDANCE * (self["ddim_v_cond"] - self["ddim_v_uncond"])
        replay = dict(zip(times, recorded_v, strict=True))
        steps = ddim(lambda _, t: replay[t], self["x_T"], self.betas, times, self.noises.steps)
        yield "DDIM trajectory", absolute(torch.stack([x for _, x in steps]), self["ddim_x"], 1e-4)

        yield "decoder", relative(decode(vae, self["latent_final"] / self.scale), self["decoded_mel"])
        put_in = replace_known_bands(self["decoded_mel"], self["lowpass_mel"][None])
        yield "mel replacement", absolute(put_in, self["mel_replaced"], 1e-6)
        yield "vocoder", relative(vocode(self.parts["vocoder"], self["mel_replaced"]), self["vocoder_wave"])
        merged = replace_low_band(low, self["vocoder_wave"])
        recorded_part = self["post_wave_64k"]
        yield "low-band replacement", absolute(merged[..., : recorded_part.shape[-1]], recorded_part, 1e-6)
        yield "final level", absolute(normalise(merged), self["final_wave"], 1e-6)

    def _direct_calls(self) -> Iterator[tuple[str, Error]]:
        for i, t in enumerate(self["unet_t"].tolist()):
            velocity = guided_velocity(self.parts["unet"], self["unet_cond"][i : i + 1], self.scale, 1.0)
            yield f"direct: UNet, t = {t}", relative(velocity(self["unet_x"][i : i + 1], t), self["unet_v"][i : i + 1])
        mean, std = encode(self.first_stage, self["enc_mel"])
        yield "direct: encoder, mean", relative(mean, self["enc_mean"])
        yield "direct: encoder, std", relative(std, (0.5 * self["enc_logvar"]).exp())
        yield "direct: decoder", relative(decode(self.parts["vae"], self["dec_z"]), self["dec_mel"])
        voc_mel = self["voc_mel"].transpose(1, 2)[None]
        yield "direct: vocoder", relative(vocode(self.parts["vocoder"], voc_mel), self["voc_wave"])
        for guidance, recorded in ((1.0, "ddim0_out_g1"), (3.5, "ddim0_out_g35")):
            velocity = guided_velocity(self.parts["unet"], self["ddim0_cond"], self.scale, guidance)
            silent = [torch.zeros(1)] * 4
            *_, (_, x) = ddim(velocity, self["ddim0_xT"], self.betas, step_times(4), silent, eta=0.0)
            yield f"direct: DDIM, eta 0, 4 steps, guidance {guidance:g}", absolute(x, self[recorded], 1e-4)

    def _chain(self) -> Iterator[tuple[str, Error]]:
        trajectory: list[Tensor] = []
        made = self.restore(noises=self.noises, on_step=lambda _, x: trajectory.append(x))
        yield "chain: wave", absolute(made.wave, self["waveform"], 1e-6)
        yield "chain: log-mel", absolute(heard(MelSpectrogram()(made.wave)[0]), heard(self["log_mel_spec"]), 1e-3)
        yield "chain: low-pass", absolute(made.low, self["waveform_lowpass"], 1e-6)
        low_mel = MelSpectrogram()(made.low)[0]
        yield "chain: log-mel of the low-passed", absolute(heard(low_mel), heard(self["lowpass_mel"]), 1e-3)
        yield "chain: condition", relative(made.condition, self["cond_latent"])
        yield "chain: DDIM trajectory", absolute(torch.stack(trajectory), self["ddim_x"], 1e-4)
        yield "chain: decoded mel", relative(made.decoded, self["decoded_mel"])
        yield "chain: mel with the known bands", relative(made.mel, self["mel_replaced"])
        yield "chain: vocoder", relative(made.vocoded, self["vocoder_wave"])
        yield "chain: final wave", absolute(made.audio, self["final_wave"], 1e-4)


@pytest.fixture(scope="module")
def oracle(shared: Path) -> Oracle:
    return Oracle(shared / "oracle" / "audiosr")


def table(rows: dict[str, Error]) -> str:
    """The rows as a table in Markdown."""
    lines = ["| stage | worst error | tolerance |", "|---|---:|---:|"]
    return "\n".join(lines + [f"| {stage} | {error:.1e} | {limit:.0e} |" for stage, (error, limit) in rows.items()])


def test_the_table_holds(oracle):
    rows = oracle.rows | {f"inside: {name}": error for name, error in inside(oracle).items()}
    print("\n" + table(rows))
    assert {stage: row for stage, row in rows.items() if not row[0] <= row[1]} == {}


def test_the_seed_draws_the_recorded_noises(oracle):
    """To rounding: torch draws by other instructions where a processor has no AVX2, and the last bits differ."""
    recorded, drawn = oracle.noises, Noises.draw(oracle["x_T"].shape, STEPS, SEED)
    for ours, theirs in zip(drawn.steps, recorded.steps, strict=True):
        assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert_close(drawn.discarded, recorded.discarded, rtol=0, atol=1e-5)
    assert_close(drawn.condition, recorded.condition, rtol=0, atol=1e-5)
    assert_close(drawn.start, recorded.start, rtol=0, atol=1e-5)


def test_the_seeded_run_is_the_recorded_one(oracle):
    made = oracle.restore(seed=SEED)
    assert absolute(made.audio, oracle["final_wave"], 1e-4)[0] < 1e-4
    assert made.cutoff_hz == 7453.125
    assert made.samples == 153_600 and made.audio.shape == (1, 1, 245_776)  # 3.2 s, padded to 5.12 s


# --- inside the networks ----------------------------------------------------------------------------------------------


def inside(oracle: Oracle) -> dict[str, Error]:
    """{network: worst relative error of shape, mean, standard deviation and first samples of any module's output}."""
    recorded = json.loads((oracle.folder / "modules.json").read_text())
    networks = {**oracle.parts, "vae": oracle.first_stage}
    pairs = {their: pair for their, pair in module_pairs(oracle).items() if their in recorded}
    assert len(pairs) == MAPPED_MODULES
    outputs: dict[tuple[str, str], Tensor] = {}

    def keep(key: tuple[str, str]) -> Any:
        def hook(module: Any, args: Any, output: Any) -> None:
            outputs[key] = (output if isinstance(output, Tensor) else output[0]).clone()

        return hook

    ours = {(network, name) for network, names in pairs.values() for name in names}
    hooks = [networks[key[0]].get_submodule(key[1]).register_forward_hook(keep(key)) for key in ours]
    with torch.inference_mode():
        x = torch.cat([oracle["unet_x"], oracle["unet_cond"] * oracle.scale], dim=1)
        networks["unet"](x, oracle["unet_t"], encoder_hidden_states=None)
        decode(networks["vae"], oracle["dec_z"])
        networks["vocoder"](oracle["voc_mel"].transpose(1, 2))
        encode(networks["vae"], oracle["enc_mel"])
    for hook in hooks:
        hook.remove()
    worst: dict[str, Error] = {}
    for their, (network, names) in pairs.items():
        # Where one of ours wraps another with the same weights, either may be the one that they mean.
        candidates = [outputs[network, name] for name in names if (network, name) in outputs]
        error = min(module_error(output, recorded[their][0]) for output in candidates)
        worst[network] = max(worst.get(network, (0.0, 1e-4)), (error, 1e-4))
    counts = {network: sum(pair[0] == network for pair in pairs.values()) for network in worst}
    return {f"{counts[network]} modules of the {network}": error for network, error in worst.items()}


def module_pairs(oracle: Oracle) -> dict[str, tuple[str, list[str]]]:
    """{their module: (network, our modules)} of modules that hold the very same tensors."""
    found = {}
    names = audiosr.name_map(audiosr.architecture(oracle.config), encoder=audiosr_names.FIRST_STAGE)
    for network, their_names in names.items():
        ours: dict[frozenset[str], list[str]] = {}
        for module, tensors in by_module(their_names).items():
            ours.setdefault(frozenset(their_names[t] for t in tensors), []).append(module)
        for their, tensors in by_module(their_names.values()).items():
            if frozenset(tensors) in ours:
                found[their] = network, ours[frozenset(tensors)]
    return found


def by_module(tensors: Any) -> dict[str, set[str]]:
    """{module: names of all tensors in it and below}."""
    modules: dict[str, set[str]] = {}
    for tensor in tensors:
        parts = tensor.split(".")
        for depth in range(1, len(parts)):
            modules.setdefault(".".join(parts[:depth]), set()).add(tensor)
    return modules


def module_error(output: Tensor, recorded: dict[str, Any]) -> float:
    """Largest difference of mean, standard deviation and first samples, over the larger of the first two."""
    shape = recorded["shape"]
    if output.ndim == 3 and len(shape) == 4 and output.shape[1] != shape[1]:
        output = output.transpose(1, 2)  # linear layers in place of 1 x 1 convolutions: positions come first
    if output.numel() != np.prod(shape):
        return float("inf")
    flat = output.reshape(shape).flatten().double()
    ours = [float(flat.mean()), float(flat.std()), *flat[:6].tolist()]
    theirs = [recorded["mean"], recorded["std"], *recorded["head"]]
    scale = max(abs(recorded["mean"]), recorded["std"])
    return max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) / scale


# --- the front end on other recordings --------------------------------------------------------------------------------

FIRST, LAST = 20_000, 28_192  # samples of each recording that were kept


@pytest.fixture(scope="module")
def cases(shared: Path) -> tuple[dict[str, dict[str, Any]], dict[str, np.ndarray]]:
    folder = shared / "oracle" / "audiosr"
    described = {case["name"]: case for case in json.loads((folder / "pre_cases.json").read_text())["cases"]}
    with np.load(folder / "pre_cases.npz") as recorded:
        return described, dict(recorded)


RUNNING = ("speech8k", "music22k", "full48k", "stereo44k", "six_s")
FAILING = ("low300hz", "silence")


@pytest.mark.parametrize("name", RUNNING + FAILING)
def test_padding_of_other_recordings(cases, name):
    case = cases[0][name]
    frames = padded_frames(case["samples"], case["sr"])
    assert (frames, frames * 480) == (case["target_frame"], case["length"])


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("name", RUNNING)
def test_low_pass_of_other_recordings(cases, name, filter):
    """Only a part of each was kept: around it silence, and 3000 samples at its ends for the filters to settle."""
    case, recorded = cases[0][name], cases[1]
    wave = torch.zeros(1, 1, case["length"])
    wave[0, 0, FIRST:LAST] = torch.from_numpy(recorded[f"{name}_wave_8k"])
    made = low_pass(wave, case["cutoff_hz"], filter)[0, 0, FIRST:LAST].numpy()
    assert np.abs(made - recorded[f"{name}_{filter}_lp_8k"])[3000:-3000].max() < 1e-6


@pytest.mark.parametrize("name", FAILING)
def test_recordings_that_the_original_fails_on(cases, name):
    """Both are known as a whole: a tone of 300 Hz and silence. All goes as in the original up to its crash."""
    case, recorded = cases[0][name], cases[1]
    time = np.arange(case["samples"]) / case["sr"]
    tone = 0.3 * np.sin(2 * np.pi * 300 * time)
    recording = (tone if name == "low300hz" else np.zeros_like(tone)).astype(np.float32)[None]
    wave, mel = front_end(recording, case["sr"]), MelSpectrogram()
    assert absolute(wave[0, 0, FIRST:LAST], recorded[f"{name}_wave_8k"], 1e-6)[0] <= 1e-6
    assert absolute(heard(mel(wave)[0, 0, 100:108]), heard(recorded[f"{name}_logmel_8rows"]), 1e-3)[0] <= 1e-3
    cutoff_hz = find_cutoff_hz(mel.linear(wave)[0])
    assert cutoff_hz == case["cutoff_hz"]
    for filter in FILTERS:
        assert "ValueError" in case["filters"][filter]["error"]
        with pytest.raises(ValueError, match=r"audiosr 0\.0\.7 fails here.*the default mode does not"):
            low_pass(wave, cutoff_hz, filter)
