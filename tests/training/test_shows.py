"""What a run shows of itself: the live line, figures, recordings, the best weights, a dry run, exit codes."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from latentsr.config import ConfigError, load
from latentsr.data.dataset import Corpus, DataConfig
from latentsr.training import logbook
from latentsr.training.launch import launch_stage
from latentsr.training.loop import fit
from latentsr.training.names import CONFIGS
from latentsr.training.optimizers import learning_rate_factor
from latentsr.training.stage import OptimizerConfig, Validation
from latentsr.training.stages import STAGES
from latentsr.training.vae import VaeStage, VaeStageConfig

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs/tiny/vae.yaml"
SHORT = ("frames=32", "validation_examples=1", "statistics_batches=1")


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    for i in range(3):
        soundfile.write(folder / f"{i}.wav", 0.1 * rng.standard_normal(24_000).astype(np.float32), 48_000)
    return folder


@pytest.fixture
def train(recordings, tmp_path):
    def run(*words, trackers=(), max_minutes=None):
        torch.manual_seed(0)
        stage = VaeStage(load(VaeStageConfig, CONFIG, [*SHORT, *words]))
        corpus = Corpus.open(recordings)
        return fit(
            stage, corpus, tmp_path / "run", resume=False, max_minutes=max_minutes, trackers=list(trackers)
        )  # fmt: skip

    return run


@pytest.fixture
def command(recordings, tmp_path, capsys):
    """Runs a training script's words: (exit code, stdout, stderr)."""

    def run(*words):
        data = ["--config", str(CONFIG), f"data={recordings}", f"out={tmp_path}/run", *SHORT]
        code = launch_stage("vae", [*data, *words])
        return code, *capsys.readouterr()

    return run


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def scalars(run):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(run))
    events.Reload()
    found = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    return found, events.Tags()


def test_the_line_the_file_and_tensorboard_say_the_same(train, capsys):
    run = train("steps=4", trackers=["tensorboard"]).parent
    steps = [line for line in lines(run) if "total_model" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4]
    for line in steps:
        assert line["seconds_per_step"] * line["examples_per_second"] == pytest.approx(2)  # batch_size
        rate = 5e-4 * learning_rate_factor(OptimizerConfig(), line["step"] - 1, 4)
        assert 0 <= line["data_share"] < 1 and line["learning_rate_model"] == pytest.approx(rate)
    assert steps[0]["eta_seconds"] > steps[-1]["eta_seconds"] == 0
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(
        f"run 4/4 | ETA 0 s | loss {steps[-1]['total_model']:.4g} | lr {steps[-1]['learning_rate_model']:.1e} |"
    )
    assert f"data {steps[-1]['data_share']:.0%} | mel {steps[-1]['mel']:.4g} kl" in last
    written, tags = scalars(run)
    for name in steps[0].keys() - {"step"}:
        assert_close(written[name], [(line["step"], line[name]) for line in steps], rtol=1e-6, atol=0)
    assert tags["images"] == ["spectrograms"] and set(tags["audio"]) == {"truth", "reconstruction"}


def test_validation_is_said_once(train, capsys):
    run = train("steps=4").parent  # which validates every 2 steps, and at the end
    assert [line["step"] for line in lines(run) if "validation_lsd" in line] == [2, 4]
    assert capsys.readouterr().out.count("step 4: validation mel_l1") == 1
    assert len(list((run / "samples/step-00000004").glob("*.flac"))) == 2
    train("steps=4")  # nothing is left to do
    assert "step 4: validation" not in capsys.readouterr().out
    assert [line["step"] for line in lines(run) if "validation_lsd" in line] == [2, 4]


