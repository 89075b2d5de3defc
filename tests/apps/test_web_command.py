"""`latentsr demo` says in one line why it does not start."""

import importlib.util
import os
import socket
import subprocess
import sys

import pytest


def test_without_gradio_it_names_the_extra(run_command, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "gradio" else found(name, *rest)
    )
    code, _, err = run_command("demo")
    assert (code, err) == (1, "latentsr: the demo needs gradio; install it with: pip install 'latentsr[demo]'\n")


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("--head", "best"), 2, "unknown head 'best'; choose one of vocoder, mamba-gan, diffwave-mamba"),
        (("--model", "."), 1, "model_index.json"),
        (("--port", "70000"), 2, "'--port'"),
        (("--max-seconds", "-1"), 2, "'--max-seconds'"),
        (("--host", "203.0.113.7", "--port", "0"), 1, "cannot listen on 203.0.113.7 port 0"),
    ],
)
def test_what_it_cannot_do_is_said_before_anything_starts(run_command, tmp_path, monkeypatch, words, code, text):
    pytest.importorskip("gradio")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    got, out, err = run_command("demo", *words)
    assert (got, out) == (code, "") and text in err and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_one_line(run_command, tmp_path, monkeypatch):
    pytest.importorskip("gradio")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, err = run_command("demo", "--port", taken.getsockname()[1])
    assert code == 1 and err.startswith("latentsr: cannot listen on 127.0.0.1 port ")
    assert err.endswith(": address already in use; choose another --port or --host\n")


@pytest.mark.slow
def test_a_model_that_does_not_load_ends_the_server(tmp_path):
    pytest.importorskip("gradio")
    model = tmp_path / "model.bin"
    model.write_bytes(b"no checkpoint")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    words = [sys.executable, "-m", "latentsr", "demo", "--port", "0", "--model", str(model)]
    surroundings = {**os.environ, "TMPDIR": str(temporary)}
    run = subprocess.run(words, env=surroundings, capture_output=True, text=True, timeout=240)
    assert run.returncode == 1 and "Traceback" not in run.stderr
    assert run.stderr.strip().splitlines()[-1].startswith("latentsr: ") and "model.bin" in run.stderr
    assert list(temporary.glob("latentsr-demo-*")) == []


def test_importing_the_command_brings_neither_torch_nor_gradio():
    code = (
        "import sys, latentsr.apps.web.command, latentsr.apps.web.desk; print({'torch', 'gradio'} & sys.modules.keys())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
