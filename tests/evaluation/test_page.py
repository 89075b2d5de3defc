"""The page without a browser: what is chosen, how loud it is, that names are harmless and the size is kept."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
from report_page import EVIL, RATE, programme

from latentsr.evaluation import benchmark, listening, page, report
from latentsr.evaluation.benchmark import Clip

pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra `eval`)")


class Tags(HTMLParser):
    """All elements with their attributes, as a browser would see them."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def of(self, name):
        return [attributes for tag, attributes in self.found if tag == name]


@pytest.fixture(scope="module")
def text(page_file):
    return page_file.read_text(encoding="utf-8")


# --- what may stand in it --------------------------------------------------------------------------------------------


def test_names_from_outside_are_text_and_nothing_else(text):
    tags = Tags(text)
    assert len(tags.of("script")) == 1 + len(page.SCRIPTS)
    assert not [a for _, a in tags.found if any(name.startswith("on") for name in a)]
    assert EVIL not in text
    assert "&lt;script&gt;window.hacked" in text


def test_nothing_is_loaded_from_anywhere(text):
    tags = Tags(text)
    addresses = [a[name] for _, a in tags.found for name in ("src", "href") if name in a]
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not re.search(r"https?://", re.sub(r'src="data:[^"]*"', "", text))
    policy = next(a["content"] for a in tags.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:; media-src data:;")
    assert "unsafe" not in policy
    assert policy.count("'sha256-") == 1 + len(page.SCRIPTS)


def test_every_system_of_every_condition_can_be_heard_over_the_whole_band(text, scored):
    """Three clips: truth and ceiling once, the two other rows at two cutoffs. FLAC at 48 kHz, 16 bit."""
    sounds = [a["src"] for a in Tags(text).of("audio")]
    assert len(sounds) == 3 * (2 + 2 * 2)
    truth, rate = soundfile.read(io.BytesIO(base64.b64decode(sounds[0].partition(",")[2])))
    assert (rate, len(truth)) == (RATE, int(1.2 * RATE))
    spectrum = np.abs(np.fft.rfft(truth))
    clip = next(clip for clip in scored[0] if clip.name == "music/a.wav")
    original = np.abs(np.fft.rfft(soundfile.read(clip.path)[0]))
    top = np.fft.rfftfreq(len(truth), 1 / RATE) > 20_000
    assert (spectrum[top] ** 2).sum() == pytest.approx((original[top] ** 2).sum(), rel=0.15)  # two 10 ms ramps


def test_the_page_says_how_it_was_made(text):
    for words in ("Chebyshev I, 0.1 dB, sosfiltfilt, order 8", "latentsr eval", "95 % bootstrap", "torch", "seed"):
        assert words in text


def test_a_page_that_would_be_too_large_has_fewer_clips_and_says_so(scored, page_file, tmp_path):
    clips, systems, conditions, records = scored
    summary, described = report.summarise(records), report.describe(conditions, {})
    budget = page_file.stat().st_size * 2 // 3
    compared, scores = benchmark.Comparison(clips, systems, conditions), report.Scores(summary, records, described)
    note = page.write(tmp_path / "small.html", compared, scores, count=3, baseline="unprocessed", max_bytes=budget)
    small = (tmp_path / "small.html").read_text(encoding="utf-8")
    held = len(re.findall('<article class="clip"', small))
    assert 0 < held < 3
    assert (tmp_path / "small.html").stat().st_size <= budget
    assert f"{3 - held} of 3 clips were left out" in small
    assert f"{held} clips to listen to of 3, to stay below" in note


def test_an_error_leaves_the_old_page_and_no_half_of_a_new_one(scored, tmp_path, monkeypatch):
    clips, systems, conditions, records = scored
    (tmp_path / "a.html").write_text("old")
    monkeypatch.setattr(page, "render", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("broken")))
    compared, scores = benchmark.Comparison(clips, systems, conditions), report.Scores([], records, {})
    with pytest.raises(RuntimeError):
        page.write(tmp_path / "a.html", compared, scores, count=0, baseline="unprocessed")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_the_page_opens_with_the_answer_and_says_why_there_is_no_interval(text):
    first = text[text.index("<main>") : text.index("<details")]
    assert re.findall(r"<tr.*?<i class=\"chip", first, re.S) and first.count("no interval: 4 of 5 clips") == 3
    assert [line.split(".")[0] for line in re.findall(r"</i>(\d\..*?)</th>", first)] == ["1"]
    assert "4000 Hz" in text and ">4000</button>" not in text
    assert text.count('<line class="cutoff"') == 3 * (
        2 * 2 + 2 * 2
    )  # truth and ceiling at both cutoffs, two rows at theirs
    assert text.count('loading="eager"') == 6 and text.count("24 kHz</text>") == 18


