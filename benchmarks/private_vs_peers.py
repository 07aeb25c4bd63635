"""What a private step costs: assay beside the same step without privacy, and beside Opacus.

Five networks, float32, one thread. For each, steps of all sides take turns within one process and
processor time is what is judged; a figure is the median over turns of the quotient of two steps of
one turn, with a 95% bootstrap interval of that median. Before anything is timed, assay's clipped
gradient and that of each of Opacus' modes must agree to 1e-4 (L2, relative); a mode that cannot
train the network, or disagrees, is named and left out. Against Opacus' fastest mode noise is
counted twice: on neither side, and on both from torch's generator. What noise costs itself, from
either generator, is measured apart (see noise.py); peak memory in a fresh process for each side.

    python benchmarks/private_vs_peers.py
    python benchmarks/private_vs_peers.py --networks cnn resnet8 --pairs 50
    python benchmarks/private_vs_peers.py --quick
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from _pairs import Result, answer, fresh, verdict, warm, watch

if TYPE_CHECKING:
    from _private import Ours, Peer, Work

#: gradients of both sides are closer than that, relative
SAME = 1e-4


@dataclass(frozen=True)
class Target:
    """What is to be reached.

    Attributes:
        title: of the network, in words.
        over: processor time over the step without privacy, without noise, at most.
        faster: times faster than Opacus' best mode, at least.
        memory: peak memory over the step without privacy, at most.
    """

    title: str
    over: float
    faster: float
    memory: float


TARGETS = {
    "minilm": Target("MiniLM full, 8 x 64 tokens", 1.10, 1.7, 1.2),
    "lora": Target("MiniLM LoRA r=8, 8 x 64 tokens", 1.05, 1.0, 1.2),
    "vit": Target("small ViT, 64 images of 28 px", 1.20, 1.3, 1.2),
    "cnn": Target("CNN of two convolutions, 256 images of 28 px", 1.55, 1.3, 2.0),
    "resnet8": Target("ResNet-8 with group norms, 64 images of 32 px", 1.55, 1.4, 2.0),
}


def agreed(work: Work, ours: Ours) -> tuple[dict[str, Peer], dict[str, float], dict[str, str]]:
    """Opacus' modes that work on a network, how far each gradient is from assay's, and why the
    others do not.

    The bound is the median norm of the rows' gradients, so that half of them are clipped.

    Raises:
        SystemExit: no mode computes what assay does.
    """
    import torch

    from _private import MODEL, MODES, Peer, apart
    from assay.training.bookkeeping.engine import Clip

    def gradient(side: Ours | Peer) -> dict[str, torch.Tensor]:
        # the same dropout on all sides
        torch.manual_seed(1)
        side.private()
        return side.gradients()

    gradient(ours)
    ours.books.clip = Clip(float(ours.books.norms[MODEL].median()))
    expected = gradient(ours)
    peers: dict[str, Peer] = {}
    gaps: dict[str, float] = {}
    why: dict[str, str] = {}
    for mode in MODES:
        try:
            peer = Peer(work, mode, ours.books.clip.bound)
            found = gradient(peer)
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
            words = str(error).strip()
            why[mode] = f"{type(error).__name__}: {words.splitlines()[0] if words else ''}"
            continue
        gaps[mode] = apart(expected, found)
        if gaps[mode] > SAME:
            why[mode] = f"its gradient is {gaps[mode]:.1e} from assay's"
            continue
        peers[mode] = peer
    if not peers:
        raise SystemExit(f"no mode of Opacus computes the clipped gradient: {why}")
    return peers, gaps, why


def in_turn(sides: Mapping[str, Callable[[], None]], turns: int) -> dict[str, list[float]]:
    """Seconds of processor time of each side in each turn; a first turn is not counted."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(-1, turns):
        for name, step in sides.items():
            with watch() as taken:
                step()
            if turn >= 0:
                found[name].append(taken.cpu)
    return found


def quotient(above: Sequence[float], below: Sequence[float]) -> Result:
    """Median of quotients turn by turn, its 95% bootstrap interval, and their quartiles."""
    pairs = np.asarray(above) / np.asarray(below)
    draw = np.random.default_rng(0).integers(0, len(pairs), size=(5000, len(pairs)))
    low, high = np.quantile(np.median(pairs[draw], axis=1), [0.025, 0.975])
    quartiles = [float(q) for q in np.quantile(pairs, [0.25, 0.75])]
    return {
        "median": float(np.median(pairs)),
        "interval": [float(low), float(high)],
        "quartiles": quartiles,
    }


def noises(values: int, turns: int) -> dict[str, float]:
    """Median seconds of processor time to draw so many values, for each generator."""
    from noise import Sides

    sides = Sides(values, 0)
    draws = {"torch": sides.torch, "stream": sides.stream_cipher}
    found: dict[str, list[float]] = {name: [] for name in draws}
    for turn in range(-1, turns):
        for name, draw in draws.items():
            taken = sides.alone(draw)
            if turn >= 0:
                found[name].append(taken.cpu)
    return {name: statistics.median(times) for name, times in found.items()}


def megabytes(what: str) -> float:
    """Memory of this process in MB, as Linux counts it: `VmRSS` now, `VmHWM` at its peak.

    `ru_maxrss` would do, were it not for the peak of the parent, which a child inherits.
    """
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith(what + ":"))
    return int(line.split()[1]) / 1024


