"""The live head as an effect in a chain, called as pedalboard calls its own: an array in, as long an array out."""

import numpy as np

from latentsr import Live, Pipeline


class Widen:
    """`effect(block, sample_rate)`; with `reset=False` a block goes on where the last one ended."""

    def __init__(self, pipe: Pipeline) -> None:
        self.pipe, self.live = pipe, None

    def __call__(self, block: np.ndarray, sample_rate: int, reset: bool = True) -> np.ndarray:
        if sample_rate != 48_000:
            raise ValueError(
                f"an effect gives back the rate that it gets: put a resampler to 48000 before it, not {sample_rate}"
            )
        channels = block.shape[0]
        if self.live is None or self.live.channels != channels:
            self.live = Live(self.pipe, sample_rate, channels)
        elif reset:
            self.live.reset()
        return self.live.process(block)


if __name__ == "__main__":
    effect = Widen(Pipeline.from_pretrained(heads=["live"]))
    sine = 0.1 * np.sin(np.arange(48_000) * (2 * np.pi * 440 / 48_000), dtype=np.float32)[None]
    print([effect(block, 48_000, reset=False).shape for block in np.split(sine, 4, axis=1)])
