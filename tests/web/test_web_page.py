"""The demo's page in a browser, on the embedded model: what is clicked, seen and heard."""

import io
import re

import numpy as np
import pytest
import soundfile

import browser
import demo_files

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.slow  # a browser
PATIENCE_MS = 240_000
HOSTS = ("127.0.0.1",)
GRADIO_SAYS = "warning: Method not implemented."  # when it closes the stream of an upload's progress
# Everything that is sent to the loudspeakers goes by an analyser, which keeps the last 0.7 s.
TAP = """
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (target, ...rest) {
  if (target instanceof AudioDestinationNode) {
    if (!window.tap) {
      window.tap = new AnalyserNode(this.context, { fftSize: 32768 });
      connect.call(window.tap, this.context.destination);
    }
    target = window.tap;
  }
  return connect.call(this, target, ...rest);
};
window.heard = () => {
  const wave = new Float32Array(window.tap.fftSize);
  window.tap.getFloatTimeDomainData(wave);
  return Array.from(wave);
};
"""
# How far things have jumped, as Chromium counts it, but for what a visitor's own click moved.
SHIFTS = """
window.shifted = 0;
window.shifts = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries().filter((each) => !each.hadRecentInput)) {
    window.shifted += entry.value;
    window.shifts.push([entry.value, ...entry.sources.map((each) => each.node && each.node.className)].join(" "));
  }
}).observe({ type: "layout-shift", buffered: true });
"""


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        opened = browser.launch(playwright)
        yield opened
        opened.close()


@pytest.fixture
def visit(chromium, demo):
    """Opens the page in a browser window of its own; what goes wrong in it fails the test."""
    contexts, complaints, asked = [], [], set()

    def open_page(width=1280, height=900, **words):
        context = chromium.new_context(viewport={"width": width, "height": height}, **words)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.add_init_script(TAP + SHIFTS)
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.add(request.url.split("/")[2].split(":")[0]))
        page.goto(demo.url)
        page.wait_for_selector("#lsr-restore")
        return page

    yield open_page
    for context in contexts:
        context.close()
    said = [line for line in complaints if line != GRADIO_SAYS]
    assert said == []
    assert {host for host in asked if host} <= set(HOSTS)


def status(page):
    return page.locator("#lsr-status-box")


def upload(page, path):
    page.locator("#lsr-upload input[type=file]").set_input_files(str(path))


def restored(page, path):
    """Upload a recording and wait for the result."""
    upload(page, path)
    sync_api.expect(status(page)).to_contain_text(f"{path.name}: ", timeout=PATIENCE_MS)
    page.click("#lsr-restore")
    page.wait_for_selector(f".lsr-download[href*='{path.stem}']")


def downloaded(page):
    with page.expect_download() as waiting:
        page.click(".lsr-download")
    return soundfile.read(io.BytesIO(waiting.value.path().read_bytes()), always_2d=True), waiting.value


def test_a_recording_is_uploaded_restored_and_comes_back_whole(visit, recordings):
    page, path = visit(), demo_files.make(recordings, "old.flac", seconds=3.0)
    restored(page, path)
    (wave, rate_hz), file = downloaded(page)
    assert (file.suggested_filename, rate_hz, wave.shape) == ("old.48k.flac", 48_000, (144_000, 1))
    low = demo_files.band_db(wave[:, 0], 48_000, 100, 2_800)
    before, source_hz = soundfile.read(path)
    reference = demo_files.band_db(before, source_hz, 100, 2_800) + 20 * np.log10(48_000 / source_hz)
    assert abs(low - reference) < 0.01  # dB
    assert demo_files.band_db(wave[:, 0], 48_000, 6_000, 16_000) > low - 60
    details = page.inner_text("#lsr-details-box")
    assert re.search(r"ends at 3\.[2-6] kHz", details) and "by mamba-gan" in details and "real-time factor" in details
    pictures = page.locator("#lsr-player img")
    assert [pictures.nth(i).get_attribute("alt") for i in (0, 1)] == ["Spectrogram before", "Spectrogram after"]
    assert [pictures.nth(i).evaluate("image => image.naturalWidth") for i in (0, 1)] == [1560, 1560]


