"""What stands in for the network: hub ids that pages name lead to small models of the same classes, made here."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pytest import MonkeyPatch

LEVELS = 4  # of AudioSR's stand-in: with fewer its latents, and the attention over them, are large


def warm_up() -> None:
    """Import what most commands import, once for all of them. Nothing is computed: threads would not survive a fork."""
    import latentsr.apps.batch.command
    import latentsr.apps.evaluate
    import latentsr.apps.loading
    import latentsr.apps.restore
    import latentsr.evaluation.benchmark
    import latentsr.pipeline
    import latentsr.training.stages  # noqa: F401


def patch(monkeypatch: MonkeyPatch | None = None) -> None:
    """Let published names lead to what lies in the folder at hand, where that folder holds any."""
    patches = MonkeyPatch() if monkeypatch is None else monkeypatch
    os.environ["HF_HUB_OFFLINE"] = "1"
    if Path("pytorch_model.bin").exists():
        _patch_audiosr(patches)


def _patch_audiosr(patches: MonkeyPatch) -> None:
    """AudioSR's name on the Hub is the checkpoint at hand, and the official sizes are those of that checkpoint."""
    import small_audiosr
    from latentsr.convert import audiosr, audiosr_hub
    from latentsr.folder import sha256

    here, official = Path.cwd(), audiosr.architecture
    published = here / "blobs" / sha256(here / "pytorch_model.bin")  # the Hub's cache names files so
    if not published.exists():
        published.parent.mkdir()
        shutil.copy(here / "pytorch_model.bin", published)
    patches.setenv("LATENTSR_CACHE", str(here / "cache"))
    patches.setattr(audiosr_hub, "hf_hub_download", lambda *_, **__: str(published))
    patches.setattr(
        audiosr, "architecture", lambda config=None: official(config or small_audiosr.configuration(LEVELS))
    )
