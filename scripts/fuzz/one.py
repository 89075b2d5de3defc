"""Fuzz one target: `python scripts/fuzz/one.py TARGET CORPUS [libFuzzer options]`. `run.py` starts it.

Python of the project is instrumented, so that the fuzzer sees which lines an input reaches; the libraries are not.
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import struct
import sys
from pathlib import Path
from typing import Any

import atheris

MEMORY_BYTES = 8 * 2**30  # of address space, most of which torch maps and never touches
HOSTILE = (0, -1, 1, 2**20, 2**31, 10**12, 2**63, 1e308, float("nan"), "", "../../x", "/etc/passwd", "a\0b", None, True,
           [], {}, [[]], "model", [0] * 50)  # fmt: skip


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    with atheris.instrument_imports(include=["latentsr"]):
        import targets

        import latentsr.apps.info
        import latentsr.convert.audiosr_file
        import latentsr.data.sources
        import latentsr.pipeline
        import latentsr.training.checkpoint
        import latentsr.training.recipe  # noqa: F401

    target, corpus = targets.TARGETS[sys.argv[1]], Path(sys.argv[2])
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    mutators = {"json": {"custom_mutator": _mutate_json}, "safetensors": {"custom_mutator": _mutate_header}}
    atheris.Setup([sys.argv[0], *sys.argv[3:], str(corpus)], target.run, **mutators.get(target.form, {}))
    try:
        atheris.Fuzz()
    finally:
        shutil.rmtree(targets.SCRATCH, ignore_errors=True)


def _mutate_json(data: bytes, max_size: int, seed: int) -> bytes:
    """Half of the time a value of the JSON is replaced, else bits are, as for any file. A first byte < 32 is kept."""
    head = data[:1] if data[:1] < b" " else b""
    chance = random.Random(seed)
    if chance.random() < 0.5:
        try:
            return (head + json.dumps(_changed(json.loads(data[len(head) :]), chance)).encode())[:max_size]
        except (ValueError, RecursionError):
            pass
    return atheris.Mutate(data, max_size)


def _mutate_header(data: bytes, max_size: int, seed: int) -> bytes:
    """As for JSON, in the header of a safetensors file, whose length is made to fit."""
    chance = random.Random(seed)
    if len(data) > 8 and chance.random() < 0.7:
        length = struct.unpack("<Q", data[:8])[0]
        try:
            header = json.dumps(_changed(json.loads(data[8 : 8 + length]), chance)).encode()
            return (struct.pack("<Q", len(header)) + header + data[8 + length :])[:max_size]
        except (ValueError, RecursionError, OverflowError):
            pass
    return atheris.Mutate(data, max_size)


def _changed(value: Any, chance: random.Random) -> Any:
    """`value` with one of the values in it replaced, doubled or taken out."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        if chance.random() < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if chance.random() < 0.1:
            return {**value, str(chance.choice(HOSTILE)): value[key]}
        return {**value, key: _changed(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.9:
        at = chance.randrange(len(value))
        return [*value[:at], _changed(value[at], chance), *value[at + chance.randrange(2) :]]
    return chance.choice(HOSTILE)


if __name__ == "__main__":
    main()
