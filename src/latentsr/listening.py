"""What must be known of a recording before its first sample is restored.

It is found by passes over the recording's blocks, so that any length needs the same memory, and a file and an array
give the same answer. One pass does, or four where noise is to be taken out: the lines and the floor that hide the
cutoff are looked for first, and where to look for them depends on how long the recording is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentsr.config import AUDIO
from latentsr.signal import lines
from latentsr.signal.audio import AudioError, EmptyAudio
from latentsr.signal.bandwidth import CutoffEstimator
from latentsr.signal.floor import OVER_TO_SEE, floors_in, segment_samples, segment_starts, subtract_floors
from latentsr.signal.lines import line_starts, lines_in, remove_lines
from latentsr.signal.mel import MelSpectrogram

BLOCK_SAMPLES = 480_000  # 10 s at a time
LOUDEST = 1e6  # times full scale: squares of squares of more do not fit into single precision

Blocks = Callable[[], Iterable[Tensor]]  # each call begins anew: (C, n) at 48 kHz, of any lengths


@dataclass(frozen=True)
class Heard:
    """What holds for a whole recording."""

    samples: int  # per channel, at 48 kHz
    channels: int
    peak: float  # largest absolute sample
    cutoff_hz: float  # half the rate: full band
    lines_hz: tuple[float, ...] = ()  # steady tones, looked for where they are to be taken out
    floor: float = 0.0  # standard deviation of steady hiss in the channel with most, likewise

    @property
    def full_band(self) -> bool:
        return self.cutoff_hz >= AUDIO.sample_rate / 2

    def leaves_alone(self, denoise: bool) -> bool:
        """Whether the recording comes back as it came: nothing is missing, or nothing is there."""
        return (self.full_band and not denoise) or self.peak == 0


def listen(
    blocks: Blocks,
    denoise: bool = False,
    cutoff_hz: float | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Heard:
    """Hear a recording.

    Args:
        blocks: called once per pass.
        denoise: look for steady lines and hiss too.
        cutoff_hz: where the recording ends, if that is known.
        on_progress: called with the samples heard so far, in the first pass.

    Raises:
        AudioError: there is nothing to hear, or it is louder than any audio.
    """
    estimator = CutoffEstimator(AUDIO.sample_rate)
    samples = channels = 0
    peak = 0.0
    for block in reblocked(blocks(), BLOCK_SAMPLES):
        samples, channels = samples + block.shape[-1], block.shape[0]
        peak = max(peak, peak_of(block))
        if not denoise and cutoff_hz is None:
            estimator.update(block[:, None])
        if on_progress is not None:
            on_progress(samples)
    _check(samples, peak)
    lines_hz, floor = _noises(blocks, samples) if denoise else ((), 0.0)
    if denoise and cutoff_hz is None:
        for block in reblocked(blocks(), BLOCK_SAMPLES):
            estimator.update(_cleaned(block, lines_hz, floor)[:, None])
    end_hz = estimator.result_together() if cutoff_hz is None else cutoff_hz
    return Heard(samples, channels, peak, end_hz, lines_hz, floor)


def _check(samples: int, peak: float) -> None:
    if samples == 0:
        raise EmptyAudio("the recording is shorter than a sample at 48 kHz; there is nothing to restore")
    if peak > LOUDEST:
        raise AudioError(
            f"the peak is {peak:.3g} times full scale; are these integers stored as floats? Scale them to within 1.0"
        )


def estimate(wave: Tensor) -> float:
    """Cutoff of a recording (C, T) in Hz, one for all channels."""
    return listen(lambda: [wave]).cutoff_hz


def peak_of(wave: Tensor) -> float:
    return max(float(wave.max()), -float(wave.min()))  # abs() would copy a long recording


def reblocked(blocks: Iterable[Tensor], samples: int) -> Iterator[Tensor]:
    """The same recording in blocks of `samples`, the last one shorter: what is heard depends on how it is cut."""
    held: list[Tensor] = []
    have = 0
    for block in blocks:
        while have + block.shape[-1] >= samples:
            piece, block = block[:, : samples - have], block[:, samples - have :]
            yield torch.cat([*held, piece], dim=-1) if held else piece
            held, have = [], 0
        if block.shape[-1]:
            held, have = [*held, block], have + block.shape[-1]
    if held:
        yield torch.cat(held, dim=-1)


def gathered(blocks: Iterable[Tensor], spans: Sequence[tuple[int, int]]) -> Iterator[Tensor]:
    """The samples [start, stop) of each span, as the blocks pass; spans come in the order of their starts."""
    kept, first, waiting = None, 0, list(spans)
    for block in blocks:
        kept = block if kept is None else torch.cat([kept, block], dim=-1)
        while waiting and waiting[0][1] <= first + kept.shape[-1]:
            start, stop = waiting.pop(0)
            yield kept[:, start - first : stop - first].clone()
        if not waiting:
            return
        needed = min(waiting[0][0], first + kept.shape[-1])
        kept, first = kept[:, max(needed - first, 0) :], max(needed, first)


def _noises(blocks: Blocks, samples: int) -> tuple[tuple[float, ...], float]:
    """Steady lines in Hz, and the standard deviation of steady hiss."""
    mel = MelSpectrogram(AUDIO)
    length = segment_samples(mel)
    heard = min(samples, lines.REFINED_S * AUDIO.sample_rate)
    beginning = torch.cat(list(gathered(blocks(), [(0, heard)])), dim=-1)
    spans = [(start, start + lines.BLOCK) for start in line_starts(samples)]
    lines_hz = lines_in(gathered(blocks(), spans), beginning, AUDIO.sample_rate) if spans else ()
    starts = segment_starts(samples, mel)
    if not starts:
        return lines_hz, 0.0
    floors = floors_in(gathered(blocks(), [(start, start + length) for start in starts]), mel)
    return lines_hz, float(floors.max())


def _cleaned(block: Tensor, lines_hz: Sequence[float], floor: float) -> Tensor:
    """A block (C, n) in which neither lines nor floor hide the end of the programme."""
    block = remove_lines(block, lines_hz, AUDIO.sample_rate) if lines_hz else block
    floors = torch.full((len(block),), floor)
    return subtract_floors(block[:, None], floors, MelSpectrogram(AUDIO), OVER_TO_SEE, power=1.0)[:, 0]
