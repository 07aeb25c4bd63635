"""What the loop itself costs: assay beside a hand-written torch loop on a small MLP.

Both sides start from the same weights, see the same batches in the same order and use the same
fused AdamW, in float32; the final weights are compared. Runs are short and take turns within one
process, on one thread, so that both meet the same machine; processor time is what is judged.

    python benchmarks/loop_overhead.py
    python benchmarks/loop_overhead.py --quick
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from _pairs import Watch, ratios, verdict, warm, watch

ROWS, FEATURES, CLASSES, LR = 8192, 64, 10, 1e-3


def write_table(path: Path) -> None:
    """A table of Gaussian features with a label that depends on them."""
    import pyarrow as pa
    import pyarrow.csv

    rng = np.random.default_rng(0)
    features = rng.normal(size=(ROWS, FEATURES))
    label = (features @ rng.normal(size=(FEATURES, CLASSES))).argmax(axis=1)
    columns: dict[str, Any] = {f"x{i}": features[:, i] for i in range(FEATURES)}
    columns["y"] = [f"class {i}" for i in label]
    pyarrow.csv.write_csv(pa.table(columns), path)


def recipe(folder: Path, given: argparse.Namespace) -> Any:
    """The work, as assay is told it."""
    from assay import Recipe

    write_table(folder / "table.csv")
    step = {"adamw": {"lr": LR, "weight_decay": 0.0}, "precision": "fp32"}
    finetune = {"epochs": given.epochs, "batch": given.batch, "curves": False, "step": step}
    return Recipe(
        model={"name": "mlp", "settings": {"hidden": given.hidden}},
        data={"path": str(folder / "table.csv"), "label": "y", "splits": {"valid": 0}},
        stages=[{"finetune": finetune}],
    )


class Sides:
    """Both loops on the same data, from the same weights.

    Args:
        built: the recipe.
    """

    def __init__(self, built: Any) -> None:
        import torch

        from assay.data.door import LocalDoor
        from assay.training.sources import RowSource

        self.stage, self.plan = built.stages[0], built.context()
        self.dataset = built.data.load(built.base, built.task)
        self.model = built.model.load(built.base, built.task, self.dataset, 0, door=LocalDoor())
        encoded = self.model.preprocessing.encode(self.dataset.rows("train"))
        targets = self.dataset.targets("train")
        self.features = torch.from_numpy(encoded.arrays["features"])
        self.labels = torch.from_numpy(targets)
        source = RowSource(
            encoded,
            targets,
            self.dataset.units("train"),
            self.stage.batch,
            self.context().derive("source"),
        )
        state, self.order = source.init(), []
        for _ in range(int(self.stage.epochs) * source.steps_per_epoch):
            batch, state = source.next(state)
            self.order.append(batch.rows)

    def context(self) -> Any:
        """A fresh context, as a run would make it."""
        from assay.training.context import RunContext

        return RunContext(dataset=self.dataset, plan=self.plan, threads=1)

    def assay(self) -> tuple[Watch, Any]:
        """The stage from its start to its end."""
        context = self.context()
        with watch() as taken:
            trained = self.stage.run(self.model, context)
        return taken, trained.network

    def plain(self) -> tuple[Watch, Any]:
        """The loop that one writes by hand."""
        import torch
        from torch.nn.functional import cross_entropy

        network = self.model.copy().network.train()
        with watch() as taken:
            optimiser = torch.optim.AdamW(network.parameters(), lr=LR, weight_decay=0.0, fused=True)
            total = 0.0
            for rows in self.order:
                loss = cross_entropy(network(features=self.features[rows]), self.labels[rows])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                total += loss.item()
        return taken, network


def gap(first: Any, second: Any) -> float:
    """Largest difference between the weights of two networks."""
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


def main() -> None:
    """Run the pairs and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=15, help="runs of each side")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--hidden", type=int, nargs="*", default=[256, 128])
    parser.add_argument("--quick", action="store_true", help="one pair, two epochs")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    given = parser.parse_args()
    if given.quick:
        given.pairs, given.epochs = 1, 2
    os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="passive")
    import torch

    torch.set_num_threads(1)
    warm()
    ours: list[Watch] = []
    plain: list[Watch] = []
    with tempfile.TemporaryDirectory() as folder:
        sides = Sides(recipe(Path(folder), given))
    steps, worst = len(sides.order), 0.0
    for turn in range(given.pairs):
        mine, network = sides.assay()
        theirs, other = sides.plain()
        ours.append(mine)
        plain.append(theirs)
        worst = max(worst, gap(network, other))
        shown = [
            f"{name} {1e6 * w.cpu / steps:.0f}" for name, w in (("assay", mine), ("plain", theirs))
        ]
        print(f"pair {turn}: {', '.join(shown)} us of processor time a step", file=sys.stderr)
    wall = ratios([w.seconds for w in ours], [w.seconds for w in plain])
    cpu = ratios([w.cpu for w in ours], [w.cpu for w in plain])
    widths = "-".join(map(str, (FEATURES, *given.hidden, CLASSES)))
    print(f"MLP {widths}, batch {given.batch}, {steps} steps, {given.pairs} pairs")
    for name, value in (("wall", wall), ("cpu", cpu)):
        print(
            f"  assay's {name} time over the hand-written loop's: {value['median']:.3f} "
            f"(from {value['min']:.3f} to {value['max']:.3f})"
        )
    print(f"  {verdict(cpu['median'], 1.05, at_most=True, quick=given.quick)}")
    print(f"  largest difference between final weights: {worst:.1e}")
    if given.json:
        print(json.dumps({"seconds": wall, "cpu": cpu, "weights": worst}))


if __name__ == "__main__":
    main()
