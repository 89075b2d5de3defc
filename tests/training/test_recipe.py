"""Recipes: what they resolve to, which are refused, when a stage is done, and what is written of it."""

import json
from pathlib import Path

import numpy as np
import pytest

from latentsr.config import ConfigError
from latentsr.data.dataset import AugmentConfig, DataConfig
from latentsr.data.layouts import LAYOUTS
from latentsr.data.sources import SourceConfig
from latentsr.signal.codecs import CODECS
from latentsr.signal.effects import EFFECTS
from latentsr.signal.recipes import DegradeConfig
from latentsr.training.card import _licences, _table
from latentsr.training.driver import draw_curves, heads_of, read_curves
from latentsr.training.recipe import load_recipe, references, stage_configs
from latentsr.training.record import Record, cost, digest, hardware, read_json
from latentsr.training.stages import STAGES
from latentsr.training.vae import VaeStageConfig

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
VAE = "{name: vae, kind: vae, config: configs/tiny/vae.yaml}"
LDM = '{name: ldm, kind: ldm, config: configs/tiny/ldm.yaml, overrides: {vae: "{vae}/vae"}}'


def written(tmp_path, *stages, rest=""):
    path = tmp_path / "recipes" / "recipe.yaml"
    path.parent.mkdir(exist_ok=True)
    (tmp_path / "configs").is_symlink() or (tmp_path / "configs").symlink_to(CONFIGS)
    path.write_text("stages:\n" + "".join(f"  - {stage}\n" for stage in stages) + rest)
    return path


@pytest.mark.parametrize("name", ["default", "tiny"])
def test_the_recipes_resolve_and_hand_the_vae_on(name):
    path = CONFIGS / f"recipes/{name}.yaml"
    recipe = load_recipe(path, ["out=somewhere", "data=recordings", "seed=3"])
    configs = stage_configs(recipe, path)
    names = ["vae", "vocoder_true", "vocoder", "ldm", "mamba_gan", "diffwave_mamba"]
    assert [name for name in configs if name not in ("distill", "excitation", "live")] == names
    assert configs["ldm"].vae == configs["vocoder"].vae == configs["mamba_gan"].vae == "somewhere/vae/weights/vae"
    assert configs["vocoder"].initial_weights == "somewhere/vocoder_true/weights"
    assert {config.data for config in configs.values()} == {"recordings"}
    assert {config.seed for config in configs.values()} == {3}
    assert [config.out for config in configs.values()] == [f"somewhere/{name}" for name in configs]


def test_the_default_recipe_decodes_the_corpus_once():
    path = CONFIGS / "recipes/default.yaml"
    configs = stage_configs(load_recipe(path), path)
    read = {config.corpus.model_dump_json(include=set(SourceConfig.model_fields)) for config in configs.values()}
    assert len(read) == 1
    assert configs["vae"].corpus.augment.tilt_db == 9.0


def test_words_reach_a_stage_all_stages_or_the_recipe(tmp_path):
    path = written(tmp_path, VAE, LDM, rest="common: {corpus.silence_db: -50.0, batch_size: 4}\n")
    words = ["ldm.steps=7", "batch_size=8", "corpus.silence_db=-40", "ldm.optimizer.learning_rate=0.25",
             "eval.references=there", "common.frames=32"]  # fmt: skip
    recipe = load_recipe(path, words)
    configs = stage_configs(recipe, path)
    assert (configs["vae"].steps, configs["ldm"].steps) == (4, 7)
    assert {config.batch_size for config in configs.values()} == {8}
    assert {config.frames for config in configs.values()} == {32}
    assert {config.corpus.silence_db for config in configs.values()} == {-40.0}
    assert configs["ldm"].optimizer.learning_rate == 0.25 != configs["vae"].optimizer.learning_rate
    assert recipe.eval.references == "there"
    assert references(recipe.stages[1]) == ["vae"] and references(recipe.stages[0]) == []


