"""Two processes with half of the batch each compute the gradients of one process with the whole batch."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("vae", "mamba_gan", "ldm")

SCRIPT = """
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from safetensors.torch import save_file

from latentsr.config import load
from latentsr.data.dataset import Corpus
from latentsr.training import loop
from latentsr.training.interrupt import Interrupt
from latentsr.training.stages import STAGES, build_stage

out, data, configs = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
average = loop.average_gradients
for name in sys.argv[4:]:
    kind, config_type = STAGES[name]
    words = [f"data={data}", "batch_size=4", "accumulation=ACCUMULATION", "steps=2", "log_every=1"]
    config = load(config_type, configs / f"{name}.yaml", words)
    gradients = {}

    def averaged(parameters, accelerator):
        average(parameters, accelerator)
        at = len(gradients)
        gradients.update({f"{at + i:05d}": p.grad.clone() for i, p in enumerate(parameters)})

    loop.average_gradients = averaged
    trainer = loop.Trainer(build_stage(kind, config), Corpus.open(data, config.corpus), out / name, [])
    trainer.restore(resume=False)
    with Interrupt() as interrupt:
        trainer.train(interrupt, max_minutes=None)
    if trainer.accelerator.is_main_process:
        save_file(gradients, out / f"{name}.safetensors")
    trainer.accelerator.wait_for_everyone()
PartialState().destroy_process_group()
"""


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    for i in range(4):
        wave = 0.2 * rng.standard_normal(96_000) * np.abs(np.sin(np.arange(96_000) / (3000 + 500 * i)))
        soundfile.write(folder / f"{i}.wav", wave.astype(np.float32), 48_000)
    return folder


def gradients(out, recordings, processes=1, accumulation=1):
    """Every gradient of two steps, in order, by stage."""
    out.mkdir()
    script = out / "run.py"
    script.write_text(SCRIPT.replace("ACCUMULATION", str(accumulation)))
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes)] if processes > 1 else []
    words = [sys.executable, *launcher, str(script), str(out), str(recordings), str(ROOT / "configs/tiny"), *STAGES]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    return {name: load_file(out / f"{name}.safetensors") for name in STAGES}


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "accumulation"), [(2, 1), (1, 2)])
def test_gradients_do_not_depend_on_how_the_batch_is_shared_out(processes, accumulation, recordings, tmp_path):
    whole = gradients(tmp_path / "whole", recordings)
    shared = gradients(tmp_path / "shared", recordings, processes, accumulation)
    for name in STAGES:
        assert whole[name].keys() == shared[name].keys() and len(whole[name]) > 10
        first = sum(g.square().sum() for g in whole[name].values()) ** 0.5
        difference = sum((whole[name][k] - shared[name][k]).square().sum() for k in whole[name]) ** 0.5
        assert difference < 1e-3 * first, (name, float(difference / first))
