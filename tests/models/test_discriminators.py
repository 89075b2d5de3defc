"""The multi-scale part against MelGAN's figures, and that the older parts keep their names."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from latentsr.models.discriminators import Discriminators

MELGAN: dict[str, Any] = {"periods": (), "resolutions": (), "scales": 3}


def test_three_scales_have_exactly_the_parameters_of_melgan() -> None:
    with torch.device("meta"):
        counts = [sum(p.numel() for p in part.parameters()) for part in Discriminators(**MELGAN).parts]
    assert counts == [5_641_362] * 3
    assert sum(counts) == 16_924_086


def test_maps_have_the_widths_and_strides_of_melgan() -> None:
    with torch.device("meta"):
        features = Discriminators(**MELGAN)(torch.empty(2, 1, 8192))
    for scale, maps in enumerate(features):
        frames = [8192 >> scale >> shift for shift in (0, 2, 4, 6, 8, 8, 8)]
        widths = (16, 64, 256, 1024, 1024, 1024, 1)
        assert [tuple(m.shape) for m in maps] == [(2, c, t) for c, t in zip(widths, frames, strict=True)]


def test_a_coarser_scale_is_the_finest_one_of_the_averaged_wave() -> None:
    finest, middle, _ = Discriminators(**MELGAN, scale_channels=4, scale_max_channels=16).parts
    middle.load_state_dict(finest.state_dict())
    wave = torch.randn(1, 1, 1024, generator=torch.Generator().manual_seed(0))
    # Averages of four samples about every second one; at the ends, of the three there are.
    rows = [wave[0, 0, max(2 * i - 1, 0) : 2 * i + 3].mean() for i in range(512)]
    torch.testing.assert_close(middle(wave)[-1], finest(torch.stack(rows)[None, None])[-1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layers", [1, 4])
def test_the_scales_follow_the_other_parts_in_one_list(layers: int) -> None:
    sizes: dict[str, Any] = {
        "periods": (2, 3),
        "period_channels": (4, 8),
        "resolutions": (64,),
        "resolution_channels": 4,
    }
    plain = Discriminators(**sizes)
    more = Discriminators(**sizes, scales=2, scale_channels=2, scale_max_channels=8, scale_layers=layers)
    names = [type(p).__name__ for p in more.parts]
    assert names == ["PeriodDiscriminator"] * 2 + ["ResolutionDiscriminator"] + ["ScaleDiscriminator"] * 2
    assert more.load_state_dict(plain.state_dict(), strict=False).unexpected_keys == []
    assert [len(maps) for maps in more(torch.randn(1, 1, 512))] == [3, 3, 6, layers + 3, layers + 3]
