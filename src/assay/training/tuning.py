"""Number format and memory layout by timing: a few steps on synthetic inputs, never on data."""

from __future__ import annotations

import copy
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from assay.files import canonical_json, read_json, sha256, write_json

#: another choice than plain float32 must be this much faster, or the noise of a clock would decide
GAIN = 1.15
_ROUNDS = 3


@dataclass(frozen=True)
class Kernel:
    """How forward and backward passes are computed.

    Attributes:
        precision: `fp32` or `bf16` (autocast).
        channels_last: convolution weights and images lie with channels last.
    """

    precision: str = "fp32"
    channels_last: bool = False

    def autocast(self) -> torch.autocast:
        """The context in which the network runs."""
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.precision == "bf16")


def tune(
    network: nn.Module,
    moving: set[str],
    inputs: dict[str, torch.Tensor],
    precisions: tuple[str, ...],
    layouts: tuple[bool, ...],
    cache: Path | None,
    threads: int,
) -> tuple[Kernel, dict[str, float]]:
    """Time every allowed combination and take the fastest, or plain float32 if none wins clearly.

    The outcome is remembered for (machine, libraries, network, shapes, threads): a second run on
    this machine computes exactly what the first did.

    Args:
        network: the network; it is copied, not touched.
        moving: names of the parameters that move.
        inputs: a synthetic batch of typical shape.
        precisions: what `precision` allows, first the default.
        layouts: values of `channels_last` to try, first the default.
        cache: folder of remembered outcomes; None remembers nothing.
        threads: intra-op threads.

    Returns:
        The choice, and seconds a step of each combination (empty when remembered or forced).
    """
    options = [Kernel(p, c) for c in layouts for p in precisions]
    if len(options) == 1:
        return options[0], {}
    key = _key(network, moving, inputs, options, threads)
    path = cache / f"{key}.json" if cache is not None else None
    if path is not None and path.is_file():
        try:
            kernel = Kernel(**read_json(path)["kernel"])
            if kernel in options:
                return kernel, {}
        except Exception:  # a damaged memory of timings is only worth forgetting
            path.unlink(missing_ok=True)
    seconds = {option: float("inf") for option in options}
    steps = [(option, _stepper(network, moving, inputs, option)) for option in options]
    for round_ in range(_ROUNDS):
        for option, step in steps:
            start = time.perf_counter()
            step()
            if round_ > 0:  # the first round warms up
                seconds[option] = min(seconds[option], time.perf_counter() - start)
    best = min(options, key=lambda option: seconds[option])
    if seconds[best] * GAIN > seconds[options[0]]:
        best = options[0]
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"kernel": asdict(best)})
    named = {
        f"{o.precision}{' channels_last' if o.channels_last else ''}": s for o, s in seconds.items()
    }
    return best, named


def _stepper(network: nn.Module, moving: set[str], inputs: dict[str, torch.Tensor], kernel: Kernel) -> Any:
    twin = copy.deepcopy(network).train()
    for name, parameter in twin.named_parameters():
        parameter.grad = None
        parameter.requires_grad_(name in moving)
    if kernel.channels_last:
        twin = twin.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def step() -> None:
        # a timing must not move the generator on which training's dropout depends
        with torch.random.fork_rng(devices=[]):
            with kernel.autocast():
                outputs = twin(**inputs)
            outputs.float().square().mean().backward()
        for parameter in twin.parameters():
            parameter.grad = None

    return step


def _key(
    network: nn.Module,
    moving: set[str],
    inputs: dict[str, torch.Tensor],
    options: list[Kernel],
    threads: int,
) -> str:
    facts = {
        "machine": [platform.machine(), platform.processor(), _cpu_name()],
        "torch": torch.__version__,
        "network": [[n, list(p.shape), n in moving] for n, p in network.named_parameters()],
        "inputs": {name: list(value.shape) for name, value in inputs.items()},
        "options": [asdict(option) for option in options],
        "threads": threads,
    }
    return sha256(canonical_json(facts))[:32]


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "flags")):
                return line
    except OSError:
        pass
    return platform.processor()
