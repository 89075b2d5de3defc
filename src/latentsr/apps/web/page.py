"""The page: what is seen, and which button calls what. Importing this imports gradio."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from latentsr.apps.web import panels
from latentsr.apps.web.desk import (
    HIGHEST_CUTOFF_HZ,
    MOST_LOOKS,
    MOST_PERCENT,
    MOST_STEPS,
    MOST_TILT,
    Desk,
    WrongOrderError,
    outcome,
    shown_name,
)
from latentsr.apps.web.look import WrongFileError
from latentsr.apps.web.supervisor import Job, QueueFullError
from latentsr.apps.web.work import BAND

HERE = Path(__file__).parent
EXAMPLES = {"phone_speech": "Telephone", "loop_5500hz": "Music loop", "drumroll_4000hz": "Drum roll"}
TITLE = "<h1>latentsr</h1><p>Restore a dull recording to 48 kHz; what was there stays as it was.</p>"
FILES = "files"  # below the page's address: results by token
HEAD_HTML = (
    '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="referrer" content="no-referrer">'
)


def theme() -> gr.themes.Base:
    """Fonts of the system, so that no other host is asked for any."""
    return gr.themes.Base(
        primary_hue="teal",
        neutral_hue="slate",
        radius_size="md",
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "Consolas", "monospace"],
    ).set(  # as dark as small letters need to be
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
    )


def build(desk: Desk, examples: list[Path], head: str) -> gr.Blocks:
    """The page, with recordings to offer, and the head that is chosen at first."""
    with gr.Blocks(title="latentsr", analytics_enabled=False) as blocks:
        gr.HTML(TITLE, elem_classes="lsr-title", padding=False)
        with gr.Row(elem_classes="lsr-columns"):
            with gr.Column(scale=4, min_width=300, elem_classes="lsr-left"):
                given = _given(examples, _limits(desk))
                settings = _settings(desk.heads, head)
                with gr.Row(elem_classes="lsr-go"):
                    go = gr.Button("Restore", variant="primary", elem_id="lsr-restore", scale=3, min_width=80)
                    stop = gr.Button("Stop", elem_id="lsr-stop", scale=1, min_width=60, interactive=False)
            with gr.Column(scale=7, min_width=320, elem_classes="lsr-right"):
                status = gr.HTML(panels.plain("Choose a recording to begin"), elem_id="lsr-status-box")
                player = gr.HTML(
                    {}, html_template=_own("player.html"), js_on_load=_own("player.js"), elem_id="lsr-player",
                    apply_default_css=False,
                )  # fmt: skip
                settings |= _gains()
                details = gr.HTML(elem_id="lsr-details-box")
        record = gr.JSON(visible=False)
        _wire(blocks, desk, given, settings, Shown(go, stop, status, player, details, record))
    return blocks.queue(max_size=4 * (desk.limits.queue + 2), default_concurrency_limit=None)


def _given(examples: list[Path], limits: str) -> dict[str, Any]:
    with gr.Tabs():
        with gr.Tab("Upload"):
            upload = gr.File(label="Recording", show_label=False, elem_id="lsr-upload", height=96, type="filepath")
        with gr.Tab("Record"):
            microphone = gr.Audio(
                sources=["microphone"], type="filepath", label="Microphone", show_label=False, buttons=[],
                elem_id="lsr-microphone",
            )  # fmt: skip
    heard = gr.HTML(limits, elem_id="lsr-heard-box", padding=False)
    ordered = sorted(examples, key=lambda path: list(EXAMPLES).index(path.stem))
    for component in (upload, microphone):
        _take_uploads_only(component)
    with gr.Row(elem_classes="lsr-examples"):
        gr.HTML('<span class="lsr-label">Examples</span>', min_width=60)
        buttons = {path: gr.Button(EXAMPLES.get(path.stem, path.stem), size="sm", min_width=60) for path in ordered}
    return {"upload": upload, "microphone": microphone, "heard": heard, "examples": buttons}


def _take_uploads_only(component: gr.components.Component) -> None:
    """Let a visitor name no file but one that was uploaded.

    gradio copies whatever a request names into its folder, from where it can be had: paths of this machine (which it
    checks in apps that `launch` started alone), and addresses, which it fetches.
    """
    folder = Path(component.GRADIO_CACHE).resolve()

    def own(path: str | Path | None) -> str | None:
        if path is not None and not Path(path).resolve().is_relative_to(folder):
            raise gr.Error("That is no upload; choose a file", print_exception=False)
        return None if path is None else str(path)

    async def own_too(path: str | Path | None) -> str | None:
        return own(path)

    for name, function in (("move_resource_to_block_cache", own), ("async_move_resource_to_block_cache", own_too)):
        setattr(component, name, function)


def _settings(heads: list[str], head: str) -> dict[str, Any]:
    ordered = sorted(heads, key=[*panels.HEADS, *heads].index)
    choices = [(panels.HEADS.get(name, name), name) for name in ordered]
    chosen = gr.Radio(choices, value=head, label="How it is made", elem_id="lsr-head")
    denoise = gr.Checkbox(label="Denoise: tones, hum and hiss", elem_id="lsr-denoise")
    with gr.Accordion("Advanced", open=False):
        steps = gr.Slider(0, MOST_STEPS, value=0, step=1, label="Steps", info="Of the diffusion; 0: the model's own")
        seed = gr.Number(value=0, precision=0, minimum=0, label="Seed", info="The same seed makes the same band")
        cutoff = gr.Number(
            value=0, minimum=0, maximum=HIGHEST_CUTOFF_HZ, label="Cutoff in Hz", info="Where it ends; 0: measured"
        )
        mend = gr.Checkbox(label="Mend damaged files", info="Take what can be read of them, and note what is missing")
        repair = gr.Checkbox(label="Repair codec holes", info="Fill what MP3 and other codecs took below the cutoff")
    return {"head": chosen, "steps": steps, "denoise": denoise, "seed": seed, "cutoff_hz": cutoff, "mend": mend,
            "repair": repair}  # fmt: skip


def _gains() -> dict[str, Any]:
    """Hands on the made band that act at once."""
    with gr.Row(elem_classes="lsr-gains"):
        amount = gr.Slider(0, MOST_PERCENT, value=100, step=5, label="Amount of the made band, %", min_width=140,
                           elem_id="lsr-amount")  # fmt: skip
        tilt = gr.Slider(-MOST_TILT, MOST_TILT, value=0, step=0.5, label="Darker or brighter, dB/octave",
                         min_width=140, elem_id="lsr-tilt")  # fmt: skip
    return {"amount": amount, "tilt": tilt}


@dataclass(frozen=True)
class Shown:
    """What of the page changes while a recording is worked on."""

    go: Any
    stop: Any
    status: Any
    player: Any
    details: Any
    record: Any


def _wire(blocks: gr.Blocks, desk: Desk, given: dict[str, Any], settings: dict[str, Any], shown: Shown) -> None:
    def restore(  # the names are those of the HTTP interface
        request: gr.Request,
        recording: str | None,
        head: str,
        steps: float,
        denoise: bool,
        seed: float,
        cutoff_hz: float,
        mend: bool,
        repair: bool,
        amount: float,
        tilt: float,
    ) -> Iterator[dict[Any, Any]]:
        words = {"head": head, "steps": steps, "denoise": denoise, "seed": seed, "cutoff_hz": cutoff_hz, "mend": mend,
                 "repair": repair, "amount": amount, "tilt": tilt}  # fmt: skip
        yield from _restore(desk, recording, words, _session(request), shown)

    def look(request: gr.Request, upload: str | None, mend: bool) -> Iterator[dict[Any, Any]]:
        status, heard = shown.status, given["heard"]
        if upload is None:
            yield {status: panels.plain("Choose a recording to begin"), heard: ""}
            return
        try:
            seen = desk.look(_session(request), upload, mend)
        except WrongFileError as error:
            yield {status: panels.error(str(error)), heard: ""}
            return
        yield {status: panels.seen(shown_name(Path(upload)), seen), heard: panels.LISTENING}
        yield {heard: panels.heard(desk.hear(upload, mend))}

    def adjust(request: gr.Request, amount: float, tilt: float) -> Iterator[dict[Any, Any]]:
        try:
            job = desk.adjust(_session(request), amount, tilt)
        except (OSError, WrongOrderError, QueueFullError) as error:
            yield {shown.status: panels.error(str(error))}
            return
        yield from [{shown.status: gr.skip()}] if job is None else _followed(desk, job, shown)

    def halt(request: gr.Request) -> None:
        desk.stop(_session(request))

    def leave(request: gr.Request) -> None:
        desk.leave(_session(request))

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    inputs = [given["upload"], *settings.values()]  # in the order of the arguments of `restore`
    changed = list(vars(shown).values())
    shown.go.click(restore, inputs, changed, api_name="restore", show_progress="hidden", trigger_mode="once")
    gr.on(
        [settings["amount"].input, settings["tilt"].input], adjust, [settings["amount"], settings["tilt"]], changed,
        trigger_mode="always_last", **quiet,
    )  # fmt: skip
    shown.stop.click(halt, None, None, queue=False, **quiet)
    given["upload"].change(
        look, [given["upload"], settings["mend"]], [shown.status, given["heard"]],
        trigger_mode="always_last", concurrency_limit=MOST_LOOKS, **quiet,
    )  # fmt: skip
    given["microphone"].stop_recording(lambda path: path, given["microphone"], given["upload"], **quiet)
    for path, button in given["examples"].items():
        button.click(lambda path=path: str(path), None, given["upload"], **quiet)
    blocks.unload(leave)


def _restore(
    desk: Desk, upload: str | None, words: dict[str, Any], session: str, shown: Shown
) -> Iterator[dict[Any, Any]]:
    status, record = shown.status, shown.record
    idle = {shown.go: gr.update(interactive=True), shown.stop: gr.update(interactive=False)}
    if upload is None:
        text = "Choose a recording first: upload one, record one, or take an example"
        yield {**idle, status: panels.error(text), record: {"error": text}}
        return
    try:
        job = desk.submit(session, upload, **words)
    except (WrongFileError, WrongOrderError, QueueFullError) as error:
        yield {**idle, status: panels.error(str(error)), record: {"error": str(error)}}
        return
    yield from _followed(desk, job, shown)


def _followed(desk: Desk, job: Job, shown: Shown) -> Iterator[dict[Any, Any]]:
    """A job to its end, on the page."""
    status, record = shown.status, shown.record
    busy = {shown.go: gr.update(interactive=False), shown.stop: gr.update(interactive=True)}
    for ahead, what, fraction in desk.follow(job):
        yield {
            **busy,
            status: panels.waiting(ahead) if ahead else panels.working(what or "Loading the model", fraction),
        }
    folder = Path(job.order.folder)
    url = f"{FILES}/{folder.name}"
    idle = {shown.go: gr.update(interactive=True), shown.stop: gr.update(interactive=False)}
    if job.result is None:
        stopped = panels.plain("Stopped") if job.error is None else panels.error(job.error)
        yield {**idle, status: stopped, record: outcome(job, url)}
        return
    files = {name: f"{url}/{name}" for name in ("before.flac", "after.flac", "before.png", "after.png")}
    facts = {
        "seconds": job.result.duration_s,
        "cutoff_hz": job.result.cutoff_hz,
        "adjusted": job.order.made is not None,
        "amount": 100 * job.order.options.amount if (folder / BAND).exists() else 0,
        "tilt": job.order.options.tilt,
    }
    yield {
        **idle,
        status: panels.done(job.result, f"{url}/{job.result.name}"),
        shown.player: {**files, **facts},
        shown.details: panels.details(job.result),
        record: outcome(job, url),
    }


def _limits(desk: Desk) -> str:
    limits = desk.limits
    longest = panels.duration(limits.max_seconds).removesuffix(" 0 s")
    text = f"Up to {longest} and {limits.max_mb:g} MB. Files stay here while the page is open, an hour at most."
    return f'<p class="lsr-heard">{text}</p>'


def _session(request: gr.Request) -> str:
    return str(getattr(request, "session_hash", None) or secrets.token_hex(8))


def _own(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def css() -> str:
    """How it looks, with the technical names of the heads below the words for them."""
    names = (f'#lsr-head label[data-testid="{word}-radio-label"]::after {{ content: "{name}"; }}'
             for name, word in panels.HEADS.items())  # fmt: skip
    return "\n".join([_own("page.css"), *names])


def head_html() -> str:
    """What the browser has before anything is laid out: nothing is shown until all is in its place."""
    return HEAD_HTML + f"<style>{css()}</style>"
