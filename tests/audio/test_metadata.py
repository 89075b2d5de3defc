"""Tags, covers and depth: what comes in goes out, in every format that can hold it, and what cannot is said."""

import base64
import errno
import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from latentsr import audio
from latentsr.apps.restore import restore_file
from latentsr.audio import AudioError, Target, Writer, probe, read, write
from latentsr.audio.sink import Sink
from latentsr.audio.tags import carry, id3, riff, xiph
from latentsr.audio.tags.metadata import MAX_ITEM_BYTES, Chunk, Metadata, Picture
from latentsr.options import Options
from latentsr.restoring.output import RestorationOutput
from tiny import tiny_pipeline

RATE_HZ = 48_000
TAGS = {
    "title": "Süß Привет 你好", "artist": "A; B", "albumartist": "Ансамбль", "album": "Album", "date": "1928-05-01",
    "genre": "Jazz", "tracknumber": "3/12", "discnumber": "1/2", "composer": "C", "isrc": "DEA340100001",
    "copyright": "(c)", "comment": "said\nin two lines", "lyrics": "la\nla", "replaygain_track_gain": "-3.20 dB",
    "matrix": "0815 x",
}  # fmt: skip
FULL = ("wav", "rf64", "flac", "mp3", "ogg", "opus", "aiff")  # formats that keep every tag and picture
rng = np.random.default_rng(0)


def noise(channels=2, frames=30_000) -> np.ndarray:
    return np.random.default_rng(1).uniform(-0.5, 0.5, (channels, frames)).astype(np.float32)


def cover(size=100_000, kind=3, text="Vorderseite") -> Picture:
    return Picture("image/jpeg", b"\xff\xd8\xff\xe0" + np.random.default_rng(size).bytes(size), kind, text)


def ogg_is_whole(path: Path) -> bool:
    """Pages numbered without a gap, each with its checksum, to the end of the file."""
    with path.open("rb") as file:
        found = list(xiph.pages(file))
    blank = [page.head[:22] + bytes(4) + page.head[26:] + page.table + page.body for page in found]
    sums = [struct.unpack_from("<I", page.head, 22)[0] for page in found]
    numbers = [struct.unpack_from("<I", page.head, 18)[0] for page in found]
    whole = found[-1].end == path.stat().st_size and numbers == list(range(len(found)))
    return whole and sums == [xiph.checksum(page) for page in blank]


# --- every format ------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FULL)
def test_all_tags_and_covers_come_back(tmp_path, format):
    metadata = Metadata(TAGS, (cover(), Picture("image/png", b"\x89PNG" + bytes(50), 4, "")))
    notes = write(Target.of(tmp_path / "a", format=format), noise(), RATE_HZ, metadata=metadata)
    got = probe(tmp_path / "a").metadata
    assert (dict(got.tags), got.pictures, notes) == (TAGS, metadata.pictures, ())


@pytest.mark.parametrize("format", FULL)
@pytest.mark.parametrize("size", [0, 10, 64_000, 65_025 * 3, 2_000_000])
def test_the_samples_know_nothing_of_it(tmp_path, format, size):
    metadata = Metadata({"title": "t"}, (cover(size),) if size else ())
    write(Target.of(tmp_path / "a", format=format), noise(1, 70_000), RATE_HZ)
    write(Target.of(tmp_path / "b", format=format), noise(1, 70_000), RATE_HZ, metadata=metadata)
    plain, tagged = read(tmp_path / "a"), read(tmp_path / "b")
    assert np.array_equal(plain.samples, tagged.samples) and tagged.metadata.pictures == metadata.pictures
    assert format not in ("ogg", "opus") or ogg_is_whole(tmp_path / "b")


@pytest.mark.parametrize("format", FULL)
def test_another_reader_sees_them(tmp_path, format):
    av = pytest.importorskip("av")
    metadata = Metadata(TAGS, (cover(),))
    write(Target.of(tmp_path / "a", format=format), noise(), RATE_HZ, metadata=metadata)
    with av.open(str(tmp_path / "a")) as container:
        known = {**container.metadata, **container.streams.audio[0].metadata}
        known = {key.lower(): text for key, text in known.items()}
        picture = bytes(next(container.demux(video=0)))
        decoded = sum(frame.samples for frame in container.decode(audio=0))
    assert known["title"] == TAGS["title"] and known["album_artist"] == TAGS["albumartist"]
    assert known["composer"] == "C" and known["replaygain_track_gain"] == "-3.20 dB"
    assert picture == metadata.pictures[0].data and abs(decoded - 30_000) <= 2_400  # the encoders' delay and padding


