"""The protocols of papers by name: which data set, which conditions, and which figure counts there.

`docs/evaluation.md` says where a preset knowingly differs from its paper, and what the paper leaves open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from latentsr.evaluation.references import EvaluationError


@dataclass(frozen=True)
class Preset:
    """One protocol: conditions by data set, in the words of the command's options."""

    source: str
    conditions: Mapping[str, Mapping[str, Any]]  # data set -> options of `latentsr eval`
    counts: str  # the heading of the figure that the paper's table shows
    published: str  # the paper's own figures, from its own harness


PRESETS: dict[str, Preset] = {
    "audiosr-table1": Preset(
        source="AudioSR, arXiv 2309.07314, table 1",
        conditions={
            "vctk": {"cutoffs": "4000,8000,12000", "filter_name": "cheby1", "order": 8},
            "esc-50": {"cutoffs": "4000,8000,16000", "filter_name": "cheby1", "order": 8},
        },
        counts="ssr_eval (full)",
        published="VCTK at 4 / 8 / 12 kHz: unprocessed 5.15 / 4.85 / 3.84, NVSR 0.91 / 0.81 / 0.70, "
        "AudioSR 1.30 / 1.11 / 0.94, AudioSR-Speech 1.03 / 0.82 / 0.69. ESC-50 at 4 / 8 / 16 kHz: unprocessed "
        "3.90 / 3.07 / 2.25, NVSR 1.64 / 1.59 / 1.76, AudioSR 1.74 / 1.57 / 1.35",
    ),
    "aeromamba-musdb": Preset(
        source="AEROMamba, MUSDB18 from 11.025 to 44.1 kHz",
        conditions=dict.fromkeys(("musdb18-hq", "musdb18"), {"cutoffs": "none", "rates": "11025"}),
        counts="LSD (full), ViSQOL",
        published="ViSQOL / LSD: unprocessed 1.82 / 3.98, AERO 2.90 / 1.34, AEROMamba 2.93 / 1.23",
    ),
    "nuwave-vctk": Preset(
        source="NU-Wave 2 as AP-BWE (arXiv 2401.06387) scores it, VCTK from 24 / 16 / 12 / 8 to 48 kHz",
        conditions={"vctk": {"cutoffs": "none", "rates": "24000,16000,12000,8000"}},
        counts="LSD (full)",
        published="LSD: sinc 2.17 / 2.57 / 2.75 / 2.94, NU-Wave 2 0.72 / 0.86 / 0.94 / 1.09, UDM+ 0.64 / 0.79 / 0.88 / "
        "1.03, AP-BWE 0.61 / 0.72 / 0.78 / 0.84",
    ),
}


def options_of(preset: str, dataset: str) -> Mapping[str, Any]:
    """The options of a preset on a data set; `EvaluationError` where it is another paper's data."""
    if preset not in PRESETS:
        raise EvaluationError(f"unknown preset {preset!r}; known are {', '.join(PRESETS)}")
    known = PRESETS[preset].conditions
    if dataset not in known:
        raise EvaluationError(
            f"preset {preset} is a protocol on {' or '.join(known)}, and this folder looks like {dataset}; "
            f"pass that data set's folder, or say --dataset {next(iter(known))} if this is it"
        )
    return known[dataset]


def in_words(preset: str) -> str:
    """What a preset is, which figure counts, and what was published."""
    found = PRESETS[preset]
    return f"{found.source}; the figure that counts is {found.counts}; published, in another harness: {found.published}"
