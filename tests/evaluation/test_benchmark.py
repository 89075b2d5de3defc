"""The harness, with plain callables in place of networks."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from latentsr.audio import resample
from latentsr.evaluation import benchmark, metrics
from latentsr.evaluation.benchmark import EvaluationError, find_clips, restored, unprocessed
from latentsr.evaluation.conditions import Conditions
from latentsr.evaluation.filters import round_to_16_bit
from latentsr.evaluation.inputs import Input

RATE = 48_000
FOUR = Conditions(cutoffs_hz=(4000,))


def run(clips, systems, conditions, **how):
    """Records of a comparison."""
    return benchmark.run(benchmark.Comparison(clips, systems, conditions), **how)


def programme(seconds: float = 1.0, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """Noise that falls by 6 dB per octave above 200 Hz, rounded to 16 bit."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(0, 0.2, int(seconds * rate)))
    hz = np.fft.rfftfreq(int(seconds * rate), 1 / rate)
    return round_to_16_bit(np.fft.irfft(spectrum / np.maximum(1, hz / 200)))


@pytest.fixture
def references(tmp_path):
    """Two groups by folder: mono at 48 kHz, stereo at 48 kHz, mono at 44.1 kHz."""
    folder = tmp_path / "references"
    for name, wave, rate in [
        ("speech/a.wav", programme(), RATE),
        ("speech/deep/b.flac", np.stack([programme(seed=1), programme(seed=2)], axis=1), RATE),
        ("music/c.wav", programme(seed=3, rate=44_100), 44_100),
    ]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, wave, rate, subtype="PCM_16")
    return folder


# --- references ------------------------------------------------------------------------------------------------------


def test_clips_are_found_in_depth_and_grouped_by_first_folder(references):
    found = [(clip.name, clip.group, clip.bandwidth_hz) for clip in find_clips(references)]
    assert found == [
        ("music/c.wav", "music", None),
        ("speech/a.wav", "speech", None),
        ("speech/deep/b.flac", "speech", None),
    ]


def test_the_manifest_gives_group_and_bandwidth_and_the_folder_the_rest(references):
    (references / "manifest.csv").write_text("file,type,bandwidth_hz\nspeech/a.wav,voice,12500\n")
    groups = {clip.name: (clip.group, clip.bandwidth_hz) for clip in find_clips(references)}
    assert groups["speech/a.wav"] == ("voice", 12_500)
    assert groups["speech/deep/b.flac"] == ("speech", None)


def test_limit_counts_each_group(references):
    assert [clip.name for clip in find_clips(references, limit=1)] == ["music/c.wav", "speech/a.wav"]