def test_both_sides_play_at_one_position_and_switching_leaves_no_gap(visit, recordings, demo):
    page, path = visit(), demo_files.make(recordings, "switch.flac", seconds=20.0)
    restored(page, path)
    urls = page.evaluate("window.latentsrPlayer.state.value")
    sides = {}
    for side in ("before", "after"):
        data = page.request.get(f"{demo.url}/{urls[side + '.flac']}").body()
        sides[side] = soundfile.read(io.BytesIO(data))[0]
    page.click(".lsr-play")
    page.wait_for_function("window.latentsrPlayer.position() > 1.5")
    wave, where = heard_around_a_switch(page, sides)
    parts = {"after": wave[: len(wave) // 4], "before": wave[-len(wave) // 4 :]}  # it began with the restored one
    heard = {}
    for side, part in parts.items():
        start = 0 if side == "after" else len(wave) - len(part)
        place = sides[side][where + start :][: len(part)]
        heard[side] = np.abs(part - place).max()
        other = sides["before" if side == "after" else "after"][where + start :][: len(part)]
        assert heard[side] < 1e-3 < np.abs(part - other).max()  # the level is as it is, too
    mixture = np.stack([sides[side][where:][: len(wave)] for side in sides])
    gap = np.minimum(np.abs(wave - mixture[0]), np.abs(wave - mixture[1])).max()
    assert gap < np.abs(mixture[0] - mixture[1]).max()  # nowhere silence: between the two at all times
    assert page.get_by_role("radio", name="Before").get_attribute("aria-checked") == "true"
    page.get_by_role("radio", name="After").click()
    page.keyboard.press("p")
    paused = page.evaluate("window.latentsrPlayer.position()")
    page.wait_for_timeout(200)
    assert page.evaluate("window.latentsrPlayer.position()") == paused


def heard_around_a_switch(page, sides, looks=4):
    """What was heard when the side changed, and where that lies; a busy machine may look too late, and looks again."""
    while True:
        looks -= 1
        page.keyboard.press("x")
        page.wait_for_timeout(330)
        wave = np.array(page.evaluate("window.heard()"))
        try:
            return wave, position_of(wave, sides)
        except AssertionError:
            if not looks:
                raise
        page.keyboard.press("x")
        page.wait_for_timeout(700)


def position_of(wave, sides):
    """Sample at which a piece of either side begins; both must say the same, to the sample."""
    found = []
    quarter = len(wave) // 4
    for side, start in (("after", 0), ("before", len(wave) - quarter)):
        part = wave[start : start + quarter]
        length = len(sides[side]) + quarter
        spectrum = np.fft.rfft(sides[side], length) * np.conj(np.fft.rfft(part, length))
        found.append(int(np.fft.irfft(spectrum, length).argmax()) - start)
    assert abs(found[0] - found[1]) <= 1, found  # samples; 50 ms were asked for
    return found[0]


@pytest.mark.parametrize("name", ["paper.pdf", "nan.wav", "empty.wav"])
def test_a_wrong_file_is_one_sentence_in_the_page(visit, recordings, name):
    page = visit()
    upload(page, demo_files.wrong(recordings, name))
    alert = page.locator(".lsr-error")
    sync_api.expect(alert).to_contain_text(name, timeout=PATIENCE_MS)
    text = alert.inner_text()
    assert text.count(".") <= 4 and "/" not in text and "Traceback" not in text
    page.click("#lsr-restore")
    sync_api.expect(alert).to_contain_text(name, timeout=PATIENCE_MS)
    assert page.locator(".lsr-download").count() == 0


def test_too_long_too_large_and_nothing_at_all(visit, recordings):
    page = visit()
    page.click("#lsr-restore")
    sync_api.expect(page.locator(".lsr-error")).to_contain_text("Choose a recording first", timeout=PATIENCE_MS)
    upload(page, demo_files.long_opus(recordings))
    sync_api.expect(page.locator(".lsr-error")).to_have_text(
        "long.opus is longer than 120 s; cut it into shorter pieces.", timeout=PATIENCE_MS
    )


PHONE = {"width": 390, "height": 844, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}


@pytest.mark.parametrize("window", [{"width": 1280, "height": 900}, PHONE])
def test_nothing_jumps_and_the_download_is_in_the_first_screen(visit, window):
    page = visit(**window)
    page.get_by_role("button", name="Music loop").click()
    sync_api.expect(page.locator(".lsr-heard")).to_contain_text("Ends at 5.", timeout=PATIENCE_MS)
    page.click("#lsr-restore")
    page.wait_for_selector(".lsr-download")
    page.wait_for_function("[...document.querySelectorAll('#lsr-player img')].every((image) => image.naturalWidth)")
    assert page.evaluate("scrollY") == 0
    box = page.locator(".lsr-download").bounding_box()
    assert box["y"] >= 0 and box["y"] + box["height"] <= window["height"]
    assert page.evaluate("shifted") <= 0.02, page.evaluate("shifts")


def test_the_picture_has_a_playhead_a_cutoff_and_a_zoom(visit, recordings):
    page = visit()
    restored(page, demo_files.make(recordings, "zoom.flac", seconds=4.0))
    place = """(what) => {
      const [one, all] = [what, ".lsr-wide"].map((each) => document.querySelector(each).getBoundingClientRect());
      return [(one.left - all.left) / all.width, (one.top - all.top) / all.height];
    }"""
    page.evaluate("latentsrPlayer.seek(3)")
    assert page.evaluate(place, ".lsr-head")[0] == pytest.approx(0.75, abs=0.01)
    assert page.evaluate(place, ".lsr-cutoff")[1] == pytest.approx(1 - 3_500 / 24_000, abs=0.02)
    for key, times in (("+", 2), ("+", 4), ("-", 2)):
        page.keyboard.press(key)
        assert page.evaluate(
            "document.querySelector('.lsr-wide').clientWidth / document.querySelector('.lsr-window').clientWidth"
        ) == pytest.approx(times, abs=0.01)
        assert page.evaluate(place, ".lsr-head")[0] == pytest.approx(0.75, abs=0.01)
    page.locator(".lsr-wide").click(position={"x": 20, "y": 20})  # at the left end of a window that has scrolled
    left = page.evaluate(
        "document.querySelector('.lsr-window').scrollLeft / document.querySelector('.lsr-wide').clientWidth"
    )
    assert page.evaluate("latentsrPlayer.position()") == pytest.approx(4 * left, abs=0.3) or left == 0


def test_sliders_act_on_what_was_made_and_go_on_playing(visit, recordings):
    page = visit()
    restored(page, demo_files.make(recordings, "slide.flac", seconds=40.0))
    (whole, _), _ = downloaded(page)
    page.click(".lsr-play")
    page.wait_for_function("window.latentsrPlayer.position() > 0.3")
    before = page.get_attribute(".lsr-download", "href")
    assert page.evaluate("latentsrPlayer.levels()") == {"before": 0, "after": 1}
    page.locator("#lsr-amount input[type=range]").fill("50")
    if page.get_attribute(".lsr-download", "href") == before:  # the server has not answered; it is heard already
        assert page.evaluate("latentsrPlayer.levels()") == {"before": 1, "band": 0.5}
    page.wait_for_function(
        "(old) => !document.querySelector(`.lsr-download[href='${old}']`) && document.querySelector('.lsr-download')",
        arg=before,
    )
    page.wait_for_function("latentsrPlayer.state.loading === null || latentsrPlayer.state.buffers")
    assert page.evaluate("latentsrPlayer.state.playing || latentsrPlayer.position() > 0.3")
    (half, _), _ = downloaded(page)
    levels = [demo_files.band_db(wave[:, 0], 48_000, 6_000, 16_000) for wave in (whole, half)]
    assert levels[1] - levels[0] == pytest.approx(-6.02, abs=0.1)


@pytest.mark.parametrize(("tilt", "cutoff_hz"), [(0.0, 4_000), (-3.0, 4_000), (6.0, 8_000), (12.0, 1_000)])
def test_a_tilt_is_heard_before_it_is_written(visit, tilt, cutoff_hz):
    taps = visit().evaluate("([tilt, hz]) => Array.from(latentsrPlayer.impulse(tilt, hz))", [tilt, cutoff_hz])
    assert np.argmax(np.abs(taps)) == len(taps) // 2  # as late as what was given
    for hz in (0.5 * cutoff_hz, 2 * cutoff_hz, 2.8 * cutoff_hz):
        gain = np.abs(np.dot(taps, np.exp(-2j * np.pi * hz / 48_000 * np.arange(len(taps)))))
        assert 20 * np.log10(gain) == pytest.approx(tilt * max(0.0, np.log2(hz / cutoff_hz)), abs=0.2)


def test_every_control_is_reached_by_the_keyboard_and_no_list_stays_open(visit):
    page = visit()
    seen = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.id || document.activeElement.closest('[id]')?.id"))
        assert page.locator("[role=listbox]:visible, [role=option]:visible").count() == 0
    assert {"lsr-restore", "lsr-head", "lsr-denoise"} <= seen


def test_an_example_runs_on_a_phone_and_fits(visit):
    page = visit(**PHONE)
    page.get_by_role("button", name="Telephone").click()
    sync_api.expect(status(page)).to_contain_text("3.3 s, 8 kHz, mono", timeout=PATIENCE_MS)
    page.click("#lsr-restore")
    page.wait_for_selector(".lsr-download")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    boxes = [page.locator(place).bounding_box() for place in (".lsr-player", ".lsr-view", ".lsr-download")]
    assert all(box["x"] >= 8 and box["x"] + box["width"] <= 382 for box in boxes)
    small = page.evaluate(
        "[...document.querySelectorAll('.lsr-player button')].map(b => b.getBoundingClientRect().height)"
    )
    assert min(small) >= 32


def test_every_control_has_a_name(visit, recordings):
    page = visit()
    restored(page, demo_files.make(recordings, "names.flac", seconds=1.0))
    page.get_by_role("button", name="Advanced").click()
    page.wait_for_selector("text=The same seed makes the same band")
    nameless = page.evaluate("""() => [...document.querySelectorAll('button, input, a, textarea, select, img')]
      .filter(e => e.getBoundingClientRect().width)
      .filter(e => !(e.getAttribute('aria-label') || e.title || e.innerText || e.alt ||
                     (e.labels && [...e.labels].some(l => l.innerText.trim()))))
      .map(e => e.outerHTML.slice(0, 120))""")
    assert nameless == []
    assert page.evaluate("document.documentElement.lang") == "en"


def test_two_visitors_each_get_their_own(visit, recordings):
    paths = [demo_files.make(recordings, f"{name}.flac", seconds, seed=seed)
             for name, seconds, seed in (("anna", 2.0, 5), ("ben", 3.0, 6))]  # fmt: skip
    pages = [visit(), visit()]
    for page, path in zip(pages, paths, strict=True):
        upload(page, path)
        sync_api.expect(status(page)).to_contain_text(path.name, timeout=PATIENCE_MS)
    for page in pages:
        page.click("#lsr-restore")
    for page, path in zip(pages, paths, strict=True):
        page.wait_for_selector(".lsr-download")
        (wave, rate_hz), file = downloaded(page)
        before, source_hz = soundfile.read(path)
        assert file.suggested_filename == f"{path.stem}.48k.flac"
        assert len(wave) == len(before) * 3
        assert np.corrcoef(wave[::3, 0], before)[0, 1] > 0.9


def test_a_closed_tab_stops_its_work_and_takes_its_files_along(visit, recordings, demo):
    page = visit()
    demo.until(lambda: not busy(demo), "something is still at work")
    path = demo_files.make(recordings, "minutes.flac", seconds=100.0)
    upload(page, path)
    sync_api.expect(status(page)).to_contain_text("minutes.flac: 1 min 40 s", timeout=PATIENCE_MS)
    page.get_by_role("button", name="Advanced").click()
    page.get_by_label("number input for Steps").fill("100")
    page.get_by_role("radio", name="Lively").click()
    page.click("#lsr-restore")
    demo.until(lambda: busy(demo), "nothing is written")
    after = visit()
    upload(after, demo_files.make(recordings, "next.flac", seconds=1.0))
    sync_api.expect(status(after)).to_contain_text("next.flac", timeout=PATIENCE_MS)
    after.click("#lsr-restore")
    sync_api.expect(status(after)).to_contain_text("Waiting: 1 recording is before yours", timeout=PATIENCE_MS)
    page.close()
    after.wait_for_selector(".lsr-download[href*='next']")
    assert not busy(demo)
    demo.until(lambda: not [f for f in demo.files if list(f.glob("minutes*"))], "files are left")


def busy(demo):
    return [folder for folder in demo.files if list(folder.glob(".latentsr-*.part"))]