@pytest.mark.parametrize(
    ("stages", "words", "message"),
    [
        (["{name: a, kind: wae, config: x.yaml}"], [], "unknown kind 'wae'"),
        ([VAE, VAE], [], "two stages are named 'vae'"),
        ([LDM, VAE], [], "{vae} is no earlier stage; earlier ones: none"),
        (["{name: model, kind: vae, config: configs/tiny/vae.yaml}"], [], "cannot be named 'model'"),
        (["{name: a/b, kind: vae, config: configs/tiny/vae.yaml}"], [], "cannot be named 'a/b'"),
        (["{name: a, kind: vae, config: configs/tiny/wae.yaml}"], [], "no configs/tiny/wae.yaml in"),
        ([VAE], ["lmd.steps=4"], "'lmd' is neither a stage nor a key"),
        ([VAE], ["vea.steps=4"], "did you mean 'vae'"),
        ([VAE], ["vae.stepz=4"], "stage vae: "),
        ([VAE], ["vae.stepz=4"], "did you mean 'steps'"),
        ([VAE], ["vae.out=elsewhere"], "remove out from the overrides"),
        ([VAE], ["vae.steps"], "not of the form key=value"),
    ],
)
def test_a_wrong_recipe_is_refused_before_anything_is_trained(tmp_path, stages, words, message):
    path = written(tmp_path, *stages)
    with pytest.raises(ConfigError) as error:
        stage_configs(load_recipe(path, words), path)
    assert message in str(error.value)


def test_every_kind_has_a_stage_of_its_own():
    assert len({stage for stage, _ in STAGES.values()}) == len(STAGES)


def record(folder, steps=4, minutes=None, inputs=None, **trained):
    config = VaeStageConfig(loss_weights={"mel": 1.0}, out=str(folder), steps=steps)
    made = Record(config, inputs or {}, minutes)
    if trained:
        (folder / "weights").mkdir(parents=True, exist_ok=True)
        (folder / "checkpoints").mkdir(exist_ok=True)
        (folder / "weights/training.json").write_text(json.dumps(trained))
    return made


def test_a_stage_is_finished_only_with_its_values_its_inputs_and_its_steps(tmp_path):
    first = record(tmp_path, inputs={"vae": "1"}, step=4, seconds=90.0, finished=True)
    assert not first.finished()  # nobody noted with which values
    first.begin("corpus")
    assert record(tmp_path, inputs={"vae": "1"}).finished()
    assert not record(tmp_path, inputs={"vae": "2"}).finished()
    assert not record(tmp_path, steps=5, inputs={"vae": "1"}).finished()
    record(tmp_path, inputs={"vae": "1"}, step=3, seconds=90.0, finished=False)
    assert not record(tmp_path, inputs={"vae": "1"}).finished()
    assert record(tmp_path, inputs={"vae": "1"}, minutes=1.5).finished()  # its time is used up
    assert not record(tmp_path, inputs={"vae": "1"}, minutes=1.6).finished()


def test_other_values_are_named_and_taken_only_when_asked(tmp_path):
    record(tmp_path, step=4, seconds=1.0, finished=True).begin("corpus")
    other = record(tmp_path, steps=9, inputs={"vae": "2"})
    with pytest.raises(ConfigError, match=r"inputs.vae: None -> '2'; steps: 4 -> 9"):
        other.check(resume=False)
    other.check(resume=True)
    other.begin("corpus")
    assert not other.progress()  # what was exported before is not what the new values make
    assert other.read()["hardware"] == [hardware()]
    other.begin("corpus", processes=2)
    assert other.read()["hardware"] == [hardware(), f"{hardware()}, 2 processes"]


def test_cost_is_what_a_second_of_training_saw():
    config = VaeStageConfig(loss_weights={}, batch_size=4, frames=50)
    assert cost(config, {"step": 10, "seconds": 2.0}) == {
        "steps": 10, "minutes": 2 / 60, "examples_per_second": 20.0, "audio_seconds_per_second": 10.0,
    }  # fmt: skip