@pytest.mark.parametrize(("mode", "best"), [((), 2), (("best_mode=max",), 4)], ids=["min", "max"])
def test_the_best_weights_are_kept_beside_the_last(train, monkeypatch, mode, best):
    values, seen = iter([3.0, 1.0, 4.0, 2.0]), []

    def validate(self, batch, draws):
        seen.append({key: tensor.clone() for key, tensor in self.vae.state_dict().items()})
        return Validation({"lsd": next(values)})

    monkeypatch.setattr(VaeStage, "validate", validate)
    run = train("steps=6", "best_metric=lsd", *mode).parent  # at steps 0, 2, 4 and 6
    told = json.loads((run / "best/training.json").read_text())
    assert told == {"step": best, "metric": "lsd", "value": {2: 1.0, 4: 4.0}[best]}
    for folder, expected in (("best", seen[best // 2]), ("weights", seen[-1])):
        kept = load_file(run / folder / "vae/diffusion_pytorch_model.safetensors")
        for key, tensor in kept.items():
            assert_close(tensor, expected[key], rtol=0, atol=0)
    assert json.loads((run / "best/vae/config.json").read_text())["scaling_factor"] > 0


def test_a_metric_that_is_not_there_is_named_before_the_first_step(train, tmp_path):
    with pytest.raises(ConfigError, match="no metric 'lsb' for best_metric; validation has mel_l1, mel_lsd, lsd"):
        train("best_metric=lsb")
    assert not (tmp_path / "run/metrics.jsonl").exists()


def test_the_recordings_are_counted(tmp_path):
    rows = [
        "a.wav,music,train",
        "b.wav,music,train",
        "c.wav,speech,train",
        "d.wav,music,validation",
        "e.wav,music,test",
    ]
    rows += ["f.wav,speech,train", "g.wav,speech,train"]
    for row in rows[:-1]:
        soundfile.write(tmp_path / row[:5], 0.1 * np.random.default_rng(0).standard_normal(288_000), 48_000)
    (tmp_path / "g.wav").write_bytes(b"no audio")
    soundfile.write(tmp_path / "d.wav", 0.1 * np.random.default_rng(1).standard_normal(288_000), 48_000)
    (tmp_path / "manifest.csv").write_text("\n".join(["file,type,split", *rows]) + "\n")
    assert Corpus.open(tmp_path, DataConfig(exclude=["f.wav"], on_bad="skip")).overview() == [
        "recordings: 4 files, 0.4 min",
        "  training  music 2 files, 0.2 min; speech 1 file, 0.1 min",
        "  held out  music 1 file, 0.1 min",
        "  left out  1 of the test set, 1 excluded, 1 unreadable",
    ]


def test_a_dry_run_goes_through_everything_and_leaves_no_run(command, tmp_path):
    code, said, _ = command("--dry-run", "steps=1000")
    assert code == 0 and [path.name for path in (tmp_path / "run").iterdir()] == ["dry-run"]
    samples = tmp_path / "run/dry-run/samples/step-00001000"
    assert {path.name for path in samples.iterdir()} == {"spectrograms.png", "truth.flac", "reconstruction.flac"}
    assert not (tmp_path / "run/dry-run/checkpoints").exists()
    assert [line["step"] for line in lines(tmp_path / "run/dry-run") if "mel" in line] == [998, 999, 1000]
    for word in ("s/step", "1000 steps in", "GB of main memory", "a checkpoint", "recordings: 3 files"):
        assert word in said
    code, said, _ = command("steps=1")
    assert code == 0 and "resumed" not in said


def test_a_time_limit_has_an_exit_code_of_its_own(command, tmp_path):
    code, said, _ = command("--max-minutes", "0", "steps=3")
    assert code == 4 and "stopped by --max-minutes at step 0 of 3" in said and "the same command goes on" in said
    assert command("steps=3")[0] == 0
    assert json.loads((tmp_path / "run/weights/training.json").read_text())["finished"]


def test_trackers_that_are_not_there_are_named(command):
    code, _, said = command("--tracker", "nonsense")
    assert code == 1 and "unknown tracker 'nonsense'; choose one of" in said and "wandb" in said
    absent = {"dvclive", "swanlab", "aim"} - {str(name) for name in logbook.get_available_trackers()}
    code, _, said = command("--tracker", min(absent))
    assert code == 1 and f"pip install {min(absent)}" in said


def test_a_tracker_of_accelerate_gets_the_run_and_its_figures(train, monkeypatch):
    logged = []

    class Tracker:
        name, requires_logging_directory = "wandb", False

        def __init__(self, project, name):
            logged.append((project, name))

        def store_init_configuration(self, values):
            logged.append(values["steps"])

        def log(self, values, step):
            logged.append((step, set(values)))

        start = finish = lambda self: None

    monkeypatch.setitem(logbook.LOGGER_TYPE_TO_CLASS, "wandb", Tracker)
    monkeypatch.setattr(logbook, "get_available_trackers", lambda: ["wandb"])
    train("steps=1", trackers=["all"])
    assert logged[:2] == [("latentsr", "run"), 1]
    assert [step for step, _ in logged[2:]] == [1, 1] and "data_share" in logged[2][1]


def test_every_stage_has_a_config_of_its_own():
    assert CONFIGS.keys() == STAGES.keys()
    for name, config in CONFIGS.items():
        load(STAGES[name][1], ROOT / "configs" / config)
