"""Chunks of WAV files: found whatever the file claims, packed so that others read them, and true at the new rate."""

import io
import struct
import xml.etree.ElementTree as ElementTree
from fractions import Fraction

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from latentsr.audio import Target, probe, read, write
from latentsr.audio.tags import broadcast, carry, riff
from latentsr.audio.tags.metadata import MAX_ITEM_BYTES, Chunk, Metadata

FMT = Chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 44_100, 88_200, 2, 16))
DATA = Chunk(b"data", bytes(1000))
BEXT = Chunk(
    b"bext", bytes(range(256)) + bytes(82) + struct.pack("<Q", 44_100 * 3600 * 10 + 7) + b"\x02\0" + bytes(254)
)
NAMES = st.sampled_from(sorted(riff.CARRIED))
CHUNKS = st.lists(st.builds(Chunk, NAMES, st.binary(max_size=300)), max_size=20)


def wav(*chunks: Chunk, kind=b"RIFF") -> io.BytesIO:
    body = b"WAVE" + riff.pack(chunks)
    return io.BytesIO(kind + struct.pack("<I", len(body)) + body)


def bext(time=0, history=b"", version=1):
    fixed = b"Reel 7".ljust(256, b"\0") + b"Archive".ljust(32, b"\0") + b"REF1".ljust(32, b"\0") + b"1928-05-0112:00:00"
    return fixed + struct.pack("<QH", time, version) + bytes(range(64)) + bytes(190) + history


def retimed(chunk, from_hz=44_100, to_hz=48_000, channels=2, subtype="PCM_24"):
    metadata = Metadata(chunks=(chunk,), sample_rate=from_hz)
    (made,), notes = broadcast.retimed(metadata, to_hz, channels, subtype)
    return made.data, notes


# --- reading -----------------------------------------------------------------------------------------


@given(CHUNKS, st.integers(0, 20))
def test_what_was_packed_is_found(chunks, before_data):
    file = wav(FMT, *chunks[:before_data], DATA, *chunks[before_data:])
    found = riff.read(file)
    assert found.chunks == tuple(chunks) and found.sample_rate == 44_100 and not found.notes


@given(st.binary(max_size=400), st.sampled_from([b"RIFF", b"RF64", b"BW64", b"FORM"]), st.booleans())
@settings(max_examples=500)
def test_no_content_raises(noise, kind, with_format):
    head = kind + b"\0\0\0\0" + (b"AIFF" if kind == b"FORM" else b"WAVE")
    found = riff.read(io.BytesIO(head + (riff.pack([FMT, BEXT]) if with_format else b"") + noise))
    assert sum(len(chunk.data) for chunk in found.chunks) <= len(noise) + len(BEXT.data)


def test_every_truncation_is_survived():
    whole = wav(FMT, BEXT, Chunk(b"iXML", b"<a/>"), DATA, Chunk(b"cue ", b"12345")).getvalue()
    counts = [len(riff.read(io.BytesIO(whole[:size])).chunks) for size in range(len(whole) + 1)]
    assert counts == sorted(counts) and counts[-1] == 3


@pytest.mark.parametrize("claim", [0xFFFFFFFF, 0xFFFFFFFE, 2**31, MAX_ITEM_BYTES + 1])
def test_a_chunk_that_claims_what_is_not_there_is_noted(claim):
    file = io.BytesIO(wav(FMT, DATA).getvalue() + b"bext" + struct.pack("<I", claim) + bytes(100))
    found = riff.read(file)
    assert found.chunks == () and "bext" in found.notes[0] and "the file ends before it does" in found.notes[0]


def test_a_chunk_above_the_limit_is_noted_and_the_next_one_found():
    found = riff.read(wav(FMT, Chunk(b"axml", bytes(MAX_ITEM_BYTES + 1)), BEXT, DATA))
    assert found.chunks == (BEXT,) and "axml of 16.0 MiB is not carried: too big" in found.notes[0]


def test_at_most_64_mib_are_carried():
    found = riff.read(wav(FMT, *[Chunk(b"axml", bytes(MAX_ITEM_BYTES))] * 5))
    assert len(found.chunks) == 4 and len(found.notes) == 1


def test_ten_thousand_chunks_are_looked_at_and_no_more():
    found = riff.read(wav(FMT, *[Chunk(b"inst", b"x")] * 10_500))
    assert len(found.chunks) == riff.MAX_CHUNKS - 1


