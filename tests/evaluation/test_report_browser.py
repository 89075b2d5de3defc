"""The page in a browser: quiet console, no network, players on one clock, and a blind session to its CSV."""

import csv
import time
from pathlib import Path

import pytest
from report_page import EVIL_NAME

from browser import browser  # noqa: F401

LENGTH_S = 1.2  # of the clips, which are played round and round


def wait_until(tab, expression, seconds=30):
    """Playwright's own waiting evaluates strings in the page, which the page's policy forbids but at the first try."""
    deadline = time.monotonic() + seconds
    while not tab.evaluate(expression):
        assert time.monotonic() < deadline, expression
        tab.wait_for_timeout(20)


def unfold(tab):
    """Everything but the answer is behind a click."""
    tab.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")


@pytest.fixture
def opened(browser, page_file):  # noqa: F811
    """The page as opened from a disk, at the width of a desktop; at the end nothing was complained of or fetched."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    tab = context.new_page()
    complaints, addresses = [], []
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", lambda request: addresses.append(request.url))
    tab.goto(Path(page_file).as_uri())
    unfold(tab)
    yield tab
    assert complaints == []
    assert {address.partition(":")[0] for address in addresses} <= {"file", "data", "blob"}
    assert tab.evaluate("window.hacked") is None
    context.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_sticks_out_and_all_pictures_are_there(opened, width):
    opened.set_viewport_size({"width": width, "height": 844})
    assert opened.evaluate("document.documentElement.scrollWidth") == width
    opened.evaluate("document.querySelectorAll('img').forEach((each) => (each.loading = 'eager'))")
    wait_until(opened, "[...document.images].every((each) => each.complete)")
    assert opened.evaluate("[...document.images].filter((each) => each.naturalWidth < 8).length") == 0
    assert opened.locator(".clip").count() == 3


@pytest.mark.parametrize("width", [1280, 390])
def test_the_first_screen_is_the_answer_and_nothing_of_it_is_beside_the_screen(opened, width):
    opened.set_viewport_size({"width": width, "height": 844})
    opened.reload()
    assert opened.locator("details[open]").count() == 1  # what can be heard
    table = opened.locator(".answer").first
    box = table.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= width and 0 < box["y"] < 500
    assert table.evaluate("""(each) => [each, ...each.querySelectorAll('*')].every(
        (e) => !e.clientWidth || e.scrollWidth <= e.clientWidth + 1)""")
    assert opened.evaluate("document.documentElement.scrollWidth") == width
    assert table.locator("thead th").all_inner_texts() == ["system", "LSD ↓", "level → 0", "Zimtohrli ↓", "speed ↑"]
    opened.get_by_role("link", name="All figures").click()
    assert opened.locator("#table").get_attribute("open") is not None


def test_each_track_has_one_player_and_the_cutoff_of_the_chosen_input(opened):
    card = opened.locator(".clip").first
    assert card.locator("audio:visible").count() == 0 and card.locator(".track:visible .pick").count() == 4
    truth = card.locator(".track").first
    for tab, hz in ((0, 4_000), (1, 8_000)):
        card.locator(".tab").nth(tab).click()
        lines = truth.locator(".cutoff:not([hidden])")
        assert lines.count() == 1
        assert float(lines.get_attribute("y1")[:-1]) == pytest.approx(100 - hz / 240, abs=1.0)


def test_the_table_is_sorted_filtered_and_shows_differences(opened):
    column = opened.evaluate(
        "[...document.querySelectorAll('.results thead th')].findIndex((e) => e.textContent == 'LSD ↓')"
    )
    read = f"[...document.querySelectorAll('.results tbody tr')].map((r) => Number(r.cells[{column}].dataset.value))"
    before = opened.evaluate(read)
    opened.locator(".results thead th").nth(column).click()
    assert opened.evaluate(read) == sorted(before)
    opened.locator(".results thead th").nth(column).press("Enter")
    assert opened.evaluate(read) == sorted(before, reverse=True)
    opened.select_option("[data-filter=system]", EVIL_NAME)
    assert opened.locator(".results tbody tr:visible").count() == 4
    opened.select_option("#show", "versus")
    assert opened.locator(".results tbody .versus:visible").count() > 0
    assert opened.locator(".results tbody .own:visible").count() == 0


def test_players_switch_on_one_clock(opened):
    card = opened.locator(".clip").first
    picks = card.locator(".track:visible .pick")
    picks.nth(0).click()
    wait_until(opened, "document.querySelector('.clip').classList.contains('playing')")
    wait_until(opened, "Number(document.querySelector('.clip .seek').value) > 0.1")
    moved, gone = opened.evaluate("""async () => {
        const frame = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))
        const card = document.querySelector(".clip"), at = () => Number(card.querySelector(".seek").value)
        await frame()
        const [place, time] = [at(), performance.now()]
        ;[...card.querySelectorAll(".track .pick")].filter((each) => each.offsetParent)[2].click()
        await frame()
        return [at() - place, (performance.now() - time) / 1000]
    }""")
    assert picks.nth(2).get_attribute("aria-pressed") == "true"
    assert picks.nth(0).get_attribute("aria-pressed") == "false"
    assert moved % LENGTH_S < gone + 0.3  # it went on, and did not begin again
    card.locator(".tab").nth(1).click()
    wait_until(opened, "document.querySelector('.clip').classList.contains('playing')")
    card.locator(".play").click()
    assert "playing" not in card.get_attribute("class")


def test_every_sound_can_be_played_by_the_browser(opened):
    lengths = opened.evaluate(
        "Promise.all([...document.querySelectorAll('audio')].map((e) => latentsr.decode(e.id))).then((all) => "
        "all.map((buffer) => [buffer.sampleRate, buffer.length]))"
    )
    assert lengths == [[48_000, 57_600]] * 18


def session(tab, mode, answers):
    """Start a blind session and answer with these keys; returns what the stage showed before each answer."""
    tab.fill("[name=listener]", '=cmd, "A"')
    tab.select_option("[name=mode]", mode)
    tab.fill("[name=count]", str(len(answers)))
    tab.locator("#blind form button").click()
    stages = []
    for i, keys in enumerate(answers):
        tab.get_by_text(f"Trial {i + 1} of {len(answers)}").wait_for()
        stages.append(tab.locator(".stage").inner_html())
        for key in keys:
            tab.keyboard.press(key)
    tab.locator("#blind form").wait_for()
    return stages


def downloaded(tab):
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Download CSV").click()
    with Path(download.value.path()).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_blind_session_by_keyboard_ends_in_a_csv_and_outlives_a_reload(opened):
    answers = [["a", "b", "x", "ArrowLeft", "3", "Enter"], ["x", " ", "ArrowRight", "5", "Enter"]] * 3
    stages = session(opened, "abx", answers)
    for stage in stages:
        assert "unprocessed" not in stage
        assert "onerror" not in stage
        assert len(set(stages[0]) ^ set(stage)) < 3  # the same words; nothing tells which is which
    rows = downloaded(opened)
    assert len(rows) == 6
    for row, keys in zip(rows, answers, strict=True):
        assert row["listener"] == '\'=cmd, "A"'  # no formula for a spreadsheet
        assert {row["system_a"], row["system_b"]} == {"unprocessed", EVIL_NAME}
        assert row["answer"] == ("A" if "ArrowLeft" in keys else "B")
        assert row["x"] in "AB"
        assert row["correct"] == str(int(row["answer"] == row["x"]))
        assert row["confidence"] == ("3" if "3" in keys else "5")
        assert row["input"] in ("4000", "8000")
        assert row["time"].startswith("20")
    right = sum(row["correct"] == "1" for row in rows)
    assert f"{right} of 6 right" in opened.locator("#blind").inner_text()
    opened.reload()
    unfold(opened)
    assert downloaded(opened) == rows


def test_preferences_are_recorded_with_the_system_that_was_behind_the_letter(opened):
    session(
        opened, "ab", [["a", "r", "ArrowLeft", "2", "Enter"], ["ArrowRight", "1", "Enter"], ["ArrowDown", "4", "Enter"]]
    )
    first, second, third = downloaded(opened)
    assert first["preferred"] == first["system_a"]
    assert second["preferred"] == second["system_b"]
    assert (third["answer"], third["preferred"]) == ("none", "")
    assert {row["correct"] for row in (first, second, third)} == {""}


def test_two_names_for_one_system_are_refused(opened):
    opened.select_option("[name=second]", "unprocessed")
    opened.locator("#blind form button").click()
    assert "two different systems" in opened.locator("#blind [role=alert]").inner_text()
