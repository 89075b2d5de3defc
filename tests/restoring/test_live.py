"""Sound as it is played: the blocks change nothing, and what came in is there, late and untouched."""

import numpy as np
import pytest
import torch

from latentsr import AudioError, Live, Pipeline
from latentsr.errors import UsageError
from latentsr.models.live import LiveGenerator

RATE = 48_000


@pytest.fixture(scope="module")
def pipe():
    torch.manual_seed(0)
    network = LiveGenerator(hidden=16, layers=1).eval()
    for parameter in network.gains.parameters():  # which begin at zero
        torch.nn.init.normal_(parameter, std=0.3)
    made = Pipeline(live=network, default_head="live")
    made.set_progress_bar_config(disable=True)
    return made


def programme(rate, seconds=1.5, channels=1, cutoff_hz=3_000.0):
    """Noise that falls, swells, and ends at a cutoff, from the first sample on."""
    samples, draw = round(seconds * rate), np.random.default_rng(0)
    spectrum = np.fft.rfft(draw.standard_normal((channels, samples)))
    hz = np.fft.rfftfreq(samples, 1 / rate)
    wave = np.fft.irfft(spectrum * (hz < cutoff_hz) / (1 + hz / 500), n=samples)
    swell = 0.6 + 0.4 * np.sin(np.arange(samples) * (2 * np.pi * 3 / rate))
    return (0.2 * wave / wave.std() * swell).astype(np.float32)


def played(live, wave, size):
    blocks = [live.process(wave[:, at : at + size]) for at in range(0, wave.shape[1], size)]
    return np.concatenate([*blocks, live.flush()], axis=1)


def energy(wave, low_hz, high_hz, rate=RATE):
    power = np.abs(np.fft.rfft(wave[0] * np.hanning(wave.shape[1]))) ** 2
    hz = np.fft.rfftfreq(wave.shape[1], 1 / rate)
    return float(power[(hz >= low_hz) & (hz < high_hz)].sum())


@pytest.mark.parametrize(("rate", "channels"), [(48_000, 2), (16_000, 1), (44_100, 1)])
def test_the_size_of_the_blocks_changes_nothing(pipe, rate, channels):
    wave = programme(rate, channels=channels)
    live = Live(pipe, rate, channels)
    whole = played(live, wave, wave.shape[1])
    assert energy(whole, 6_000, 12_000) > 1e-4 * energy(whole, 0, 3_000)  # something is made
    for size in (1, 7, 160, 480, 4_800):
        live.reset()
        part = wave[:, : rate // 4] if size == 1 else wave  # sample by sample takes long
        made = played(live, part, size)
        same = made.shape[1] - live.latency_samples if size == 1 else made.shape[1]  # until the end is felt
        assert np.abs(made[:, :same] - whole[:, :same]).max() <= 1e-5, size


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000, 96_000])
def test_lengths_and_delay_are_as_stated(pipe, rate):
    wave, live = programme(rate, 0.5), Live(pipe, rate, 1, cutoff_hz=3_000)
    assert live.latency_samples <= 0.02 * RATE
    given = 0
    for at in range(0, wave.shape[1], 441):
        given += live.process(wave[:, at : at + 441]).shape[1]
        taken = min(at + 441, wave.shape[1])
        assert given == (2 * taken * RATE + rate) // (2 * rate)
    assert live.flush().shape[1] == live.latency_samples
    live.reset()
    made = played(live, wave, 441)
    assert not made[:, : live.latency_samples].any()
    late = made[0, live.latency_samples :]
    if rate == RATE:
        low = np.fft.irfft(np.fft.rfft(late - wave[0])[:200], n=len(late))  # below 400 Hz
        assert np.abs(low).max() < 1e-3 * np.abs(wave).max()
    lags = np.correlate(
        late[:12_000], np.interp(np.arange(12_000) * rate / RATE, np.arange(len(wave[0])), wave[0]), "same"
    )
    assert abs(int(np.argmax(lags)) - 6_000) <= 1


