"""Compose short pieces by rule: a kind, a seed and a number give a MIDI file, the same bytes every time.

A piece has a key, a scale, a metre, a tempo and a row of chords. Every four bars each part draws how it plays: a
texture of its role (`textures.py`), its articulation, its loudness and how far the font's low-pass is opened. Who may
play is in `orchestra.yaml`.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from pathlib import Path

import yaml
from textures import ROLES, Bar

RATE_HZ = 48_000
TICKS = 480  # per beat
DRUM_CHANNEL, DRUM_BANK = 9, 128
SECTION = 4  # bars

SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
}
CHORDS = (
    (0, 3, 4, 0),
    (0, 5, 3, 4),
    (0, 4, 5, 3),
    (1, 4, 0, 5),
    (5, 3, 0, 4),
    (0, 6, 5, 4),
    (0, 2, 3, 4),
    (3, 1, 4, 0),
)
CENTRE = {"tune": 0.62, "inner": 0.45, "right": 0.66, "left": 0.3, "chords": 0.45, "plucked": 0.5, "bass": 0.15}
# of an instrument's range, by role


@dataclass(frozen=True)
class Instrument:
    """Where a font has it, the lowest and highest MIDI note that it plays, and whether it swells while a note lasts."""

    program: int
    bank: int
    low: int
    high: int
    held: bool = False


@dataclass(frozen=True)
class Kind:
    """`share`: of the clips, in parts; `lineups`: who may play, each part as 'instrument/role'."""

    share: int
    lineups: tuple[str, ...]
    render_hz: int = RATE_HZ


_ORCHESTRA = yaml.safe_load(Path(__file__).with_name("orchestra.yaml").read_text(encoding="utf-8"))
INSTRUMENTS = {name: Instrument(*row[:4], held="held" in row) for name, row in _ORCHESTRA["instruments"].items()}
KINDS = {name: Kind(**values) for name, values in _ORCHESTRA["kinds"].items()}


@dataclass(frozen=True)
class Piece:
    """A MIDI file and how to render it: `room` 0 is dry, `peak_db` the level in dBFS, `render_hz` is read as 48 kHz."""

    name: str
    midi: bytes
    seconds: float
    render_hz: int
    room: float
    peak_db: float


@dataclass(frozen=True)
class Song:
    """What all parts share."""

    root: int
    scale: tuple[int, ...]
    beats: int
    bars: int
    chords: tuple[int, ...]

    def note(self, degree: int, centre: int, instrument: Instrument) -> int:
        """MIDI note of a degree of the scale counted from near `centre`, moved by octaves into the range."""
        note = centre - centre % 12 + self.root + 12 * (degree // 7) + self.scale[degree % 7]
        while note > instrument.high:
            note -= 12
        while note < instrument.low:
            note += 12
        return note


def kind_of(seed: int, number: int, kinds: list[str] | tuple[str, ...] = ()) -> str:
    """The kind of clip `number`: all kinds in their shares, in an order drawn from the seed."""
    bag = [name for name in kinds or KINDS for _ in range(KINDS[name].share)]
    random.Random(f"{seed} order {number // len(bag)}").shuffle(bag)
    return bag[number % len(bag)]


def compose(kind: str, seed: int, number: int, seconds: tuple[float, float] = (20.0, 40.0)) -> Piece:
    """Clip `number` of a seed. `seconds`: its least and greatest length.

    >>> compose("piano", 0, 1).midi == compose("piano", 0, 1).midi
    True
    """
    rng, how = random.Random(f"{seed} {number} {kind}"), KINDS[kind]
    length_s, beats, tempo = (
        rng.uniform(*seconds),
        rng.choice((3, 4, 4)),
        math.exp(rng.uniform(math.log(52), math.log(176))),
    )
    slower = how.render_hz / RATE_HZ
    bars = max(1, math.ceil(length_s * rng.uniform(0.85, 1.05) * tempo / 60 / beats))
    scale = SCALES[rng.choice(("major", "major", "minor", "harmonic minor", "dorian", "mixolydian"))]
    song = Song(rng.randrange(12), scale, beats, bars, rng.choice(CHORDS) + rng.choice(CHORDS))
    events = [(0, b"\xff\x51\x03" + round(60_000_000 / (tempo * slower)).to_bytes(3, "big"))]
    tuning = rng.randint(-40, 40)  # cents
    mixes: dict[str, tuple[int, int, int]] = {}  # one place in the room for both hands
    for number_of_part, part in enumerate(rng.choice(how.lineups).split(", ")):
        name, role = part.split("/")
        channel = DRUM_CHANNEL if INSTRUMENTS[name].bank == DRUM_BANK else number_of_part
        mix = mixes.setdefault(name, (rng.randint(80, 115), rng.randint(30, 98), rng.randint(15, 90)))
        events += _setting(INSTRUMENTS[name], channel, tuning, mix)
        events += _part(song, INSTRUMENTS[name], role, channel, rng)
    name = f"{kind}_s{seed}_{number:04d}"
    room = rng.choice((0.0, 0.0, 0.2, 0.4, 0.6, 0.8))
    return Piece(name, _file(events), length_s, how.render_hz, room, rng.uniform(-12.0, -0.5))


def _setting(instrument: Instrument, channel: int, tuning: int, mix: tuple[int, int, int]) -> list[tuple[int, bytes]]:
    """Volume, place and share of the reverberation; the drum channel has neither banks nor a tuning."""
    settings = [bytes([0xB0 | channel, *pair]) for pair in zip((7, 10, 91), mix, strict=True)]
    if channel != DRUM_CHANNEL:
        bend = 8192 + round(tuning / 200 * 8192)
        settings += [bytes([0xB0 | channel, 0, instrument.bank]), bytes([0xE0 | channel, bend & 127, bend >> 7])]
    return [(0, message) for message in [*settings, bytes([0xC0 | channel, instrument.program])]]


def _part(song: Song, instrument: Instrument, role: str, channel: int, rng: random.Random) -> list[tuple[int, bytes]]:
    """One part of a piece, section after section."""
    events: list[tuple[int, bytes]] = []
    notes: list[tuple[int, int, int, int]] = []  # note, start and end in ticks, velocity
    pedal = not instrument.held and role in ("right", "left") and rng.random() < 0.5
    for first in range(0, song.bars, SECTION):
        texture, gate = rng.choice(ROLES[role]), rng.choice((0.15, 0.3, 0.5, 0.8, 0.95, 1.0, 1.1))
        loudness, slope = rng.uniform(38, 112), rng.uniform(-6, 6)
        centre = instrument.low + (instrument.high - instrument.low) * (CENTRE.get(role, 0) + rng.uniform(-0.15, 0.15))
        if channel != DRUM_CHANNEL:
            events += _opened(channel, first * song.beats * TICKS, rng.randint(1500, 6000))
        for bar in range(first, min(first + SECTION, song.bars)):
            start = bar * song.beats
            for at, length, degrees in texture(Bar(song.beats, song.chords[bar % len(song.chords)]), rng):
                tick = round((start + max(0.0, at + rng.gauss(0, 0.008))) * TICKS)
                velocity = loudness + slope * (bar - first) + 6 * (at % 1 == 0) + rng.gauss(0, 5)
                for degree in set(degrees):
                    note = degree if channel == DRUM_CHANNEL else song.note(degree, round(centre), instrument)
                    notes.append((note, tick, tick + max(20, round(gate * length * TICKS)), round(velocity)))
            if pedal:
                events.append((start * TICKS + 30, bytes([0xB0 | channel, 64, 127])))
                events.append(((start + song.beats) * TICKS - 10, bytes([0xB0 | channel, 64, 0])))
            if instrument.held and rng.random() < 0.5:
                events += _swell(channel, start * TICKS, song.beats * TICKS, rng)
    return events + _sounding(notes, channel)


def _opened(channel: int, tick: int, cents: int) -> list[tuple[int, bytes]]:
    """Move the cutoff of the font's low-pass up: NRPN 120/8, in steps of 2 cents (SoundFont 2.04, section 9.6)."""
    value = 8192 + cents // 2
    pairs = ((99, 120), (98, 8), (38, value & 127), (6, value >> 7))
    return [(tick, bytes([0xB0 | channel, *pair])) for pair in pairs]


