"""The published checkpoints are fetched by name, verified and converted once; no network is used here."""

import shutil
import threading
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError

from latentsr.convert import audiosr_hub
from latentsr.convert.audiosr import architecture
from latentsr.convert.audiosr_file import Checkpoint
from latentsr.convert.audiosr_hub import cache, fetch, is_published
from latentsr.model_folder.loading import ModelError, load_component, read_index, sha256

NAME = "haoheliu/audiosr_basic"


class Hub:
    """In place of the Hub and its cache: files named by their hash behind a link, as on Linux."""

    def __init__(self, root) -> None:
        self.root, self.online, self.downloads, self.conversions = root, True, 0, 0
        self.link = root / "snapshots" / "pytorch_model.bin"
        self.lock = threading.Lock()  # the real one has one too

    def publish(self, file) -> None:
        self.file, self.sha256 = file, sha256(file)

    def metadata(self, url: str) -> SimpleNamespace:
        if not self.online:
            raise OSError("no network")
        assert url.endswith("/haoheliu/audiosr_basic/resolve/main/pytorch_model.bin")
        return SimpleNamespace(etag=self.sha256)

    def download(self, name: str, file: str, local_files_only: bool) -> str:
        assert (name, file) == (NAME, "pytorch_model.bin")
        with self.lock:
            blob = self.root / "blobs" / self.sha256
            if not blob.exists():
                if local_files_only or not self.online:
                    raise LocalEntryNotFoundError("not in the cache")
                blob.parent.mkdir(exist_ok=True)
                self.link.parent.mkdir(exist_ok=True)
                shutil.copy(self.file, blob)
                self.link.unlink(missing_ok=True)
                self.link.symlink_to(blob)
                self.downloads += 1
        return str(self.link)


@pytest.fixture
def hub(official, checkpoint, tmp_path, monkeypatch) -> Hub:
    (tmp_path / "hub").mkdir()
    hub = Hub(tmp_path / "hub")
    hub.publish(checkpoint)
    real = audiosr_hub.convert

    def convert(*args, **kwargs):
        hub.conversions += 1
        return real(*args, config=official.config, **kwargs)  # the small one, where it would take the official

    monkeypatch.setenv("LATENTSR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(audiosr_hub, "hf_hub_download", hub.download)
    monkeypatch.setattr(audiosr_hub, "get_hf_file_metadata", hub.metadata)
    monkeypatch.setattr(audiosr_hub, "convert", convert)
    return hub


def test_a_fetched_folder_holds_the_checkpoint(hub, official):
    folder = fetch(NAME)
    assert folder == cache() / f"audiosr_basic-float32-v1-{hub.sha256}"
    unet = load_component(folder, "unet", read_index(folder), torch.float32)
    assert torch.equal(unet.conv_out.weight, official.state["model.diffusion_model.out.2.weight"])
    assert architecture(official.config).unet_channels == tuple(unet.config.block_out_channels)


def test_the_second_time_nothing_is_read_or_downloaded(hub, monkeypatch):
    folder = fetch(NAME)
    shutil.rmtree(hub.root)  # 6 GB that one may want back
    monkeypatch.setattr(audiosr_hub, "Checkpoint", lambda _: pytest.fail("opened the checkpoint"))
    assert fetch(NAME) == folder
    assert fetch(NAME, local_files_only=True) == folder
    hub.online = False
    assert fetch(NAME) == folder
    assert (hub.downloads, hub.conversions) == (1, 1)


def test_each_type_is_converted_once(hub):
    assert fetch(NAME, dtype=torch.bfloat16) != fetch(NAME)
    assert fetch(NAME, dtype=torch.bfloat16).name.startswith("audiosr_basic-bfloat16-v1-")
    assert (hub.downloads, hub.conversions) == (1, 2)


def test_a_new_file_of_the_hub_is_noticed(hub, official, tmp_path):
    old = fetch(NAME)
    hub.publish(official.write(tmp_path / "new.bin", scale_factor=torch.tensor(0.5)))
    new = fetch(NAME)
    assert new != old
    assert load_component(new, "vae", read_index(new), torch.float32).config.scaling_factor == 0.5


def test_without_network_it_takes_what_is_there_or_says_so(hub):
    with pytest.raises(ModelError, match="cannot fetch haoheliu/audiosr_basic .* try without local_files_only"):
        fetch(NAME, local_files_only=True)
    hub.online = False
    with pytest.raises(ModelError, match="cannot fetch haoheliu/audiosr_basic .* check the network"):
        fetch(NAME)
    assert hub.conversions == 0


def test_a_damaged_download_is_refused(hub, monkeypatch):
    def damaged(*args, **kwargs):
        path = hub.download(*args, **kwargs)
        with open(path, "r+b") as file:  # noqa: PTH123  (through the link)
            file.seek(-1000, 2)
            byte = file.read(1)
            file.seek(-1, 1)
            file.write(bytes([byte[0] ^ 1]))
        return path

    monkeypatch.setattr(audiosr_hub, "hf_hub_download", damaged)
    with pytest.raises(ModelError, match="has another hash than the Hub states|truncated or damaged"):
        fetch(NAME)
    assert hub.conversions == 0
    assert not list(cache().glob("audiosr*"))


def test_two_at_once_convert_once(hub):
    results: list = []
    threads = [threading.Thread(target=lambda: results.append(fetch(NAME))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert len(set(results)) == 1
    assert hub.conversions == 1


def test_what_a_killed_process_left_is_removed(hub):
    left_over = cache() / f".audiosr_basic-float32-v1-{hub.sha256}.0123abcd.tmp"
    left_over.mkdir(parents=True)
    (left_over / "half.safetensors").write_bytes(b"\0" * 100)
    fetch(NAME)
    assert not left_over.exists()
    assert [path.name for path in cache().iterdir() if path.suffix == ".tmp"] == []


def test_where_the_hub_cache_has_no_links_the_hubs_answer_is_the_hash(hub, monkeypatch, tmp_path):
    monkeypatch.setattr(audiosr_hub, "hf_hub_download", lambda *_, **__: str(hub.file))
    assert fetch(NAME).name.endswith(hub.sha256)


def test_a_cache_that_cannot_be_written(hub, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LATENTSR_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ModelError, match="cannot write to the cache .*: not a directory; set LATENTSR_CACHE"):
        fetch(NAME)


def test_the_cache_lies_beside_the_hubs(monkeypatch, tmp_path):
    monkeypatch.delenv("LATENTSR_CACHE", raising=False)
    monkeypatch.setattr(audiosr_hub.constants, "HF_HOME", str(tmp_path))
    assert cache() == tmp_path / "latentsr"


def test_other_names_are_refused(hub):
    assert is_published("haoheliu/audiosr_speech")
    assert not is_published("haoheliu/audioldm")
    with pytest.raises(ModelError, match="choose haoheliu/audiosr_basic or haoheliu/audiosr_speech"):
        fetch("haoheliu/audioldm")
    assert hub.downloads == 0


def test_hashing_happens_once(hub, monkeypatch):
    calls = []
    monkeypatch.setattr("latentsr.convert.audiosr_file.sha256", lambda path: calls.append(path) or hub.sha256)
    fetch(NAME)
    assert len(calls) == 1
    assert Checkpoint(hub.link).scale_factor == pytest.approx(0.33424, abs=1e-5)
