"""Every choice of a restoration, said, documented and checked once. Importing this imports no torch.

`Options` is made on the first line of every entry: the call, `restore_file`, `stream`, the command line, batch, the
demo, the plug-ins and `eval`. The command line and the demo read defaults, ranges and help texts from here.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, fields, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from latentsr.config import AUDIO
from latentsr.errors import UsageError
from latentsr.head_kinds import HEADS, HeadKind

if TYPE_CHECKING:  # it imports numpy
    from latentsr.audio.facts import Asks

FORMATS = ("wav", "flac", "mp3", "ogg", "opus")
SOURCE = "source"  # in the place of a rate: the recording's own
COMPAT_FILTERS = ("butter", "cheby1", "ellip", "bessel")  # what audiosr draws its low-pass from
AMOUNT = re.compile(r"([+-]?\d{1,6}(?:\.\d{1,6})?) ?(%|db)", re.IGNORECASE)  # in words: 50%, -6dB
SEEDS = (-(2**63), 2**64 - 1)  # what torch's generators take

Rate = int | Literal["source"] | None


@dataclass(frozen=True)
class Choice:
    """What there is to say of one choice."""

    help: str
    low: float | None = None  # the range of a number, ends included
    high: float | None = None
    one_of: tuple[str, ...] = ()  # the words of one that takes words
    flag: str | None = None  # on the command line; None: the field's name with hyphens
    metavar: str | None = None
    group: str = "Sound"  # under which the help lists it


def choice(default: Any, help: str, **more: Any) -> Any:
    """A field of `Options` with what there is to say of it."""
    return field(default=default, metadata={"choice": Choice(help, **more)})


class Choices(TypedDict, total=False):
    """The keywords of a call: see `Options`."""

    head: str | None
    steps: int | None
    guidance_scale: float | None
    temperature: float | None
    seed: int
    denoise: bool
    repair: bool
    cutoff_hz: float | None
    use_latents: bool
    mid_side: bool
    amount: float | str
    tilt: float
    sibilance: float
    ceiling_hz: float | None
    no_floor: bool
    batch_size: int
    salvage: bool
    on_nonfinite: Literal["error", "zero"]
    track: int
    no_timeline: bool


class FileChoices(Choices, total=False):
    """The keywords of `restore_file`: see `Options`."""

    sample_rate: Rate
    format: str | None
    subtype: str | None
    overwrite: bool


@dataclass(frozen=True)
class Options:
    """How to restore, and how to write what was restored.

    Attributes:
        head: which decoder makes the wave, a key of `latentsr.heads.HEADS`; None: the model's default.
        steps: evaluations of the denoiser: the head's own if it has one, else that of the latents; None: the model's
            default.
        guidance_scale: above 1 follows the condition harder, at twice the cost; None: the model's default.
        temperature: of the initial noise; None: the model's default.
        seed: same seed, same result, however the recording is cut into windows.
        denoise: filter the known band too, instead of keeping it as it is.
        repair: fill the holes that a codec left in the known band; a recording that has none stays as it is
            (docs/repair.md).
        cutoff_hz: where the known band ends; None estimates it.
        use_latents: let a head that can do without them decode the diffusion's latents.
        mid_side: restore mid and side of stereo, where the side ends lower, in the place of left and right: the side
            comes back, and left and right are no longer kept above its end (docs/stereo.md).
        amount: of the made band, a gain in amplitude, or "50%" or "-6dB"; 0 gives the recording back.
        tilt: of the made band, dB per octave above the cutoff.
        sibilance: of the made band where the recording has no pitch, dB.
        ceiling_hz: make nothing above; None: up to 24 kHz.
        no_floor: do not let the noise floor of a recording with pauses go on in the made band (docs/bandwidth.md).
        batch_size: windows in one batch.
        salvage: restore what can be decoded of a file that is cut short, and note it.
        on_nonfinite: "zero" replaces samples of a file that are NaN or infinite, and notes it.
        track: which audio track of a file that has several, from 1 on.
        no_timeline: leave out the silence where the time line of a video has no sound.
        sample_rate: of the written file, Hz; "source": the recording's own; None: 48000.
        format: 'wav', 'flac', ... ; None: by the extension of the written file.
        subtype: libsndfile's, 'PCM_24'; None takes the shallowest that is as deep as the recording.
        overwrite: replace an existing file.
        compat_filter: not None: compute what audiosr 0.0.7 does, with this low-pass.

    Raises:
        UsageError: a value is out of its range.
    """

    head: str | None = choice(
        None, f"Take this network to make the wave: {', '.join(HEADS)}.", one_of=tuple(HEADS), metavar="NAME"
    )
    steps: int | None = choice(None, "Take so many steps of diffusion.", low=1, high=1000)
    guidance_scale: float | None = choice(
        None, "Follow the condition so hard; 1 is no guidance.", low=0.0, high=100.0, flag="guidance"
    )
    temperature: float | None = choice(
        None, "Scale the initial noise; below 1, the band is nearer to the mean.", low=0.0, high=2.0
    )
    seed: int = choice(0, "Draw with this seed; the same seed draws the same band.", low=SEEDS[0], high=SEEDS[1])
    denoise: bool = choice(False, "Take tones and hiss out of the known band too.")
    repair: bool = choice(False, "Fill the holes that MP3 and other codecs left in the known band.")
    cutoff_hz: float | None = choice(
        None, "The recording ends here; without it, the end is measured.",
        low=500.0, high=AUDIO.sample_rate / 2, flag="cutoff", metavar="HZ",
    )  # fmt: skip
    use_latents: bool = choice(False, "Let a Mamba head decode the latents of the diffusion.")
    mid_side: bool = choice(False, "Restore mid and side of stereo whose side ends lower, not left and right.")
    amount: float | str = choice(
        1.0, "Take so much of what is made: 50% or -6dB; 0% gives the recording back.", low=0.0, high=4.0,
        metavar="%|dB", group="Made band",
    )  # fmt: skip
    tilt: float = choice(
        0.0, "Tilt the made band, dB per octave above the cutoff.", low=-12.0, high=12.0, metavar="DB",
        group="Made band",
    )  # fmt: skip
    sibilance: float = choice(
        0.0, "Raise or lower the made band where the recording has no pitch: s, breath, cymbals.",
        low=-12.0, high=12.0, metavar="DB", group="Made band",
    )  # fmt: skip
    ceiling_hz: float | None = choice(
        None, "Make nothing above.", low=1_000.0, high=AUDIO.sample_rate / 2, flag="ceiling", metavar="HZ",
        group="Made band",
    )  # fmt: skip
    no_floor: bool = choice(False, "Do not let the recording's noise floor go on above its end.", group="Made band")
    batch_size: int = field(default=1)
    salvage: bool = choice(False, "Restore what can be decoded of a recording that is cut short.", group="Input")
    on_nonfinite: Literal["error", "zero"] = choice(
        "error", "Refuse samples that are NaN or infinite, or put zeros there.", one_of=("error", "zero"), group="Input"
    )
    track: int = choice(1, "Take this audio track of a file that has several.", low=1, high=1000, group="Input",
                        metavar="N")  # fmt: skip
    no_timeline: bool = choice(False, "Leave out the silence where a video has no sound.", group="Input")
    sample_rate: Rate = choice(
        None, "Write at this rate; without it, at 48000 Hz.", metavar="HZ|source", group="Output",
        low=1_000, high=768_000,
    )  # fmt: skip
    format: str | None = choice(
        None, "Write in this format; without it, the names of the outputs say it.", one_of=FORMATS, group="Output"
    )
    subtype: str | None = field(default=None)
    overwrite: bool = choice(False, "Replace outputs that exist.", group="Output")
    compat_filter: str | None = choice(
        None, "Take this low-pass with --compat; without it, ellip. audiosr itself draws one at random.",
        one_of=COMPAT_FILTERS, group="AudioSR",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if isinstance(self.amount, str):
            object.__setattr__(self, "amount", _gain(self.amount))
        for each in fields(self):
            about, value = each.metadata.get("choice"), getattr(self, each.name)
            if about is not None and value is not None:
                _check(each.name, value, about, each.default)
        whole = isinstance(self.batch_size, Integral) and not isinstance(self.batch_size, bool)
        if not whole or self.batch_size < 1:
            raise UsageError(f"batch_size must be a whole number from 1 on, got {self.batch_size!r}")
        if self.ceiling_hz is not None and self.cutoff_hz is not None and self.ceiling_hz <= self.cutoff_hz:
            raise UsageError(
                f"ceiling {self.ceiling_hz:g} Hz is not above the cutoff {self.cutoff_hz:g} Hz: nothing would be made; "
                "raise the ceiling or leave it out"
            )
        shaped = ("tilt", "sibilance", "ceiling_hz", "no_floor")
        idle = [word for word in shaped if getattr(self, word) != getattr(Options, word)]
        if self.amount == 0 and idle:
            raise UsageError(
                f"an amount of 0% leaves nothing for {', '.join(idle)} to act on; leave out one or the other"
            )
        if self.denoise and self.no_floor:
            raise UsageError("denoise takes the noise floor out, so that none goes on; leave no_floor out")
        if self.mid_side and (self.denoise or self.cutoff_hz is not None):
            raise UsageError(
                "mid_side needs the measured ends of mid and side; leave out mid_side, or denoise and cutoff_hz"
            )
        if self.head is not None:
            self._check_head(self.head, HEADS[self.head])

    def but(self, **changes: Any) -> Options:
        """The same with a few changes; raise `TypeError` for a word that is no option."""
        known = [each.name for each in fields(self)]
        if unknown := sorted(changes.keys() - set(known)):
            raise TypeError(f"unknown option {', '.join(unknown)}; there are {', '.join(known)}")
        return replace(self, **changes)

    def with_head(self, default: str) -> Options:
        """The same with its head decided: `default` where none was asked for."""
        head = self.head or default
        if head not in HEADS:
            raise UsageError(f"this model has no head {head}; choose one of {', '.join(HEADS)}")
        return replace(self, head=head)

    @property
    def kind(self) -> HeadKind:
        """What is known of the head; it must be decided."""
        assert self.head is not None, "with_head decides"
        return HEADS[self.head]

    @property
    def reading(self) -> Asks:
        """What of them is of reading a file."""
        return {
            "salvage": self.salvage, "on_nonfinite": self.on_nonfinite, "track": self.track,
            "no_timeline": self.no_timeline,
        }  # fmt: skip

    def output_rate(self, source_rate: int) -> int:
        """Rate of the written file, Hz."""
        return source_rate if self.sample_rate == SOURCE else int(self.sample_rate or AUDIO.sample_rate)

    def in_words(self) -> str:
        """The choices that are not the defaults, as keywords."""
        chosen = {each.name: getattr(self, each.name) for each in fields(self)}
        return ", ".join(f"{name}={chosen[name]!r}" for name in chosen if chosen[name] != getattr(Options, name))

    def _check_head(self, name: str, kind: HeadKind) -> None:
        """Refuse what this head has no use for: an option that changes nothing would deceive."""
        latents = kind.needs_latents or self.use_latents
        if self.use_latents and not kind.takes_latents:
            raise UsageError(f"the {name} head decodes no latents; leave use_latents out")
        if self.use_latents and kind.needs_latents:
            raise UsageError(f"the {name} head decodes latents in any case; leave use_latents out")
        if self.denoise and not kind.can_denoise:
            able = ", ".join(other for other, its in HEADS.items() if its.can_denoise)
            raise UsageError(f"the {name} head makes nothing below the cutoff and cannot denoise; choose one of {able}")
        if self.repair and not kind.can_repair:
            able = ", ".join(other for other, its in HEADS.items() if its.can_repair)
            raise UsageError(f"the {name} head cannot fill a codec's holes; leave repair out, or choose one of {able}")
        if self.seed != 0 and not kind.draws:
            raise UsageError(f"the {name} head draws nothing, whatever the seed; leave seed out")
        if self.steps is not None:
            if not kind.takes_steps and not latents:
                raise UsageError(f"the {name} head makes the wave in one pass and takes no steps; leave steps out")
            if not kind.steps[0] <= self.steps <= kind.steps[1]:
                raise UsageError(
                    f"steps of the {name} head must be {kind.steps[0]} to {kind.steps[1]}, got {self.steps}"
                )
        for word in ("mid_side", "amount", "tilt", "sibilance", "ceiling_hz", "no_floor") if kind.live else ():
            if getattr(self, word) != getattr(Options, word):
                raise UsageError(f"the {name} head makes its band as it comes and takes no {word}; leave {word} out")
        for word in ("guidance_scale", "temperature"):
            if getattr(self, word) is not None and not latents:
                raise UsageError(
                    f"{word} is of the diffusion of latents, and the {name} head draws none; leave {word} out"
                )


def choice_of(name: str) -> Choice:
    """What there is to say of a field of `Options`."""
    about: Choice = Options.__dataclass_fields__[name].metadata["choice"]
    return about


def _gain(text: str) -> float:
    """An amount in words as a gain in amplitude.

    >>> _gain("50%"), round(_gain("-6dB"), 3)
    (0.5, 0.501)
    """
    if (found := AMOUNT.fullmatch(text.strip())) is None:
        raise UsageError(f"amount must be a share or a level, like 50% or -6dB, got {text[:40]!r}")
    number, unit = float(found[1]), found[2]
    return number / 100 if unit == "%" else 10 ** (min(number, 1e3) / 20)


def _check(name: str, value: Any, about: Choice, default: Any) -> None:
    """Raise `UsageError` where a value is not of its kind or out of its range."""
    if about.one_of:
        if value not in about.one_of:
            raise UsageError(f"unknown {name} {value!r}; choose one of {', '.join(about.one_of)}")
    elif isinstance(default, bool):
        if not isinstance(value, bool):
            raise UsageError(f"{name} must be True or False, got {value!r}")
    elif not (name == "sample_rate" and value == SOURCE):
        whole = name in ("steps", "seed", "sample_rate", "track")
        is_number = isinstance(value, Integral) if whole else isinstance(value, Real) and math.isfinite(value)
        assert about.low is not None and about.high is not None
        if not is_number or isinstance(value, bool) or not about.low <= value <= about.high:
            span = "a whole number of 64 bits" if name == "seed" else f"{about.low:g} to {about.high:g}"
            got = repr(value)
            if name == "amount":
                span = f"0% to {about.high:.0%}, or up to {20 * math.log10(about.high):.0f}dB"
                got = f"{value:.0%}" if is_number and not isinstance(value, bool) else got
            raise UsageError(f"{name} must be {span}, got {got}")