def test_libsndfile_sees_the_nine_tags_it_knows(tmp_path):
    for format in ("wav", "flac", "ogg", "opus", "mp3", "aiff", "caf"):
        write(
            Target.of(tmp_path / format, format=format),
            noise(),
            RATE_HZ,
            metadata=Metadata({"title": "Süß", "artist": "B"}),
        )
        with soundfile.SoundFile(tmp_path / format) as file:
            assert (file.title, file.artist) == ("Süß", "B"), format


@pytest.mark.parametrize(("format", "says"), [("w64", "W64 does not keep the tags title"), ("au", "AU keeps no cover"),
                                              ("caf", "CAF does not keep the tags albumartist")])  # fmt: skip
def test_what_a_format_cannot_hold_is_said_and_costs_nothing_else(tmp_path, format, says):
    metadata = Metadata(TAGS, (cover(),), (Chunk(b"bext", bytes(602)),), channel_mask=0x60F)
    with Writer(Target.of(tmp_path / "a", format=format), 6, RATE_HZ, 1000, metadata=metadata) as writer:
        writer.write(noise(6, 1000))
    assert says in "; ".join(writer.notes) and "has no room for bext; write WAV" in writer.notes[-1]
    assert any("does not say which speakers" in note for note in writer.notes)
    assert read(tmp_path / "a").samples.shape == (6, 1000)


@pytest.mark.parametrize("format", [*FULL, "caf", "w64", "au"])
def test_what_is_too_big_or_holds_a_nul_is_left_out_with_a_note(tmp_path, format):
    tags = {"title": "Whole", "artist": "a\0b", "naïve=": "x", "comment": "\ud800 lone"}
    metadata = Metadata(tags, (cover(MAX_ITEM_BYTES), cover(10)))
    notes = write(Target.of(tmp_path / "a", format=format), noise(), RATE_HZ, metadata=metadata)
    got = read(tmp_path / "a").metadata
    assert "artist" not in got.tags and len(got.pictures) == (format in FULL)
    assert any("16.0 MiB" in note for note in notes) and any("artist holds a NUL" in note for note in notes)
    assert not any(format in FULL and note.startswith("title") for note in notes)


@pytest.mark.parametrize("format", FULL)
def test_fifteen_mebibytes_of_cover_are_carried(tmp_path, format):
    picture = cover(15 * 2**20)
    write(Target.of(tmp_path / "a", format=format), noise(1, 5_000), RATE_HZ, metadata=Metadata(pictures=(picture,)))
    assert probe(tmp_path / "a").metadata.pictures == (picture,)
    assert format not in ("ogg", "opus") or ogg_is_whole(tmp_path / "a")


@pytest.mark.parametrize("format", FULL)
def test_a_disk_that_fills_while_the_tags_are_written_leaves_nothing(tmp_path, format, monkeypatch):
    write_whole = Sink._write_whole

    def until_full(sink, view):
        if io.FileIO.tell(sink) + len(view) > 200_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_whole(sink, view)

    monkeypatch.setattr(Sink, "_write_whole", until_full)
    with pytest.raises(AudioError, match="free some space"):
        write(
            Target.of(tmp_path / "a", format=format),
            noise(1, 5_000),
            RATE_HZ,
            metadata=Metadata(pictures=(cover(300_000),)),
        )
    assert list(tmp_path.iterdir()) == []


# --- from one format to another ------------------------------------------------------------------------