def test_the_digest_sees_every_weight(tmp_path):
    (tmp_path / "vae").mkdir()
    file = tmp_path / "vae/model.safetensors"
    file.write_bytes(b"12")
    before = digest(tmp_path)
    (tmp_path / "training.json").write_text("{}")  # seconds differ from run to run
    assert digest(tmp_path) == before
    file.write_bytes(b"13")
    assert digest(tmp_path) != before


def test_a_file_that_a_kill_cut_short_is_none(tmp_path):
    (tmp_path / "stage.json").write_text('{"values": ')
    assert read_json(tmp_path / "stage.json") == {}


def test_curves_stand_at_the_minutes_of_their_steps(tmp_path):
    lines = [{"step": 10, "total_model": 3.0, "mel": 2.0}, {"step": 20, "total_model": 1.0},
             {"step": 20, "validation_mel_lsd": 0.5, "validation_mel_l1": 9.0, "seconds": 120.0}]  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    training, validation = read_curves(tmp_path, seconds=300.0, step=40)
    assert training == {"model": ([1.0, 2.0], [3.0, 1.0])}
    assert validation == {"mel_lsd": ([2.0], [0.5])}
    draw_curves(tmp_path, tmp_path / "curves/vae.png", seconds=300.0, step=40)
    assert (tmp_path / "curves/vae.png").read_bytes()[1:4] == b"PNG"


def test_the_card_has_the_licences_of_what_was_used(tmp_path):
    rows = ["file,type,source,licence,seconds,split", "a.wav,music,ours,CC0,60,train", "b.wav,music,ours,CC0,30,train",
            "c.wav,music,theirs,CC BY 4.0,60,train", "d.wav,music,theirs,CC BY 4.0,60,test"]  # fmt: skip
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    recipe = load_recipe(written(tmp_path, VAE), [f"data={tmp_path}"])
    everything = _licences(recipe, [DataConfig()])
    assert "| ours | CC0 | 2 | 1.5 |" in everything and "| theirs | CC BY 4.0 | 1 | 1.0 |" in everything
    assert "theirs" not in _licences(recipe, [DataConfig(exclude=["c.wav"])])


def test_a_bar_in_a_cell_does_not_end_it():
    assert _table(["a"], [["x|y"]]).splitlines()[-1] == "| x\\|y |"


def test_heads_are_those_whose_components_are_there():
    assert heads_of({"mamba_gan"}) == ["mamba-gan"]
    assert heads_of({"vae", "vocoder", "scheduler"}) == []
    assert set(heads_of({"vae", "unet", "vocoder", "mamba_gan", "diffwave_mamba"})) == {
        "vocoder", "mamba-gan", "diffwave-mamba",
    }  # fmt: skip


def test_training_lines_before_the_first_validation_are_not_at_zero(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 5, "total_model": 1.0}) + "\n")
    training, _ = read_curves(tmp_path, seconds=60.0, step=10)
    np.testing.assert_allclose(training["model"][0], [0.5])


def test_the_docs_have_every_layout_augmentation_and_effect_with_its_range():
    text = (CONFIGS.parent / "docs/data.md").read_text(encoding="utf-8")
    rows = {name: line for line in text.splitlines() for name in EFFECTS if line.startswith(f"| `{name}` |")}
    assert rows.keys() == EFFECTS.keys()
    for key, value in DegradeConfig():
        if key.endswith(("_amplitude", "_db", "_frequency_hz")):
            row = rows[key.split("_")[0]]
            assert f"`{key}`" in row and f"{value[0]:g} to {value[1]:g}" in row, key
    for name, codec in CODECS.items():
        assert ", ".join(map(str, codec.rates_kbps)) in rows[name]
    for name in (*LAYOUTS, *AugmentConfig.model_fields):
        assert f"`{name}" in text, name
