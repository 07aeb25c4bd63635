"""Adapting MiniLM-L6 to the food reviews: assay beside `transformers.Trainer` (and `peft`).

Both sides get the same network (encoder, mean pooling, dropout, linear head), rows, batch size,
epochs, rate, schedule and clipping. Each run is a fresh process; the sides take turns. Timed is
training itself: `trainer.train()` there, the whole `finetune` stage here (with the timing of
precisions at its start, and the pass that fills the cache of a frozen prefix).

    python benchmarks/adapt_vs_hf.py                    the Trainer as a user finds it
    python benchmarks/adapt_vs_hf.py --peer-best        bf16, fused AdamW, batches by length
    python benchmarks/adapt_vs_hf.py --mode head --quick
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
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

#: what is trained for each mode, and how many times faster assay should be
MODES: dict[str, dict[str, Any]] = {
    "full": {"epochs": 2, "lr": 1e-4, "target": 2.0},
    "lora": {"epochs": 2, "lr": 1e-3, "target": 2.0},
    "head": {"epochs": 10, "lr": 1e-2, "target": 12.0},
}
LORA: dict[str, Any] = {"rank": 8, "alpha": 16, "targets": ["query", "value"]}
DATA: dict[str, Any] = {"name": "reviews", "text": ["review"]}
MAX_LENGTH, DROPOUT = 128, 0.1


def load_data(settings: Result) -> Dataset:
    """The reviews, cut to the first rows of each split for `--quick`."""
    from assay.config import build, build_part
    from assay.data.config import DataConfig

    task = build_part("task", "text-classification")
    dataset = build(DataConfig, DATA).load(Path.cwd(), task)
    rows = settings["rows"]
    if rows:
        keep = {"train": rows, "valid": max(8, rows // 10), "test": max(50, rows // 4)}
        dataset = dataset.with_splits({s: p[: keep[s]] for s, p in dataset.splits.items()})
    return dataset


def texts_and_labels(dataset: Dataset, split: str) -> tuple[list[str], list[int]]:
    """What a user of the Trainer starts from."""
    (column,) = dataset.schema.text_columns()
    texts = [str(text) for text in dataset.column(split, column).to_pylist()]
    return texts, [int(target) for target in dataset.targets(split)]


def peer_network(classes: int) -> Any:
    """The same network as assay's, with the loss inside, as the Trainer wants it."""
    import torch
    from torch import nn
    from transformers import AutoModel

    from assay.models.hub import embedded_folder

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = AutoModel.from_pretrained(
                embedded_folder("minilm-l6"), add_pooling_layer=False
            )
            self.dropout = nn.Dropout(DROPOUT)
            self.head = nn.Linear(self.backbone.config.hidden_size, classes)

        def forward(
            self,
            input_ids: torch.Tensor,
            attention_mask: torch.Tensor,
            labels: torch.Tensor | None = None,
        ) -> dict[str, torch.Tensor]:
            states = self.backbone(input_ids=input_ids, attention_mask=attention_mask)
            weights = attention_mask.unsqueeze(-1).to(torch.float32)
            summed = (states.last_hidden_state * weights).sum(dim=1)
            pooled = summed / weights.sum(dim=1).clamp_min(1.0)
            logits = self.head(self.dropout(pooled))
            out = {"logits": logits}
            if labels is not None:
                out["loss"] = nn.functional.cross_entropy(logits, labels)
            return out

    return Classifier()


def freeze(network: Any, mode: str) -> Any:
    """Let only that move which the mode trains."""
    if mode == "head":
        network.backbone.requires_grad_(False)
    if mode == "lora":
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            r=LORA["rank"],
            lora_alpha=LORA["alpha"],
            target_modules=LORA["targets"],
            modules_to_save=["head"],
        )
        return get_peft_model(network, config)
    return network


