"""Recordings in and out: read in blocks, resampled sharply, written whole or not at all."""

from latentsr.audio.album import Album, SourceFile
from latentsr.audio.decoders import HIGHEST_RATE_HZ, LOWEST_RATE_HZ, MAX_CHANNELS
from latentsr.audio.facts import Account, Audio, Info
from latentsr.audio.reader import Reader, probe, read
from latentsr.audio.resampling import Resampler, output_length, resample
from latentsr.audio.writer import Target, Writer, choose_subtype, container, write
from latentsr.errors import AudioError, EmptyAudio, InvalidAudio, TruncatedAudio, UnsupportedAudio

__all__ = [
    "Account",
    "Album",
    "Audio",
    "AudioError",
    "EmptyAudio",
    "HIGHEST_RATE_HZ",
    "Info",
    "InvalidAudio",
    "LOWEST_RATE_HZ",
    "MAX_CHANNELS",
    "Reader",
    "Resampler",
    "SourceFile",
    "Target",
    "TruncatedAudio",
    "UnsupportedAudio",
    "Writer",
    "choose_subtype",
    "container",
    "output_length",
    "probe",
    "read",
    "resample",
    "write",
]