def memory(name: str, quick: bool, mode: str) -> Result:
    """Peak memory in MB of fresh processes that take a few steps each."""
    found: Result = {"megabytes": {}, "start": {}}
    for side in ("plain", "assay", mode):
        told = fresh(__file__, side, {"network": name, "quick": quick}, 1)
        found["megabytes"][side], found["start"][side] = told["peak"], told["start"]
    # of whole processes, as an operating system counts; and of what came after the imports
    found["over"] = found["megabytes"]["assay"] / found["megabytes"]["plain"]
    grown = {side: found["megabytes"][side] - found["start"][side] for side in ("plain", "assay")}
    found["over_grown"] = grown["assay"] / max(grown["plain"], 1e-9)
    found["peer"] = found["megabytes"][mode] / found["megabytes"]["plain"]
    return found


def worker(side: str, settings: Mapping[str, Any]) -> Result:
    """Take a few steps; how much memory that took, and how much there was before it."""
    import torch

    from _private import MODES, Ours, Peer, make

    torch.set_num_threads(1)
    warm()
    if side in MODES:
        import opacus  # noqa: F401 - so that it is there before the network is
    start = megabytes("VmRSS")
    work = make(settings["network"], settings["quick"])
    step: Callable[[], None]
    if side in MODES:
        step = Peer(work, side, 1.0).private
    else:
        ours = Ours(work, private=side == "assay")
        step = ours.private if side == "assay" else ours.plain
    for _ in range(3):
        step()
    return {"start": start, "peak": megabytes("VmHWM")}


def compare(name: str, given: argparse.Namespace) -> Result:
    """All that is measured of one network."""
    from _private import Ours, make

    work = make(name, given.quick)
    ours = Ours(work)
    peers, gaps, why = agreed(work, ours)
    trial = {mode: peer.private for mode, peer in peers.items()}
    tried = in_turn({"plain": ours.plain, **trial}, 1 if given.quick else 5)
    medians = {mode: statistics.median(times) for mode, times in tried.items()}
    best = min(peers, key=lambda mode: medians[mode])
    rival = peers[best].private
    times = in_turn(
        {
            "plain": ours.plain,
            "assay": ours.private,
            "peer": rival,
            "assay_noise": lambda: ours.private(1.0),
            "peer_noise": lambda: rival(1.0),
        },
        given.pairs,
    )
    return {
        "network": name,
        "parameters": ours.flat.size,
        "ways": sorted(set(ours.books.methods.values())),
        "gaps": gaps,
        "unusable": why,
        "best": best,
        "modes": {mode: medians[mode] / medians["plain"] for mode in peers},
        "seconds": {side: statistics.median(taken) for side, taken in times.items()},
        "over": quotient(times["assay"], times["plain"]),
        "faster": quotient(times["peer"], times["assay"]),
        "faster_noise": quotient(times["peer_noise"], times["assay_noise"]),
        "noise": noises(ours.flat.size, 1 if given.quick else 5),
        "memory": None if given.no_memory else memory(name, given.quick, best),
    }


def told(value: Result) -> str:
    """A quotient in words."""
    low, high = value["interval"]
    return f"{value['median']:.3f} (95% {low:.3f} to {high:.3f})"


def show(found: Result, quick: bool) -> None:
    """Print what was measured of one network."""
    target, seconds = TARGETS[found["network"]], found["seconds"]
    print(f"{target.title}: {found['parameters']:,} parameters move")
    print(f"  a step without privacy: {1000 * seconds['plain']:.1f} ms of processor time")
    print(f"  assay over it, without noise: {told(found['over'])}")
    print(f"    {verdict(found['over']['median'], target.over, at_most=True, quick=quick)}")
    modes = ", ".join(f"{mode} {value:.2f}" for mode, value in found["modes"].items())
    print(f"  Opacus over it, without noise: {modes}; compared is {found['best']}")
    for mode, reason in found["unusable"].items():
        print(f"    {mode} is left out: {reason}")
    print(f"  assay is so many times faster, without noise: {told(found['faster'])}")
    print(f"    {verdict(found['faster']['median'], target.faster, quick=quick)}")
    print(f"  both with noise from torch's generator: {told(found['faster_noise'])}")
    noise = ", ".join(f"{who} {1000 * value:.1f} ms" for who, value in found["noise"].items())
    print(f"  the noise alone: {noise}")
    print(f"  largest difference of gradients: {max(found['gaps'].values()):.1e}")
    taken = found["memory"]
    if taken is None:
        return
    shown = ", ".join(f"{side} {value:.0f}" for side, value in taken["megabytes"].items())
    print(
        f"  peak memory in MB: {shown}; assay over plain {taken['over']:.2f}, "
        f"{taken['over_grown']:.2f} of what they take past the imports"
    )
    print(f"    {verdict(taken['over'], target.memory, at_most=True, quick=quick)}")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=31, help="turns of all sides")
    parser.add_argument("--networks", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--no-memory", action="store_true", help="leave out peak memory")
    parser.add_argument("--quick", action="store_true", help="one turn of tiny sizes")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--settings", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Compare on each network and print the figures."""
    given = arguments()
    os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="passive")
    # Opacus' own choices of hooks and precision set off warnings of torch at every step
    warnings.filterwarnings("ignore", message="Full backward hook is firing")
    warnings.filterwarnings("ignore", message="In CPU autocast")
    if given.worker:
        answer(worker(given.worker, given.settings))
        return
    import torch

    if given.quick:
        given.pairs = 1
    torch.set_num_threads(1)
    warm()
    found = []
    for name in given.networks:
        print(f"measuring {name}", file=sys.stderr)
        found.append(compare(name, given))
        show(found[-1], given.quick)
    if given.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