def test_what_is_not_known_is_named():
    assert riff.read(wav(FMT, Chunk(b"levl", b"1234"), DATA)).notes == (
        "levl: chunks that are not known, and not carried",
    )


def test_chunks_behind_the_data_of_an_rf64_are_found():
    wide = struct.pack("<QQQI", 0, len(DATA.data), 500, 0)
    file = wav(Chunk(b"ds64", wide), FMT, DATA, BEXT, kind=b"RF64")
    whole = file.getvalue().replace(b"data" + struct.pack("<I", 1000), b"data" + b"\xff" * 4)
    assert riff.read(io.BytesIO(whole)).chunks == (BEXT,)


def test_a_forgotten_pad_byte_is_forgiven():
    odd = Chunk(b"bext", BEXT.data + b"!")
    whole = wav(FMT, odd, DATA, Chunk(b"iXML", b"<a/>")).getvalue().replace(b"!\0", b"!")
    assert [chunk.id for chunk in riff.read(io.BytesIO(whole)).chunks] == [b"bext", b"iXML"]


@pytest.mark.parametrize(("encoding", "text"), [("utf-8", "Süß Привет"), ("cp1252", "Süß €"), ("latin-1", "\x81ß")])
def test_list_info_is_read_in_the_encodings_that_are_out_there(encoding, text):
    listed = Chunk(b"LIST", b"INFO" + riff.pack([Chunk(b"INAM", text.encode(encoding) + b"\0\0\0")]))
    assert riff.read(wav(FMT, listed, DATA)).info == (("title", text),)


# --- what counts samples -----------------------------------------------------------------------------


@given(st.integers(0, 2**40), st.sampled_from([8_000, 44_100, 96_000]), st.sampled_from([44_100, 48_000, 96_000]))
def test_the_time_reference_is_the_same_instant(time, from_hz, to_hz):
    made, _ = retimed(Chunk(b"bext", bext(time)), from_hz, to_hz)
    got = struct.unpack_from("<Q", made, broadcast.BEXT_TIME)[0]
    assert abs(Fraction(got, to_hz) - Fraction(time, from_hz)) <= Fraction(1, 2 * to_hz)


def test_all_else_of_a_bext_stays_and_the_history_goes_on():
    before = bext(44_100 * 3600, b"A=ANALOGUE,M=mono,T=Studer A80\r\nA=PCM,F=44100,W=16,M=mono\0\0\0")
    made, notes = retimed(Chunk(b"bext", before), channels=1)
    assert made[:338] == before[:338] and made[346:602] == before[346:602] and not notes
    assert struct.unpack_from("<Q", made, 338)[0] == 48_000 * 3600
    assert made[602:].split(b"\r\n") == [
        b"A=ANALOGUE,M=mono,T=Studer A80", b"A=PCM,F=44100,W=16,M=mono", b"A=PCM,F=48000,W=24,M=mono,T=latentsr", b""
    ]  # fmt: skip


def test_a_time_that_does_not_fit_is_the_largest_that_does():
    cue = struct.pack("<III4sIII", 1, 1, 2**32 - 1, b"data", 0, 0, 2**32 - 1)
    assert struct.unpack_from("<I", retimed(Chunk(b"cue ", cue), 8_000, 48_000)[0], 8)[0] == 2**32 - 1