@pytest.fixture
def m4a(tmp_path: Path) -> tuple[Path, bytes]:
    """An m4a with tags and a cover, and the cover."""
    av = pytest.importorskip("av")
    image = av.VideoFrame.from_ndarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8), format="rgb24")
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.framerate = 64, 64, "yuvj420p", 1
    jpeg = bytes(encoder.encode(image.reformat(format="yuvj420p"))[0])
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w", format="mp4") as out, av.open(io.BytesIO(jpeg), format="jpeg_pipe") as still:
        out.metadata.update({"title": "Süß", "album_artist": "AA", "track": "3/12", "composer": "C"})
        stream = out.add_stream("aac", rate=RATE_HZ, layout="stereo")
        attached = out.add_stream_from_template(still.streams.video[0])
        attached.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(noise(2, RATE_HZ), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = RATE_HZ, 0
        for packet in still.demux(video=0):
            if packet.size:
                packet.stream, packet.pts, packet.dts = attached, 0, 0
                out.mux(packet)
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    return path, jpeg


@pytest.mark.parametrize("format", FULL)
def test_an_m4a_keeps_tags_and_cover(tmp_path, m4a, format):
    path, jpeg = m4a
    source = read(path)
    assert source.samples.shape == (2, RATE_HZ)  # taking the cover first cost no samples
    write(Target.of(tmp_path / "b", format=format), source.samples * 0.5, RATE_HZ, metadata=source.metadata)
    got = probe(tmp_path / "b").metadata
    assert got.tags == {"title": "Süß", "albumartist": "AA", "tracknumber": "3/12", "composer": "C"}
    assert [(picture.mime, picture.data) for picture in got.pictures] == [("image/jpeg", jpeg)]


@pytest.mark.parametrize("source", FULL)
@pytest.mark.parametrize("target", FULL)
def test_between_any_two_formats_nothing_is_lost(tmp_path, source, target):
    metadata = Metadata(TAGS, (cover(70_000),))
    write(Target.of(tmp_path / "a", format=source), noise(1, 5_000), RATE_HZ, metadata=metadata)
    first = probe(tmp_path / "a").metadata
    write(Target.of(tmp_path / "b", format=target), noise(1, 5_000), RATE_HZ, metadata=first)
    got = probe(tmp_path / "b").metadata
    assert (dict(got.tags), got.pictures) == (TAGS, metadata.pictures)


@pytest.mark.parametrize(("container", "codec", "rate_hz", "tagged"), [
    ("mp4", "aac", 44_100, True), ("mp4", "alac", 44_100, True), ("mov", "pcm_s24le", 44_100, False),
    ("3gp", "aac", 44_100, None), ("matroska", "aac", 44_100, True), ("webm", "libopus", 48_000, True),
    ("asf", "wmav2", 44_100, True), ("wv", "wavpack", 44_100, True), ("tta", "tta", 44_100, True),
    ("avi", "mp3", 44_100, False), ("flv", "mp3", 44_100, True), ("adts", "aac", 44_100, None),
    ("ac3", "ac3", 44_100, None), ("eac3", "eac3", 44_100, None), ("amr", "libopencore_amrnb", 8_000, None),
])  # fmt: skip
def test_what_pyav_reads(tmp_path, container, codec, rate_hz, tagged):
    """`tagged`: True, every tag; False, the title at least; None, the container has none."""
    av = pytest.importorskip("av")
    layout = "mono" if codec == "libopencore_amrnb" else "stereo"
    with av.open(str(tmp_path / "a"), "w", format=container) as out:
        out.metadata.update({"title": "Süß", "album_artist": "AA", "track": "3"})
        stream = out.add_stream(codec, rate=rate_hz, layout=layout)
        stream.bit_rate = 12_200 if layout == "mono" else 128_000
        context = stream.codec_context
        shaper = av.AudioResampler(
            format=context.format, layout=layout, rate=rate_hz, frame_size=context.frame_size or 2_048
        )
        wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * rate_hz) / rate_hz).astype(np.float32)
        packed = np.stack([wave] * len(stream.layout.channels), axis=1).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
        frame.sample_rate, frame.pts = rate_hz, 0
        for part in [*shaper.resample(frame), *shaper.resample(None), None]:
            for packet in stream.encode(part):
                out.mux(packet)
    got = read(tmp_path / "a")
    loudest = np.abs(np.fft.rfft(got.samples[:, rate_hz // 2 : rate_hz * 3 // 2])).argmax(axis=1)
    assert set(loudest) == {440} and abs(got.samples.shape[1] / rate_hz - 2) < 0.05
    expected = {"title": "Süß", "albumartist": "AA", "tracknumber": "3"} if tagged else {"title": "Süß"}
    assert tagged is None or expected.items() <= got.tags.items()


# --- parsers ---------------------------------------------------------------------------------------------


def id3_tag(version: int, frames: bytes, flags: int = 0) -> bytes:
    size = bytes(len(frames) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3" + bytes([version, 0, flags]) + size + frames


def test_every_version_of_id3_is_read():
    utf16 = b"\x01" + "Süß 你".encode("utf-16")
    two = b"TT2\0\0" + bytes([len(utf16)]) + utf16 + b"PIC\0\0\x0c\0PNG\x03a\0\x89PNG!!"[:18]
    three = b"TIT2" + struct.pack(">IH", len(utf16), 0) + utf16
    three += b"COMM\0\0\0\x0e\0\0\x01eng" + b"\xff\xfe\0\0" + "hi".encode("utf-16") + b"TYER\0\0\0\x05\0\0\x001928"
    four = b"TPE1\0\0\0\x04\0\0\x03A\0B" + b"TXXX\0\0\0\x06\0\0\x03k\0v\0w" + b"USLT\0\0\0\x08\0\0\x03engx\0la"
    assert id3.parse(id3_tag(2, two)).tags == {"title": "Süß 你"}
    assert id3.parse(id3_tag(2, two)).pictures == (Picture("image/png", b"\x89PNG!", 3, "a"),)
    assert id3.parse(id3_tag(3, three)).tags == {"title": "Süß 你", "comment": "hi", "date": "1928"}
    assert id3.parse(id3_tag(4, four)).tags == {"artist": "A; B", "k": "v; w", "lyrics": "la"}


def test_unsynchronised_and_itunes_frames_are_read():
    picture = b"\0image/jpeg\0\x03\0\xff\xd8\xff\xe0" + b"x" * 300
    frame = b"APIC" + struct.pack(">IH", len(picture), 0) + picture
    told = id3.parse(id3_tag(3, frame.replace(b"\xff", b"\xff\0"), flags=0x80)).pictures[0].data
    plain = id3.parse(id3_tag(4, frame + b"TIT2\0\0\0\x02\0\0\x03x")).pictures[0].data
    assert told == plain == b"\xff\xd8\xff\xe0" + b"x" * 300


@given(st.integers(2, 4), st.binary(max_size=300), st.integers(0, 255))
@settings(max_examples=300)
def test_no_id3_raises(version, frames, flags):
    id3.parse(id3_tag(version, frames, flags))
    id3.parse(id3_tag(version, b"APIC" + frames, flags))
    id3.parse(id3_tag(version, b"TIT2\0\0\0\x40\0" + frames, flags))


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_no_comment_picture_flac_or_ogg_raises(noise):
    xiph.parse_comment(struct.pack("<I", 0) + struct.pack("<I", 3) + noise)
    xiph.parse_comment(struct.pack("<III", 0, 1, len(noise) + 23) + b"METADATA_BLOCK_PICTURE=" + noise)
    for head in (
        b"fLaC",
        b"fLaC\x04" + len(noise).to_bytes(3, "big"),
        b"fLaC\x86\0\1\0",
        b"OggS",
        b"ID3\4\0\0\0\0\1\0",
    ):
        carry.found(io.BytesIO(head + noise))


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_files_lose_their_tags_at_most(tmp_path_factory, data):
    whole = tagged_files(tmp_path_factory)[data.draw(st.sampled_from(FULL))]
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    found = carry.found(io.BytesIO(bytes(damaged[: data.draw(st.integers(0, len(whole)))])))
    assert sum(len(picture.data) for picture in found.pictures) <= len(whole)


_FILES: dict[str, bytes] = {}


def tagged_files(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("tagged") if not _FILES else None
    for format in FULL if folder else ():
        metadata = Metadata(TAGS, (cover(500),), (Chunk(b"bext", bytes(610)),))
        write(Target.of(folder / format, format=format), noise(1, 2_000), RATE_HZ, metadata=metadata)
        _FILES[format] = (folder / format).read_bytes()
    return _FILES


@given(st.dictionaries(st.sampled_from(sorted(TAGS)), st.text(st.characters(codec="utf-8"), max_size=40), max_size=6))
@settings(max_examples=200)
def test_any_text_survives_every_notation(tags):
    metadata = Metadata(tags).checked()
    kept = {key: text.strip() for key, text in metadata.tags.items() if text.strip()}
    assert xiph.parse_comment(xiph.comment(metadata, b"v")).tags == kept
    assert {key: text.replace("\ufeff", "") for key, text in kept.items()} == id3.parse(id3.build(metadata)).tags


def test_a_picture_tag_is_the_block_that_flac_has():
    picture = cover(100)
    text = base64.b64encode(xiph.picture_block(picture))
    entry = b"metadata_block_picture=" + text
    packed = struct.pack("<II", 0, 1) + struct.pack("<I", len(entry)) + entry
    assert xiph.parse_comment(packed).pictures == (xiph.parse_picture(xiph.picture_block(picture)),) == (picture,)


def test_what_described_the_encoder_is_not_said_of_another():
    packed = xiph.comment(Metadata({"title": "t", "encoder": "LAME", "itunsmpb": "0 0 0"}), b"v")
    assert xiph.parse_comment(packed).tags == {"title": "t"}


# --- speakers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["wav", "flac", "ogg", "opus"])
@pytest.mark.parametrize("channels", range(3, 9))
def test_every_channel_stays_with_its_speaker(tmp_path, format, channels):
    av = pytest.importorskip("av")
    names = {3: "FL FR FC", 4: "FL FR BL BR", 5: "FL FR FC BL BR", 6: "FL FR FC LFE BL BR", 7: "FL FR FC LFE BC SL SR",
             8: "FL FR FC LFE BL BR SL SR"}[channels].split()  # fmt: skip
    hz = [40 if name == "LFE" else 400 + 200 * number for number, name in enumerate(names)]
    seconds = np.arange(RATE_HZ) / RATE_HZ
    tones = np.stack([0.2 * np.sin(2 * np.pi * each * seconds) for each in hz]).astype(np.float32)
    metadata = Metadata(channel_mask=xiph.FLAC_MASKS[channels])
    write(Target.of(tmp_path / "a", format=format), tones, RATE_HZ, metadata=metadata)
    ours = read(tmp_path / "a")
    with av.open(str(tmp_path / "a")) as container:
        layout = [channel.name for channel in container.streams.audio[0].layout.channels]
        packed = av.AudioResampler(format="flt")
        frames = [part for frame in container.decode(audio=0) for part in packed.resample(frame)]
        theirs = np.concatenate([part.to_ndarray().reshape(-1, channels) for part in frames]).T
    loudest = [np.abs(np.fft.rfft(wave[:, 4_800:28_800])).argmax(axis=1) * 2 for wave in (ours.samples, theirs)]
    assert loudest[0].tolist() == hz and ours.metadata.channel_mask == metadata.channel_mask
    assert dict(zip(layout, loudest[1].tolist(), strict=True)) == dict(zip(names, hz, strict=True))


# --- depth -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("subtype", "wav", "flac"), [
    ("PCM_U8", "PCM_16", "PCM_16"), ("PCM_S8", "PCM_16", "PCM_16"), ("PCM_16", "PCM_16", "PCM_16"),
    ("PCM_24", "PCM_24", "PCM_24"), ("PCM_32", "PCM_32", None), ("FLOAT", "FLOAT", None), ("DOUBLE", "DOUBLE", None),
    ("IMA_ADPCM", "PCM_16", "PCM_16"), ("MS_ADPCM", "PCM_16", "PCM_16"), ("ULAW", "PCM_16", "PCM_16"),
    ("ALAW", "PCM_16", "PCM_16"), ("GSM610", "PCM_16", "PCM_16"), ("ALAC_16", "PCM_16", "PCM_16"),
    ("ALAC_20", "PCM_24", "PCM_24"), ("ALAC_24", "PCM_24", "PCM_24"), ("ALAC_32", "PCM_32", None),
    ("WAVPACK_16", "PCM_16", "PCM_16"), ("WAVPACK_32", "PCM_32", None), ("WAVPACK_FLOAT", "FLOAT", None),
    ("MPEG_LAYER_III", "PCM_24", "PCM_24"), ("VORBIS", "PCM_24", "PCM_24"), ("AAC", "PCM_24", "PCM_24"),
])  # fmt: skip
def test_the_output_is_as_deep_as_the_input_or_says_that_it_is_not(subtype, wav, flac):
    assert (
        audio.choose_subtype("wav", subtype) == wav
        and audio.Target.of("a.wav", subtype=wav).depth_note(subtype) is None
    )
    shallow = audio.Target.of("a.flac", like=subtype).depth_note(subtype)
    if flac is None:
        assert shallow == f"flac holds 24 bits, and the source is {subtype}; write WAV to keep its depth"
    else:
        assert audio.choose_subtype("flac", subtype) == flac and shallow is None
    assert audio.Target.of("a.mp3").depth_note(subtype) is None  # a lossy codec was asked for


@pytest.mark.parametrize(("codec", "format", "like"), [
    ("alac", "s16p", "ALAC_16"), ("alac", "s32p", "ALAC_24"),
    ("pcm_s24le", "s32", "PCM_24"), ("pcm_f32le", "flt", "FLOAT"),
    ("flac", "s16", "FLAC_16"), ("pcm_s32le", "s32", "PCM_32"),
])  # fmt: skip
def test_the_depth_of_what_pyav_reads_is_known(tmp_path, codec, format, like):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.mkv"), "w", format="matroska") as out:
        stream = out.add_stream(codec, rate=RATE_HZ, layout="mono")
        stream.codec_context.format = format
        frame = av.AudioFrame.from_ndarray(noise(1, 4_096), format="flt", layout="mono")
        frame.sample_rate, frame.pts = RATE_HZ, 0
        for part in av.AudioResampler(format=format, layout="mono", rate=RATE_HZ).resample(frame):
            for packet in [*stream.encode(part), *stream.encode(None)]:
                out.mux(packet)
    assert probe(tmp_path / "a.mkv").subtype == like


def test_a_float_source_saved_as_flac_says_so(tmp_path):
    out = RestorationOutput(noise(1, 1_000), RATE_HZ, 8_000.0, 1.0, "FLOAT")
    out.save(tmp_path / "a.flac")
    assert probe(tmp_path / "a.flac").subtype == "PCM_24"
    assert out.note == "flac holds 24 bits, and the source is FLOAT; write WAV to keep its depth"


# --- restored ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


def test_a_broadcast_wav_is_restored_with_all_it_carries(tmp_path, pipe):
    bext = b"Reel 7".ljust(338, b"\0") + struct.pack("<QH", 44_100 * 3600, 1) + bytes(254)
    xml = b"<BWFXML><PROJECT>7</PROJECT><FILE_SAMPLE_RATE>44100</FILE_SAMPLE_RATE></BWFXML>"
    chunks = (Chunk(b"bext", bext), Chunk(b"iXML", xml))
    metadata = Metadata({"title": "Süß", "albumartist": "AA"}, (cover(70_000),), chunks, sample_rate=44_100)
    samples = noise(2, 44_100) * np.linspace(0, 1, 44_100, dtype=np.float32)
    write(Target.of(tmp_path / "a.wav", subtype="PCM_24"), samples, 44_100, metadata=metadata)
    done = restore_file(
        pipe, audio.SourceFile(tmp_path / "a.wav"), tmp_path / "b.wav", Options(steps=1, cutoff_hz=4_000.0)
    )
    assert (done.error, done.note) == (None, None)
    assert (done.written.subtype, done.written.sample_rate) == ("PCM_24", 48_000)
    whole = (tmp_path / "b.wav").read_bytes()
    with (tmp_path / "b.wav").open("rb") as file:
        found = {name: whole[at : at + size] for name, at, size in riff.scan(file)}
    own = b"A=PCM,F=44100,W=24,M=stereo,T=latentsr\r\n"  # of the file that the test wrote itself
    restored = b"A=PCM,F=48000,W=24,M=stereo,T=latentsr\r\n"
    assert found[b"bext"] == bext[:338] + struct.pack("<Q", 48_000 * 3600) + bext[346:602] + own + restored
    assert found[b"iXML"] == xml.replace(b"44100", b"48000")
    assert cover(70_000).data in found[b"id3 "] and "Süß".encode() in found[b"LIST"]


def test_what_a_restoration_cannot_carry_is_in_its_record(tmp_path, pipe):
    metadata = Metadata(chunks=(Chunk(b"bext", bytes(602)),))
    write(Target.of(tmp_path / "a.wav", subtype="FLOAT"), noise(1, 48_000), RATE_HZ, metadata=metadata)
    done = restore_file(
        pipe, audio.SourceFile(tmp_path / "a.wav"), tmp_path / "b.flac", Options(steps=1, cutoff_hz=4_000.0)
    )
    assert done.error is None and done.note == (
        "flac holds 24 bits, and the source is FLOAT; write WAV to keep its depth; "
        "FLAC has no room for bext; write WAV to keep such chunks"
    )
