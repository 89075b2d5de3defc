"""Configs are closed, and say what to do."""

import pytest
import yaml

from latentsr.config import AUDIO, AudioConfig, Config, ConfigError, build, differences, dump, load


class Inner(Config):
    learning_rate: float = 1e-3


class Outer(Config):
    steps: int = 10
    inner: Inner = Inner()


def test_unknown_key_names_the_near_match():
    with pytest.raises(ConfigError, match="did you mean 'learning_rate'"):
        build(Outer, {"inner": {"learning_rat": 1.0}})
    with pytest.raises(ConfigError, match="known keys: steps, inner"):
        build(Outer, {"zzz": 1})


def test_overrides_reach_nested_keys_and_keep_types(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("steps: 5\n")
    config = load(Outer, path, ["inner.learning_rate=1e-4", "steps=7"])
    assert config == Outer(steps=7, inner=Inner(learning_rate=1e-4))


@pytest.mark.parametrize(("text", "message"), [("steps: x", "steps"), ("- 1", "mapping"), ("a: [", "not valid YAML")])
def test_bad_files_are_explained(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load(Outer, path)


def test_missing_file_and_bad_override(tmp_path):
    with pytest.raises(ConfigError, match="cannot read config"):
        load(Outer, tmp_path / "none.yaml")
    (tmp_path / "a.yaml").write_text("")
    with pytest.raises(ConfigError, match="key=value"):
        load(Outer, tmp_path / "a.yaml", ["steps"])


def test_dump_reads_back_equal(tmp_path):
    config = Outer(steps=3, inner=Inner(learning_rate=0.5))
    dump(config, tmp_path / "c.yaml")
    assert build(Outer, yaml.safe_load((tmp_path / "c.yaml").read_text())) == config


def test_differences_are_named_by_path():
    old, new = {"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}}
    assert differences(old, new) == ["b.c: 2 -> 3"]


def test_audio_derives_the_rest():
    assert AUDIO.frames_per_second == 100
    assert AUDIO.padding == 784
    assert AudioConfig(hop_length=512).padding == 768