def test_ixml_counts_at_the_new_rate():
    before = (
        b'\xef\xbb\xbf<?xml version="1.0" encoding="UTF-8"?>\n<BWFXML><PROJECT>S\xc3\xbc\xc3\x9f &amp; 44100</PROJECT>'
        b"<SPEED><FILE_SAMPLE_RATE> 44100 </FILE_SAMPLE_RATE><AUDIO_BIT_DEPTH>16</AUDIO_BIT_DEPTH>"
        b"<DIGITIZER_SAMPLE_RATE>44100</DIGITIZER_SAMPLE_RATE>"
        b"<TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_HI>1</TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_HI>"
        b"<TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO>4</TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO>"
        b"<TIMESTAMP_SAMPLE_RATE>44100</TIMESTAMP_SAMPLE_RATE></SPEED><SYNC_POINT_LIST>"
        b"<SYNC_POINT><SYNC_POINT_LOW>44100</SYNC_POINT_LOW><SYNC_POINT_HIGH>0</SYNC_POINT_HIGH></SYNC_POINT>"
        b"<SYNC_POINT><SYNC_POINT_LOW>441</SYNC_POINT_LOW><SYNC_POINT_HIGH>0</SYNC_POINT_HIGH></SYNC_POINT>"
        b"</SYNC_POINT_LIST></BWFXML>\n"
    )
    made, notes = retimed(Chunk(b"iXML", before))
    tree = ElementTree.fromstring(made.decode("utf-8-sig"))
    text = {node.tag: node.text.strip() for node in tree.iter() if node.text}
    stamp = (2**32 + 4) * 48_000 / 44_100
    assert text["FILE_SAMPLE_RATE"] == text["TIMESTAMP_SAMPLE_RATE"] == "48000" and text["AUDIO_BIT_DEPTH"] == "24"
    assert text["DIGITIZER_SAMPLE_RATE"] == "44100" and text["PROJECT"] == "Süß & 44100" and not notes
    high, low = (int(text[f"TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_{half}"]) for half in ("HI", "LO"))
    assert (high << 32) + low == round(stamp)
    assert [node.text for node in tree.iter("SYNC_POINT_LOW")] == ["48000", "480"]


def test_a_pulled_down_time_stamp_is_left_alone():
    xml = b"<A><FILE_SAMPLE_RATE>48000</FILE_SAMPLE_RATE><TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO>5</"
    xml += b"TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO><TIMESTAMP_SAMPLE_RATE>48048</TIMESTAMP_SAMPLE_RATE></A>"
    assert retimed(Chunk(b"iXML", xml), 48_000, 96_000)[0] == xml.replace(b">48000<", b">96000<")


def test_an_ixml_of_openings_only_takes_no_time():
    xml = b"<BWFXML>" + b"<SYNC_POINT>" * 1_000_000
    assert retimed(Chunk(b"iXML", xml))[0] == xml


def test_cues_labels_loops_and_timers_are_at_the_same_instants():
    cue = struct.pack("<I", 2) + struct.pack("<II4sIII", 1, 441, b"data", 0, 0, 441) * 2
    made, _ = retimed(Chunk(b"cue ", cue))
    assert made == cue.replace(struct.pack("<I", 441), struct.pack("<I", 480))
    label = b"adtl" + riff.pack(
        [Chunk(b"labl", b"\1\0\0\0a\0"), Chunk(b"ltxt", struct.pack("<II", 1, 882) + bytes(12))]
    )
    assert retimed(Chunk(b"LIST", label))[0] == label.replace(struct.pack("<I", 882), struct.pack("<I", 960))
    smpl = (
        bytes(8)
        + struct.pack("<I", 22_676)
        + bytes(16)
        + struct.pack("<II", 1, 0)
        + struct.pack("<6I", 0, 0, 441, 882, 0, 0)
    )
    made, _ = retimed(Chunk(b"smpl", smpl))
    assert struct.unpack_from("<I", made, 8)[0] == 20_833 and struct.unpack_from("<II", made, 44) == (480, 960)
    cart = bytes(684) + b"".join(struct.pack("<4sI", b"MRK ", 441 * k) for k in range(8)) + bytes(1300)
    made, _ = retimed(Chunk(b"cart", cart))
    assert [struct.unpack_from("<I", made, 688 + 8 * k)[0] for k in range(8)] == [480 * k for k in range(8)]


@given(st.sampled_from(sorted(broadcast._REWRITERS)), st.binary(max_size=900))
@settings(max_examples=300)
def test_a_chunk_that_is_not_as_it_should_be_is_carried_as_it_is(name, content):
    made, notes = retimed(Chunk(name, content))
    assert made == content if notes else len(made) >= min(len(content), 602)


