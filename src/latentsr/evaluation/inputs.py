"""What the systems are given of a reference: one entry of the conditions."""

from __future__ import annotations

from dataclasses import dataclass

from latentsr.config import AUDIO
from latentsr.evaluation import noises
from latentsr.evaluation.cases import CASES


@dataclass(frozen=True)
class Input:
    """One way in which the systems get a reference: low-passed at our rate, at a lower rate, through a codec, or as a
    file of a case."""

    cutoff_hz: float  # the low-pass's design; for a lower rate `rate_edge_hz`; else where codec, telephone or case end
    sample_rate: int = AUDIO.sample_rate  # Hz
    noise: str = "none"  # key of NOISES
    operator: str = ""  # key of FILTERS or RESAMPLERS, where several are asked for; else the one that there is
    case: str = ""  # key of CASES

    @classmethod
    def of_case(cls, name: str) -> Input:
        """The files of a case."""
        return cls(CASES[name].cutoff_hz, CASES[name].sample_rate, case=name)

    @property
    def folder(self) -> str:
        """Its files lie there, below the folder of another system."""
        return "-".join(self._words(f"rate-{self.sample_rate}"))

    @property
    def label(self) -> str:
        """How tables name it."""
        return " ".join(self._words(f"{self.sample_rate / 1000:g} kHz input"))

    def _words(self, rate: str) -> list[str]:
        if self.case or noises.ends_band(self.noise):
            return [self.case or self.noise]
        cut = f"{self.cutoff_hz:g}" if self.sample_rate == AUDIO.sample_rate else rate
        return [cut, *filter(None, [self.operator]), *([] if self.noise == "none" else [self.noise])]
