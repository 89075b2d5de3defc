"""FFmpeg in a process of its own: a file that crashes it costs that file, and nothing of whoever reads it.

The process starts with the first file that needs it, and serves one after another. It answers in JSON, with samples
behind: a decoder taken over by a hostile file can tell nothing but text and sound. What is itself the child of a
supervisor (a worker of `batch` or of the demo, a loader of data) decodes where it is.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from latentsr import errors
from latentsr.audio import ffmpeg
from latentsr.audio.kinds import Kind
from latentsr.audio.parts import Part
from latentsr.audio.spans import View
from latentsr.audio.tags.metadata import MAX_BYTES, Metadata, Picture, Text, values_of

PATIENCE_S = 5.0  # for a process that has closed its pipe to end
_STATE = ("samplerate", "channels", "length", "delay", "slack", "format", "subtype", "notes", "damage", "overrun",
          "unread", "left_out")  # fmt: skip
_CODE = "import sys; sys.path[:] = {!r}; from latentsr.audio.apart import serve; serve()"
_idle: list[subprocess.Popen[bytes]] = []  # processes that wait for a file


def opened(path: Path, view: BinaryIO, part: Part, kind: Kind, which: ffmpeg.Which) -> ffmpeg.Decoder:
    """FFmpeg's decoder of a part of a file, which `view` shows: in a process of its own where that protects anybody."""
    if multiprocessing.parent_process() is not None or sys.modules.get("av", sys) is None:  # None: may not be imported
        return ffmpeg.Decoder(path, view, kind, which)
    return Decoder(path, part, kind, which)


class Decoder(ffmpeg.Decoder):
    """The same from outside: what the decoder over there knows stands in the attributes of this one."""

    def __init__(self, path: Path, part: Part, kind: Kind, which: ffmpeg.Which) -> None:
        self._path = path
        self._process: subprocess.Popen[bytes] | None = _process()
        self._ready = True  # all that was asked was answered
        asked = str(path), str(path.absolute()), (part.start, part.end), (kind.label, kind.demuxer)
        try:
            told = self._ask(open=(*asked, (which.track, which.timeline)))
        except BaseException:
            self.close()
            raise
        tags = {name: Text.of(values) for name, values in told["tags"].items()}
        pictures = [Picture(mime, base64.b64decode(data), *more) for mime, data, *more in told["pictures"]]
        self.metadata = Metadata(tags, tuple(pictures), channel_mask=told["mask"], notes=tuple(told["lost"]))

    def read_block(self, frames: int) -> np.ndarray:
        """The next (n, C) samples, n <= `frames`; n = 0 at the end or where nothing more can be decoded."""
        size = 4 * min(int(self._ask(read=frames)["samples"]), frames * self.channels)
        block = np.frombuffer(bytearray(self._hear(size)), dtype=np.float32).reshape(-1, self.channels)  # writable
        self._ready = True
        return block

    def close(self) -> None:
        """Let the process go on to another file; safe to call twice."""
        if self._process is None:
            return
        if self._ready:
            self._say(close=True)
            _idle.append(self._process)
        else:  # interrupted, or dead
            _ended(self._process)
        self._process = None

    def _say(self, **request: Any) -> None:
        assert self._process is not None and self._process.stdin is not None
        with contextlib.suppress(OSError):  # dead: that is heard
            self._process.stdin.write(json.dumps(request).encode("ascii") + b"\n")
            self._process.stdin.flush()

    def _ask(self, **request: Any) -> dict[str, Any]:
        self._ready = False
        self._say(**request)
        size = int.from_bytes(self._hear(4), "big")
        answer: dict[str, Any] = json.loads(self._hear(min(size, 4 * MAX_BYTES)))
        self._ready = "samples" not in answer  # which follow
        if (error := answer.get("error")) is not None:
            raise getattr(errors, error[0])(error[1], **error[2])
        self.__dict__.update({name: answer["state"][name] for name in _STATE})
        return answer

    def _hear(self, count: int) -> bytes:
        assert self._process is not None and self._process.stdout is not None
        data = self._process.stdout.read(count)
        if len(data) == count:
            return data
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_S)
        code = _ended(self._process)
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        raise errors.AudioError(
            f"FFmpeg crashed reading {self._path} ({how}); the file is damaged in a way that FFmpeg does not survive: "
            "fetch it again, or convert it with the program that wrote it"
        )


def _process() -> subprocess.Popen[bytes]:
    """One that waits, or a new one, which Ctrl-C does not reach, and which ends with this one: its input ends."""
    while _idle:
        if (process := _idle.pop()).poll() is None:
            return process
        _ended(process)
    words = [sys.executable, "-c", _CODE.format(sys.path)]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)


def _ended(process: subprocess.Popen[bytes]) -> int:
    process.kill()
    with contextlib.suppress(BrokenPipeError), process:
        pass  # closes its pipes
    return process.wait()


@atexit.register
def _end() -> None:
    while _idle:
        _ended(_idle.pop())


if hasattr(os, "register_at_fork"):  # the processes are those of the parent
    os.register_at_fork(after_in_child=_idle.clear)


# --- over there -------------------------------------------------------------------------------------------------------


def serve() -> None:
    """The life of the process: answer what comes, until nothing more does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    decoder: ffmpeg.Decoder | None = None
    with contextlib.ExitStack() as stack:
        for line in sys.stdin.buffer:
            request, sound, answer = json.loads(line), b"", dict[str, Any]()
            try:
                if "open" in request:
                    decoder = _open(stack, *request["open"])
                    answer = _described(decoder.metadata)
                elif "read" in request:
                    assert decoder is not None
                    block = np.ascontiguousarray(decoder.read_block(request["read"]), np.float32)
                    sound, answer = block.tobytes(), {"samples": block.size}
                else:
                    stack.close()
                    continue
                answer["state"] = {name: getattr(decoder, name) for name in _STATE}
            except errors.AudioError as error:
                sound, answer = b"", {"error": (type(error).__name__, str(error), vars(error))}
            text = json.dumps(answer).encode("ascii")
            out.write(len(text).to_bytes(4, "big") + text + sound)
            out.flush()


def _open(
    stack: contextlib.ExitStack,
    name: str,
    place: str,
    span: tuple[int, int],
    kind: tuple[str, str],
    which: tuple[int, bool],
) -> ffmpeg.Decoder:
    """FFmpeg's decoder of the bytes `span` of the file at `place`, which is called `name`, of a label and demuxer."""
    try:
        file = stack.enter_context(FileIO(place))
    except OSError as error:
        raise errors.AudioError(f"{name} cannot be opened again ({error.strerror}); check the name") from None
    whole = tuple(span) == (0, os.fstat(file.fileno()).st_size)
    view: Any = file if whole else View(file, *span)
    decoder = ffmpeg.Decoder(Path(name), view, Kind(*kind), ffmpeg.Which(*which))
    stack.callback(decoder.close)
    return decoder


def _described(metadata: Metadata) -> dict[str, Any]:
    pictures = [(one.mime, base64.b64encode(one.data).decode(), one.kind, one.description) for one in metadata.pictures]
    tags = {name: values_of(text) for name, text in metadata.tags.items()}
    return {"tags": tags, "pictures": pictures, "mask": metadata.channel_mask, "lost": metadata.notes}