# --- in files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["wav", "rf64"])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_a_written_file_holds_them_and_its_sizes_are_right(tmp_path, format, subtype, channels):
    av = pytest.importorskip("av")
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (channels, 4_801)).astype(np.float32)
    chunks = (Chunk(b"bext", bext(44_100)), Chunk(b"iXML", b"<A>odd</A>\n"), Chunk(b"cart", bytes(2049)))
    metadata = Metadata({"title": "Süß"}, chunks=chunks, sample_rate=44_100)
    notes = write(Target.of(tmp_path / "a", format=format, subtype=subtype), samples, 48_000, metadata=metadata)
    write(Target.of(tmp_path / "b", format=format, subtype=subtype), samples, 48_000)
    whole = (tmp_path / "a").read_bytes()
    size = struct.unpack_from("<Q", whole, 20)[0] if format == "rf64" else struct.unpack_from("<I", whole, 4)[0]
    assert size == len(whole) - 8 and size % 2 == 0 and notes == ()
    found = probe(tmp_path / "a").metadata
    assert [chunk.id for chunk in found.chunks] == [b"bext", b"iXML", b"cart"] and found.tags == {"title": "Süß"}
    even = [chunk.data.rstrip(b"\0 ") for chunk in found.chunks[1:]]  # RF64 has no odd chunk
    assert even[0].strip() == b"<A>odd</A>" and len(found.chunks[2].data) == 2049 + (format == "rf64")
    assert struct.unpack_from("<Q", found.chunks[0].data, 338)[0] == 48_000
    assert np.array_equal(read(tmp_path / "a").samples, read(tmp_path / "b").samples)
    with av.open(str(tmp_path / "a")) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) == 4_801
        assert container.metadata["title"] == "Süß" and container.metadata["time_reference"] == "48000"


@pytest.mark.parametrize("kind", [b"RF64", b"BW64"])
def test_a_broadcast_wave_64_with_odd_chunks_is_read(tmp_path, kind):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 1_000)).astype(np.float32)
    write(Target.of(tmp_path / "a", format="rf64", subtype="FLOAT"), samples, 48_000)
    whole = (tmp_path / "a").read_bytes()
    at = riff.offset_of(io.BytesIO(whole), b"data")
    chunks = (Chunk(b"iXML", b"<a/>\n"), Chunk(b"axml", b"<b>"), Chunk(b"bext", bext()))
    (tmp_path / "b").write_bytes(kind + whole[4:at] + riff.pack(chunks) + whole[at:])
    got = read(tmp_path / "b")
    assert np.array_equal(got.samples, samples) and got.metadata.chunks == chunks


def test_a_file_that_passes_4_gib_by_its_chunks_is_an_rf64(tmp_path, monkeypatch):
    monkeypatch.setattr("latentsr.audio.writer.RIFF_LIMIT_BYTES", 20_000)
    metadata = Metadata(chunks=(Chunk(b"axml", b" " * 15_000),))
    samples = np.zeros((1, 4_000), np.float32)
    write(tmp_path / "a.wav", samples, 48_000)
    write(tmp_path / "b.wav", samples, 48_000, metadata=metadata)
    assert [probe(tmp_path / name).format for name in ("a.wav", "b.wav")] == ["WAV", "RF64"]


@pytest.mark.parametrize("mask", [0x3F, 0x60F, 0x0, 0x3000F])
@pytest.mark.parametrize("format", ["wav", "rf64", "flac"])
def test_six_channels_keep_their_speakers(tmp_path, mask, format):
    samples = np.tile(np.linspace(-0.5, 0.5, 6, dtype=np.float32)[:, None], 100)
    write(Target.of(tmp_path / "a", format=format), samples, 48_000, metadata=Metadata(channel_mask=mask))
    got = read(tmp_path / "a")
    assert got.metadata.channel_mask == mask and np.abs(got.samples - samples).max() < 1e-4


def test_channels_without_speakers_get_none(tmp_path):
    samples = np.zeros((6, 100), np.float32)
    soundfile.write(tmp_path / "a.wav", samples.T, 48_000)
    metadata = probe(tmp_path / "a.wav").metadata
    assert metadata.channel_mask is None
    for format, mask in (("wav", None), ("rf64", 0)):
        write(Target.of(tmp_path / format, format=format), samples, 48_000, metadata=metadata)
        assert probe(tmp_path / format).metadata.channel_mask == mask


def test_chunks_that_flac_kept_of_a_wav_are_found():
    blocks = [b"riffRIFF\0\0\0\0WAVE", b"riff" + riff.pack([BEXT]), b"riffdata\0\0\0\0", b"peakwhat"]
    flac = b"fLaC\0\0\0\x22" + bytes(10) + b"\x0a\xc4\x40" + bytes(21)
    for number, block in enumerate(blocks):
        flac += bytes([2 | (0x80 if number == 3 else 0)]) + len(block).to_bytes(3, "big") + block
    found = carry.found(io.BytesIO(flac))
    assert found.chunks == (BEXT,) and found.sample_rate == 44_100
    assert found.notes == ("application block: not carried from FLAC",)
