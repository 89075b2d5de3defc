"""What was found out, in words: a report of one recording, a line of a table, and what restoring would do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from latentsr.signal.track import FULL_BAND_HZ, Stretch

if TYPE_CHECKING:
    from latentsr.inspection.recording import Inspection

# Below these, nothing is said of it.
LEAST_CLIPPED = 1e-6
LEAST_OFFSET = 1e-3
FEWER_BITS = 4  # than the file has
PAUSE_DB = 15.0  # by which the floor lies below the mean where there are pauses
LEAST_CLICKS, FEWEST_CLICKS = 6.0, 3  # per minute; in all
MOST_STRETCHES = 6  # of a channel, in words
COLUMNS = (("rate", 7), ("bits", 5), ("ch", 3), ("length", 9), ("ends at", 9), ("probable cause", 14))


def suggestion(found: Inspection) -> str:
    """What `latentsr restore` would do, in one sentence.

    Returns:
        Such as "would make 3,950 to 24,000 Hz anew; add --denoise for the hum at 50 Hz".
    """
    stretches = [stretch for channel in found.track.channels for stretch in channel]
    ends = [stretch.cutoff_hz for stretch in stretches if not stretch.full_band]
    if found.silent:
        return "would leave it as it is: there is nothing to hear"
    if ends:
        low, high = round(min(ends), -1), round(max(ends), -1)
        start = f"{low:,.0f}" if high - low < 0.1 * low else f"{low:,.0f} (at places {high:,.0f})"
        where = " where that is missing" if len(ends) < len(stretches) else ""
        text = f"would make {start} to {FULL_BAND_HZ:,.0f} Hz anew{where}"
    else:
        text = "would leave it as it is: no band is missing"
    more = [f"--denoise for the {' and the '.join(noises)}"] if (noises := list(_noises(found))) else []
    more += ["--repair for the holes that a codec left"] if any(found.holes_hz) else []
    return f"{text}; add {' and '.join(more)}" if more else text


def _noises(found: Inspection) -> Iterator[str]:
    if found.hum is not None:
        yield f"hum at {found.hum.mains_hz} Hz"
    if found.lines:
        each = _listed(f"{line.hz:,.0f}" for line in found.lines)
        yield f"{'lines' if len(found.lines) > 1 else 'line'} at {each} Hz"


def troubles(found: Inspection) -> list[str]:
    """What an ear or a meter would complain about, a few words each."""
    said = []
    if found.hum is not None:
        said.append(f"hum {found.hum.mains_hz} Hz {found.hum.dbfs:.0f} dB")
    if found.lines:
        said.append(f"{len(found.lines)} {'lines' if len(found.lines) > 1 else 'line'}")
    if found.clipped_share >= LEAST_CLIPPED:
        said.append(f"clipped {percent(found.clipped_share)}")
    if max(map(abs, found.steady_offset)) >= LEAST_OFFSET:
        said.append(f"offset {max(found.steady_offset, key=abs):+.4f}")
    if found.dead:
        said.append(f"channel {_listed(map(str, found.dead))} dead")
    if found.identical:
        said.append("channels identical")
    if found.out_of_phase:
        said.append("out of phase")
    per_minute = found.clicks_per_minute or 0.0
    if per_minute >= LEAST_CLICKS and per_minute * found.seconds / 60 > FEWEST_CLICKS - 0.5:
        said.append(f"{per_minute:.0f} clicks/min")
    if any(found.holes_hz):
        said.append("codec holes")
    if found.bits is not None and found.bits <= (declared_bits(found.subtype) or 0) - FEWER_BITS:
        said.append(f"{found.bits} bits in {declared_bits(found.subtype)}")
    return said


def report(found: Inspection) -> str:
    """One recording for people, a line for everything that was looked at."""
    rows = {
        "File": f"{found.format} {found.subtype}, {found.sample_rate:,} Hz, {_channels(found.channels)}, "
        f"{duration(found.seconds)}",
        "Band": _band(found),
        "Probable cause": found.cause.sentence,
        "Level": _level(found),
        "Noise floor": _floor(found),
        "Hum": _hum(found),
        "Steady lines": _listed(f"{line.hz:,.0f} Hz at {line.dbfs:.0f} dBFS" for line in found.lines) or "none",
        "Clipping": f"{percent(found.clipped_share)} of the samples"
        if found.clipped_share >= LEAST_CLIPPED
        else "none",
        "Channels": _likeness(found),
        "Clicks": "too short to say"
        if found.clicks_per_minute is None
        else f"{found.clicks_per_minute:.0f} per minute",
        "Codec holes": _holes(found),
        "Bits": _bits(found),
    }
    rows |= {"Mended": "; ".join(found.notes)} if found.notes else {}
    rows["Restore"] = suggestion(found)
    width = max(map(len, rows))
    return "\n".join([found.path, *(f"  {name.ljust(width)}  {text}" for name, text in rows.items())])


def table_head(name_width: int) -> str:
    """The line above `table_line`."""
    return "  ".join(["file".ljust(name_width), *(name.rjust(width) for name, width in COLUMNS[:-1]),
                      COLUMNS[-1][0].ljust(COLUMNS[-1][1]), "trouble"])  # fmt: skip


def table_line(found: Inspection, name: str, name_width: int) -> str:
    """One recording in one line."""
    end = "-" if found.silent else "full" if found.track.full_band else f"{round(found.track.cutoff_hz, -1):,.0f}"
    cells = [
        str(found.sample_rate), "-" if found.bits is None else str(found.bits), str(found.channels),
        duration(found.seconds), end,
    ]  # fmt: skip
    right = (cell.rjust(width) for cell, (_, width) in zip(cells, COLUMNS, strict=False))
    cause = found.cause.name.ljust(COLUMNS[-1][1])
    return "  ".join([name.ljust(name_width), *right, cause, ", ".join(troubles(found)) or "none"])


def declared_bits(subtype: str) -> int | None:
    """Of a linear PCM file.

    >>> declared_bits("PCM_24"), declared_bits("VORBIS")
    (24, None)
    """
    known = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "ALAC_16": 16, "ALAC_20": 20}
    return (known | {"ALAC_24": 24, "ALAC_32": 32}).get(subtype)


def percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def duration(seconds: float) -> str:
    """`0.250 s`, `3:20`, `1:02:03`."""
    if seconds < 60:
        return f"{seconds:.3f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def _band(found: Inspection) -> str:
    if found.silent:
        return "nothing to hear"
    each = [_stretches(stretches) for stretches in found.track.channels]
    if len(set(each)) == 1:
        return each[0]
    return "; ".join(f"channel {number}: {text}" for number, text in enumerate(each, 1))


def _stretches(stretches: tuple[Stretch, ...]) -> str:
    words = [
        ("reaches its end" if one.full_band else f"up to {round(one.cutoff_hz, -1):,.0f} Hz")
        + (f" from {duration(one.start_s)} on" if one.start_s else "")
        for one in stretches[:MOST_STRETCHES]
    ]
    more = len(stretches) - MOST_STRETCHES
    return ", ".join(words) + (f", and {more} more changes" if more > 0 else "")


def _level(found: Inspection) -> str:
    if found.peak_dbfs is None:
        return "all samples are 0"
    worst = max(found.steady_offset, key=abs)
    offset = f"offset {worst:+.4f} of full scale" if abs(worst) >= LEAST_OFFSET else "no offset"
    mean = "nothing moves" if found.rms_dbfs is None else f"mean {found.rms_dbfs:.1f} dBFS"
    return f"peak {found.peak_dbfs:.1f} dBFS, {mean}, {offset}"


def _floor(found: Inspection) -> str:
    if found.floor_dbfs is None:
        return "none: pure zeros" if found.peak_dbfs is None else "too short to say" if found.seconds < 0.2 else "none"
    text = f"{found.floor_dbfs:.0f} dBFS at the quietest moments"
    if found.floor_bits is not None:
        return f"{text}: rounding to {found.floor_bits} bits"
    never = found.rms_dbfs is not None and found.floor_dbfs > found.rms_dbfs - PAUSE_DB
    return f"{text}, but the sound never pauses" if never else text


def _hum(found: Inspection) -> str:
    if found.hum is None:
        return "none"
    harmonics = _listed(f"{hz:,.0f}" for hz in found.hum.harmonics_hz)
    return f"{found.hum.dbfs:.0f} dBFS, mains of {found.hum.mains_hz} Hz (at {harmonics} Hz)"


def _holes(found: Inspection) -> str:
    begin = min((hz for hz in found.holes_hz if hz is not None), default=None)
    if begin is None:
        return "none, or too few to say" if found.hole_share else "none"
    return f"from {begin:,.0f} Hz on, {1000 * found.hole_share:.1f} per thousand"


def _likeness(found: Inspection) -> str:
    said = [f"channel {_listed(map(str, found.dead))} dead"] if found.dead else []
    said += [f"{a} and {b} identical" for a, b in found.identical]
    said += [f"{a} and {b} {'inverted' if r < -0.99 else f'out of phase ({r:.2f})'}" for a, b, r in found.out_of_phase]
    return ", ".join(said) or ("one" if found.channels == 1 else "all differ")


def _bits(found: Inspection) -> str:
    declared = declared_bits(found.subtype)
    if found.silent:
        return "none used"
    if found.bits is None:
        return "not whole numbers: decoded from a lossy or floating-point file, or finer than 24 bits"
    return f"{found.bits} of {declared} used" if declared else f"{found.bits} used"


def _channels(count: int) -> str:
    return {1: "mono", 2: "stereo"}.get(count, f"{count} channels")


def _listed(words: Iterable[str]) -> str:
    texts = list(words)
    return ", ".join(texts[:5]) + (f" and {len(texts) - 5} more" if len(texts) > 5 else "")
