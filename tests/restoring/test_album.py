"""The tracks of an album restored as one recording: joints, one gain, one hearing, and each track in its own file."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import test_joints

from latentsr import Pipeline, audio
from latentsr.audio import Album, SourceFile
from latentsr.errors import UsageError
from latentsr.signal.track import Stretch, Track
from wide import music_like

RATE = test_joints.RATE
HALF = 44_100 // test_joints.SECTOR * test_joints.SECTOR


@pytest.fixture(scope="module")
def pipe():
    made = Pipeline.from_pretrained(heads=["mamba-gan"])
    made.set_progress_bar_config(disable=True)
    return made


def written(folder: Path, *waves: np.ndarray, rate: int = RATE) -> list[Path]:
    """Files 0.wav, 1.wav, ..."""
    paths = [folder / f"{number}.wav" for number in range(len(waves))]
    for path, wave in zip(paths, waves, strict=True):
        soundfile.write(path, wave.T, rate, "FLOAT")
    return paths


def outputs(sources: list[Path], name: str = "out") -> list[Path]:
    return [source.with_name(f"{name}{source.name}") for source in sources]


def read(path: Path) -> np.ndarray:
    return audio.read(path).samples


@pytest.mark.parametrize("rate", [None, "source", 96_000])
@pytest.mark.parametrize("end_hz", [4_000.0, 16_000.0])
def test_tracks_that_play_through_join_as_the_whole(pipe, tmp_path, end_hz, rate):
    wave = test_joints.noise_below(end_hz, 2 * HALF) + test_joints.tones(2 * HALF)
    whole, *tracks = written(tmp_path, wave, wave[:HALF], wave[HALF:])
    pipe.restore_file(whole, tmp_path / "whole.wav", cutoff_hz=end_hz, sample_rate=rate)
    done = pipe.restore_album(tracks, outputs(tracks), cutoff_hz=end_hz, sample_rate=rate)
    wanted, made = read(tmp_path / "whole.wav")[0], [read(file.path)[0] for file in done]
    assert [len(each) for each in made] == [file.samples for file in done] == [len(wanted) // 2] * 2
    assert test_joints.seam_db(wanted + 1e-9, np.concatenate(made), len(made[0]), 2_500.0) < -80


def test_tracks_that_do_not_are_restored_apart(pipe, tmp_path):
    """The second begins in mid wave behind digital silence: each track is what it is alone, within -80 dB."""
    first = test_joints.tones(HALF)
    first[-200:] = 0
    second = np.cos(2 * np.pi * 500 * np.arange(HALF) / RATE) * np.abs(first).max()
    tracks = written(tmp_path, first, second)
    told: list[tuple[float, float]] = []
    pipe.restore_album(tracks, outputs(tracks), cutoff_hz=4_000.0, progress=lambda *done: told.append(done))
    done_s = [done for done, _ in told]
    assert done_s == sorted(done_s) and told[-1] == (2.0, 2.0) and 1.0 in np.round(done_s, 2) - 0.1
    for track, together in zip(tracks, outputs(tracks), strict=True):
        alone = pipe.restore_file(track, together.with_name("alone.wav"), cutoff_hz=4_000.0, overwrite=True)
        wanted = read(alone.path)
        assert np.square(read(together) - wanted).sum() < 1e-8 * np.square(wanted).sum()


@pytest.mark.parametrize(
    ("before", "after", "runs"),
    [(slice(1_000), slice(1_000, None), 1), (slice(1_000), slice(1_040, None), 2), (slice(0), slice(1_000, None), 2)],
)
def test_what_plays_through(tmp_path, before, after, runs):
    """A tone that goes on, one that jumps by half a wave, and one behind digital silence."""
    wave = 0.5 * np.sin(2 * np.pi * 551.25 * np.arange(2_000) / RATE + 1)
    first = wave[before] if wave[before].size else np.zeros(1_000)
    album = Album([SourceFile(path) for path in written(tmp_path, first, wave[after])])
    assert sum(block.shape[1] for block in album.native()) == len(first) + len(wave[after])
    assert len(album.runs()) == runs


@pytest.mark.parametrize("rate", [None, "source", 88_200])
def test_one_gain_holds_for_all(pipe, tmp_path, rate):
    wave = test_joints.tones(2 * HALF)
    tracks = written(tmp_path, 0.2 * wave[:HALF], 4 * wave[:HALF])
    done = pipe.restore_album(tracks, outputs(tracks), cutoff_hz=4_000.0, subtype="PCM_16", sample_rate=rate)
    assert done[0].gain == done[1].gain == pytest.approx(1 / (4 * np.abs(wave).max()), rel=0.01)
    levels = [np.square(read(file.path)).mean() for file in done]
    assert 10 * np.log10(levels[1] / levels[0]) == pytest.approx(20 * np.log10(20), abs=0.05)


def test_tracks_that_agree_have_one_cutoff_and_others_their_own(pipe, tmp_path):
    """Two tracks to 4 kHz, and one that lacks nothing: it comes back as it is, from its first sample on."""
    dull = test_joints.noise_below(4_000.0, 6 * RATE)
    whole = music_like(3.0)
    tracks = written(tmp_path, dull[: 3 * RATE], dull[3 * RATE :], whole)
    done = pipe.restore_album(tracks, outputs(tracks), sample_rate="source")
    assert done[0].cutoff_track == done[1].cutoff_track
    assert done[0].cutoff_hz == pytest.approx(4_000, rel=0.1)
    assert [file.copied for file in done] == [None, None, "nothing is missing"]
    assert np.array_equal(read(done[2].path), read(tracks[2]))


def test_an_album_has_one_rate_and_number_of_channels(pipe, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros((9, 2)), 44_100)
    for name, channels, rate in (("b.wav", 1, 44_100), ("c.wav", 2, 48_000)):
        soundfile.write(tmp_path / name, np.zeros((9, channels)), rate)
        with pytest.raises(UsageError, match=f"an album has one rate .*{name} has {channels} at {rate} Hz"):
            pipe.restore_album([tmp_path / "a.wav", tmp_path / name], [tmp_path / "d.wav", tmp_path / "e.wav"])
    with pytest.raises(UsageError, match="2 tracks need as many files"):
        pipe.restore_album([tmp_path / "a.wav", tmp_path / "b.wav"], [tmp_path / "d.wav"])
    assert not (tmp_path / "d.wav").exists()


def test_a_track_that_cannot_be_read_leaves_nothing(pipe, tmp_path):
    wave = test_joints.tones(HALF)
    tracks = written(tmp_path, wave, wave)
    tracks[1].write_bytes(tracks[1].read_bytes()[:-9_000])
    with pytest.raises(audio.TruncatedAudio, match=r"1\.wav is cut short"):
        pipe.restore_album(tracks, outputs(tracks))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.wav", "1.wav"]


def test_changes_near_a_joint_are_at_the_joint():
    """Not those of a moment's event, and none that are far."""
    starts = [0.0, 9.8, 20.2, 25.0, 29.9, 30.1]
    track = Track((tuple(Stretch(at, 4_000.0 + 1_000 * n) for n, at in enumerate(starts)),), 60.0)
    assert [at for at, _ in track.snapped([10.0, 20.0, 30.0]).pairs[0]] == [0.0, 10.0, 20.0, 25.0, 29.9, 30.1]
    part = track.snapped([10.0]).part(10.0, 22.0)
    assert part.pairs == [[(0.0, 5_000.0), (20.2 - 10.0, 6_000.0)]]
    assert part.seconds == 12.0
