"""Fine-tuning EfficientNet-Lite0 on Fashion-MNIST: assay beside a plain torch loop and the Trainer.

All sides get the same pretrained network (pixels scaled to 96 by 96 inside it, head with dropout),
rows, batch size, epochs, AdamW, linear decay and clipping; every weight moves. The plain loop is
what one writes by hand: eager, float32, batches in the very order of assay's. The other peer is
`transformers.Trainer` as a user finds it. Each run is a fresh process; the sides take turns.
Timed is training itself (of assay the whole `finetune` stage, with the timing of number formats and
memory layouts at its start).

    python benchmarks/vision_vs_peers.py
    python benchmarks/vision_vs_peers.py --quick
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _pairs import (
    Result,
    alternate,
    answer,
    paired_interval,
    peak_megabytes,
    ratios,
    verdict,
    warm,
    watch,
)

if TYPE_CHECKING:
    from assay.data.dataset import Dataset
    from assay.models.model import Model
    from assay.training.context import RunContext

LR, CLIP = 1e-3, 1.0
#: how many times faster than each peer assay should be; None: it is only shown
TARGETS: dict[str, float | None] = {"plain": 1.5, "trainer": None}


def recipe(settings: Result) -> dict[str, Any]:
    """The work, as assay is told it."""
    step = {"adamw": {"lr": LR, "weight_decay": 0.0}, "linear": {}, "clip_norm": CLIP}
    finetune = {
        "step": step,
        "epochs": settings["epochs"],
        "batch": settings["batch"],
        # the peers do not look at validation rows
        "curves": False,
    }
    return {
        "name": "vision",
        "model": {"name": "efficientnet-lite0", "resolution": settings["resolution"]},
        "data": "fashion-mnist",
        "seed": settings["seed"],
        "stages": [{"finetune": finetune}],
    }


class Work:
    """What every side starts from: rows, the network, and the order of the batches.

    Args:
        settings: of the run.
    """

    def __init__(self, settings: Result) -> None:
        import torch

        from assay import Recipe
        from assay.training.context import RunContext

        torch.set_num_threads(int(settings["threads"]))
        built = Recipe(**recipe(settings))
        data: Dataset = built.data.load(Path.cwd(), built.task)
        data = data.sample("train", settings["rows"], 0).sample("test", settings["test"], 0)
        self.stage: Any = built.stages[0]
        self.dataset, self.settings = data, settings
        self.context: RunContext = RunContext(
            dataset=data, plan=built.context(), seed=settings["seed"], threads=settings["threads"]
        )
        self.model: Model = built.model.load(
            Path.cwd(), built.task, data, settings["seed"], door=self.context.door
        )

    def tensors(self, split: str) -> tuple[Any, Any]:
        """Pixels `[N, 1, 28, 28]` (uint8) and class indices `[N]`."""
        import torch

        encoded = self.model.preprocessing.encode(self.dataset.rows(split))
        targets = torch.from_numpy(self.dataset.targets(split))
        return torch.from_numpy(encoded.arrays["pixels"]), targets

    def order(self) -> list[Any]:
        """Rows of each batch, in the order in which assay takes them."""
        from assay.training.preparing import row_source

        source = row_source(self.stage, self.model, self.context)
        state, order = source.init(), []
        for _ in range(self.settings["epochs"] * source.steps_per_epoch):
            batch, state = source.next(state)
            order.append(batch.rows)
        return order

    def result(self, model: Model, taken: Any, peak: float, how: str) -> Result:
        """What a worker hands back; predictions are made alike on all sides."""
        import torch

        outputs = model.outputs(model.preprocessing.encode(self.dataset.rows("test")))
        truth = self.dataset.targets("test")
        right = [bool(a == b) for a, b in zip(outputs.argmax(axis=1), truth, strict=True)]
        return {
            "images": self.dataset.size("train") * self.settings["epochs"] / taken.seconds,
            "seconds": taken.seconds,
            "cpu": taken.cpu,
            "peak": peak,
            "right": right,
            "threads": torch.get_num_threads(),
            "how": how,
        }

    def trained(self, network: Any) -> Model:
        """A model with a peer's network."""
        return replace(self.model, network=network.eval())


def run_assay(work: Work) -> Result:
    """The stage, from its start to its end."""
    with watch() as taken:
        model = work.stage.run(work.model, work.context)
    peak = peak_megabytes()
    told = {k: v for k, v in work.context.used.items() if isinstance(v, str | int)}
    return work.result(model, taken, peak, ", ".join(f"{k} {v}" for k, v in told.items()))


