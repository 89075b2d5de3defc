"""Stage 3b: a finished denoiser, with its guidance, distilled into one that takes a few steps and needs no guidance.

Phased consistency (Heek et al. 2024, "Multistep Consistency Models"; Wang et al. 2024, "Phased Consistency Model"): the
student is sampled by plain DDIM in `phases` steps, and each of its steps must lead where the teacher's many small ones
do. No noise is drawn on the way, so nothing is averaged: from the same noise both make the same.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Literal

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from latentsr.config import ConfigError
from latentsr.data.dataset import Batch
from latentsr.diffusion.sampling import Denoiser, guided, sample, training_scheduler
from latentsr.model_folder.loading import EMBEDDED
from latentsr.models.unet import Bands, DenoisingUNet, predict_v
from latentsr.models.vae import mode
from latentsr.training.draws import Draws
from latentsr.training.ldm import LatentStage, LatentStageConfig, LdmInputs, find_vae, load_unet, mean_by_rows
from latentsr.training.stage import Validation, degraded

SCHEDULE = ("num_train_timesteps", "beta_schedule", "trained_betas", "prediction_type", "rescale_betas_zero_snr")


class DistillStageConfig(LatentStageConfig):
    architecture: Literal["distill"] = "distill"  # of the stage; the network's own is the teacher's
    teacher: str = ""  # folder of a finished model, or RUN/weights; "" = the embedded one
    guidance_scale: float = 1.5  # of the teacher
    phases: Literal[1, 2, 4] = 4  # steps that the student is sampled in
    skip: int = 20  # of the 1000 times, one step of the teacher; 20 = as in 50 steps
    teacher_steps: int = 1  # before the student takes over; as many as a phase has: it never does
    huber: float = 0.03  # velocity errors below it count by their square, those above by their size
    validation_steps: int = 50  # of the teacher


class DistillStage(LatentStage):
    """latents, noise, time, teacher -> velocity that leads to the end of the phase in one step."""

    config: DistillStageConfig

    def __init__(self, config: DistillStageConfig) -> None:
        teacher = Path(config.teacher) if config.teacher else EMBEDDED
        scheduler = training_scheduler()
        _check_teacher(teacher, scheduler)
        phases = Phases(scheduler, config.phases, config.skip, config.teacher_steps)
        vae = config.vae or (teacher / "vae" if (teacher / "vae").is_dir() else find_vae(""))
        super().__init__(config.model_copy(update={"vae": str(vae), "teacher": str(teacher)}))
        self.scheduler, self.phase_grid = scheduler, phases
        self.teacher = load_unet(teacher).requires_grad_(False)
        start = load_unet(Path(config.initial_weights)) if config.initial_weights else copy.deepcopy(self.teacher)
        self.unet = start.requires_grad_(True)

    def train(self, mode: bool = True) -> DistillStage:
        super().train(mode)
        self.teacher.eval()
        return self

    def losses(self, phase: str, inputs: LdmInputs, step: int, draws: Draws) -> dict[str, Tensor]:
        x0 = inputs.target
        noise = draws.normal(*x0.shape[1:]).to(x0.device)
        t, end = self.phase_grid.draw(draws)
        x = self.scheduler.add_noise(x0, noise, t.to(x0.device))
        student = self._denoiser(self.unet, inputs.condition, inputs.cutoff_hz)
        # Before what has no gradient: autocast keeps the weights that it casts, and would keep them without one.
        v = student(x, t.to(x0.device))
        with torch.no_grad():
            teacher = self._guided_teacher(inputs.condition, inputs.cutoff_hz)
            wanted = self.phase_grid.wanted_velocity(teacher, student, x, t, end)
        error = mean_by_rows((v - wanted).square(), self._row_weights(inputs, x0.shape[-1]))
        c = self.config.huber
        return {"consistency": ((error + c**2).sqrt() - c).mean()}  # pseudo-Huber (Song & Dhariwal 2024)

    def _denoiser(self, unet: DenoisingUNet, condition: Tensor, cutoff_hz: Tensor) -> Denoiser:
        """A network as at inference: told 24 kHz."""
        bands = Bands(cutoff_hz, self._full_hz(cutoff_hz))
        return lambda x, t: predict_v(unet, x, condition, t, bands, self.config.audio).float()

    def _guided_teacher(self, condition: Tensor, cutoff_hz: Tensor) -> Denoiser:
        if self.config.guidance_scale == 1.0:
            return self._denoiser(self.teacher, condition, cutoff_hz)
        conditions = torch.cat([condition, torch.zeros_like(condition)])
        both = self._denoiser(self.teacher, conditions, cutoff_hz.repeat(2))

        def denoiser(x: Tensor, t: Tensor) -> Tensor:
            told, free = both(torch.cat([x, x]), t.repeat(2)).chunk(2)
            return guided(told, free, self.config.guidance_scale)

        return denoiser

    @torch.no_grad()
    def validate(self, batch: Batch, draws: Draws) -> Validation:
        """The student in its few steps and the teacher in its many, from the same noise."""
        example = degraded(batch, self.config, draws)
        condition = mode(self.vae, self.mel(example.low))
        noise = draws.normal(*condition.shape[1:]).to(condition.device)
        student = self._denoiser(self.unet, condition, example.cutoff_hz)
        teacher = self._guided_teacher(condition, example.cutoff_hz)
        few = sample(student, noise, self.scheduler, self.config.phases)
        many = sample(teacher, noise, self.scheduler, self.config.validation_steps)
        result, reference = self._judge(example, few), self._judge(example, many)
        result.metrics |= {f"{name}_teacher": value for name, value in reference.metrics.items()}
        distance = mean_by_rows((few - many).square(), self._row_weights(example, few.shape[-1]))
        result.metrics["latent_distance"] = float(distance.mean().sqrt())
        result.waves["teacher"] = reference.waves["restored"]
        return result


class Phases:
    """The stops of a sampler of few steps, those of its teacher in between, and the jumps from one to another.

    All jumps are DDIM's. On x = cos(angle) x0 + sin(angle) noise they are rotations: with v = dx / d angle, a jump from
    t to s is x cos(turn) - v sin(turn), where turn = angle(t) - angle(s). Times (B,) are integers on the CPU; -1 is the
    end, where x = x0.
    """

    def __init__(self, scheduler: DDIMScheduler, phases: int, skip: int, teacher_steps: int) -> None:
        times = scheduler.config.num_train_timesteps
        self.length, self.skip, self.teacher_steps = times // phases, skip, teacher_steps
        if times % phases:
            raise ConfigError(f"phases must divide the {times} times, got {phases}; choose 1, 2 or 4")
        if not 1 <= skip <= self.length:
            raise ConfigError(f"skip must be 1 to {self.length}, the length of a phase, got {skip}; 20: 50 steps")
        if teacher_steps < 1:
            raise ConfigError(f"teacher_steps must be 1 or more, got {teacher_steps}")
        self.starts = torch.arange(times, 0, -self.length) - 1
        abar = scheduler.alphas_cumprod.double()
        self.angles = torch.cat([torch.zeros(1), torch.atan2((1 - abar).sqrt(), abar.sqrt())])  # of the times from -1

    def draw(self, draws: Draws) -> tuple[Tensor, Tensor]:
        """Times at the teacher's stops, and where their phases end."""
        stops = -(-self.length // self.skip)
        stop = draws.integers(len(self.starts) * stops)
        start = self.starts[stop // stops]
        return start - stop % stops * self.skip, start - self.length

    def jump(self, x: Tensor, v: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """Follow the velocity from the times `t` to the times `s`."""
        cos, sin = self._turn(t, s, x)
        return cos * x - sin * v

    def wanted_velocity(self, teacher: Denoiser, student: Denoiser, x: Tensor, t: Tensor, end: Tensor) -> Tensor:
        """The velocity that jumps from `x` to where teacher, then student, get to at the end of the phase.

        Errors in it are errors at the end over the sine of the turn: as large where the jump is short.
        """
        there, at = x, t
        for _ in range(self.teacher_steps):
            after = torch.maximum(at - self.skip, end)
            there, at = self.jump(there, teacher(there, at.clamp(min=0).to(x.device)), at, after), after
        if bool((at > end).any()):  # for those that are there, the turn is none
            there = self.jump(there, student(there, at.clamp(min=0).to(x.device)), at, end)
        cos, sin = self._turn(t, end, x)
        return (cos * x - there) / sin

    def _turn(self, t: Tensor, s: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine (B, 1, 1, 1) of the turn from `t` to `s`."""
        turn = (self.angles[t + 1] - self.angles[s + 1])[:, None, None, None]
        return turn.cos().to(like), turn.sin().to(like)


def _check_teacher(teacher: Path, scheduler: DDIMScheduler) -> None:
    """Raise `ConfigError` where the teacher's own scheduler says that it knows another path than the student's."""
    if not (teacher / "scheduler").is_dir():
        return  # a run from before there was a choice
    theirs = DDIMScheduler.load_config(teacher / "scheduler", local_files_only=True)
    other = [key for key in SCHEDULE if theirs.get(key) != scheduler.config[key]]
    if other:
        raise ConfigError(
            f"{teacher} was trained on another noise schedule ({', '.join(other)} differ); "
            "name a teacher trained by train_ldm.py with objective: velocity"
        )