def run_peer(settings: Result) -> Result:
    """One run of the Trainer."""
    import torch
    import transformers

    from assay.models.hub import embedded_folder

    transformers.set_seed(settings["seed"])
    dataset = load_data(settings)
    tokenizer = transformers.AutoTokenizer.from_pretrained(embedded_folder("minilm-l6"))

    def encoded(split: str) -> list[dict[str, Any]]:
        texts, labels = texts_and_labels(dataset, split)
        ids = tokenizer(texts, truncation=True, max_length=MAX_LENGTH)
        keys = ("input_ids", "attention_mask")
        return [{**{k: ids[k][i] for k in keys}, "labels": y} for i, y in enumerate(labels)]

    network = freeze(peer_network(len(dataset.classes or ())), settings["mode"])
    best = {
        "bf16": True,
        "optim": "adamw_torch_fused",
        "train_sampling_strategy": "group_by_length",
    }
    with tempfile.TemporaryDirectory() as folder:
        trainer = transformers.Trainer(
            model=network,
            args=transformers.TrainingArguments(
                output_dir=folder,
                num_train_epochs=settings["epochs"],
                per_device_train_batch_size=settings["batch"],
                per_device_eval_batch_size=64,
                learning_rate=settings["lr"],
                seed=settings["seed"],
                use_cpu=True,
                report_to="none",
                disable_tqdm=True,
                label_names=["labels"],
                **(best if settings["peer_best"] else {}),
            ),
            train_dataset=encoded("train"),
            data_collator=transformers.DataCollatorWithPadding(tokenizer),
        )
        with watch() as taken:
            trainer.train()
        peak = peak_megabytes()
        how = trainer.args.train_sampling_strategy
        # grouping by length would also reorder the rows that are predicted
        trainer.args.train_sampling_strategy = "random"
        test = encoded("test")
        outputs = trainer.predict(test).predictions
    right = [int(o.argmax()) == row["labels"] for o, row in zip(outputs, test, strict=True)]
    return {
        "seconds": taken.seconds,
        "cpu": taken.cpu,
        "peak": peak,
        "right": right,
        "threads": torch.get_num_threads(),
        "how": f"{trainer.args.optim.value}, {'bf16' if trainer.args.bf16 else 'fp32'}, "
        f"{how} batches",
    }


def recipe(settings: Result) -> dict[str, Any]:
    """The same work as a recipe of assay, with its defaults."""
    parameters: Any = settings["mode"]
    if parameters == "lora":
        parameters = {"lora": LORA}
    step = {
        "adamw": {"lr": settings["lr"], "weight_decay": 0.0},
        "linear": {},
        "clip_norm": 1.0,
    }
    return {
        "name": "adapt",
        "model": {"name": "minilm-l6", "dropout": DROPOUT, "max_length": MAX_LENGTH},
        "data": DATA,
        "seed": settings["seed"],
        "stages": [
            {
                "finetune": {
                    "parameters": parameters,
                    "step": step,
                    "epochs": settings["epochs"],
                    "batch": settings["batch"],
                    # the Trainer does not look at validation rows unless it is asked to
                    "curves": False,
                }
            }
        ],
    }


def run_assay(settings: Result) -> Result:
    """One run of assay: the stage by itself, so that the rows are those of the other side."""
    import torch

    from assay import Recipe
    from assay.training.context import RunContext

    built = Recipe(**recipe(settings))
    torch.set_num_threads(int(settings["threads"]))
    dataset = load_data(settings)
    base = Path.cwd()
    plan = built.context()
    context = RunContext(
        dataset=dataset, plan=plan, seed=settings["seed"], threads=settings["threads"]
    )
    model = built.model.load(base, built.task, dataset, settings["seed"], door=context.door)
    with watch() as taken:
        model = built.stages[0].run(model, context)
    peak = peak_megabytes()
    outputs = model.outputs(model.preprocessing.encode(dataset.rows("test")))
    decided = outputs.argmax(axis=1)
    return {
        "seconds": taken.seconds,
        "cpu": taken.cpu,
        "peak": peak,
        "right": [bool(a == b) for a, b in zip(decided, dataset.targets("test"), strict=True)],
        "threads": torch.get_num_threads(),
        "how": ", ".join(f"{k} {v}" for k, v in context.used.items() if isinstance(v, str | int)),
    }


