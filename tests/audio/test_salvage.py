"""What is cut short is an error with figures; with `salvage` what is left of it is read, to the bit, and said."""

import pickle
import struct

import numpy as np
import pytest
from crafting import BIT_EXACT, FFMPEG, RATE_HZ, SOUNDFILE, cut, make, noise, ogg, patched
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latentsr.audio import AudioError, Reader, TruncatedAudio, probe, read

KINDS = [*SOUNDFILE, *FFMPEG]
CUTTABLE = [name for name in KINDS if name != "late.m4a"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("salvage")
    return {name: make(folder, name, noise(frames=2 * RATE_HZ)) for name in KINDS}


def _part(name: str) -> float:
    return 0.75 if name == "opus" else 0.5  # its pages are a second long, and half a page is nothing


@pytest.mark.parametrize("name", CUTTABLE)
def test_half_a_file_is_an_error_with_figures(files, name):
    with pytest.raises(TruncatedAudio, match=r"cut short.*--salvage \(salvage=True\)$") as caught:
        read(cut(files[name], _part(name)))
    assert 0.4 < caught.value.decoded_s < 1.3  # of 2 s; Opus and AAC spend more bits on the start
    assert caught.value.declared_s == pytest.approx(2, abs=0.15) or name in ("ogg", "opus", "aac")


@pytest.mark.parametrize("name", CUTTABLE)
def test_salvage_reads_what_is_left_and_says_so(files, name):
    got, whole = read(cut(files[name], _part(name)), salvage=True), read(files[name])
    frames = got.samples.shape[1]
    assert 0.4 * RATE_HZ < frames < 1.3 * RATE_HZ
    assert np.array_equal(got.samples, whole.samples[:, :frames])
    assert len(got.notes) == 1
    assert got.notes[0].startswith(f"cut short: {frames / RATE_HZ:.3f} ")
    assert got.notes[0].endswith("the rest is missing")
    assert whole.notes == []


def test_flac_is_salvaged_to_its_last_whole_block(files):
    """The decoder loses all of a read that fails; a second of samples must not go with the frame that is broken."""
    data = files["flac"].read_bytes()
    for share in (0.3, 0.5, 0.8):
        frames = read(cut(files["flac"], share), salvage=True).samples.shape[1]
        assert frames % 4_096 == 0
        assert share * 2 * RATE_HZ - frames < 2 * 4_096, len(data)


@pytest.mark.parametrize("share", [0.06, 0.5, 0.96875, 0.98])
def test_half_a_packet_of_alac_is_left_out(files, share):
    """libsndfile decodes what is left of it, and noise behind that."""
    got, whole = read(cut(files["alac.caf"], share), salvage=True).samples, read(files["alac.caf"]).samples
    frames = got.shape[1]
    assert np.array_equal(got, whole[:, :frames])
    assert frames % 4_096 == 0
    assert -1_024 < share * 2 * RATE_HZ - frames < 2 * 4_096  # headers take a share too, and packets differ in size
    with pytest.raises(TruncatedAudio) as caught:
        read(cut(files["alac.caf"], share))
    assert caught.value.decoded_s == frames / RATE_HZ


def test_the_last_byte_of_a_block_of_adpcm_is_no_padding(files):
    path = files["adpcm"].with_name("short.adpcm")
    path.write_bytes(files["adpcm"].read_bytes()[:-1])
    with pytest.raises(TruncatedAudio, match="cut short"):
        read(path)
    got = read(path, salvage=True).samples
    assert 0 < got.shape[1] < 2 * RATE_HZ
    assert np.array_equal(got, read(files["adpcm"]).samples[:, : got.shape[1]])


def test_a_hostile_packet_table_is_read_no_further_than_it_makes_sense(files):
    data = bytearray(files["alac.caf"].read_bytes())
    table = data.index(b"pakt") + 12
    data[table + 8 : table + 16] = b"\xff" * 8  # declares -1 samples
    data[table + 24 : table + 24] = b"\xff" * 2**20  # a size of 7 million bits
    struct.pack_into(">q", data, table - 8, struct.unpack_from(">q", data, table - 8)[0] + 2**20)
    path = files["alac.caf"].with_name("hostile.caf")
    path.write_bytes(data[:-1_000])
    with pytest.raises(AudioError):
        read(path, salvage=True)


def test_an_mp4_whose_index_is_lost_cannot_be_salvaged(files):
    for salvage in (False, True):
        with pytest.raises(TruncatedAudio, match=r"its index \(moov\) is missing.*fetch a whole copy") as caught:
            read(cut(files["late.m4a"], 0.9), salvage=salvage)
        assert caught.value.decoded_s == 0
        assert "--salvage" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "after", "offset", "layout", "value"),
    [
        ("wav", b"data", 4, "<I", 0),
        ("rf64", b"ds64", 16, "<Q", 0),
        ("w64", b"data\xf3", 16, "<Q", 24),
        ("aiff", b"SSND", 4, ">I", 0),
        ("au", b".snd", 8, ">I", 0),
        ("caf", b"data", 4, ">q", 0),
    ],
)
def test_a_length_of_zero_of_a_pipe_or_a_killed_recorder_is_read_with_a_note(files, name, after, offset, layout, value):
    path = patched(files[name], after, offset, layout, value)
    with Reader(path) as reader:
        got = np.concatenate(list(reader), axis=1)
    assert np.array_equal(got, read(files[name]).samples)
    assert "its header declares 0 bytes of audio, though" in reader.notes[0]
    assert reader.account.frames_declared is None


