"""Number format and memory layout by timing: a few steps on synthetic inputs, never on data."""

from __future__ import annotations

import contextlib
import copy
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from assay.errors import AssayError
from assay.files import canonical_json, read_json, sha256, write_json

#: a kernel must be this much faster than those before it, or the noise of a clock would decide
GAIN = 1.15
#: steps shorter than this are all overhead: there is nothing to gain
_WORTHWHILE = 0.004
#: an option this many times slower than the fastest so far is not timed again. The first timing is
#: on warm kernels, and no clock is wrong by a third; a step of a large network is seconds saved
_HOPELESS = 1.35
#: how long short steps are timed for, in all
_SECONDS = 0.5


@dataclass(frozen=True)
class Kernel:
    """How forward and backward passes are computed.

    Attributes:
        precision: `fp32` or `bf16` (autocast).
        channels_last: convolution weights and images lie with channels last.
        attention: the implementation of attention (`sdpa`, `eager`), where the network has a
            choice; both compute the same function.
    """

    precision: str = "fp32"
    channels_last: bool = False
    attention: str | None = None

    def autocast(self) -> torch.autocast:
        """The context in which the network runs."""
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.precision == "bf16")

    @property
    def name(self) -> str:
        """In words."""
        layout = "channels last" if self.channels_last else None
        return " ".join(word for word in (self.precision, layout, self.attention) if word)

    def facts(self) -> dict[str, Any]:
        """Plain values, as a passport records them."""
        return asdict(self)


def kernels(
    network: nn.Module,
    precision: str,
    memory_format: str,
    needs_full: bool,
    needs_maps: bool = False,
) -> list[Kernel]:
    """Every kernel that the settings and the network allow, the plainest first.

    Args:
        network: the network.
        precision: `auto`, `fp32` or `bf16`.
        memory_format: `auto`, `contiguous` or `channels_last`.
        needs_full: some part needs gradients in float32.
        needs_maps: some part looks at maps of attention, which only `eager` computes.
    """
    precisions = {"fp32": ("fp32",), "bf16": ("bf16",)}.get(precision, ("fp32", "bf16"))
    if precision == "auto" and needs_full:
        precisions = ("fp32",)
    layouts: tuple[bool, ...] = {"contiguous": (False,), "channels_last": (True,)}.get(
        memory_format, (False, True)
    )
    if memory_format == "auto" and not any(p.dim() == 4 for p in network.parameters()):
        layouts = (False,)
    attentions: tuple[str | None, ...] = (None,)
    if precision == "auto" and any(True for _ in _choosers(network)):
        attentions = ("eager", "sdpa")
    if needs_maps and any(True for _ in _choosers(network)):
        attentions = ("eager",)
    return [Kernel(p, c, a) for c in layouts for a in attentions for p in precisions]


def _choosers(network: nn.Module) -> Iterator[Any]:
    """Modules that let their attention be chosen."""
    for module in network.modules():
        if hasattr(module, "set_attn_implementation") and hasattr(module, "config"):
            yield module


def attention_of(network: nn.Module) -> str | None:
    """The attention that the network computes by now, where it has a choice."""
    return next((str(m.config._attn_implementation) for m in _choosers(network)), None)


def use_attention(network: nn.Module, attention: str | None) -> None:
    """Let the network compute attention that way from now on."""
    if attention is not None:
        for module in _choosers(network):
            module.set_attn_implementation(attention)


def remembered(options: list[Kernel], used: dict[str, Any], work: Path | None) -> Kernel | None:
    """The kernel that an earlier attempt at this very stage chose, if it is still allowed."""
    told = [{k: used[k] for k in Kernel.__dataclass_fields__ if k in used}]
    if work is not None and (work / "kernel.json").is_file():
        told.insert(0, read_json(work / "kernel.json"))
    for facts in told:
        if facts and (kernel := Kernel(**facts)) in options:
            return kernel
    return None


def tune(
    network: nn.Module,
    moving: set[str],
    inputs: dict[str, torch.Tensor],
    options: list[Kernel],
    cache: Path | None,
    threads: int,
) -> tuple[Kernel, dict[str, float]]:
    """Time the options and take the fastest, or the first if none wins clearly.

    The outcome is remembered for (machine, libraries, network, shapes, threads): a second run on
    this machine computes exactly what the first did.

    Args:
        network: the network; it is copied, not touched.
        moving: names of the parameters that move.
        inputs: a synthetic batch of typical shape.
        options: what to choose from, the default first.
        cache: folder of remembered outcomes; None remembers nothing.
        threads: intra-op threads.

    Returns:
        The choice, and seconds a step of each option (empty when remembered or without a choice).
    """
    if len(options) == 1:
        return options[0], {}
    key = _key(network, moving, inputs, options, threads)
    path = cache / f"{key}.json" if cache is not None else None
    if path is not None and path.is_file():
        try:
            kernel = Kernel(**read_json(path)["kernel"])
            if kernel in options:
                return kernel, {}
        except (AssayError, KeyError, TypeError):
            # a damaged memory of timings is only worth forgetting
            path.unlink(missing_ok=True)
    layouts = {option.channels_last for option in options}
    twins = {layout: _Twin(network, moving, layout) for layout in sorted(layouts)}
    seconds = dict.fromkeys(options, float("inf"))
    few = {name: value[:2] for name, value in inputs.items()}
    for option in options:  # the first call of a kernel prepares it, at a cost of its own
        twins[option.channels_last].seconds(few, option)
    racing, spent, rounds = list(options), 0.0, 0
    while rounds < 2 or (spent < _SECONDS and rounds < 29):
        for option in racing:
            took = twins[option.channels_last].seconds(inputs, option)
            spent += took
            seconds[option] = min(seconds[option], took)
        # one that is far behind will not win; the others are timed more often
        fastest = min(seconds.values())
        racing = [option for option in racing if seconds[option] <= _HOPELESS * fastest]
        rounds += 1
    # the first that is nearly as fast as the fastest: a clock's noise must not decide between two
    best = next(o for o in options if seconds[o] <= GAIN * min(seconds.values()))
    if seconds[options[0]] < _WORTHWHILE:
        best = options[0]
    if path is not None:
        # a home that cannot be written is no reason to fail
        with contextlib.suppress(OSError, AssayError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {"kernel": asdict(best)})
    return best, {option.name: value for option, value in seconds.items()}


class _Twin:
    """A copy of a network that takes a step with any kernel of one memory layout."""

    def __init__(self, network: nn.Module, moving: set[str], channels_last: bool) -> None:
        self._network = copy.deepcopy(network).train()
        for name, parameter in self._network.named_parameters():
            parameter.grad = None
            parameter.requires_grad_(name in moving)
        if channels_last:
            self._network = self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def seconds(self, inputs: dict[str, torch.Tensor], kernel: Kernel) -> float:
        """Wall time of a forward and a backward pass."""
        use_attention(self._network, kernel.attention)
        # a timing must not move the generator on which training's dropout depends
        with torch.random.fork_rng(devices=[]):
            start = time.perf_counter()
            with kernel.autocast():
                outputs = self._network(**inputs)
            outputs.float().square().mean().backward()
            took = time.perf_counter() - start
        for parameter in self._network.parameters():
            parameter.grad = None
        return took


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