def test_folders_that_cannot_be_scored_say_why(references, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder, words in [(tmp_path / "nowhere", "is not a folder"), (tmp_path / "empty", "holds no recordings")]:
        with pytest.raises(EvaluationError, match=words):
            find_clips(folder)
    (references / "manifest.csv").write_text("file,type\nspeech/gone.wav,speech\n")
    with pytest.raises(EvaluationError, match="1 files that are not there.*gone.wav"):
        find_clips(references)


def test_a_clip_shorter_than_one_window_is_named(tmp_path):
    soundfile.write(tmp_path / "click.wav", programme()[:1000], RATE)
    with pytest.raises(EvaluationError, match="click.wav is shorter than 0.043 s"):
        run(find_clips(tmp_path), [unprocessed()], FOUR, visqol=False)


def test_channels_are_averaged_and_other_rates_resampled(references):
    clips = {clip.name: clip for clip in find_clips(references)}
    (stereo,) = benchmark.load_cases(clips["speech/deep/b.flac"], FOUR)
    np.testing.assert_allclose(stereo.truth, (programme(seed=1) + programme(seed=2)) / 2, atol=1e-7)
    (resampled,) = benchmark.load_cases(clips["music/c.wav"], FOUR)
    assert len(resampled.truth) == RATE


# --- scores ----------------------------------------------------------------------------------------------------------


def by_system(records):
    return {record["system"]: record for record in records if record["clip"] == "speech/a.wav"}


def test_the_truth_scores_zero_and_the_input_does_not(references):
    (references / "manifest.csv").write_text("file,type,bandwidth_hz\nspeech/a.wav,speech,16000\n")
    oracle = benchmark.System("oracle", lambda case: (case.truth, None))
    records = by_system(run(find_clips(references), [unprocessed(), oracle], FOUR, visqol=False))
    perfect, dull = records["oracle"], records["unprocessed"]
    for name in ("lsd", "lsd_full", "lsd_hf", "lsd_lf", "hf_energy_db", "ssr_eval"):
        assert perfect[name] == pytest.approx(0, abs=1e-5), name
    assert perfect["hf_spread"] == pytest.approx(1)
    assert perfect["visqol"] is None
    assert dull["lsd_hf"] > dull["lsd"] > 1 > dull["lsd_lf"]
    assert dull["kept_error_db"] == -200
    assert dull["level_error_db"] == 0
    assert dull["seconds"] is None
    assert dull["bandwidth_hz"] == 16_000


def test_the_score_stops_at_the_reference_s_own_bandwidth(references):
    """A wave that is right up to 16 kHz and wrong above it is perfect for a reference that ends there."""
    (references / "manifest.csv").write_text("file,type,bandwidth_hz\nspeech/a.wav,speech,16000\n")
    hiss = 0.1 * np.sin(2 * np.pi * 20_000 / RATE * np.arange(RATE))
    wrong_above = benchmark.System("hiss", lambda case: (case.truth + hiss[: len(case.truth)], None))
    record = by_system(run(find_clips(references), [wrong_above], FOUR, visqol=False))["hiss"]
    assert record["lsd"] < 0.01 < 0.1 < record["lsd_full"]


def test_an_unlisted_bandwidth_is_measured(tmp_path):
    conditions = Conditions()
    cut = conditions.degrade(programme(3.0), conditions.recipe("a", Input(12_000), programme(3.0)))
    soundfile.write(tmp_path / "a.wav", cut, RATE, subtype="PCM_16")
    (case,) = benchmark.load_cases(find_clips(tmp_path)[0], FOUR)
    assert case.bandwidth_hz == pytest.approx(12_000, rel=0.1)


def test_a_system_gets_the_degraded_wave_and_its_cutoff_is_recorded(references):
    seen = []

    def restore(wave, rate, cutoff_hz):
        seen.append((len(wave), rate, cutoff_hz))
        return wave, cutoff_hz or 4400.0

    clips = find_clips(references, limit=1)[1:]
    (estimated,) = run(clips, [restored("x", restore)], FOUR, visqol=False)
    (told,) = run(clips, [restored("x", restore, known_cutoff=True)], FOUR, visqol=False)
    edge_hz = told["cutoff_true_hz"]
    assert 4000 < edge_hz < 4150  # the ripple edge is the design's cutoff, -3 dB lies a little above
    assert seen == [(RATE, RATE, None), (RATE, RATE, edge_hz)]
    assert estimated["cutoff_error_percent"] == pytest.approx(100 * (4400 / edge_hz - 1))
    assert told["cutoff_error_percent"] == 0
    assert 0 <= estimated["seconds"] < 1


@pytest.mark.parametrize(("rate", "more"), [(8000, 1), (8000, 3), (8000, 5), (11_025, 0), (11_025, 1), (24_000, 1)])
def test_a_lower_rate_is_given_as_it_is_and_scored_at_ours(tmp_path, rate, more):
    """Lengths that no lower rate divides: interpolation as a system is the unprocessed row, sample for sample."""
    samples, seen = RATE // 2 + more, []
    soundfile.write(tmp_path / "a.wav", programme()[:samples], RATE, subtype="PCM_16")
    (tmp_path / "manifest.csv").write_text("file,type,bandwidth_hz\na.wav,music,20000\n")

    def interpolate(wave, given_rate, cutoff_hz):
        seen.append((len(wave), given_rate))
        return resample(wave, given_rate, RATE), cutoff_hz

    systems = [unprocessed(), restored("x", interpolate, known_cutoff=True)]
    row, other = run(find_clips(tmp_path), systems, Conditions(cutoffs_hz=(), rates_hz=(rate,)), visqol=False)
    assert seen == [(math.floor(samples * rate / RATE + 0.5), rate)]
    assert row["input_rate_hz"] == other["input_rate_hz"] == rate
    assert (
        row["cutoff_hz"] == row["cutoff_true_hz"] == other["cutoff_used_hz"] == pytest.approx(0.4728 * rate, rel=1e-3)
    )
    assert row["recipe"] is None
    assert other["kept_error_db"] == row["kept_error_db"] == -200
    assert other["lsd"] == row["lsd"]
    assert row["lsd_hf"] > 1 > 0.2 > row["lsd_lf"]


def test_interpolation_is_the_better_the_higher_the_rate_and_better_than_silence(references):
    conditions = Conditions(cutoffs_hz=(), rates_hz=(24_000, 12_000, 8000))
    silence = benchmark.System("silence", lambda case: (0 * case.truth, None))
    records = run(find_clips(references, limit=1)[1:], [unprocessed(), silence], conditions, visqol=False)
    lsd = [record["lsd"] for record in records]
    assert lsd[0] < lsd[2] < lsd[4] < lsd[5] - 0.5
    assert lsd[1] == lsd[3] == lsd[5]


@pytest.mark.parametrize("samples", [RATE + 1, RATE - 1, 24_000])
def test_what_comes_back_of_a_lower_rate_must_be_as_long_as_what_was_given(references, samples):
    broken = restored("broken", lambda wave, rate, cutoff_hz: (np.zeros(samples), None))
    with pytest.raises(EvaluationError, match="broken on speech/a.wav"):
        run(find_clips(references, limit=1)[1:], [broken], Conditions(cutoffs_hz=(), rates_hz=(24_000,)), visqol=False)


@pytest.mark.parametrize("spoil", [lambda wave: wave[:-1], lambda wave: wave * np.nan, lambda wave: wave[None]])
def test_a_result_of_another_length_or_not_finite_is_an_error(references, spoil):
    broken = restored("broken", lambda wave, rate, cutoff_hz: (spoil(wave), None))
    with pytest.raises(EvaluationError, match="broken on music/c.wav"):
        run(find_clips(references), [broken], FOUR, visqol=False)


def test_the_ceiling_sees_the_truth_as_a_batch_of_one(references):
    shapes = []

    def reconstruct(wave):
        shapes.append(tuple(wave.shape))
        return 0.5 * wave

    (record,) = run(find_clips(references, limit=1)[1:], [benchmark.ceiling(reconstruct)], FOUR, visqol=False)
    assert shapes == [(1, 1, RATE)]
    assert record["hf_energy_db"] == pytest.approx(-6.02, abs=0.01)
    assert record["level_error_db"] == pytest.approx(-6.02, abs=0.21)  # the cut itself ripples by 0.2 dB


def test_a_tone_taken_out_is_measured_and_a_tone_left_is_counted(references):
    conditions = Conditions(cutoffs_hz=(4000,), noise="tone,white", noise_amplitude=0.1, bits=None)
    clean = benchmark.System("clean", lambda case: (conditions.degrade(case.truth, plain(case)), None))
    tenth = benchmark.System("tenth", lambda case: (case.degraded - 0.9 * (case.degraded - clean.run(case)[0]), None))

    def plain(case):
        return conditions.recipe(case.clip.name, Input(4000.0), case.truth)

    clips = find_clips(references, limit=1)[1:]
    records = run(clips, [unprocessed(), clean, tenth], conditions, visqol=False)
    tone, white = (
        {record["system"]: record for record in records if record["noise"] == kind} for kind in conditions.noise
    )
    assert tone["unprocessed"]["tone_db"] == 0
    assert tone["unprocessed"]["tone_left"] == 1
    assert tone["clean"]["tone_left"] == 0
    assert tone["tenth"]["tone_db"] == pytest.approx(-20, abs=0.5)
    assert white["tenth"]["si_sdr_gain_db"] == pytest.approx(20, abs=0.5)
    assert white["clean"]["si_sdr_kept_db"] > 30 > white["tenth"]["si_sdr_kept_db"]
    assert white["clean"]["tone_db"] is None


def test_without_noise_there_are_no_figures_of_it(references):
    (record,) = run(find_clips(references, limit=1)[1:], [unprocessed()], FOUR, visqol=False)
    assert record["noise"] == "none"
    assert all(record[name] is None for name in benchmark.OF_NOISE)


# --- foreign systems and the pipeline --------------------------------------------------------------------------------


def test_inputs_written_for_another_system_come_back_as_its_row(references, tmp_path):
    both = Conditions(cutoffs_hz=(4000,), rates_hz=(11_025,))
    clips = find_clips(references)
    ours = run(clips, [unprocessed()], both, visqol=False, inputs_dir=tmp_path / "in")
    theirs = run(clips, [benchmark.outputs("copy", tmp_path / "in", clips, both)], both, visqol=False)
    assert len(ours) == len(theirs) == 6
    for mine, other in zip(ours, theirs, strict=True):
        assert other["system"] == "copy"
        assert other["lsd"] == pytest.approx(mine["lsd"], abs=1e-9)


def test_missing_outputs_are_counted_before_anything_runs(references, tmp_path):
    clips = find_clips(references)
    run(clips[:1], [unprocessed()], FOUR, visqol=False, inputs_dir=tmp_path)
    with pytest.raises(EvaluationError, match="lacks 2 of 3 outputs of 'x', first 4000/speech/a.wav"):
        benchmark.outputs("x", tmp_path, clips, FOUR)


@pytest.mark.parametrize(("samples", "accepted"), [(RATE - 100, True), (RATE + 100, True), (RATE // 2, False)])
def test_foreign_outputs_may_differ_by_a_tenth_of_a_second(references, tmp_path, samples, accepted):
    clips = find_clips(references)[1:2]
    (tmp_path / "speech").mkdir()
    soundfile.write(tmp_path / "speech/a.wav", np.resize(programme(), samples), RATE)
    system = benchmark.outputs("x", tmp_path, clips, FOUR)
    if accepted:
        assert run(clips, [system], FOUR, visqol=False)[0]["lsd"] < 0.1
    else:
        with pytest.raises(EvaluationError, match="lasts 0.50 s, its reference 1.00 s"):
            run(clips, [system], FOUR, visqol=False)


def test_a_head_is_called_as_a_user_would_call_it(references):
    calls = []

    def pipe(wave, **options):
        calls.append((wave.dtype, wave.shape, options))
        return SimpleNamespace(audio=wave[None], cutoff_hz=4000.0)

    row = benchmark.head_row(pipe, "vocoder", 4, known_cutoff=True, options={"seed": 7})
    assert len(calls) == 1  # warm-up
    (record,) = run(find_clips(references, limit=1)[1:], [row], FOUR, visqol=False)
    assert record["system"] == "vocoder @4"
    dtype, shape, options = calls[-1]
    assert (dtype, shape) == (np.float32, (RATE,))
    assert options == {
        "sample_rate": RATE, "head": "vocoder", "steps": 4, "seed": 7, "cutoff_hz": record["cutoff_true_hz"]
    }  # fmt: skip
    assert benchmark.head_row(pipe, "mamba-gan", None).name == "mamba-gan"


@pytest.mark.parametrize(
    ("words", "use_latents", "names"),
    [
        (["vocoder", "gan", "wave"], False, ["vocoder @1", "vocoder @4", "gan", "wave @1", "wave @4"]),
        (["vocoder", "gan"], True, ["vocoder @1", "vocoder @4", "gan +latents @1", "gan +latents @4"]),
        (["gan", "gan+latents", "gan"], False, ["gan", "gan +latents @1", "gan +latents @4"]),
        (["vocoder+latents", "vocoder"], False, ["vocoder @1", "vocoder @4"]),
    ],
)
def test_heads_have_a_row_for_each_number_of_steps_that_they_take(monkeypatch, words, use_latents, names):
    monkeypatch.setitem(benchmark.HEADS, "gan", SimpleNamespace(needs_latents=False, takes_steps=False, draws=True))
    monkeypatch.setitem(benchmark.HEADS, "wave", SimpleNamespace(needs_latents=False, takes_steps=True, draws=True))
    asked = []

    def pipe(wave, *, head, steps, use_latents=False, **options):
        asked.append((head, steps, use_latents))
        return SimpleNamespace(audio=wave[None], cutoff_hz=4000.0)

    rows = benchmark.head_rows(pipe, words, [1, 4], options={"seed": 0, "use_latents": use_latents})
    assert [row.name for row in rows] == names
    assert len(set(asked)) == len(names)
    assert all(latents == ("+latents" in name) for (_, _, latents), name in zip(asked, names, strict=True))


def test_the_model_hash_sees_a_changed_weight_and_nothing_else():
    layer = torch.nn.Linear(3, 3)
    same = benchmark.model_hash([("unet", layer), ("scheduler", object())])
    assert same == benchmark.model_hash([("unet", layer)])
    with torch.no_grad():
        layer.weight[0, 0] += 1e-3
    assert same != benchmark.model_hash([("unet", layer)])


# --- agreement with figures measured elsewhere -----------------------------------------------------------------------

PUBLISHED = {  # specs/evaluation.md: LSD 2048/512 of the unprocessed input, to the clip's bandwidth and unrestricted
    "music": {4000: (3.66, 3.40), 8000: (2.79, 2.60)},
    "effects": {4000: (4.38, 4.09), 8000: (3.43, 3.21)},
    "speech": {4000: (3.17, 3.12), 8000: (2.61, 2.58)},
}


@pytest.mark.parametrize("group", list(PUBLISHED))
def test_unprocessed_recordings_score_what_was_measured_elsewhere(shared, group):
    clips = [clip for clip in find_clips(shared / "data" / "dev") if clip.group == group]
    scores: dict[float, list[list[float]]] = {4000: [], 8000: []}
    for clip in clips:
        for case in benchmark.load_cases(clip, Conditions()):
            pair = torch.from_numpy(case.truth)[None], torch.from_numpy(case.degraded)[None]
            scores[case.recipe.cutoff_hz].append(
                [float(x) for x in metrics.lsd_bands(*pair, [(0, case.bandwidth_hz), (0, None)])]
            )
    for cutoff_hz, expected in PUBLISHED[group].items():
        np.testing.assert_allclose(np.mean(scores[cutoff_hz], axis=0), expected, atol=0.01)