def test_caf_of_unknown_length_is_read_to_its_end(files):
    path = patched(files["caf"], b"data", 4, ">q", -1)
    assert np.array_equal(read(path).samples, read(files["caf"]).samples)


def test_a_damaged_block_of_flac_ends_what_is_salvaged(files):
    data = bytearray(files["flac"].read_bytes())
    data[len(data) // 2] ^= 0xFF
    path = files["flac"].with_name("flipped.flac")
    path.write_bytes(data)
    with pytest.raises(TruncatedAudio, match="damaged or cut short"):
        read(path)
    got = read(path, salvage=True)
    assert 0.9 * RATE_HZ < got.samples.shape[1] < 1.1 * RATE_HZ
    assert np.array_equal(got.samples, read(files["flac"]).samples[:, : got.samples.shape[1]])


def test_ogg_without_an_end_mark_is_read_with_a_note(files):
    """Recordings of net radio end like this, and so does a file cut between two pages."""

    def unmark(page: bytearray) -> None:
        page[5] &= ~4

    got = read(ogg(files["ogg"], unmark, "last"))
    assert got.samples.shape == (2, 2 * RATE_HZ)
    assert got.notes == ["it has no end mark: 2.000 s are there, more may be missing"]


def test_probe_refuses_what_its_header_gives_away_unless_told(files):
    for name in ("wav", "rf64", "w64", "aiff", "au", "caf", "nist", "mp3", "ogg"):
        short = cut(files[name], 0.5)
        with pytest.raises(TruncatedAudio):
            probe(short)
        assert probe(short, salvage=True).sample_rate == RATE_HZ


def test_nothing_left_is_an_error_with_salvage_too(files):
    for name in CUTTABLE:
        data = files[name].read_bytes()
        path = files[name].with_name("stub")
        for size in (1, 4, 12, 20, 24):
            path.write_bytes(data[:size])
            with pytest.raises(AudioError) as caught:
                read(path, salvage=True)
            assert "--salvage" not in str(caught.value)


def test_errors_survive_the_way_between_processes():
    error = pickle.loads(pickle.dumps(TruncatedAudio("a.wav is cut short; fetch it", 1.5, None)))
    assert (str(error), error.decoded_s, error.declared_s) == ("a.wav is cut short; fetch it", 1.5, None)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(CUTTABLE), share=st.floats(0, 1, exclude_max=True))
def test_any_truncation_gives_the_beginning_or_an_error(files, name, share):
    whole = read(files[name]).samples
    try:
        got = read(cut(files[name], share), salvage=True).samples
    except AudioError:
        return
    frames = got.shape[1]
    assert 0 < frames <= whole.shape[1]
    if name in BIT_EXACT:
        assert np.array_equal(got, whole[:, :frames])
    elif frames > 2_304:  # a lossy codec's last frame may be of less than it needs
        assert np.abs(got - whole[:, :frames])[:, :-2_304].max() < 1e-3


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(KINDS),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=8),
    in_header=st.booleans(),
    salvage=st.booleans(),
)
def test_flipped_bytes_give_finite_samples_or_an_error(files, name, flips, in_header, salvage):
    data = bytearray(files[name].read_bytes())
    for place, change in flips:
        data[int(place * (min(len(data), 1_500) if in_header else len(data)))] ^= change
    path = files[name].with_name("flipped")
    path.write_bytes(data)
    try:
        with Reader(path, salvage=salvage, max_seconds=60) as reader:
            assert all(np.isfinite(block).all() for block in reader)
    except AudioError as error:
        assert "\n" not in str(error)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(word=st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**32 - 1]), at=st.integers(0, 2_800))
def test_no_word_of_an_mp4_header_is_believed(files, word, at):
    data = bytearray(files["m4a"].read_bytes())
    struct.pack_into(">I", data, at, word)
    path = files["m4a"].with_name("word")
    path.write_bytes(data)
    try:
        assert np.isfinite(read(path, max_seconds=60, salvage=True).samples).all()
    except AudioError as error:
        assert str(path) in str(error)
