"""What private noise costs: torch's own generator beside assay's stream cipher.

All sides fill one float32 tensor of as many values as MiniLM has parameters, on one thread, in turn
within one process. First each alone; then each after some work of a training step's size, where the
stream may draw in the background on a core that idles: what counts is what the step's own thread
spends more than without noise (processor time), and how much later the step ends (wall time, which
shows only how busy the machine is where the other core has work). The numbers drawn in the
background are compared with those drawn in the step.

    python benchmarks/noise.py
    python benchmarks/noise.py --quick
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from _pairs import Watch, ratios, verdict, watch

VALUES = 22_700_000
#: side of the square matrices that stand for a training step, and how many products a step has
SIDE, PRODUCTS = 1024, 16


class Sides:
    """The ways to fill a tensor, and the work of a step.

    Args:
        values: how many values are filled.
        products: matrix products of a step.
    """

    def __init__(self, values: int, products: int) -> None:
        import torch

        from assay.privacy.randomness import Stream

        self.stream, self.products, self.step = Stream.open(None), products, 0
        # written once, so that no side pays for the memory's first use
        self.out = torch.zeros(values)
        self.matrix = torch.eye(SIDE)
        self.product = torch.empty_like(self.matrix)

    def torch(self) -> None:
        """The generator that training uses elsewhere; its state can be worked out from draws."""
        self.out.normal_()

    def stream_cipher(self) -> None:
        """The stream, in the step."""
        self.stream.gaussian("noise", self.step, self.out)

    def nothing(self) -> None:
        """No noise."""

    def ahead(self) -> None:
        """Begin to draw in the background."""
        self.stream.prefetch("noise", self.step, self.out.numel())

    def work(self) -> None:
        """As a training step of a small model: products of matrices."""
        import torch

        for _ in range(self.products):
            torch.mm(self.matrix, self.matrix, out=self.product)

    def in_a_step(self, before: Callable[[], None], noise: Callable[[], None]) -> Watch:
        """The work with noise after it; `cpu` is of the thread that works, not of the process."""
        self.step += 1
        with watch() as taken:
            own = time.thread_time()
            before()
            self.work()
            noise()
            own = time.thread_time() - own
        return Watch(taken.seconds, own)

    def alone(self, noise: Callable[[], None]) -> Watch:
        """The noise only."""
        self.step += 1
        with watch() as taken:
            noise()
        return taken


def equal(sides: Sides) -> bool:
    """Whether the background draws what the step would, to the bit."""
    import torch

    sides.step += 1
    sides.stream_cipher()
    direct = sides.out.clone()
    sides.ahead()
    sides.stream_cipher()
    return torch.equal(direct, sides.out)


def measure(sides: Sides, pairs: int) -> tuple[dict[str, list[Watch]], dict[str, list[Watch]]]:
    """All ways in turn, `pairs` times each: alone, and in a step."""
    alone: dict[str, list[Watch]] = {"torch": [], "stream": []}
    stepped: dict[str, list[Watch]] = {"none": [], "torch": [], "stream": [], "background": []}
    nothing = sides.nothing
    # the first of each finds cold caches
    for turn in range(-1, pairs):
        taken = {
            "torch": sides.alone(sides.torch),
            "stream": sides.alone(sides.stream_cipher),
        }
        steps = {
            "none": sides.in_a_step(nothing, nothing),
            "torch": sides.in_a_step(nothing, sides.torch),
            "stream": sides.in_a_step(nothing, sides.stream_cipher),
            "background": sides.in_a_step(sides.ahead, sides.stream_cipher),
        }
        if turn < 0:
            continue
        for of, found in ((alone, taken), (stepped, steps)):
            for name, one in found.items():
                of[name].append(one)
        shown = ", ".join(f"{name} {one.cpu:.3f}" for name, one in taken.items())
        print(f"turn {turn}: {shown} s of processor time", file=sys.stderr)
    return alone, stepped


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def added(stepped: dict[str, list[Watch]], name: str, what: str) -> dict[str, float]:
    """By how much steps with noise exceed the steps without that they alternate with."""
    pairs = zip(stepped[name], stepped["none"], strict=True)
    return spread([getattr(one, what) - getattr(none, what) for one, none in pairs])


def shown(value: dict[str, float]) -> str:
    """A figure in words."""
    return f"{value['median']:.3f} (from {value['min']:.3f} to {value['max']:.3f})"


def main() -> None:
    """Run all sides and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=15, help="draws of each side")
    parser.add_argument("--values", type=int, default=VALUES)
    parser.add_argument("--quick", action="store_true", help="one turn of a hundredth of the size")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    given = parser.parse_args()
    products = PRODUCTS
    if given.quick:
        given.pairs, given.values, products = 1, given.values // 100, 1
    os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="passive")
    import torch

    torch.set_num_threads(1)
    sides = Sides(given.values, products)
    alone, stepped = measure(sides, given.pairs)
    found: dict[str, Any] = {
        "values": given.values,
        "cpu": {name: spread([w.cpu for w in ws]) for name, ws in alone.items()},
        "ratio": ratios([w.cpu for w in alone["stream"]], [w.cpu for w in alone["torch"]]),
        "step": spread([w.cpu for w in stepped["none"]]),
        "added": {n: added(stepped, n, "cpu") for n in stepped if n != "none"},
        "later": {n: added(stepped, n, "seconds") for n in stepped if n != "none"},
        "same": equal(sides),
    }
    print(f"{given.values:,} float32 values, {given.pairs} turns, one thread")
    for name, what in (("torch", "torch's normal_"), ("stream", "assay's stream cipher")):
        print(f"  {what} alone: {shown(found['cpu'][name])} s of processor time")
    print(f"  assay's over torch's: {shown(found['ratio'])}")
    print(f"  {verdict(found['ratio']['median'], 1.0, at_most=True, quick=given.quick)}")
    print(f"  a step of matrix products: {shown(found['step'])} s of its thread; with noise from")
    for name, what in (
        ("torch", "torch's normal_"),
        ("stream", "the stream cipher"),
        ("background", "the stream cipher in the background"),
    ):
        print(
            f"    {what}: {shown(found['added'][name])} s more of its thread, "
            f"{shown(found['later'][name])} s later"
        )
    print(f"  the background draws the same to the bit: {found['same']}")
    if given.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