# --- which clips, and how they sound ---------------------------------------------------------------------------------


def records_of(changes):
    for clip, change in changes.items():
        for system, lsd in (("unprocessed", 4.0), ("x", 4.0 + change), ("ceiling (VAE + vocoder)", 0.5)):
            yield {"clip": clip, "input": "4000", "system": system, "lsd": lsd}


def test_of_each_group_the_median_then_the_worst_then_the_best():
    changes = {"m1": -2.0, "m2": -1.0, "m3": 0.5, "s1": -3.0, "s2": -0.1}
    clips = [Clip(name, None, "music" if name[0] == "m" else "speech", None) for name in changes]
    chosen = listening.choose(clips, list(records_of(changes)), 5, "unprocessed")
    assert [each.clip.name for each in chosen] == ["m2", "s1", "m3", "s2", "m1"]
    assert [each.why.split()[0] for each in chosen] == ["median", "median", "worst", "worst", "best"]
    assert listening.choose(clips, list(records_of(changes)), 2, "unprocessed") == chosen[:2]


def test_the_excerpt_is_where_the_energy_is():
    wave = 0.01 * programme(10.0)
    wave[4 * RATE : 9 * RATE] *= 100
    start, stop = listening.excerpt(wave)
    assert stop - start == 6 * RATE
    assert start <= 4 * RATE < 9 * RATE <= stop
    assert listening.excerpt(wave[:RATE]) == (0, RATE)


@pytest.mark.parametrize("gain", [0.5, 1.0, 1.7])
def test_levels_are_matched_in_the_band_that_was_given_whatever_lies_above_or_beside_it(gain):
    truth, rng = programme(2.0), np.random.default_rng(1)
    assert listening.level_gain(truth, gain * truth, 3200.0) == pytest.approx(1 / gain, rel=1e-6)
    treble = np.sin(2 * np.pi * 9000 / RATE * np.arange(len(truth)))
    assert listening.level_gain(truth, gain * (truth + treble), 3200.0) == pytest.approx(1 / gain, rel=1e-3)
    noisy = gain * (truth + 0.1 * truth.std() * rng.normal(0, 1, len(truth)))
    assert listening.level_gain(truth, noisy, 3200.0) == pytest.approx(1 / gain, rel=0.01)
    shuffled = np.fft.irfft(np.fft.rfft(truth) * np.exp(2j * np.pi * rng.random(len(truth) // 2 + 1)), len(truth))
    assert listening.level_gain(truth, gain * shuffled, 3200.0) == pytest.approx(1 / gain, rel=0.05)
    assert listening.level_gain(truth, 0 * truth, 3200.0) == 1.0


def test_a_system_that_is_quiet_is_heard_as_loud_as_the_others(scored):
    clips, systems, conditions, records = scored
    chosen = listening.Chosen(clips[0], "")
    found = listening.material(chosen, benchmark.Comparison(clips, systems, conditions), records)
    quiet = found.by_input["4000"][1]
    assert 20 * np.log10(quiet.gain) == pytest.approx(3, abs=0.2)
    assert found.differing == 0
    assert {label: len(tracks) for label, tracks in found.by_input.items()} == {"4000": 2, "8000": 2}


def test_ticks_are_few_round_and_hold_everything():
    nothing = dict.fromkeys(column.key for column in report.COLUMNS)
    for low, high in [(0.85, 4.4), (1.2, 1.21), (-13.5, 2.7), (3.0, 3.0), (0.0, 0.0), (0.0024, 0.0302)]:
        row = nothing | {"input": "4000", "group": "music", "system": "x", "clips": 5}
        row |= {"lsd": low, "lsd_low": low, "lsd_high": high}
        drawn = page.render(report.Scores([row], [], {}), [], baseline="x", wanted=0)
        ticks, labels = page.ticks(low, high), re.findall(r"middle\">([^<]*)<", drawn)
        assert ticks[0] <= low <= high <= ticks[-1]
        assert 2 <= len(ticks) <= 7
        assert len(set(labels)) == len(ticks)
        assert [float(label) for label in labels] == pytest.approx(ticks)
