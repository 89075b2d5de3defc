"""Small synthetic recordings."""

from pathlib import Path

import numpy as np
import pytest
import soundfile


@pytest.fixture
def make_wav():
    """Write noise of RMS -20 dBFS and return the path: make_wav(path, seconds, seed, rate, channels)."""

    def make(path: Path, seconds: float = 0.5, seed: int = 0, rate: int = 48_000, channels: int = 1) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = 0.1 * np.random.default_rng(seed).standard_normal((round(seconds * rate), channels))
        soundfile.write(path, samples, rate, subtype="PCM_16")
        return path

    return make
