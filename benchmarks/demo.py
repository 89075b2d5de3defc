"""How soon the demo answers, and what its page weighs: python benchmarks/demo.py [--runs 3] [--pictures DIR]

Every run starts `latentsr demo` anew and counts from there: until the page answers, and until the first recording has
come back restored, once over HTTP and once through the page in Chromium ($CHROMIUM, or the one that is installed).
Weight is what came over the wire until the page was idle. Run it on a quiet machine. With --pictures it draws those of
docs/demo.md instead: on a desktop, on a phone, with an error.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from browser import launch, save_picture

RATE_HZ = 16_000


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of the recording")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="make the pictures and nothing else")
    args = parser.parse_args()
    if args.pictures is not None:
        draw(args.pictures)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.wav"
        noise = np.random.default_rng(0).standard_normal(round(args.seconds * RATE_HZ))
        soundfile.write(path, 0.1 * np.clip(noise, -4, 4), RATE_HZ)
        over_http = [through_http(path) for _ in range(args.runs)]
        in_browser = [through_browser(path) for _ in range(args.runs)]
    load = f"{os.getloadavg()[0]:.1f}"
    print(f"{args.seconds:g} s of audio, {os.cpu_count()} processors, load {load} at the end, {args.runs} runs\n")
    print("| from the start of the process, s | median | each |\n|---|---:|---|")
    row("until the page answers", [run[0] for run in over_http])
    row("until the first result, over HTTP", [run[1] for run in over_http])
    row("until the page is shown in Chromium", [run["shown"] for run in in_browser])
    row("until the first result, in Chromium", [run["restored"] for run in in_browser])
    row("a second recording, in Chromium, from the click", [run["again"] for run in in_browser])
    last = in_browser[-1]
    print("\n| the page | |\n|---|---:|")
    print(
        f"| requests, empty page | {last['requests']} |\n| over the wire, empty page | {last['bytes'] / 1e6:.2f} MB |"
    )
    print(f"| more for a result of {args.seconds:g} s | {last['more'] / 1e6:.2f} MB |")
    print(f"| errors in the console | {last['errors']} |\n| warnings in the console | {last['warnings']} |")
    print(f"| other hosts asked | {last['hosts']} |")


def row(name: str, values: list[float]) -> None:
    print(f"| {name} | {statistics.median(values):.1f} | {' '.join(f'{value:.1f}' for value in values)} |")


@contextmanager
def server() -> Iterator[tuple[str, float]]:
    """The address of a new server, and when its process was started."""
    started = time.monotonic()
    command = [sys.executable, "-m", "latentsr", "demo", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = next(word for word in process.stdout.readline().split() if word.startswith("http"))
        while True:
            try:
                httpx.get(url).raise_for_status()
                break
            except httpx.ConnectError:
                time.sleep(0.02)
        yield url, started
    finally:
        process.terminate()
        process.wait()


def through_http(path: Path) -> tuple[float, float]:
    """Seconds until the page answers, and until the result is there."""
    with server() as (url, started):
        answered = time.monotonic() - started
        from gradio_client import Client, handle_file

        settings = {"head": "mamba-gan", "steps": 0, "denoise": False, "seed": 0, "cutoff_hz": 0, "mend": False}
        said = Client(url, verbose=False).predict(recording=handle_file(str(path)), **settings, api_name="/restore")[-1]
        httpx.get(f"{url}/{said['download']}").raise_for_status()
        return answered, time.monotonic() - started


def through_browser(path: Path) -> dict[str, Any]:
    """Seconds, bytes and complaints of a visit."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, server() as (url, started):
        chromium = launch(playwright)
        page = chromium.new_page()
        page.set_default_timeout(120_000)
        kinds: list[str] = []
        asked: list[str] = []
        weights: list[float] = []
        page.on("console", lambda message: kinds.append(message.type))
        page.on("request", lambda request: asked.append(request.url.split("/")[2].partition(":")[0]))
        network = page.context.new_cdp_session(page)
        network.send("Network.enable")
        network.on("Network.loadingFinished", lambda event: weights.append(event["encodedDataLength"]))
        page.goto(url)
        page.wait_for_selector("#lsr-restore")
        shown = time.monotonic() - started
        field = page.locator("#lsr-upload input[type=file]")
        field.set_input_files(str(path))
        page.get_by_text(path.stem, exact=False).first.wait_for()
        requests, weight = len(asked), sum(weights)
        page.click("#lsr-restore")
        page.wait_for_selector(".lsr-download")
        restored = time.monotonic() - started
        page.wait_for_timeout(1_000)
        more = sum(weights) - weight
        page.evaluate("document.querySelector('.lsr-download').remove()")
        clicked = time.monotonic()
        page.click("#lsr-restore")
        page.wait_for_selector(".lsr-download")
        again = time.monotonic() - clicked
        chromium.close()
    others = {host for host in asked if host not in ("", "127.0.0.1")}
    return {"shown": shown, "restored": restored, "again": again, "requests": requests, "bytes": weight, "more": more,
            "errors": kinds.count("error"), "warnings": kinds.count("warning"), "hosts": len(others)}  # fmt: skip


def draw(folder: Path) -> None:
    """Screenshots of a result, wide and light, narrow and dark, and of an upload that is none."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, server() as (url, _), tempfile.TemporaryDirectory() as temporary:
        chromium = launch(playwright)
        for name, width, height, scheme in (("desktop", 1280, 900, "light"), ("phone", 390, 844, "dark")):
            page = chromium.new_page(
                viewport={"width": width, "height": height}, color_scheme=scheme, is_mobile=name == "phone",
                has_touch=name == "phone",
            )  # fmt: skip
            page.set_default_timeout(120_000)
            page.goto(url)
            page.get_by_role("button", name="Music loop").click()
            page.get_by_text("Ends at").wait_for()
            page.click("#lsr-restore")
            page.locator(".lsr-download").wait_for()
            page.wait_for_timeout(1_500)
            page.evaluate("latentsrPlayer.seek(1.2)")
            save_picture(page.screenshot(), folder / f"demo_{name}.png")
        page = chromium.new_page(viewport={"width": 1280, "height": 600})
        page.goto(url)
        wrong = Path(temporary) / "diary.wav"
        wrong.write_text("Dear diary, today I renamed a text file.")
        page.locator("#lsr-upload input[type=file]").set_input_files(str(wrong))
        page.locator(".lsr-error").wait_for()
        save_picture(page.screenshot(), folder / "demo_error.png")
        chromium.close()


if __name__ == "__main__":
    main()
