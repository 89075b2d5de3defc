"""Same seed, same bytes, in any process; and no network unless it is asked for by name."""

import hashlib
import os
import subprocess
import sys

import pytest
import soundfile
from huggingface_hub import constants

from latentsr import Pipeline
from latentsr.model_folder.loading import ModelError, find
from tiny import RATE, programme

# Every way into a network goes through these; urllib3 makes a socket of its own at import, to see what IPv6 it has.
ALONE = """
import os, socket, sys

def refuse(*args, **kwargs):
    os.write(2, b"the network was used")
    os._exit(99)

for name in ("connect", "connect_ex", "sendto", "listen", "accept"):
    setattr(socket.socket, name, refuse)
socket.getaddrinfo = socket.gethostbyname = refuse
from latentsr.apps.cli import main
sys.argv = ["latentsr", *sys.argv[1:]]
main()
"""


def latentsr(*words, **environment):
    """The command in a fresh process without network. HF_HUB_OFFLINE is not set: nothing may ask in the first place."""
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_", "PYTHONHASH"))
    }
    env = {**kept, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run([sys.executable, "-c", ALONE, *map(str, words)], env=env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def wav(tmp_path_factory):
    path = tmp_path_factory.mktemp("recordings") / "dull.wav"
    soundfile.write(path, programme(1.0).T, RATE, subtype="PCM_16")
    return path


@pytest.mark.slow
def test_same_seed_same_bytes_whatever_the_process(wav, tmp_path):
    """Hash seeds, locale, time zone and folder of the process differ; threads do not. The network is never asked."""
    digests = {}
    for name, environment in {
        "one": {"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "Asia/Kathmandu"},
        "other": {"PYTHONHASHSEED": "4294967295", "LC_ALL": "C.UTF-8", "TZ": "UTC"},
    }.items():
        out = tmp_path / name / "out.flac"
        words = ["restore", wav, "-o", out, "--head", "vocoder", "--steps", 1, "--seed", 7]
        out.parent.mkdir()
        done = latentsr(*words, HF_HOME=str(out.parent / "hf"), **environment)
        assert done.returncode == 0, done.stderr
        assert sorted(path.name for path in out.parent.iterdir()) == ["out.flac"]  # not even a cache folder
        digests[name] = hashlib.sha256(out.read_bytes()).hexdigest()
    assert digests["one"] == digests["other"]
    assert soundfile.info(out).frames == RATE


def test_a_hub_id_that_is_not_there_is_one_line(wav, tmp_path):
    words = ["restore", wav, "-o", tmp_path / "out.wav", "--model", "nobody/nothing"]
    done = latentsr(*words, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "hf"))
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1 and "Traceback" not in done.stderr
    assert "cannot fetch nobody/nothing from the Hub" in done.stderr and "or pass a folder" in done.stderr
    assert not (tmp_path / "out.wav").exists()


@pytest.mark.parametrize("name", ["nobody/nothing", "haoheliu/audiosr_basic"])
@pytest.mark.parametrize("cache", ["empty", "a file is in the way"])
def test_a_cache_without_the_model_says_what_to_do(tmp_path, monkeypatch, name, cache):
    if cache != "empty":
        (tmp_path / "cache").write_text("not a folder")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LATENTSR_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ModelError, match="cannot fetch|cannot write") as caught:
        Pipeline.from_pretrained(name, local_files_only=True)
    assert "\n" not in str(caught.value) and ";" in str(caught.value)


def test_only_safetensors_and_json_are_downloaded(tmp_path, monkeypatch):
    import huggingface_hub

    asked = {}
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda name, **words: asked.update(words) or str(tmp_path)
    )
    (tmp_path / "model_index.json").write_text("{}")
    find("somebody/something")
    assert asked["allow_patterns"] == ["*.json", "*.safetensors", "*.md"]
