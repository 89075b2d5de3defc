"""Recipes: what is drawn, how often, and that the same recipe gives the same example anywhere."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from latentsr.signal.codecs import CODECS
from latentsr.signal.degrade import Recipe, degrade
from latentsr.signal.effects import EFFECTS
from latentsr.signal.recipes import MOST_EFFECTS, DegradeConfig, draw_recipe

RATE = 48_000
EVERYTHING = DegradeConfig(effects=dict.fromkeys(["none", *EFFECTS], 1.0), mixture=0.5)


def drawn(config: DegradeConfig, count: int, first: int = 0) -> list[Recipe]:
    return [draw_recipe(config, torch.Generator().manual_seed(first + i)) for i in range(count)]


def noise_wave(count: int, samples: int = 4_800) -> torch.Tensor:
    return 0.1 * torch.randn(count, 1, samples, generator=torch.Generator().manual_seed(1))


def test_the_same_recipe_gives_the_same_example_in_any_batch():
    recipes = drawn(EVERYTHING, 24)
    assert len({effect.name for recipe in recipes for effect in recipe.effects}) > 6
    wave = noise_wave(24)
    whole = degrade(wave, recipes, RATE)
    parts = torch.cat([degrade(wave[i : i + 1], [recipe], RATE) for i, recipe in enumerate(recipes)])
    assert (whole - parts).abs().max() < 1e-6


def test_an_example_is_made_again_from_its_stored_values():
    recipes = drawn(EVERYTHING, 12, first=100)
    again = [Recipe.from_dict(recipe.to_dict()) for recipe in recipes]
    assert again == recipes
    wave = noise_wave(12)
    assert torch.equal(degrade(wave, again, RATE), degrade(wave, recipes, RATE))


@pytest.mark.parametrize("device", ["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
def test_every_device_agrees_with_double_precision(device):
    additive = DegradeConfig(effects=dict.fromkeys(["none", "tone", "white", "hum", "clicks", "crackle"], 1.0))
    wave, recipes = noise_wave(16), drawn(additive, 16, first=5)
    exact = degrade(wave.double(), recipes, RATE)
    assert (degrade(wave.to(device), recipes, RATE).cpu() - exact).abs().max() < 1e-6


def test_draws_keep_to_the_ranges_and_the_weights():
    config = DegradeConfig(families={"butter": 3.0, "boxcar": 1.0}, order=(3, 4), effects={"tone": 1.0, "white": 1.0})
    recipes = drawn(config, 2_000)
    assert {recipe.order for recipe in recipes} == {3, 4}
    assert sum(recipe.family == "butter" for recipe in recipes) / 2_000 == pytest.approx(0.75, abs=0.03)
    assert sum(recipe.effects[0].name == "tone" for recipe in recipes) / 2_000 == pytest.approx(0.5, abs=0.04)
    assert min(recipe.cutoff_hz for recipe in recipes) == pytest.approx(2_000, abs=50)
    assert max(recipe.cutoff_hz for recipe in recipes) == pytest.approx(16_000, abs=50)


def test_every_effect_keeps_to_its_range():
    highest = {"tone": 0.2, "white": 0.1, "hum": 0.1, "clicks": 0.5, "crackle": 0.1, "clipping": 15.0}
    lowest = {"tone": 0.001, "white": 0.001, "hum": 0.001, "clicks": 0.01, "crackle": 0.003, "clipping": 1.0}
    seen = Counter()
    for recipe in drawn(EVERYTHING, 1_500):
        for effect in recipe.effects:
            seen[effect.name] += 1
            if effect.name in CODECS:
                assert effect.amount in CODECS[effect.name].rates_kbps
            elif effect.name != "telephone":
                assert lowest[effect.name] <= effect.amount <= highest[effect.name]
            if effect.name == "tone":
                assert 100 <= effect.frequency_hz <= 15_000 and 0 <= effect.phase <= 2 * math.pi
            if effect.name == "hum":
                assert min(abs(effect.frequency_hz / mains - 1) for mains in (50, 60)) <= 0.01
    assert seen.keys() == EFFECTS.keys()
    assert min(seen.values()) > 100


def test_a_mixture_has_no_effect_twice_and_one_at_most_that_ends_the_band():
    sizes = Counter()
    for recipe in drawn(EVERYTHING, 1_500):
        names = [effect.name for effect in recipe.effects]
        sizes[len(names)] += 1
        assert len(set(names)) == len(names) <= MOST_EFFECTS
        assert sum(EFFECTS[name].full_band for name in names) <= 1
        if "telephone" in names:
            assert recipe.family == "none"
    some = sizes.total() - sizes[0]
    assert sizes[1] / some == pytest.approx(0.5, abs=0.05)
    assert sizes[3] / some == pytest.approx(0.25, abs=0.05)


def test_codecs_end_the_band_alone_as_often_as_asked():
    config = DegradeConfig(effects={"mp3": 1.0, "opus": 1.0}, codec_alone=0.7)
    assert sum(recipe.family == "none" for recipe in drawn(config, 1_000)) / 1_000 == pytest.approx(0.7, abs=0.05)


def test_on_a_log_scale_every_octave_has_as_many_cutoffs():
    cutoffs_hz = np.array([recipe.cutoff_hz for recipe in drawn(DegradeConfig(cutoff_scale="log"), 3_000)])
    assert cutoffs_hz.min() >= 2_000 and cutoffs_hz.max() <= 16_000
    shares = np.histogram(cutoffs_hz, [2_000, 4_000, 8_000, 16_000])[0] / 3_000
    np.testing.assert_allclose(shares, 1 / 3, atol=0.03)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"effects": {"hiss": 1.0}}, "hiss.*known are.*hum"),
        ({"families": {"bessel": 1.0}}, "bessel.*known are.*boxcar"),
        ({"effects": {"hum": 0.0}}, "one of them above 0"),
        ({"effects": {"hum": -1.0, "tone": 2.0}}, "0 or more"),
        ({"cutoff_hz": (8_000.0, 4_000.0)}, "low <= high"),
        ({"hum_amplitude": (0.0, 0.1)}, "0 < low"),
        ({"mixture": 1.5}, "mixture"),
    ],
)
def test_bad_values_name_what_is_known(values, words):
    with pytest.raises(ValidationError, match=words):
        DegradeConfig(**values)
