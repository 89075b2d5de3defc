"""Which functions of ours a restoration visits, in how many files, and how many parameters our functions take.

    python benchmarks/calls.py [--names] [--src FOLDER]

A fresh process each restores examples/phone_speech.flac: by `latentsr restore`, and by `pipe(array, head="vocoder")`
with the model loaded. Counted are functions under src/latentsr, once each; comprehensions and lambdas count as part of
the function that holds them. `--names` prints them in the order of their first call.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
INSIDE = ("<listcomp>", "<genexpr>", "<dictcomp>", "<setcomp>", "<lambda>", "<module>")

TRACED = """
import sys, tempfile, threading
from pathlib import Path
root, seen = sys.argv.pop(), {}
def note(frame, event, _):
    code = frame.f_code
    if event == "call" and code.co_flags & 1 and code.co_filename.startswith(root):  # no bodies of classes
        seen.setdefault((code.co_filename[len(root) + 1:], code.co_qualname), None)
def work():
    %s
def traced(call):
    threading.setprofile(note); sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None); threading.setprofile(None)
work()
for file, name in seen:
    print("CALL", file, name)
"""
COMMAND = """
    from latentsr.apps import cli
    out = Path(tempfile.mkdtemp(), "out.flac")
    sys.argv = ["latentsr", "restore", sys.argv[1], "-o", str(out), "--json"]
    try:
        traced(cli.main)
    except SystemExit as end:
        assert not end.code, end.code
"""
CALL = """
    import soundfile
    from latentsr import Pipeline
    samples, rate = soundfile.read(sys.argv[1], dtype="float32", always_2d=True)
    pipe = Pipeline.from_pretrained(heads=["vocoder"])
    traced(lambda: pipe(samples.T, rate, head="vocoder", steps=1, progress=lambda *_: None))
"""


def visited(work: str, source: Path) -> list[tuple[str, str]]:
    """(file, function) of ours that some work calls, in the order of the first call."""
    clip = ROOT / "examples/phone_speech.flac"
    words = [sys.executable, "-c", TRACED % work.strip(), str(clip), str(source / "latentsr")]
    done = subprocess.run(words, capture_output=True, text=True, env={"PYTHONPATH": str(source), "PATH": ""})
    if done.returncode:
        raise SystemExit(done.stderr)
    calls = [line.split(maxsplit=2)[1:] for line in done.stdout.splitlines() if line.startswith("CALL ")]
    return [(file, name) for file, name in calls if not any(part in name for part in INSIDE)]


def signatures(source: Path) -> list[tuple[int, str]]:
    """(parameters, where) of every internal function, most first.

    Left out are commands of the command line and of the demo's page, and constructors of networks and of the pipeline:
    typer, gradio, the config of a network and diffusers read what there is from these signatures.
    """
    found = []
    for path in sorted((source / "latentsr").rglob("*.py")):
        tree, place = ast.parse(path.read_text(encoding="utf-8")), path.relative_to(source).as_posix()
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and not _is_left_out(node, place):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                count = len([argument for argument in arguments if argument.arg not in ("self", "cls")])
                found.append((count, f"{place}:{node.lineno} {node.name}"))
    return sorted(found, reverse=True)


def _is_left_out(node: ast.FunctionDef, place: str) -> bool:
    network = node.name == "__init__" and ("/models/" in place or place.endswith("/components.py"))
    return (
        network
        or (place.endswith("web/page.py") and node.name == "restore")
        or node.name.endswith("_command")
        or (place.endswith("cli.py") and node.name in ("restore", "info"))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", action="store_true", help="print every function")
    parser.add_argument("--src", type=Path, default=ROOT / "src", help="folder that holds latentsr")
    options = parser.parse_args()
    for title, work in (("latentsr restore", COMMAND), ('pipe(array, head="vocoder")', CALL)):
        calls = visited(work, options.src.resolve())
        print(f"{title}: {len(calls)} functions in {len({file for file, _ in calls})} files")
        if options.names:
            print("\n".join(f"  {file} {name}" for file, name in calls))
    print("\nlongest signatures:")
    for count, where in signatures(options.src)[:12]:
        print(f"  {count:2d}  {where}")
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in options.src.rglob("*.py"))
    print(f"\n{lines} lines of Python under {options.src.name}/")


if __name__ == "__main__":
    main()
