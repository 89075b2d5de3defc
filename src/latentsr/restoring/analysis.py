"""What must be known of a recording before its first sample is restored.

It is found by passes over the recording's blocks, so that any length needs the same memory, and a file and an array
give the same answer. One pass does, or three where noise is to be taken out: where to look for lines and floor depends
on how long the recording is. Where the band ends is heard in the first pass, at the recording's own rate; where hiss
is to be taken out, in a fourth, on what rises above the hiss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from latentsr.audio import Album, AudioError, EmptyAudio, resample
from latentsr.bandwidth import BandEstimator
from latentsr.config import AUDIO
from latentsr.options import Options
from latentsr.restoring.source import CutoffTrack, Recording, resampled
from latentsr.signal import lines
from latentsr.signal.correlation import Correlation, CorrelationEstimator
from latentsr.signal.floor import OVER_TO_SEE, floors_in, segment_samples, segment_starts, subtract_floors
from latentsr.signal.holes import HoleFinder
from latentsr.signal.lines import line_starts, lines_in, remove_lines
from latentsr.signal.lowband import SKIRT_FROM
from latentsr.signal.mel import MelSpectrogram
from latentsr.signal.pauses import FloorFinder
from latentsr.signal.track import Track

BLOCK_SAMPLES = 480_000  # 10 s at a time
UNALIKE: Correlation = ((1.0, 0.0), (0.0, 1.0))  # mid and side
TRAINED_FROM_HZ = 2_000.0  # no head was trained on a cutoff below
NO_HOLES = "no codec's holes were found: nothing was repaired"
LOUDEST = 1e6  # times full scale: squares of squares of more do not fit into single precision

Blocks = Callable[[], Iterable[Tensor]]  # each call begins anew: (C, n) at 48 kHz, of any lengths


@dataclass(frozen=True)
class Heard:
    """What holds for a whole recording."""

    samples: int  # per channel, at 48 kHz
    channels: int
    peak: float  # largest absolute sample
    track: Track  # where its band ends
    lines_hz: tuple[float, ...] = ()  # steady tones, looked for where they are to be taken out
    floor: float = 0.0  # standard deviation of steady hiss in the channel with most, likewise
    channel_correlation: Correlation | None = None  # how alike the channels are; None: a single one
    mid_side: Track | None = None  # where mid and side end, if these are restored instead of left and right
    holes_hz: tuple[float | None, ...] = ()  # where a codec's holes begin on each channel, None: it has none; if wanted
    floors: tuple[float, ...] = ()  # standard deviation of the noise that goes on above the end of each channel; if any

    def why_copied(self, options: Options) -> str | None:
        """Why the recording comes back as it came; None: there is something to do."""
        if self.peak == 0:
            return "silence"
        if options.denoise or self.holed:
            return None
        if options.amount == 0:
            return "an amount of 0%"
        if self.track.full_band:
            return "nothing is missing"
        ends = [stretch.cutoff_hz for stretches in self.track.channels for stretch in stretches]
        too_low = options.ceiling_hz is not None and min(ends) * SKIRT_FROM >= options.ceiling_hz
        return "it ends above the ceiling" if too_low else None

    @property
    def holed(self) -> bool:
        """Whether there are holes to fill."""
        return any(hz is not None for hz in self.holes_hz)

    def part(self, start_s: float, stop_s: float) -> Heard:
        """What holds from `start_s` to `stop_s`: what was measured on all of it, holds there too."""
        samples = round((stop_s - start_s) * AUDIO.sample_rate)
        apart = None if self.mid_side is None else self.mid_side.part(start_s, stop_s)
        return replace(self, samples=samples, track=self.track.part(start_s, stop_s), mid_side=apart)


def of_array(recording: Recording, options: Options) -> tuple[Tensor, Heard]:
    """The samples (C, T) of a recording at 48 kHz, and what was heard of them."""
    rate = recording.sample_rate
    band = estimator(rate, options)
    if band is not None:
        band.update(recording.samples)
    wave = torch.from_numpy(resample(recording.samples, rate, AUDIO.sample_rate))
    recording.samples = np.zeros((0, 0), np.float32)  # let go of
    return wave, hear(lambda: [wave], [wave], band, options)


def listen(recording: Album, options: Options, on_progress: Callable[[int], None] | None = None) -> Heard:
    """Hear recordings as one; `on_progress` is called with the samples heard so far, in the first pass."""
    rate = recording.sample_rate
    band = estimator(rate, options)
    first = resampled(recording.native(), rate, tap=None if band is None else band.update)
    heard = hear(lambda: resampled(recording.native(), rate), first, band, options, on_progress)
    joints_s = recording.bounds_s[1:-1]
    if not joints_s:
        return heard
    apart = None if heard.mid_side is None else heard.mid_side.snapped(joints_s)
    return replace(heard, track=heard.track.snapped(joints_s), mid_side=apart)


def estimator(sample_rate: int, options: Options) -> BandEstimator | None:
    """Who hears where a recording's band ends; None where that is told."""
    return BandEstimator(sample_rate, apart=options.mid_side) if options.cutoff_hz is None else None