def run_plain(work: Work) -> Result:
    """The loop that one writes by hand."""
    import torch
    from torch.nn.functional import cross_entropy

    torch.manual_seed(work.settings["seed"])
    network = work.model.copy().network.train()
    pixels, labels = work.tensors("train")
    order = work.order()
    with watch() as taken:
        optimiser = torch.optim.AdamW(network.parameters(), lr=LR, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda s: 1 - s / len(order))
        for rows in order:
            loss = cross_entropy(network(pixels=pixels[rows]), labels[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
            optimiser.step()
            schedule.step()
    return work.result(work.trained(network), taken, peak_megabytes(), "adamw, fp32, eager")


def run_trainer(work: Work) -> Result:
    """`transformers.Trainer`, as a user finds it."""
    import torch
    import transformers

    class WithLoss(torch.nn.Module):
        def __init__(self, network: torch.nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, pixels: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            logits = self.network(pixels=pixels)
            return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}

    settings = work.settings
    transformers.set_seed(settings["seed"])
    pixels, labels = work.tensors("train")
    rows = [{"pixels": x, "labels": y} for x, y in zip(pixels, labels, strict=True)]
    network = WithLoss(work.model.copy().network)
    with tempfile.TemporaryDirectory() as folder:
        trainer = transformers.Trainer(
            model=network,
            args=transformers.TrainingArguments(
                output_dir=folder,
                num_train_epochs=settings["epochs"],
                per_device_train_batch_size=settings["batch"],
                learning_rate=LR,
                max_grad_norm=CLIP,
                seed=settings["seed"],
                use_cpu=True,
                report_to="none",
                save_strategy="no",
                disable_tqdm=True,
            ),
            train_dataset=rows,
        )
        with watch() as taken:
            trainer.train()
        peak = peak_megabytes()
        how = f"{trainer.args.optim.value}, {'bf16' if trainer.args.bf16 else 'fp32'}"
    return work.result(work.trained(network.network), taken, peak, how)


SIDES = {"assay": run_assay, "plain": run_plain, "trainer": run_trainer}


def against(peer: str, sides: dict[str, list[Result]], quick: bool) -> Result:
    """Print how assay compares with one peer; return it."""
    ours, theirs = sides["assay"], sides[peer]
    times = ratios([r["seconds"] for r in theirs], [r["seconds"] for r in ours])
    processor = ratios([r["cpu"] for r in theirs], [r["cpu"] for r in ours])
    delta, low, high = paired_interval([r["right"] for r in ours], [r["right"] for r in theirs])
    print(f"\nassay against {peer}: {len(ours)} pairs")
    print(f"  times faster: {times['median']:.2f} (from {times['min']:.2f} to {times['max']:.2f})")
    print(f"  by cpu time: {processor['median']:.2f}")
    target = TARGETS[peer]
    if target is not None or quick:
        print(f"  {verdict(times['median'], target or 1.0, quick=quick)}")
    print(f"  accuracy: paired difference {delta:+.4f}, 95% interval {low:+.4f} to {high:+.4f}")
    accuracy = {"difference": delta, "interval": [low, high]}
    return {"peer": peer, "seconds": times, "cpu": processor, "accuracy": accuracy}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=3, help="runs of each side")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, default=4096, help="training rows")
    parser.add_argument("--test", type=int, default=2000, help="test rows")
    parser.add_argument("--resolution", type=int, default=96, help="side in pixels")
    parser.add_argument("--quick", action="store_true", help="one pair, 64 rows, 32 pixels")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--worker", choices=list(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--settings", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Run the sides in turn and print the figures."""
    given = arguments()
    if given.worker:
        warm()
        answer(SIDES[given.worker](Work(given.settings)))
        return
    keys = ("epochs", "batch", "rows", "test", "resolution", "threads")
    settings = {key: getattr(given, key) for key in keys}
    if given.quick:
        settings |= {"rows": 64, "test": 64, "resolution": 32}
    sides = alternate(
        __file__,
        list(SIDES),
        settings,
        pairs=1 if given.quick else given.pairs,
        threads=given.threads,
        told=lambda side, turn, r: print(
            f"{side} {turn}: {r['seconds']:.1f} s, accuracy {statistics.fmean(r['right']):.4f}",
            file=sys.stderr,
        ),
    )
    found: Result = {"settings": settings, "sides": {}}
    for side, runs in sides.items():
        images = statistics.median(r["images"] for r in runs)
        accuracy = statistics.fmean(statistics.fmean(r["right"]) for r in runs)
        peak = statistics.median(r["peak"] for r in runs)
        found["sides"][side] = {
            "images_per_second": images,
            "accuracy": accuracy,
            "peak_mb": peak,
            "how": runs[0]["how"],
        }
        print(f"{side}: {images:.0f} images/s, accuracy {accuracy:.4f}, peak {peak:.0f} MB")
        print(f"  {runs[0]['how']}, {runs[0]['threads']} threads")
    found["against"] = [against(peer, sides, given.quick) for peer in TARGETS]
    if given.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
