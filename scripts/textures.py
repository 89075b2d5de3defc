"""What a part may play in a bar: tunes, runs, broken chords, a groove. Each is drawn anew for every bar."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    """What a texture needs to know: beats, and the degree of the scale on which the chord stands."""

    beats: int
    chord: int


Event = tuple[float, float, list[int]]  # start and length in beats, degrees of the scale (drums: MIDI notes)
Texture = Callable[[Bar, random.Random], Iterator[Event]]


def tune(bar: Bar, rng: random.Random) -> Iterator[Event]:
    at, degree = 0.0, bar.chord + rng.choice((0, 2, 4, 7, 9))
    while at < bar.beats:
        length = min(rng.choice((0.25, 0.5, 0.5, 0.75, 1, 1, 1.5, 2)), bar.beats - at)
        if rng.random() < 0.9:
            yield at, length, [degree]
        degree += rng.choice((-3, -2, -1, -1, 0, 1, 1, 2, 4))
        at += length


def doubled(bar: Bar, rng: random.Random) -> Iterator[Event]:
    """A tune in thirds, sixths or octaves."""
    interval = rng.choice((2, 5, 7))
    for at, length, (degree,) in tune(bar, rng):
        yield at, length, [degree, degree + interval]


def run(bar: Bar, rng: random.Random) -> Iterator[Event]:
    step, degree, way = rng.choice((0.25, 0.25, 1 / 6, 0.125)), bar.chord + rng.choice((0, 4, 7)), rng.choice((-1, 1))
    for i in range(round(bar.beats / step)):
        yield i * step, step, [degree]
        way = -way if rng.random() < 0.15 else way
        degree += way


def repeated(bar: Bar, rng: random.Random) -> Iterator[Event]:
    step, each = rng.choice((0.25, 0.5, 1 / 3)), rng.choice((2, 4, 8))
    for i in range(round(bar.beats / step)):
        if i % each == 0:
            degree = bar.chord + rng.choice((0, 2, 4, 7))
        yield i * step, step, [degree]


def arpeggio(bar: Bar, rng: random.Random) -> Iterator[Event]:
    step, octaves = rng.choice((0.25, 0.5, 1 / 3)), rng.choice((1, 2, 3))
    up = [bar.chord + 7 * octave + third for octave in range(octaves) for third in (0, 2, 4)] + [
        bar.chord + 7 * octaves
    ]
    wave = up + up[-2:0:-1] if rng.random() < 0.6 else up[::-1]
    for i in range(round(bar.beats / step)):
        yield i * step, step, [wave[i % len(wave)]]


def long_notes(bar: Bar, rng: random.Random) -> Iterator[Event]:
    for at in (0.0,) if rng.random() < 0.6 else (0.0, bar.beats / 2):
        yield at, bar.beats - at if at else bar.beats / rng.choice((1, 2)), [bar.chord + rng.choice((0, 2, 4, 7))]


def _notes(bar: Bar, rng: random.Random) -> list[int]:
    inversion = rng.choice((0, 0, 1, 2))
    notes = [bar.chord + third + (7 if i < inversion else 0) for i, third in enumerate((0, 2, 4))]
    return notes + rng.choice(([], [], [bar.chord + 7], [bar.chord + 6]))


def block(bar: Bar, rng: random.Random) -> Iterator[Event]:
    step = rng.choice((0.5, 1, 1, 2))
    for i in range(math.ceil(bar.beats / step)):
        yield i * step, min(step, bar.beats - i * step), _notes(bar, rng)


def sustained(bar: Bar, rng: random.Random) -> Iterator[Event]:
    yield 0.0, bar.beats, _notes(bar, rng)


def off_beat(bar: Bar, rng: random.Random) -> Iterator[Event]:
    for beat in range(bar.beats):
        yield beat + 0.5, 0.4, _notes(bar, rng)


def broken(bar: Bar, rng: random.Random) -> Iterator[Event]:
    figure, step = rng.choice(((0, 4, 2, 4), (0, 2, 4, 7), (0, 4, 7, 9), (0, 7, 4, 7))), rng.choice((0.25, 0.5, 0.5))
    for i in range(round(bar.beats / step)):
        yield i * step, step, [bar.chord + figure[i % 4]]


def strummed(bar: Bar, rng: random.Random) -> Iterator[Event]:
    for at in rng.choice(((0, 1, 1.5, 2.5), (0, 0.5, 1, 1.5, 2, 2.5), (0, 2))):
        notes = [bar.chord, bar.chord + 4, bar.chord + 7, bar.chord + 9, bar.chord + 11]
        for i, note in enumerate(notes if rng.random() < 0.6 else notes[::-1]):
            yield at + 0.025 * i, 0.9, [note]


def roots(bar: Bar, rng: random.Random) -> Iterator[Event]:
    step = rng.choice((0.5, 1, 1, 2))
    for i in range(math.ceil(bar.beats / step)):
        yield i * step, min(step, bar.beats - i * step), [bar.chord + (rng.choice((0, 0, 4, 7)) if i else 0)]


def walking(bar: Bar, rng: random.Random) -> Iterator[Event]:
    for beat in range(bar.beats):
        yield beat, 1, [bar.chord + rng.choice((0, 2, 4, 5, 7, 8)) if beat else bar.chord]


def groove(bar: Bar, rng: random.Random) -> Iterator[Event]:
    """Bass drum, snare and a cymbal; now and then a crash or a fill over the toms."""
    step, time_keeper = rng.choice((0.25, 0.5, 0.5, 1 / 3)), rng.choice((42, 42, 46, 51, 53, 54, 70, 82))
    for i in range(round(bar.beats / step)):
        yield i * step, step, [time_keeper if rng.random() < 0.9 else 46]
    for beat in range(bar.beats):
        yield beat + rng.choice((0, 0, 0.5)), 0.5, [36 if beat % 2 == 0 else rng.choice((38, 38, 40, 37, 39))]
    if rng.random() < 0.4:
        yield 0.0, 2.0, [rng.choice((49, 52, 55, 57))]
    if rng.random() < 0.25:
        for i in range(4):
            yield bar.beats - 1 + i / 4, 0.25, [rng.choice((38, 41, 43, 45, 47, 48, 50))]


def small_percussion(bar: Bar, rng: random.Random) -> Iterator[Event]:
    """One to three of castanets, triangle, tambourine, cymbals, blocks, shakers and the like, in patterns and rolls."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        note = rng.choice(
            (85, 85, 85, 81, 81, 80, 54, 54, 49, 57, 51, 42, 75, 76, 77, 56, 69, 70, 73, 82, 83, 84, 37, 38, 60, 63)
        )
        step = rng.choice((0.125, 0.25, 0.5, 0.5, 1, 1, 2))
        for i in range(math.ceil(bar.beats / step)):
            if rng.random() < 0.7:
                yield i * step, step, [note]


ROLES: dict[str, tuple[Texture, ...]] = {
    "tune": (tune, tune, tune, run, repeated, arpeggio, long_notes, long_notes),
    "inner": (tune, long_notes, long_notes, repeated, broken),
    "right": (tune, tune, doubled, run, repeated, arpeggio, block),
    "left": (broken, broken, block, sustained, roots, off_beat, arpeggio),
    "chords": (block, sustained, sustained, off_beat, broken),
    "plucked": (strummed, arpeggio, broken, tune, run, doubled),
    "bass": (roots, roots, walking, long_notes),
    "drums": (groove,),
    "percussion": (small_percussion,),
}