def test_a_call_gives_the_same_without_the_delay(pipe):
    wave = programme(RATE, channels=2)
    live = Live(pipe, RATE, 2)
    whole = played(live, wave, 480)[:, live.latency_samples :]
    made = pipe(wave, sample_rate=RATE, head="live").audio
    assert made.shape == wave.shape and np.abs(made - whole).max() <= 1e-5
    streamed = np.concatenate(list(pipe.stream(np.split(wave, 8, axis=1), RATE, head="live")), axis=1)
    assert np.abs(made - streamed).max() <= 1e-5


def test_what_came_in_is_there_untouched_and_silence_stays_silence(pipe):
    wave, live = programme(RATE, 2.0, cutoff_hz=4_000.0), Live(pipe, RATE, 1)
    wave[:, RATE:] = 0
    late = played(live, wave, 480)[:, live.latency_samples :]
    assert energy(late - wave, 0, 3_000) < 1e-6 * energy(wave, 0, 3_000)
    assert not late[:, RATE + 960 :].any()


def test_the_cutoff_is_found_and_followed_without_a_click(pipe):
    dull, wide = programme(RATE, 2.0, cutoff_hz=4_000.0), programme(RATE, 2.0, cutoff_hz=24_000.0)
    live, found, made = Live(pipe, RATE, 1), [], []
    for block in np.split(np.concatenate([dull, wide], axis=1), 400, axis=1):
        made.append(live.process(block))
        found.append(live.cutoff_hz)
    assert 3_400 < found[199] < 4_600 and found[399] == 24_000
    assert all(max(a, b) / min(a, b) < 1.6 for a, b in zip(found, found[1:], strict=False))
    added = np.concatenate(made, axis=1)[0, live.latency_samples :][: 4 * RATE - 2_000]
    added = added - np.concatenate([dull, wide], axis=1)[0, : len(added)]
    for low, high in ((0.0, 0.3), (2.4, 3.5)):  # what fades in and out has no jump: its slope is that of what is made
        part = np.abs(np.diff(added[round(low * RATE) : round(high * RATE)]))
        assert part.max() <= 1.5 * np.abs(np.diff(added)).max()


def test_bfloat16_is_played(pipe):
    block = torch.from_numpy(programme(RATE, 0.1)).bfloat16()
    given, same = (Live(pipe, RATE, 1).process(each) for each in (block, block.float()))
    assert np.array_equal(given, same)


def test_bad_blocks_are_refused_and_the_stream_goes_on(pipe):
    wave, live = programme(RATE, 0.2), Live(pipe, RATE, 1)
    first = live.process(wave[:, :4_800])
    for block, words in (
        (np.zeros((2, 480), np.float32), "2 channels came, 1 were said"),
        (np.zeros((1, 480), np.int16), "a block is float"),
        (np.full((1, 480), np.nan, np.float32), "480 samples of a block are NaN or infinite"),
    ):
        with pytest.raises(AudioError, match=words):
            live.process(block)
    rest = np.concatenate([first, live.process(wave[:, 4_800:]), live.flush()], axis=1)
    assert np.abs(rest - played(Live(pipe, RATE, 1), wave, 480)).max() <= 1e-5
    with pytest.raises(UsageError, match="call reset"):
        live.process(wave)
    zeroed = Live(pipe, RATE, 1, on_nonfinite="zero")
    assert np.isfinite(zeroed.process(np.full((1, 480), np.inf, np.float32))).all() and zeroed.nonfinite == 480


@pytest.mark.parametrize(("rate", "channels"), [(100, 1), (48_000, 0), (44_100.5, 1)])
def test_other_rates_and_channels_are_refused(pipe, rate, channels):
    with pytest.raises(UsageError, match="must be a whole number"):
        Live(pipe, rate, channels)
