"""What probably cut a recording: the right name for what was done to it, and none for what was not."""

import numpy as np
import pytest
import soundfile
import soxr
from making import RATE, musical_noise, speech_like, telephone, write
from scipy import signal

from latentsr.inspection.wording import report, troubles
from latentsr.signal import codecs

CD = 44_100


def mp3(folder, wave, kbps, rate=CD):
    path = folder / "coded.mp3"
    level = codecs.CODECS["mp3"].level(kbps)
    with soundfile.SoundFile(path, "w", rate, 1, compression_level=level, bitrate_mode="CONSTANT") as file:
        file.write(wave)
    return path


@pytest.mark.parametrize("kbps", [64, 128])
def test_an_mp3_of_noise_and_what_was_decoded_of_it_came_from_an_encoder(tmp_path, inspected, kbps):
    noise = 0.1 * np.random.default_rng(0).standard_normal(5 * CD)
    path = mp3(tmp_path, noise, kbps)
    end_hz = codecs.codec_edge_hz("mp3", kbps, CD)
    direct = inspected(path, end_hz)
    assert (direct.cause.name, direct.bits) == ("encoder", None)
    decoded, rate = soundfile.read(path)
    assert inspected(write(tmp_path, decoded, rate), end_hz).cause.name == "encoder"


def test_the_holes_of_an_encoder_are_seen_whatever_the_end(tmp_path, inspected):
    wave = speech_like(8.0, rate=CD)
    decoded, rate = soundfile.read(mp3(tmp_path, wave, 64))
    found = inspected(write(tmp_path, decoded, rate), 10_000.0)
    assert found.cause.name == "encoder" and "go to nothing" in found.cause.sentence and found.hole_share > 0.0003
    assert found.holes_hz[0] > 2_000 and "--repair" in found.to_dict()["restore"] and "codec holes" in troubles(found)
    before = inspected(write(tmp_path, wave, CD), 10_000.0)
    assert before.hole_share < 0.00005 and before.holes_hz == (None,) and "--repair" not in before.to_dict()["restore"]


@pytest.mark.parametrize("subtype", ["ULAW", "ALAW"])
def test_a_g711_chain_is_a_telephone(tmp_path, inspected, subtype):
    line = telephone(speech_like())
    assert inspected(write(tmp_path, line, 8_000, subtype=subtype), 3_400.0).cause.name == "telephone"
    heard, _ = soundfile.read(write(tmp_path, line, 8_000, subtype=subtype))
    again = soxr.resample(heard, 8_000, CD)
    assert inspected(write(tmp_path, again, CD), 3_400.0).cause.name == "telephone"


@pytest.mark.parametrize("via_hz", [8_000, 11_025, 16_000, 22_050, 24_000, 32_000])
def test_a_resampler_is_named_with_its_rate(tmp_path, inspected, via_hz):
    wave = soxr.resample(soxr.resample(musical_noise(5.0), RATE, via_hz), via_hz, CD)
    cause = inspected(write(tmp_path, wave, CD), 0.95 * via_hz / 2).cause
    assert cause.name == "resampler" and f"{via_hz:,} Hz" in cause.sentence


def test_filters_steep_and_gentle_and_none(tmp_path, inspected):
    wave = musical_noise(5.0)
    steep = signal.sosfiltfilt(signal.cheby1(8, 0.1, 4_400, fs=RATE, output="sos"), wave, axis=0)
    gentle = signal.sosfilt(signal.butter(6, 4_400, fs=RATE, output="sos"), wave, axis=0)
    names = [inspected(write(tmp_path, each), 4_400.0).cause.name for each in (steep, gentle, wave)]
    assert names == ["steep filter", "gentle filter", "own end"]


def test_a_whole_band_was_cut_by_nothing_and_a_low_rate_by_itself(tmp_path, inspected):
    assert inspected(write(tmp_path, musical_noise(2.0))).cause.name == "nothing"
    low = musical_noise(2.0, rate=16_000)
    for end_hz in (7_700.0, 24_000.0):
        cause = inspected(write(tmp_path, low, 16_000), end_hz).cause
        assert cause.name == "own rate" and "16,000 Hz" in cause.sentence


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("samples", [0.1 * RATE, 100, 2, 1])
@pytest.mark.parametrize("level", [0.0, 0.3])
def test_short_and_silent_files_are_answered(tmp_path, inspected, samples, level, channels):
    wave = level * np.random.default_rng(0).uniform(-1, 1, (int(samples), channels))
    found = inspected(write(tmp_path, wave))
    still = level == 0 or samples == 1
    assert found.cause.name == ("silence" if still else "nothing" if samples > 1000 else "too short")
    assert found.to_dict()["restore"] and report(found).startswith(found.path)
    assert found.silent == still and found.hum is None and found.clicks_per_minute is None
