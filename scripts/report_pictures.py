"""Draw the screenshots of docs/report.md from a report: python scripts/report_pictures.py report.html OUT_DIR.

The answer and what can be listened to on a desktop, a blind session on a phone in the dark. Needs Chromium ($CHROMIUM,
or the one that is installed).
"""

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from browser import launch, save_picture


def draw(report: Path, folder: Path) -> None:
    with sync_playwright() as playwright:
        chromium = launch(playwright)
        desktop = chromium.new_page(viewport={"width": 1280, "height": 760}, color_scheme="light")
        desktop.goto(report.resolve().as_uri())
        save_picture(desktop.screenshot(), folder / "report_table.png")
        desktop.locator(".clip").first.evaluate("(clip) => clip.scrollIntoView()")
        desktop.wait_for_timeout(1_000)
        save_picture(desktop.screenshot(), folder / "report_listen.png")
        phone = chromium.new_page(viewport={"width": 390, "height": 760}, color_scheme="dark")
        phone.goto(report.resolve().as_uri())
        phone.get_by_role("link", name="Blind test").click()
        phone.locator("#blind form button").click()
        phone.mouse.move(0, 0)
        phone.wait_for_timeout(1_000)
        save_picture(phone.locator("#blind").screenshot(), folder / "report_blind.png")
        chromium.close()


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