def hear(
    blocks: Blocks,
    first: Iterable[Tensor],
    band: BandEstimator | None,
    options: Options,
    on_progress: Callable[[int], None] | None = None,
) -> Heard:
    """Hear the blocks of a recording at 48 kHz.

    Args:
        blocks: called once per further pass.
        first: the blocks of the first pass.
        band: who will have heard the recording, at its own rate, behind the first pass; None: its end is known.
        options: that end, and whether to look for steady lines and hiss, and for holes.
        on_progress: called with the samples heard so far, in the first pass.

    Raises:
        AudioError: there is nothing to hear, or it is louder than any audio.
    """
    alike: CorrelationEstimator | None = None  # a single channel is like itself
    samples = channels = 0
    peak = 0.0
    holes = HoleFinder() if options.repair else None
    pauses = None if options.denoise or options.no_floor else FloorFinder()
    for block in reblocked(first, BLOCK_SAMPLES):
        samples, channels = samples + block.shape[-1], block.shape[0]
        peak = max(peak, float(torch.linalg.vector_norm(block, torch.inf)))
        if channels > 1:
            alike = alike or CorrelationEstimator(AUDIO.sample_rate)
            alike.update(block)
        if holes is not None:
            holes.update(block)
        if pauses is not None:
            pauses.update(block)
        if on_progress is not None:
            on_progress(samples)
    if samples == 0:
        raise EmptyAudio("the recording is shorter than a sample at 48 kHz; there is nothing to restore")
    if peak > LOUDEST:
        raise AudioError(
            f"the peak is {peak:.3g} times full scale; "
            "are these integers stored as floats? Scale the samples to within 1.0"
        )
    lines_hz, floor = _noises(blocks, samples) if options.denoise else ((), 0.0)
    if band is not None:
        track = (_band_without(blocks, lines_hz, floor, band.nyquist_hz) if floor else band).result()
    else:
        track = Track.constant(float(options.cutoff_hz or 0), channels, samples / AUDIO.sample_rate)
    correlation = None if alike is None else alike.result(track.cutoff_hz)
    apart = band.mid_side() if band is not None and options.mid_side and not track.full_band else None
    if apart is not None:
        correlation = UNALIKE
    holes_hz = () if holes is None else holes.result(track.ends_hz)
    floors = () if pauses is None else pauses.result(track.ends_hz)
    if apart is not None:  # mid and side are half the sum and half the difference
        floors = (0.5 * math.hypot(*floors),) * len(floors)
    return Heard(samples, channels, peak, track, lines_hz, floor, correlation, apart, holes_hz, floors)


def note_on_cutoff(track: CutoffTrack) -> str | None:
    """What should be known of a restoration from these cutoffs, in one line."""
    cutoff_hz = min((hz for channel in track for _, hz in channel), default=TRAINED_FROM_HZ)
    if cutoff_hz >= TRAINED_FROM_HZ:
        return None
    return (
        f"the recording ends at {cutoff_hz:.0f} Hz, and nothing was trained below {TRAINED_FROM_HZ:.0f}: "
        "listen to what was made; if that end is wrong, give the true one (cutoff_hz, --cutoff)"
    )


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


def _band_without(blocks: Blocks, lines_hz: Sequence[float], floor: float, nyquist_hz: float) -> BandEstimator:
    """Who has heard the recording without lines and hiss: hiss above the programme hides where it ends."""
    band, mel = BandEstimator(AUDIO.sample_rate, nyquist_hz), MelSpectrogram(AUDIO)
    for block in reblocked(blocks(), BLOCK_SAMPLES):
        block = remove_lines(block, lines_hz, AUDIO.sample_rate) if lines_hz else block
        floors = torch.full((len(block),), floor)
        band.update(subtract_floors(block[:, None], floors, mel, OVER_TO_SEE, power=1.0)[:, 0])
    return band
