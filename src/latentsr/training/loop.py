"""The one training loop.

All randomness of step k comes from (seed, k, example), so the gradients do not depend on how many processes share the
batch, and a run that is killed anywhere and started again goes on as if
nothing had happened: on a CPU the result is equal bit for bit.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError
from torch import nn

from latentsr.config import ConfigError, differences, dump
from latentsr.data.dataset import Batch, Corpus, Share
from latentsr.data.prefetch import prefetch
from latentsr.training import checkpoint
from latentsr.training.checkpoint import Averages, Best
from latentsr.training.draws import Draws
from latentsr.training.interrupt import Interrupt
from latentsr.training.logbook import Journal
from latentsr.training.optimizers import average_gradients, build_optimizer, learning_rates
from latentsr.training.pace import Pace
from latentsr.training.stage import Stage

MAX_BAD_STEPS = 10  # non-finite gradients in a row


def fit(
    stage: Stage, corpus: Corpus, run: Path, *, resume: bool, max_minutes: float | None, trackers: list[str]
) -> Path | None:
    """Train until `config.steps` or for `max_minutes`; return the folder of exported weights.

    The same command goes on where a run was stopped. On SIGINT or SIGTERM the step is finished, a checkpoint saved, and
    None returned.

    Raises:
        ConfigError: `run` was made with other values, and `resume` does not say to go on with the new ones.
        DataError: the corpus has nothing to validate on.
        FloatingPointError: MAX_BAD_STEPS steps in a row were not finite.
    """
    corpus.validation_batches(stage.config.samples, 1)  # an empty validation set is said now, and not hours later
    trainer = Trainer(stage, corpus, run, trackers)
    trainer.announce()
    trainer.restore(resume)
    with Interrupt() as interrupt:
        trainer.train(interrupt, max_minutes)
    return None if trainer.interrupted else trainer.finish()


class Trainer:
    """A stage, its optimisers and averages, and where they stand."""

    def __init__(self, stage: Stage, corpus: Corpus, run: Path, trackers: list[str]) -> None:
        config = stage.config
        # Precision is the loop's own affair: an Accelerator refuses a second one in the same process, and the stages of
        # a recipe may differ.
        self.accelerator = Accelerator(mixed_precision="no")
        parts = self.accelerator.num_processes * config.accumulation
        if config.batch_size % parts:
            raise ConfigError(
                f"batch_size {config.batch_size} must be a multiple of processes x accumulation = {parts}"
            )
        self.per_process = config.batch_size // parts
        self.stage, self.config, self.corpus, self.run = stage.to(self.accelerator.device), config, corpus, run
        self.optimizers = {phase: build_optimizer(stage, phase) for phase in stage.phases}
        self.averages = {
            name: EMAModel(network.parameters(), decay=config.ema_decay) for name, network in stage.averaged().items()
        }
        self.step, self.bad_steps, self.interrupted = 0, 0, False
        self.seconds_before, self.started = 0.0, time.monotonic()
        self.journal = Journal(run, config, trackers, self.accelerator.is_main_process)
        self.pace = Pace(config, self.accelerator.device)
        self.best = Best(run, config)

    def announce(self) -> None:
        """Say what is trained, and on what."""
        config, state = self.config, self.accelerator
        sizes = {name: sum(p.numel() for p in net.parameters()) / 1e6 for name, net in self.stage.trained().items()}
        networks = ", ".join(f"{name} {size:.3g} M parameters" for name, size in sizes.items())
        where = f"{state.device}" + (f", {state.num_processes} processes" if state.num_processes > 1 else "")
        example_s = config.samples / config.audio.sample_rate
        how = f"{config.steps} steps of {config.batch_size} x {example_s:.2f} s, {config.precision}, on {where}"
        self.journal.say("\n".join([*self.corpus.overview(), f"{networks}; {how}"]))

    # --- the loop -------------------------------------------------------------------------------------------------

    def train(self, interrupt: Interrupt, max_minutes: float | None) -> None:
        """Step until the last one, the time limit, or an interrupt; then save."""
        config, pace = self.config, self.pace
        deadline = math.inf if max_minutes is None else self.started + 60 * max_minutes
        if config.best_metric and self.step == 0:  # whether there is such a metric is said now, and not hours later
            self._show_validation()
        with prefetch(self._batch, self.step * config.accumulation) as batches:
            while self.step < config.steps:
                self.interrupted, over = self._agree(interrupt.happened, time.monotonic() > deadline)
                if self.interrupted or over:
                    break
                pace.begin()
                micro = [next(batches).to(self.accelerator.device) for _ in range(config.accumulation)]
                pace.fetched()
                rates = learning_rates(config, self.stage.active_phases(self.step), self.step)
                losses = self._step(micro, rates)
                for name, average in self.averages.items():
                    average.step(self.stage.averaged()[name].parameters())
                self.step += 1
                pace.stepped()
                self.journal.step(self.step, losses, rates, pace)
                if self.step % config.validate_every == 0:
                    self._show_validation()
                if self.step % config.save_every == 0:
                    self._save()
        self._save()
        self.journal.pause()
        self.accelerator.wait_for_everyone()  # torchrun stops the others when one leaves: not before all is saved

    def _agree(self, *stops: bool) -> list[bool]:
        """Whether any process has each reason to stop: all stop at the same step, or those left would wait for ever."""
        if self.accelerator.num_processes == 1:
            return list(stops)
        votes = torch.tensor(stops, dtype=torch.float32, device=self.accelerator.device)
        return (self.accelerator.reduce(votes, "sum") > 0).tolist()

    def _step(self, micro: list[Batch], rates: dict[str, float]) -> dict[str, float]:
        """One optimisation step of every active phase. Returns the losses by name."""
        config, figures = self.config, dict[str, float]()
        torch.manual_seed(config.seed * 1_000_003 + self.step)  # dropout alone reads the global generator
        self.stage.train()
        inputs = []
        for part, batch in enumerate(micro):
            draws = Draws(config.seed, self.step, self._part(part) * self.per_process, self.per_process)
            inputs.append((self.stage.prepare(batch, draws), draws))
        for phase, rate in rates.items():
            self.optimizers[phase].zero_grad(set_to_none=True)
            for prepared, draws in inputs:
                with self._autocast():
                    losses = self.stage.losses(phase, prepared, self.step, draws)
                total = self.stage.total(losses)
                # What is not finite makes every gradient so, in all processes; a NaN that is added has finite ones.
                (total * (1 + 0 * total.detach()) / config.accumulation).backward()
                for name, value in {**losses, f"total_{phase}": total}.items():
                    figures[name] = figures.get(name, 0.0) + float(value.detach()) / config.accumulation
            norm = self._optimize(phase, rate)
            figures[f"gradient_norm_{phase}"] = float(norm)
        bad = [name for name, value in figures.items() if not math.isfinite(value)]
        self._count_bad_step(bad)
        return {name: value for name, value in figures.items() if name not in bad}

    def _count_bad_step(self, names: list[str]) -> None:
        """Say what of a step was not finite; its phase has not moved the weights. Too many in a row end the run."""
        self.bad_steps = self.bad_steps + 1 if names else 0
        if not names:
            return
        self.journal.say(f"step {self.step + 1}: {', '.join(names)} not finite; the step is left out")
        if self.bad_steps >= MAX_BAD_STEPS:
            raise FloatingPointError(
                f"{MAX_BAD_STEPS} steps in a row were not finite, the last one in {', '.join(names)}; lower "
                "optimizer.learning_rate, or use precision=fp32, and add --resume; checkpoints from before are kept"
            )

    def _autocast(self) -> torch.autocast:
        enabled = self.config.precision == "bf16"
        return torch.autocast(self.accelerator.device.type, dtype=torch.bfloat16, enabled=enabled)

    def _optimize(self, phase: str, rate: float) -> torch.Tensor:
        """Clip the gradients and take the step, unless they are not finite. Returns their norm."""
        parameters = [p for network in self.stage.networks(phase) for p in network.parameters() if p.grad is not None]
        average_gradients(parameters, self.accelerator)
        norm = nn.utils.clip_grad_norm_(parameters, self.config.optimizer.clip_norm)
        if torch.isfinite(norm):
            for group in self.optimizers[phase].param_groups:
                group["lr"] = rate
            self.optimizers[phase].step()
        return norm

    def _batch(self, at: int) -> Batch:
        """Number `at` of the batches of this process: part `at % accumulation` of a step."""
        step, part = divmod(at, self.config.accumulation)
        share = Share(self._part(part), self.accelerator.num_processes * self.config.accumulation)
        return self.corpus.batch(step, self.per_process, self.config.samples, seed=self.config.seed, share=share)

    def _part(self, part: int) -> int:
        """Which share of the global batch is part `part` of this process' step."""
        return part * self.accelerator.num_processes + self.accelerator.process_index

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    # --- validation and the end -----------------------------------------------------------------------------------

    def _show_validation(self) -> None:
        """Validate with the averaged weights, and put the trained ones back."""
        if not self.accelerator.is_main_process:
            return
        for name, average in self.averages.items():
            average.store(self.stage.averaged()[name].parameters())
        try:
            self._copy({name: average.shadow_params for name, average in self.averages.items()})
            self._validate()
        finally:
            for name, average in self.averages.items():
                average.restore(self.stage.averaged()[name].parameters())

    def _copy(self, averages: Averages) -> None:
        for name, tensors in averages.items():
            for parameter, tensor in zip(self.stage.averaged()[name].parameters(), tensors, strict=True):
                parameter.data.copy_(tensor)

    def _validate(self) -> None:
        """The same batch and the same randomness at every call."""
        count = self.config.validation_examples
        batch = self.corpus.validation_batches(self.config.samples, count, batch_size=count)[0]
        with self.pace.timed("validation"):
            with torch.no_grad():
                found = self.stage.eval().validate(batch.to(self.accelerator.device), Draws(0, 0, 0, count))
            averages = {name: average.shadow_params for name, average in self.averages.items()}
            note = f" (best {self.best.metric} so far)" if self.best.offer(self.step, found.metrics, averages) else ""
            self.journal.validation(self.step, self._seconds(), found, note)

    def finish(self) -> Path:
        """Measure what belongs to the weights, and export their average; beside it the best, where one was kept."""
        exported = self.run / "weights"
        if self.accelerator.is_main_process:
            last = {name: average.shadow_params for name, average in self.averages.items()}
            self._copy(last)
            if self.journal.validated != self.step:
                self._validate()
            with self.pace.timed("weights"):
                best = self.best.load()
                if best is not None:
                    self._copy(best)
                    self._export(self.run / "best", self.best.summary())
                    self._copy(last)
                finished = self.step >= self.config.steps
                self._export(exported, {"step": self.step, "seconds": self._seconds(), "finished": finished})
            self.journal.close()
        self.accelerator.wait_for_everyone()
        return exported

    def _export(self, folder: Path, summary: dict[str, Any]) -> None:
        self.stage.finish(self.corpus)
        try:
            self.stage.export(folder)
            (folder / "training.json").write_text(json.dumps(summary, indent=1))
        except (OSError, SafetensorError) as error:
            raise OSError(f"cannot write {folder} ({error}); make room, and the same command writes it") from error

    # --- checkpoints ----------------------------------------------------------------------------------------------

    def _save(self) -> None:
        if not self.accelerator.is_main_process:
            return
        stage = self.stage
        groups: checkpoint.Tensors = {f"model.{n}": dict(net.state_dict()) for n, net in stage.trained().items()}
        groups |= {f"optimizer.{p}": checkpoint.optimizer_tensors(o) for p, o in self.optimizers.items()}
        groups |= {f"average.{n}": {str(i): t for i, t in enumerate(a.shadow_params)} for n, a in self.averages.items()}
        extra = {"seconds": self._seconds(), "config": self.config.model_dump(mode="json")}
        folder = self.run / "checkpoints"
        with self.pace.timed("checkpoint"):
            checkpoint.save(folder, self.step, {name: group for name, group in groups.items() if group}, extra)
        checkpoint.rotate(folder, self.config.keep)

    def restore(self, resume: bool) -> None:
        """Take up the newest checkpoint of the run folder, or begin a run."""
        config = self.config.model_dump(mode="json")
        found = checkpoint.newest_valid(self.run / "checkpoints")
        if found is not None:
            path, manifest = found
            changed = differences(manifest["config"], config)
            if changed and not resume:
                raise ConfigError(
                    f"{self.run} holds a run with other values ({'; '.join(changed)}); "
                    "add --resume to go on with the new ones, or choose another out="
                )
            if changed:
                self.journal.say("going on with other values: " + "; ".join(changed))
            self._load(path, manifest)
            self.journal.say(f"resumed {path} at step {self.step}")
        if self.accelerator.is_main_process:
            self.run.mkdir(parents=True, exist_ok=True)
            dump(self.config, self.run / "config.yaml")
        for average in self.averages.values():
            average.to(self.accelerator.device)
        self.journal.start(self.step)
        self.best.start()

    def _load(self, path: Path, manifest: dict[str, Any]) -> None:
        tensors = checkpoint.load(path)
        for name, network in self.stage.trained().items():
            network.load_state_dict(tensors[f"model.{name}"])
        for phase, optimizer in self.optimizers.items():
            checkpoint.load_optimizer(optimizer, tensors.get(f"optimizer.{phase}", {}))
        for name, average in self.averages.items():
            shadow = tensors[f"average.{name}"]
            average.shadow_params = [shadow[str(i)] for i in range(len(average.shadow_params))]
            average.optimization_step = manifest["step"]
        self.step, self.seconds_before = manifest["step"], manifest["seconds"]