def report(mode: str, target: float, sides: dict[str, list[Result]], quick: bool) -> Result:
    """Print what one mode gave; return it."""
    ours, peers = sides["assay"], sides["peer"]
    out: Result = {"mode": mode}
    for name in ("seconds", "cpu"):
        out[name] = ratios([r[name] for r in peers], [r[name] for r in ours])
    delta, low, high = paired_interval([r["right"] for r in ours], [r["right"] for r in peers])
    out["accuracy"] = {
        "assay": statistics.fmean(statistics.fmean(r["right"]) for r in ours),
        "peer": statistics.fmean(statistics.fmean(r["right"]) for r in peers),
        "difference": delta,
        "interval": [low, high],
    }
    out["peak_mb"] = {s: statistics.median(r["peak"] for r in sides[s]) for s in sides}
    out["how"] = {s: sides[s][0]["how"] for s in sides}
    wall, cpu = out["seconds"], out["cpu"]
    print(f"\n{mode}: assay against the Trainer, {len(ours)} pairs, {ours[0]['threads']} threads")
    print(f"  assay: {out['how']['assay']}\n  peer:  {out['how']['peer']}")
    for text, value in (("wall time", wall), ("cpu time", cpu)):
        print(
            f"  times faster by {text}: {value['median']:.2f} "
            f"(from {value['min']:.2f} to {value['max']:.2f})"
        )
    print(f"  {verdict(wall['median'], target, quick=quick)}")
    accuracy = out["accuracy"]
    print(f"  test accuracy: assay {accuracy['assay']:.4f}, peer {accuracy['peer']:.4f}")
    print(f"  paired difference {delta:+.4f}, 95% interval from {low:+.4f} to {high:+.4f}")
    peaks = out["peak_mb"]
    print(f"  peak memory: assay {peaks['assay']:.0f} MB, peer {peaks['peer']:.0f} MB")
    return out


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mode", choices=[*MODES, "all"], default="all")
    parser.add_argument("--pairs", type=int, default=3, help="runs of each side")
    parser.add_argument("--epochs", type=int, help="default: 2, and 10 for the head")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, default=0, help="training rows (0: all)")
    parser.add_argument("--quick", action="store_true", help="one pair, one epoch, 64 rows")
    parser.add_argument("--peer-best", action="store_true", help="bf16, fused, grouped by length")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--worker", choices=["assay", "peer"], help=argparse.SUPPRESS)
    parser.add_argument("--settings", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Run the pairs and print the figures."""
    given = arguments()
    if given.worker:
        warm()
        answer((run_assay if given.worker == "assay" else run_peer)(given.settings))
        return
    found = []
    for mode in MODES if given.mode == "all" else [given.mode]:
        defaults = MODES[mode]
        settings = {
            "mode": mode,
            "epochs": given.epochs or (1 if given.quick else defaults["epochs"]),
            "batch": given.batch,
            "lr": given.lr or defaults["lr"],
            "rows": given.rows or (64 if given.quick else 0),
            "threads": given.threads,
            "peer_best": given.peer_best,
        }
        sides = alternate(
            __file__,
            ("assay", "peer"),
            settings,
            pairs=1 if given.quick else given.pairs,
            threads=given.threads,
            told=lambda side, turn, r: print(
                f"{side} {turn}: {r['seconds']:.1f} s, accuracy {statistics.fmean(r['right']):.4f}",
                file=sys.stderr,
            ),
        )
        target = 1.0 if given.peer_best else defaults["target"]
        found.append(report(mode, target, sides, given.quick))
    if given.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
