"""What stands in for the network, and for hours: models by names of the Hub, training and archives in seconds."""

from __future__ import annotations

import shutil
from pathlib import Path

from pytest import MonkeyPatch

LEVELS = 4  # of AudioSR's stand-in: with fewer its latents, and the attention over them, are large
SMALL = ["steps=2", "batch_size=2", "frames=48", "validation_examples=1", "save_every=100", "validate_every=100"]
TINY = {  # what a script trains where a page names no config: the same stage in thousands of parameters
    "train.py": "recipes/tiny.yaml",
    "train_vae.py": "tiny/vae.yaml",
    "train_ldm.py": "tiny/ldm.yaml",
    "train_cutoff.py": "tiny/cutoff.yaml",
    "train_hifigan.py": "tiny/vocoder.yaml",
    "train_mamba_gan.py": "tiny/mamba_gan.yaml",
    "train_live.py": "tiny/live.yaml",
    "train_diffwave_mamba.py": "tiny/diffwave_mamba.yaml",
}
STAGES = {  # of `latentsr train`: the script that trains the same
    "recipe": "train.py",
    "vae": "train_vae.py",
    "ldm": "train_ldm.py",
    "cutoff": "train_cutoff.py",
    "vocoder": "train_hifigan.py",
    "mamba_gan": "train_mamba_gan.py",
    "live": "train_live.py",
    "diffwave_mamba": "train_diffwave_mamba.py",
}


def adapt(words: list[str]) -> list[str]:
    """Before a command of a page: let names of the Hub lead here, and make it short."""
    patch()
    program, *rest = words
    if rest[:1] == ["train"] and rest[1] in STAGES:
        return [program, *rest[:2], *small(STAGES[rest[1]], rest[2:])]
    if program == "latentsr":
        return words + serial(rest) + quick(rest)
    at = 1 if program == "accelerate" else 0
    if len(rest) > at and Path(rest[at]).name in TINY:
        return [program, *rest[: at + 1], *small(Path(rest[at]).name, rest[at + 1 :])]
    return words


def serial(words: list[str]) -> list[str]:
    """A batch that is not told otherwise runs in one process: each worker would import torch anew."""
    told = {"--engine", "--workers", "--help"} & set(words)
    return [] if words[:1] != ["batch"] or told else ["--engine", "serial"]


def quick(words: list[str]) -> list[str]:
    """A table without the model of hearing, the ceiling and the memory, where a page's words do not speak of them."""
    told = {"--no-visqol", "--visqol", "--help"} & set(words)
    return [] if words[:1] != ["eval"] or told else ["--no-visqol", "--no-ceiling", "--no-memory"]


def small(script: str, words: list[str]) -> list[str]:
    """A training command with its own words, in seconds: two steps, and tiny networks where it trains from nothing."""
    if "--help" in words:
        return words
    replaced = {item.split("=")[0] for item in SMALL}
    shrunk = [word for word in words if word.split("=")[0] not in replaced]
    if any(word.startswith("initial_weights=") for word in words):  # their sizes are given
        return [*shrunk, *SMALL, "batch_size=1"]
    if any(word.startswith("vocoder=") for word in words):  # the tiny generator has one layer to start from it
        shrunk = [*shrunk, "vocoder_blocks=[0]"]
    if "--config" not in shrunk:
        return ["--config", f"configs/{TINY[script]}", *shrunk, *SMALL]
    at = shrunk.index("--config") + 1
    assert Path(shrunk[at]).is_file(), shrunk[at]
    twin = Path("configs/tiny", Path(shrunk[at]).name)
    shrunk[at] = str(twin) if twin.is_file() else f"configs/{TINY[script]}"
    return [*shrunk, *SMALL]


def patch(monkeypatch: MonkeyPatch | None = None) -> None:
    """Let published names lead to what lies in the folder at hand, where that folder holds any."""
    patches = MonkeyPatch() if monkeypatch is None else monkeypatch
    patches.setenv("HF_HUB_OFFLINE", "1")
    if Path("pytorch_model.bin").exists():
        _patch_audiosr(patches)
    if Path("generators").exists():
        _patch_generators(patches)


def _patch_audiosr(patches: MonkeyPatch) -> None:
    """AudioSR's name on the Hub is the checkpoint at hand, and the official sizes are those of that checkpoint."""
    import small_audiosr
    from latentsr.convert import audiosr, audiosr_hub
    from latentsr.model_folder.loading import sha256

    here, official, small = Path.cwd(), audiosr.architecture, small_audiosr.configuration(LEVELS)
    published = here / "blobs" / sha256(here / "pytorch_model.bin")  # the Hub's cache names files so
    if not published.exists():
        published.parent.mkdir()
        shutil.copy(here / "pytorch_model.bin", published)
    patches.setenv("LATENTSR_CACHE", str(here / "cache"))
    patches.setattr(audiosr_hub, "hf_hub_download", lambda *_, **__: str(published))
    patches.setattr(audiosr, "architecture", lambda config=None: official(config or small))


def _patch_generators(patches: MonkeyPatch) -> None:
    """Speech and music models by their names on the Hub are small ones of the same classes."""
    from plugins.small_generators import patch_hub

    patch_hub(patches)
