"""What a file is by its first bytes, and who decodes it: one table.

libsndfile gets what docs/formats.md shows it to read right, FFmpeg the rest, and what libsndfile refuses. The demuxer
is named, so that FFmpeg never guesses one from hostile content.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from latentsr.audio.spans import bytes_at


@dataclass(frozen=True)
class Kind:
    """A kind of file."""

    label: str
    demuxer: str | None = None  # FFmpeg's; None: there is none
    sndfile: bool = False  # libsndfile is asked first


_WAV = Kind("WAV", "wav", True)
OGG = Kind("Ogg", "ogg", True)
FLAC = Kind("FLAC", "flac", True)
MPEG = Kind("MPEG audio", "mp3", True)
AAC = Kind("AAC", "aac")
MP4 = Kind("MP4 / M4A", "mov")
AU = Kind("AU", "au", True)

# (offset, bytes there, kind)
_MAGIC = (
    (8, b"WAVE", _WAV),
    (24, b"wave\xf3\xac\xd3\x11", Kind("Wave64", "w64", True)),
    (8, b"AIFF", Kind("AIFF", "aiff", True)),
    (8, b"AIFC", Kind("AIFF", "aiff", True)),
    (0, b".snd", AU),
    (0, b"caff", Kind("CAF", "caf", True)),
    (0, b"NIST_1A", Kind("NIST Sphere", "nistsphere", True)),
    (0, b"fLaC", FLAC),
    (0, b"OggS", OGG),
    (4, b"ftyp", MP4),
    (4, b"moov", MP4),
    (4, b"wide", MP4),
    (4, b"mdat", MP4),
    (4, b"free", MP4),
    (4, b"skip", MP4),
    (4, b"pnot", MP4),
    (0, bytes.fromhex("3026b2758e66cf11"), Kind("WMA (ASF)", "asf")),
    (0, b"\x1aE\xdf\xa3", Kind("Matroska / WebM", "matroska")),
    (0, b"wvpk", Kind("WavPack", "wv")),
    (0, b"MAC ", Kind("Monkey's Audio", "ape")),
    (0, b"DSD ", Kind("DSD", "dsf")),
    (0, b"FRM8", Kind("DSD (DFF)", "iff")),
    (8, b"8SVX", Kind("8SVX", "iff")),
    (8, b"16SV", Kind("16SV", "iff")),
    (0, b"Creative Voice File\x1a", Kind("Creative Voice", "voc")),
    (0, b"FLV\x01", Kind("Flash video", "flv")),
    (0, b"\x0bw", Kind("AC-3", "ac3")),
    (0, b"TTA1", Kind("True Audio", "tta")),
    (0, b"#!AMR", Kind("AMR", "amr")),
    (8, b"AVI ", Kind("AVI", "avi")),
    (8, b"XWMA", Kind("xWMA", "xwma")),
    (8, b"QLCM", Kind("QCP", "qcp")),
    (0, b"#!iLBC", Kind("iLBC", "ilbc")),
    (0, b"\x7f\xfe\x80\x01", Kind("DTS", "dts")),
    (0, b"\xfe\x7f\x01\x80", Kind("DTS", "dts")),
    (0, b"\x1f\xff\xe8\x00", Kind("DTS", "dts")),
    (0, b"\xff\x1f\x00\xe8", Kind("DTS", "dts")),
    (0, b"DTSHDHDR", Kind("DTS-HD", "dtshd")),
    (4, b"\xf8ro\xba", Kind("TrueHD", "truehd")),
    (4, b"\xf8ro\xbb", Kind("MLP", "mlp")),
    (0, b".RMF", Kind("RealAudio", "rm")),
    (0, b".ra\xfd", Kind("RealAudio", "rm")),
    (0, b"MP+", Kind("Musepack", "mpc")),
    (0, b"MPCK", Kind("Musepack", "mpc8")),
    (0, b"tBaK", Kind("TAK", "tak")),
    (0, b"ajkg", Kind("Shorten", "shn")),
    (0, b"qoaf", Kind("QOA", "qoa")),
    (0, b"TWIN", Kind("VQF", "vqf")),
    (0, b"ea3\x03", Kind("ATRAC (OMA)", "oma")),
    (0, b"EA3\x01", Kind("ATRAC (OMA)", "oma")),
    (0, b".SoX", Kind("SoX", "sox")),
    (0, b"XoS.", Kind("SoX", "sox")),
    (0, b"nut/multimedia container\0", Kind("NUT", "nut")),
    (0, b"\x00\x00\x01\xba", Kind("MPEG program stream", "mpeg")),
    (0, b"\x1f\x07\x00", Kind("DV", "dv")),
    (0, b"\x06\x0e\x2b\x34\x02\x05\x01\x01", Kind("MXF", "mxf")),
    (0, bytes.fromhex("b7d800203749da11a64e0007e95ead8d"), Kind("WTV", "wtv")),
)
# Codecs that have no first bytes of their own: by the name, where nothing else is known of a file.
_HEADERLESS = {
    "g722": Kind("G.722", "g722"), "gsm": Kind("GSM 06.10", "gsm"), "sbc": Kind("SBC", "sbc"),
    "aptx": Kind("aptX", "aptx"),
}  # fmt: skip
ZEROS = "zeros"  # what a file holds whose first bytes are nothing else
# What files of these kinds, and of libsndfile's, are called.
SUFFIXES = frozenset(
    f".{suffix}" for words in (
        "wav wave bwf rf64 w64 aif aiff aifc au snd caf sph nist paf ircam sf pvf avr flac ogg oga ogx opus spx mp3",
        "mp2 mp1 mpa aac latm loas m4a m4b m4r mp4 m4v mov 3gp 3g2 qt wma wmv asf mka mkv webm wv ape dsf dff iff",
        "8svx svx 16sv voc flv f4v ac3 eac3 ec3 tta amr awb avi xwma qcp dts dtshd thd mlp rm ra ram rmvb mpc",
        "mp+ tak shn qoa vqf oma aa3 sox nut ts mts m2ts mpg mpeg vob mxf wtv g722 gsm sbc aptx vox ofr",
    ) for suffix in words.split()
)  # fmt: skip
# What nobody here decodes, and the command that converts it.
_UNREADABLE = (
    (0, b"OFR ", "OptimFROG", "ofr --decode IN --output OUT.wav"),
    (0, b"ADIF", "AAC in ADIF", "faad -o OUT.wav IN"),
    (0, b"LA04", "LA (Lossless Audio)", "la IN OUT.wav"),
    (65, b"FSSD", "HCOM", "sox -t hcom IN OUT.wav"),
    (8, b"MAUD", "MAUD", "sox -t maud IN OUT.wav"),
    (0, b"SOUND SAMPLE DATA", "SampleVision", "sox -t smp IN OUT.wav"),
    (0, b"SOUND\x1a", "SoundTool", "sox -t sndt IN OUT.wav"),
    (0, b"LM8953", "Yamaha TX-16W", "sox -t txw IN OUT.wav"),
    (0, b"\x37\0\0\x10m\0\0\x10", "Psion Record", "sox -t prc IN OUT.wav"),
    (4, b"\x00\x00\x00\x00AAX", "Audible", "ffmpeg -activation_bytes KEY -i IN OUT.wav"),
)
_NAMELESS = {"vox": ("Dialogic ADPCM without a header", "sox -t vox -r 8000 -c 1 IN OUT.wav")} | {
    name: (f"{label} without a header", f"sox -t {name} -r 8000 -c 1 IN OUT.wav")
    for name, label in (("cvs", "CVSD"), ("cvsd", "CVSD"), ("ima", "IMA ADPCM"), ("lpc10", "LPC-10"),
                        ("sln", "Asterisk's PCM"))
} | {name: ("CVSD of German voice mail", f"sox -t {name} IN OUT.wav") for name in ("dvms", "vms")}  # fmt: skip

# What is found under the names of recordings and is none.
_NO_AUDIO = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"MThd", "MIDI: notes"),
    (b"SQLite format 3", "an SQLite database"),
)


def kind_of(file: BinaryIO, start: int, path: Path) -> Kind | None:
    """The kind of what begins at `start`, by what it holds; by its name only for a codec without first bytes."""
    head = bytes_at(file, start, 1024)
    if head.startswith(b"OggS"):
        return _ogg_kind(head)
    if head[8:16] == b"WAVEfmt " and head[20:22] in (b"\x50\0", b"\x55\0"):
        return Kind("WAV", "wav")  # MPEG audio, whose delay libsndfile leaves in, as it does padding behind
    if head[8:12] == b"AIFC" and b"ima4" in head:
        return Kind("AIFF", "aiff")  # libsndfile is 5 dB worse: findings/libsndfile_aifc_ima4_is_rounded.sh
    if head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xF6 == 0xF0:
        return AAC
    if head[:1] == b"\x56" and len(head) > 1 and head[1] & 0xE0 == 0xE0:
        return Kind("AAC (LATM)", "loas")
    if any(
        head[at : at + 1] == b"G" == head[at + step : at + step + 1] == head[at + 2 * step : at + 2 * step + 1]
        for at, step in ((0, 188), (4, 192))
    ):  # of a Blu-ray or camera, with a time in front of each packet
        return Kind("MPEG transport stream", "mpegts")
    if head[:2] == b"\x0bw" and len(head) > 5 and head[5] >> 3 > 10:
        return Kind("E-AC-3", "eac3")
    known = next((kind for offset, magic, kind in _MAGIC if head[offset:].startswith(magic)), None)
    return known or (None if _is_utf8(head) else _HEADERLESS.get(path.suffix.lower().removeprefix(".")))


def adts_at(data: bytes) -> int | None:
    """Where three frames of AAC in ADTS follow each other: a capture may begin in the middle of one."""
    at = data.find(b"\xff")
    while at >= 0:
        place, chain = at, 0
        while (
            chain < 3 and (head := data[place : place + 6])[:1] == b"\xff" and len(head) == 6 and head[1] & 0xF6 == 0xF0
        ):
            size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
            if size < 7:
                break
            place, chain = place + size, chain + 1
        if chain == 3:
            return at
        at = data.find(b"\xff", at + 1)
    return None


def unreadable(head: bytes, path: Path) -> tuple[str, str] | None:
    """(what it is, the command that converts it) of a kind that nobody here decodes."""
    for offset, magic, label, command in _UNREADABLE:
        if head[offset:].startswith(magic):
            return label, command
    return _NAMELESS.get(path.suffix.lower().removeprefix("."))


def what_else(head: bytes) -> str | None:
    """What a file is that is no recording, from its first bytes; None if that cannot be told."""
    if is_text(head):
        return "text"
    if not head.strip(b"\0"):
        return ZEROS
    return next((kind for magic, kind in _NO_AUDIO if head.startswith(magic)), None)


def is_text(head: bytes) -> bool:
    """Whether the first bytes are printable text (HTML, JSON, a playlist, a log)."""
    return bool(head) and all(byte >= 0x80 or 32 <= byte < 127 or byte in b"\t\r\n\f" for byte in head)


def _is_utf8(head: bytes) -> bool:
    try:
        head[:-4].decode()  # the last letter may be cut
    except UnicodeDecodeError:
        return False
    return True


def _ogg_kind(head: bytes) -> Kind:
    """libsndfile reads one stream of Vorbis or Opus; FFmpeg all other streams, and one of several."""
    body = 27 + (head[26] if len(head) > 26 else 0)
    first = head[body : body + 8]
    behind = body + sum(head[27:body])
    alone = not (head[behind : behind + 5] == b"OggS\0" and head[behind + 5 : behind + 6] == b"\x02")
    if alone and first.startswith((b"\x01vorbis", b"OpusHead")):
        return OGG
    label = {b"\x7fFLAC": "Ogg FLAC", b"Speex": "Ogg Speex"}.get(first[:5], "Ogg")
    return Kind(label, "ogg")
