"""What tests of the inspection share."""

import pytest
from making import estimator

from latentsr.inspection import inspect, recording


@pytest.fixture
def inspected(monkeypatch):
    """Inspects a file whose band is said to end at `cutoff_hz`; full band if not given."""

    def run(path, cutoff_hz=24_000.0, **words):
        monkeypatch.setattr(recording, "BandEstimator", estimator(cutoff_hz))
        return inspect(path, **words)

    return run
