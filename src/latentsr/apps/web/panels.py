"""Pieces of the page in HTML; whatever comes from a visitor is escaped."""

from __future__ import annotations

from html import escape
from typing import Any

from latentsr.apps.web.look import Seen
from latentsr.apps.web.work import LISTEN_S, MOST_CHANNELS, Result
from latentsr.config import AUDIO

HEADS = {"mamba-gan": "Fast", "vocoder": "Lively", "diffwave-mamba": "Natural"}  # by what they are known for
LISTENING = '<p class="lsr-heard">Listening to where it ends …</p>'


def waiting(ahead: int) -> str:
    """Of a job in the queue."""
    people = "1 recording is" if ahead == 1 else f"{ahead} recordings are"
    return working(f"Waiting: {people} before yours", 0.0)


def working(what: str, fraction: float) -> str:
    """Of a job at work."""
    percent = round(100 * fraction)
    return (
        f'<div class="lsr-status" role="status"><p>{escape(what)}</p><div class="lsr-bar" role="progressbar" '
        f'aria-label="Progress" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent}">'
        f'<span style="width:{percent}%"></span></div></div>'
    )


def error(text: str) -> str:
    """One sentence that says what is wrong and what to do."""
    whole = text if text.endswith((".", "!", "?")) else f"{text}."
    return f'<div class="lsr-error" role="alert">{escape(whole)}</div>'


def plain(text: str) -> str:
    """A word on how it stands."""
    return f'<div class="lsr-status" role="status"><p>{escape(text)}</p></div>'


def seen(name: str, what: Seen) -> str:
    """Of an upload that will do."""
    return plain(f"{name}: {duration(what.seconds)}, {rate(what.sample_rate)}, {channels(what.channels)}")


def heard(facts: dict[str, Any] | None) -> str:
    """Of an upload that was listened to: where it ends, what probably cut it, and what to do."""
    if facts is None:
        return ""
    ends = "" if facts["full_band"] else f"Ends at {facts['cutoff_hz'] / 1000:.1f} kHz. "
    words = f"{ends}Probable cause: {facts['cause']['sentence']}."
    if facts["hum"] is not None:
        words += f" Tick Denoise: there is hum at {facts['hum']['mains_hz']} Hz."
    elif facts["lines"]:
        words += f" Tick Denoise: there is a tone at {facts['lines'][0]['hz']:,.0f} Hz."
    if any(facts["holes_hz"]):
        words += " Tick Repair codec holes, under Advanced."
    return f'<p class="lsr-heard">{escape(words)}</p>'


def done(result: Result, url: str) -> str:
    """The way to the file."""
    about = f"{rate(result.sample_rate)}, {channels(result.channels)}, {size(result.bytes)}"
    return (
        f'<div class="lsr-status" role="status"><a class="lsr-download" href="{escape(url)}" '
        f'download="{escape(result.name)}"><span>Download {escape(result.name)}</span><small>{about}</small></a></div>'
    )


def details(result: Result) -> str:
    """What was found out, and what was made."""
    top_khz = min(result.sample_rate, AUDIO.sample_rate) / 2000
    if result.cutoff_hz >= AUDIO.sample_rate / 2:
        band, made = "reaches 24 kHz: nothing is missing", "nothing: it comes back as it came"
    else:
        band = f"ends at <strong>{result.cutoff_hz / 1000:.1f} kHz</strong>"
        made = f"{result.cutoff_hz / 1000:.1f} to {top_khz:g} kHz, by {escape(result.head)}"
        if result.copied is not None:
            made = f"nothing: {result.copied}"
    factor = result.seconds / max(result.duration_s, 1e-9)
    rows = {
        "Given band": band,
        "Made": made,
        "Time": f"{result.seconds:.1f} s for {duration(result.duration_s)} (real-time factor {factor:.2f})",
    }
    if result.gain != 1.0:
        rows["Level"] = f"scaled by {result.gain:.3f}, since the recording goes above full scale"
    if result.lines_hz:
        rows["Taken out"] = "tones at " + ", ".join(f"{hz:g} Hz" for hz in result.lines_hz)
    if notes := [*result.notes, *_listening_notes(result)]:
        rows["Notes"] = "<br>".join(escape(note) for note in notes)
    listed = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows.items())
    return f'<dl class="lsr-details">{listed}</dl>'


def duration(seconds: float) -> str:
    """In words that fit its size.

    >>> duration(3.3), duration(75)
    ('3.3 s', '1 min 15 s')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {seconds % 60:.0f} s"


def rate(hz: int) -> str:
    """In kHz."""
    return f"{hz / 1000:g} kHz"


def channels(count: int) -> str:
    """In words."""
    return {1: "mono", 2: "stereo"}.get(count, f"{count} channels")


def size(count: int) -> str:
    """Of a file."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def _listening_notes(result: Result) -> list[str]:
    notes = []
    if result.duration_s > LISTEN_S:
        notes.append(f"to listen to here are its first {LISTEN_S / 60:g} minutes; the download has all")
    if result.channels > MOST_CHANNELS:
        notes.append("you hear the mean of its channels here; the download has all")
    return notes
