"""What the loop itself costs: assay beside a hand-written torch loop on a small MLP.

Both sides start from the same weights, see the same batches in the same order and use the same
fused AdamW, in float32; the final weights are compared. Each run is a fresh process; the sides take
turns.

    python benchmarks/loop_overhead.py
    python benchmarks/loop_overhead.py --quick
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from _pairs import Result, alternate, answer, ratios, verdict, warm, watch

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


def prepared(settings: Result, folder: Path) -> tuple[Any, Any, Any]:
    """The stage, the model it starts from, and its context."""
    from assay import Recipe
    from assay.training.context import RunContext

    write_table(folder / "table.csv")
    recipe = Recipe(
        model={"name": "mlp", "settings": {"hidden": settings["hidden"]}},
        data={"path": str(folder / "table.csv"), "label": "y", "splits": {"valid": 0}},
        seed=settings["seed"],
        stages=[
            {
                "finetune": {
                    "epochs": settings["epochs"],
                    "batch": settings["batch"],
                    "curves": False,
                    "step": {"adamw": {"lr": LR, "weight_decay": 0.0}, "precision": "fp32"},
                }
            }
        ],
    )
    dataset = recipe.data.load(recipe.base, recipe.task)
    context = RunContext(
        dataset=dataset, plan=recipe.context(), seed=settings["seed"], threads=settings["threads"]
    )
    model = recipe.model.load(
        recipe.base, recipe.task, dataset, settings["seed"], door=context.door
    )
    return recipe.stages[0], model, context


def run_assay(settings: Result) -> Result:
    """The stage from its start to its end."""
    import torch

    torch.set_num_threads(settings["threads"])
    with tempfile.TemporaryDirectory() as folder:
        stage, model, context = prepared(settings, Path(folder))
        with watch() as taken:
            trained = stage.run(model, context)
    return result(taken, trained.network, context.used["steps"])


def run_plain(settings: Result) -> Result:
    """The loop that one writes by hand."""
    import torch
    from torch.nn.functional import cross_entropy

    from assay.training.sources import RowSource

    torch.set_num_threads(settings["threads"])
    with tempfile.TemporaryDirectory() as folder:
        _, model, context = prepared(settings, Path(folder))
    data = context.dataset
    encoded = model.preprocessing.encode(data.rows("train"))
    targets = data.targets("train")
    source = RowSource(
        encoded, targets, data.units("train"), settings["batch"], context.derive("source")
    )
    state, order = source.init(), []
    for _ in range(settings["epochs"] * source.steps_per_epoch):
        batch, state = source.next(state)
        order.append(batch.rows)
    features, labels = torch.from_numpy(encoded.arrays["features"]), torch.from_numpy(targets)
    network = model.network.train()
    with watch() as taken:
        optimiser = torch.optim.AdamW(network.parameters(), lr=LR, weight_decay=0.0, fused=True)
        total = 0.0
        for rows in order:
            loss = cross_entropy(network(features=features[rows]), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item()
    return result(taken, network, len(order))


def result(taken: Any, network: Any, steps: int) -> Result:
    """What one run gives."""
    weights = [float(v) for p in network.parameters() for v in p.detach().flatten()[:100]]
    return {"seconds": taken.seconds, "cpu": taken.cpu, "steps": steps, "weights": weights}


def main() -> None:
    """Run the pairs and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=7, help="runs of each side")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--hidden", type=int, nargs="*", default=[256, 128])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="one pair, two epochs")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--worker", choices=["assay", "plain"], help=argparse.SUPPRESS)
    parser.add_argument("--settings", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        warm()
        answer((run_assay if given.worker == "assay" else run_plain)(given.settings))
        return
    settings = {
        "epochs": 2 if given.quick else given.epochs,
        "batch": given.batch,
        "hidden": given.hidden,
        "threads": given.threads,
    }
    sides = alternate(
        __file__,
        ("assay", "plain"),
        settings,
        pairs=1 if given.quick else given.pairs,
        threads=given.threads,
        told=lambda side, turn, r: print(
            f"{side} {turn}: {1e6 * r['seconds'] / r['steps']:.0f} us a step", file=sys.stderr
        ),
    )
    ours, plain = sides["assay"], sides["plain"]
    gap = max(
        float(np.abs(np.subtract(a["weights"], b["weights"])).max())
        for a, b in zip(ours, plain, strict=True)
    )
    wall = ratios([r["seconds"] for r in ours], [r["seconds"] for r in plain])
    cpu = ratios([r["cpu"] for r in ours], [r["cpu"] for r in plain])
    print(f"MLP {FEATURES}-{'-'.join(map(str, given.hidden))}-{CLASSES}, batch {given.batch}")
    for name, value in (("wall", wall), ("cpu", cpu)):
        print(
            f"  assay's {name} time over the hand-written loop's: {value['median']:.3f} "
            f"(from {value['min']:.3f} to {value['max']:.3f})"
        )
    print(f"  {verdict(cpu['median'], 1.05, at_most=True, quick=given.quick)}")
    print(f"  largest difference between final weights: {gap:.1e}")
    if given.json:
        print(json.dumps({"seconds": wall, "cpu": cpu, "weights": gap}))


if __name__ == "__main__":
    main()
