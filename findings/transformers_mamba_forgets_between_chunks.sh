#!/usr/bin/env bash
# transformers' Mamba, given its cache and more than one new step, begins from an empty state and says nothing.
#
# A cache is for going on: the second half of a sequence, given the first half's cache, should come out as in one call.
# With transformers' Llama and Mamba2 it does, at any length of the chunks, and with Mamba one step at a time. But where
# Mamba or FalconMamba gets two steps or more, only the convolution goes on from the cache. The scan starts at zero and
# then overwrites the state in the cache, so that all before the chunk is forgotten; no error, no warning. A long
# recording that is streamed in blocks, or a prompt that is read in pieces, is wrong from the second block on. How much
# depends on how much the weights remember. (Mamba2 did the like until pull request 46084 of huggingface/transformers.)
#
# Seen with transformers 5.24.0, torch 2.13.0 (CPU), its plain PyTorch path; random weights that let the state count;
# 64 steps, error against one call in dB, in chunks of 1, 2, 8 and 32 steps:
#   Mamba -114, 1.9, 1.3, -2.2; FalconMamba -125, -2.1, -3.7, -8.5; Mamba2 -120 and below; Llama -132 and below
#
# Exit status: 0 while that is so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0" "transformers==5.24.0" "numpy==2.4.6"
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1
"$work/venv/bin/python" - <<'PY'
import inspect
import math
import sys
import warnings

import torch
import transformers

warnings.simplefilter("ignore")
transformers.logging.set_verbosity_error()
STEPS, CHUNKS = 64, (1, 2, 8, 32)
LARGER = {"in_proj": 4, "x_proj": 2}  # weights of the mixers, so that more than the residual path is heard
SIZES = {"vocab_size": 16, "hidden_size": 32, "num_hidden_layers": 2}
STATE = {"state_size": 8}
MODELS = {
    "Mamba": STATE,
    "FalconMamba": STATE,
    "Mamba2": STATE | {"num_heads": 4, "head_dim": 16, "n_groups": 1, "chunk_size": 16},
    "Llama": {"num_attention_heads": 4, "intermediate_size": 64},
}
steps = torch.randn(1, STEPS, 32, generator=torch.Generator().manual_seed(1))


def made(name, sizes):
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**SIZES, **sizes)).eval()
    for key, weights in model.named_parameters():
        if key.endswith("_proj.weight"):
            weights.data.normal_(0, LARGER.get(key.split(".")[-2], 1) * weights.shape[1] ** -0.5)
        if key.endswith(".D"):
            weights.data.zero_()
    return model


def in_chunks(model, size):
    """What comes of the steps, `size` of them a call, each call with the cache of the one before."""
    known = inspect.signature(model.forward).parameters
    name = next(key for key in ("cache", "cache_params", "past_key_values") if key in known)
    cache, out = {}, []
    for at in range(0, STEPS, size):
        answer = model(inputs_embeds=steps[:, at : at + size], use_cache=True, **cache)
        cache = {name: answer[name]}
        out.append(answer.last_hidden_state)
    return torch.cat(out, dim=1)


held = True
print(f"transformers {transformers.__version__}; error in dB in chunks of {', '.join(map(str, CHUNKS))} steps:")
for name, sizes in MODELS.items():
    model = made(name, sizes)
    with torch.no_grad():
        whole = model(inputs_embeds=steps).last_hidden_state
        errors = [float((in_chunks(model, size) - whole).norm() / whole.norm()) for size in CHUNKS]
    levels = [20 * math.log10(max(error, 1e-10)) for error in errors]
    print(f"{name:12} {' '.join(f'{level:7.1f}' for level in levels)}")
    held &= levels[0] < -90 and (min(levels[1:]) > -30 if name.endswith("Mamba") else max(levels) < -90)
sys.exit(0 if held else "that has changed")
PY
