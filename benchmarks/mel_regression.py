"""A plain regression of the mel, through the vocoder: what diffusion has to beat.

The regression is the Mamba-GAN's front, which an L1 between log-mels trains together with the rest of that head: as
long, on the same examples. Its log-mel goes through the vocoder as the diffusion's does, known bins put back.

    python benchmarks/mel_regression.py REF_DIR [--model FOLDER] [--cutoffs 4000,8000] [--limit N] [--no-visqol]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentsr import Pipeline
from latentsr.bandwidth import BandEstimator
from latentsr.config import AUDIO
from latentsr.evaluation import benchmark, report
from latentsr.evaluation.conditions import Conditions
from latentsr.heads.base import LowBand
from latentsr.heads.mamba_gan import MambaGanHead
from latentsr.models.hifigan import context_frames, vocode
from latentsr.options import Options
from latentsr.restoring.analysis import hear
from latentsr.restoring.chain import Chain
from latentsr.restoring.engine import Restorer
from latentsr.signal.mel import bands_below


class RegressionHead(MambaGanHead):
    """Low band -> log-mel of the front -> vocoder."""

    def __init__(self, pipe: Pipeline) -> None:
        super().__init__(pipe.mamba_gan)
        self.vocoder = pipe.vocoder
        self.context_frames += context_frames(pipe.vocoder)

    def decode(self, low: LowBand) -> tuple[Tensor, Tensor | None]:
        given = self.mel(low.wave)
        clean = self.network.in_nats(self.network.front(given[:, 0], low.cutoff_hz)[1])
        known = bands_below(low.cutoff_hz, AUDIO)[:, None, None, :]
        return vocode(self.vocoder, torch.where(known, given, clean[:, None]), AUDIO), clean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ref_dir", type=Path)
    parser.add_argument("--model", help="folder; the embedded default if none")
    parser.add_argument("--cutoffs", default="4000,8000", help="Hz, separated by commas")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--visqol", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()
    head = RegressionHead(Pipeline.from_pretrained(args.model, heads=["mamba-gan", "vocoder"]))

    @torch.inference_mode()
    def restore(wave: np.ndarray, rate: int, cutoff_hz: float | None) -> tuple[np.ndarray, float | None]:
        low = torch.from_numpy(wave).float()[None]
        band = BandEstimator(AUDIO.sample_rate) if cutoff_hz is None else None
        if band is not None:
            band.update(low)
        options = Options(cutoff_hz=cutoff_hz)
        heard = hear(lambda: [low], [low], band, options)
        restorer = Restorer(Chain(head, None, heard, options))
        pieces = [*restorer.push(low), *restorer.finish()]
        return torch.cat(pieces, dim=-1)[0].double().numpy(), heard.track.cutoff_hz

    conditions = Conditions(cutoffs_hz=tuple(float(hz) for hz in args.cutoffs.split(",")), limit=args.limit)
    clips = benchmark.find_clips(args.ref_dir, args.limit)
    systems = [benchmark.unprocessed(), benchmark.restored("mel regression + vocoder", restore)]
    records = benchmark.run(benchmark.Comparison(clips, systems, conditions), visqol=args.visqol)
    print(report.format_table(report.summarise(records)))


if __name__ == "__main__":
    main()