def _swell(channel: int, tick: int, ticks: int, rng: random.Random) -> list[tuple[int, bytes]]:
    low, peak = rng.randint(60, 100), rng.uniform(0.2, 0.8)
    shape = [min(i / 16 / peak, (1 - i / 16) / (1 - peak)) for i in range(17)]
    return [
        (tick + ticks * i // 16, bytes([0xB0 | channel, 11, round(low + (127 - low) * s)])) for i, s in enumerate(shape)
    ]


def _sounding(notes: list[tuple[int, int, int, int]], channel: int) -> list[tuple[int, bytes]]:
    """Note-on and note-off messages; a note ends before the same key is struck again."""
    events, ordered = [], sorted(notes)
    for this, following in zip(ordered, [*ordered[1:], None], strict=True):
        note, start, end, velocity = this
        if following and following[0] == note:
            if following[1] == start:
                continue
            end = min(end, following[1])
        events.append((start, bytes([0x90 | channel, note, min(127, max(1, velocity))])))
        events.append((end, bytes([0x80 | channel, note, 0])))
    return events


def _file(events: list[tuple[int, bytes]]) -> bytes:
    """A Standard MIDI File of one track; at the same tick settings come first, then ends of notes, then beginnings."""
    order = {0x80: 1, 0x90: 2}
    track, last = b"", 0
    for tick, message in sorted(events, key=lambda event: (event[0], order.get(event[1][0] & 0xF0, 0))):
        track += _delta(tick - last) + message
        last = tick
    track += _delta(0) + b"\xff\x2f\x00"
    header = b"MThd" + (6).to_bytes(4, "big") + bytes([0, 0, 0, 1]) + TICKS.to_bytes(2, "big")
    return header + b"MTrk" + len(track).to_bytes(4, "big") + track


def _delta(ticks: int) -> bytes:
    groups = [ticks & 127]
    while ticks := ticks >> 7:
        groups.append(ticks & 127 | 128)
    return bytes(reversed(groups))
