"""The one training loop, and the only home of accelerate.

All randomness of step k comes from (seed, k, rank), so a run that is killed anywhere and started again goes on as if
nothing had happened: on a CPU the result is equal bit for bit.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import nn
from tqdm import tqdm

from latentsr.config import ConfigError, differences, dump
from latentsr.data.dataset import Batch, Corpus
from latentsr.data.prefetch import prefetch
from latentsr.training import checkpoint
from latentsr.training.journal import Journal
from latentsr.training.schedule import learning_rate_factor
from latentsr.training.stage import Stage

MAX_BAD_STEPS = 10  # non-finite losses in a row


def fit(
    stage: Stage, corpus: Corpus, run: Path, *, resume: bool, max_minutes: float | None, trackers: list[str]
) -> Path:
    """Train until `config.steps` or for `max_minutes`; return the folder of exported weights.

    The same command goes on where a run was stopped. Raises ConfigError where `run` was made with other values, unless
    `resume` says to go on with the new ones.
    """
    config, started = stage.config, time.monotonic()
    precision = "no" if config.precision == "fp32" else config.precision
    accelerator = Accelerator(mixed_precision=precision, log_with=trackers or None, project_dir=str(run))
    stage.to(accelerator.device)
    optimizers = {phase: _optimizer(stage, phase) for phase in stage.phases}
    averages = {name: EMAModel(net.parameters(), decay=config.ema_decay) for name, net in stage.averaged().items()}
    for average in averages.values():
        average.to(accelerator.device)
    step, seconds_before = _start(stage, optimizers, averages, run, resume, accelerator)
    journal = Journal(run, accelerator, step)

    def batch_of(at: int) -> Batch:
        per_process = config.batch_size // accelerator.num_processes // config.accumulation
        return corpus.batch(
            at, per_process, config.samples, seed=config.seed,
            rank=accelerator.process_index, world_size=accelerator.num_processes,
        )  # fmt: skip

    def seconds() -> float:
        return seconds_before + time.monotonic() - started

    def save() -> None:
        if accelerator.is_main_process:
            checkpoint.save(
                run / "checkpoints", step, _tensors(stage, optimizers, averages),
                {"seconds": seconds(), "config": config.model_dump(mode="json")},
            )  # fmt: skip
            checkpoint.rotate(run / "checkpoints", config.keep)

    batches = prefetch(batch_of, step * config.accumulation)
    bar = tqdm(total=config.steps, initial=step, disable=not accelerator.is_main_process, desc=run.name, mininterval=5)
    bad_steps = 0
    try:
        while step < config.steps and not _out_of_time(started, max_minutes):
            micro = [next(batches).to(accelerator.device) for _ in range(config.accumulation)]
            figures, finite = _step(stage, optimizers, accelerator, micro, step)
            bad_steps = 0 if finite else bad_steps + 1
            if bad_steps >= MAX_BAD_STEPS:
                raise FloatingPointError(f"{bad_steps} steps in a row were not finite; lower learning_rate or use bf16")
            for name, average in averages.items():
                average.step(stage.averaged()[name].parameters())
            step += 1
            bar.update()
            journal.losses(step, figures, every=config.log_every)
            if step % config.validate_every == 0 and accelerator.is_main_process:
                journal.validation(step, seconds(), _validate(stage, averages, corpus, accelerator))
            if step % config.save_every == 0:
                save()
    finally:
        batches.close()
        bar.close()
    save()
    exported = run / "weights"
    if accelerator.is_main_process:
        _swap_in(stage, averages)
        stage.finish(corpus)
        journal.validation(step, seconds(), stage.eval().validate(_fixed(corpus, stage, accelerator), _rng(0, 0, 0)))
        stage.export(exported)
        summary = {"step": step, "seconds": seconds(), "finished": step >= config.steps}
        (exported / "training.json").write_text(json.dumps(summary, indent=1))
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return exported


def _step(
    stage: Stage, optimizers: dict[str, torch.optim.Optimizer], accelerator: Accelerator, micro: list[Batch], step: int
) -> tuple[dict[str, float], bool]:
    """One optimisation step of every active phase. Returns the losses by name and whether all were finite."""
    config, finite = stage.config, True
    figures: dict[str, float] = {}
    torch.manual_seed(config.seed * 1_000_003 + step)  # dropout is the one thing that reads the global generator
    stage.train()
    inputs = []
    for part, batch in enumerate(micro):
        generator = _rng(config.seed, step * config.accumulation + part, accelerator.process_index)
        inputs.append((stage.prepare(batch, generator), generator))
    for phase in stage.active_phases(step):
        optimizer = optimizers[phase]
        optimizer.zero_grad(set_to_none=True)
        for prepared, generator in inputs:
            with accelerator.autocast():
                losses = stage.losses(phase, prepared, step, generator)
            total = stage.total(losses) / config.accumulation
            total.backward()
            for name, value in {**losses, f"total_{phase}": total * config.accumulation}.items():
                figures[name] = figures.get(name, 0.0) + float(value.detach()) / config.accumulation
        parameters = [p for net in stage.networks(phase) for p in net.parameters() if p.grad is not None]
        _average_gradients(parameters, accelerator)
        norm = nn.utils.clip_grad_norm_(parameters, config.optimizer.clip_norm)
        figures[f"gradient_norm_{phase}"] = float(norm)
        if torch.isfinite(norm):
            rate = config.optimizer.learning_rate * learning_rate_factor(config.optimizer, step, config.steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        else:
            finite = False
    return figures, finite


def _average_gradients(parameters: list[nn.Parameter], accelerator: Accelerator) -> None:
    """Mean over the processes, in one message: the same gradients as one process with the whole batch."""
    if accelerator.num_processes == 1:
        return
    flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    flat = accelerator.reduce(flat, "mean")
    offset = 0
    for p in parameters:
        p.grad = flat[offset : offset + p.numel()].view_as(p).clone()
        offset += p.numel()


def _optimizer(stage: Stage, phase: str) -> torch.optim.Optimizer:
    """AdamW; biases, norms and scales are not decayed."""
    config = stage.config.optimizer
    parameters = [p for net in stage.networks(phase) for p in net.parameters()]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas)


def _start(
    stage: Stage,
    optimizers: dict[str, torch.optim.Optimizer],
    averages: dict[str, EMAModel],
    run: Path,
    resume: bool,
    accelerator: Accelerator,
) -> tuple[int, float]:
    """Restore the newest checkpoint into the networks, or begin a run. Returns (step, seconds trained so far)."""
    found = checkpoint.newest_valid(run / "checkpoints")
    if found is None:
        if accelerator.is_main_process:
            run.mkdir(parents=True, exist_ok=True)
            dump(stage.config, run / "config.yaml")
        return 0, 0.0
    path, manifest = found
    changed = differences(manifest["config"], stage.config.model_dump(mode="json"))
    if changed and not resume:
        raise ConfigError(
            f"{run} holds a run with other values ({'; '.join(changed)}); "
            "add --resume to go on with the new ones, or choose another out="
        )
    if changed:
        accelerator.print("resuming with other values: " + "; ".join(changed))
    tensors = checkpoint.load(path)
    for name, network in stage.trained().items():
        network.load_state_dict(tensors[f"model.{name}"])
    for phase, optimizer in optimizers.items():
        checkpoint.load_optimizer(optimizer, tensors.get(f"optimizer.{phase}", {}))
    for name, average in averages.items():
        shadow = tensors[f"average.{name}"]
        average.shadow_params = [shadow[str(i)].to(accelerator.device) for i in range(len(average.shadow_params))]
        average.optimization_step = manifest["step"]
    accelerator.print(f"resumed {path} at step {manifest['step']}")
    return manifest["step"], manifest["seconds"]


def _tensors(
    stage: Stage, optimizers: dict[str, torch.optim.Optimizer], averages: dict[str, EMAModel]
) -> checkpoint.Tensors:
    groups: checkpoint.Tensors = {f"model.{n}": dict(net.state_dict()) for n, net in stage.trained().items()}
    groups |= {f"optimizer.{p}": checkpoint.optimizer_tensors(o) for p, o in optimizers.items()}
    groups |= {f"average.{n}": {str(i): t for i, t in enumerate(a.shadow_params)} for n, a in averages.items()}
    return {name: group for name, group in groups.items() if group}


def _validate(stage: Stage, averages: dict[str, EMAModel], corpus: Corpus, accelerator: Accelerator) -> Any:
    """Validate with the averaged weights, and put the trained ones back."""
    for name, average in averages.items():
        average.store(stage.averaged()[name].parameters())
    _swap_in(stage, averages)
    try:
        with torch.no_grad():
            return stage.eval().validate(_fixed(corpus, stage, accelerator), _rng(0, 0, 0))
    finally:
        for name, average in averages.items():
            average.restore(stage.averaged()[name].parameters())


def _swap_in(stage: Stage, averages: dict[str, EMAModel]) -> None:
    for name, average in averages.items():
        average.copy_to(stage.averaged()[name].parameters())


def _fixed(corpus: Corpus, stage: Stage, accelerator: Accelerator) -> Batch:
    """The same validation batch at every call."""
    count = stage.config.validation_examples
    return corpus.validation_batches(stage.config.samples, count, batch_size=count)[0].to(accelerator.device)


def _rng(seed: int, step: int, rank: int) -> torch.Generator:
    """A CPU generator that depends on (seed, step, rank) alone."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) * 4096 + rank)


def _out_of_time(started: float, max_minutes: float | None) -> bool:
    return max_minutes is not None and time.monotonic() - started > 60 * max_minutes
