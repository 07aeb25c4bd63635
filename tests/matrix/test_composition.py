"""Law 9: any two registered parts compose in the one loop, or are refused with a way out.

Registering a part is what adds it here. For each pair a stage is built from the two and defaults,
and trained for a few steps on tiny data; then every part's promise is checked there:

- frozen weights do not move, and something that should move does
- masked weights stay exactly zero, whatever moves them
- a resumed stage ends with the very bits of one that never stopped
- nothing of the loop is left on the network, and the model given is unchanged
"""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from assay import registry
from assay.claims.capabilities import conflicts, of
from assay.config import Config, build_part
from assay.models.model import Model
from assay.stages.finetune import Finetune
from assay.training.loop import Job
from tests.tiny import Bench, save

#: what a private stage draws from, and how it computes norms: two runs with them are one run
SECRETS = ("stream.key", "norms.json")
COLUMNS = ("term", "parameters", "step", "place", "augmentation", "structure")


def examples() -> list[tuple[str, str, int, Any]]:
    """(kind, name, number, part) of every canonical setting of every registered part."""
    found = []
    for kind in COLUMNS:
        for name, cls in registry.parts(kind).items():
            if kind == "structure" and name in ("head", "lora"):
                continue  # every model has a head; lora is added by the parameters of that name
            for number, part in enumerate(cls.examples()):  # type: ignore[attr-defined]
                found.append((kind, name, number, part))
    return found


def label(item: tuple[str, str, int, Any]) -> str:
    return f"{item[1]}{item[2] or ''}"


def pairs() -> list[tuple[Any, Any]]:
    """Every two parts that can stand in one stage, by column or by slot."""
    out = []
    for a, b in itertools.combinations(examples(), 2):
        same = a[0] == b[0]
        if same and a[0] in ("parameters", "place"):
            continue
        if same and a[1] == b[1]:
            continue
        if (
            same
            and a[0] == "step"
            and a[3].slot == b[3].slot in ("optimiser", "schedule", "weights")
        ):
            continue
        out.append((a, b))
    return out


def with_mask(model: Model) -> Model:
    """Half of the first block's weights masked."""
    from assay.models.structures.mask import mask_model

    name = next(
        n
        for n, p in model.network.named_parameters()
        if p.dim() in (2, 4) and "embedding" not in n and not n.startswith("head")
    )
    weight = dict(model.network.named_parameters())[name]
    keep = torch.arange(weight.numel()).view_as(weight) % 2 == 0
    return mask_model(model, {name: keep})


def without_batch_norms(model: Model) -> Model:
    """Group norms where there were batch norms, which cannot be trained privately."""
    from assay.models.structures.replace_norm import replaced

    norms = torch.nn.modules.batchnorm._BatchNorm
    found = any(isinstance(m, norms) for m in model.network.modules())
    return replaced(model, 2) if found else model


def assemble(chosen: list[tuple[str, str, int, Any]]) -> dict[str, Any]:
    """Settings of a stage that is made of the chosen parts and defaults."""
    terms = [p for k, _, _, p in chosen if k == "term"] or ["supervised"]
    steps = [p for k, _, _, p in chosen if k == "step"]
    if not any(p.slot == "optimiser" for p in steps):
        steps.insert(0, build_part("step", {"adamw": 0.01}))
    if not any(p.part_name == "precision" for p in steps):
        # which layout is faster is the clock's to say: two runs may differ in it
        plain = {"mode": "fp32", "memory_format": "contiguous"}
        steps.append(build_part("step", {"precision": plain}))
    settings: dict[str, Any] = {
        "objective": dict.fromkeys(terms) if terms == ["supervised"] else tuple(terms),
        "step": tuple(steps),
        "augment": tuple(p for k, _, _, p in chosen if k == "augmentation"),
        "epochs": 2,
        "batch": 8,
    }
    for kind in ("parameters", "place"):
        for _, _, _, part in [c for c in chosen if c[0] == kind]:
            settings[kind] = part
    return settings


def refusals(stage: Finetune, bench: Bench, context: Any) -> list[Any]:
    from assay.claims import Capabilities

    given = Capabilities(
        gives=frozenset(
            {"labels", "valid_split"}
            | ({"linear_layers"} if bench.model.architecture.linear else set())
            | ({"inner_maps"} if bench.task.modality == "text" else set())
        )
    )
    declared = [(n, of(p, context)) for n, p in stage.parts()]
    return conflicts([*declared, ("task", of(bench.task, context)), ("data", given)])


def state_of(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {n: t.detach().clone() for n, t in network.state_dict().items()}


def train(stage: Finetune, bench: Bench, model: Model, folder: Path, stop_at: int | None) -> Model:
    """Train to the end; with `stop_at`, in two jobs with a checkpoint between."""
    # what the clock chose once is remembered, as on any machine: two runs compute alike
    remembered = folder.parent / "tuning"
    context = bench.context(folder, tuning=remembered)
    if stop_at is not None:
        job = Job(stage, model, context)
        for _ in range(min(stop_at, job.total_steps - 1)):
            job.step()
        job.checkpoint()
        if not job.done:
            job.step()  # lost work: it must leave no trace
        job.close()
        context = bench.context(folder, tuning=remembered)
    job = Job(stage, model, context)
    stage.place.run(job)
    return job.finish()


def statistics(network: torch.nn.Module, moving: set[str]) -> set[str]:
    """Buffers beside parameters that move: a norm that learns counts too, a frozen one does not."""
    owners = {name.rpartition(".")[0] for name in moving}
    return {name for name, _ in network.named_buffers() if name.rpartition(".")[0] in owners}


def check(chosen: list[tuple[str, str, int, Any]], bench: Bench, folder: Path) -> None:
    stage = Finetune(**assemble(chosen))
    structures = [name for kind, name, _, _ in chosen if kind == "structure"]
    model = with_mask(bench.model) if "mask" in structures else bench.model
    if any(getattr(part, "private", False) for _, _, _, part in chosen):
        model = without_batch_norms(model)
    found = refusals(stage, bench, bench.context().plan)
    if found:
        assert all(r.what and r.mend for r in found)
        return
    before = state_of(model.network)
    (folder / "whole").mkdir()
    (folder / "parts").mkdir()
    whole = train(stage, bench, model, folder / "whole", None)
    for name in SECRETS:
        if (folder / "whole" / name).exists():
            shutil.copy(folder / "whole" / name, folder / "parts" / name)
    parts = train(stage, bench, model, folder / "parts", 3)

    after, again = state_of(whole.network), state_of(parts.network)
    assert after.keys() == again.keys()
    for name in after:
        assert torch.equal(after[name], again[name]), f"a resumed run differs in {name}"
    assert (folder / "whole/metrics.jsonl").read_bytes() == (
        folder / "parts/metrics.jsonl"
    ).read_bytes()

    for name, value in state_of(model.network).items():
        assert torch.equal(value, before[name]), f"the given model's {name} changed"
    prepared = stage.parameters.prepare(model.copy(), 1)
    moving = set(stage.parameters.select(prepared))
    moved = {n for n in after if n in before and not torch.equal(after[n], before[n])}
    moved -= statistics(prepared.network, moving)
    assert moved <= moving, f"frozen weights moved: {sorted(moved - moving)}"
    assert moving & (moved | (after.keys() - before.keys())), "nothing moved"
    for name, mask in whole.support().items():
        assert bool((after[name][~mask] == 0).all()), f"masked weights of {name} are not zero"
    network = whole.network
    assert not network.training
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    assert all("forward" not in m.__dict__ and not m._forward_hooks for m in network.modules())
    storages = {p.untyped_storage().data_ptr() for p in network.parameters()}
    assert len(storages) == len(list(network.parameters())), "parameters still share a buffer"


def with_images(pair: tuple[Any, Any]) -> bool:
    """Whether a pair can only stand in a stage that reads images."""
    return any(item[0] == "augmentation" for item in pair)


def needs_teacher(*items: Any) -> bool:
    return any(getattr(item[3], "teacher", None) == "teacher" for item in items)


def name_of(pair: tuple[Any, Any]) -> str:
    return f"{label(pair[0])}-{label(pair[1])}"


@pytest.mark.parametrize("pair", [p for p in pairs() if not with_images(p)], ids=name_of)
def test_two_parts_compose_on_a_table(
    pair: tuple[Any, Any], table: Bench, in_home: Path, tmp_path: Path
) -> None:
    if needs_teacher(*pair) and not (in_home / "teacher").exists():
        save(table, in_home / "teacher")
    check(list(pair), table, tmp_path)


@pytest.mark.parametrize("pair", [p for p in pairs() if with_images(p)], ids=name_of)
def test_two_parts_compose_on_images(
    pair: tuple[Any, Any], images: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if needs_teacher(*pair):
        save(images, tmp_path / "teacher")
        monkeypatch.chdir(tmp_path)
    check(list(pair), images, tmp_path)


@pytest.mark.parametrize("item", [e for e in examples() if e[0] != "augmentation"], ids=label)
def test_each_part_works_on_text(
    item: Any, text: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if needs_teacher(item):
        save(text, tmp_path / "teacher")
        monkeypatch.chdir(tmp_path)
    check([item], text, tmp_path)


@pytest.mark.parametrize("item", examples(), ids=label)
def test_each_part_works_on_images(
    item: Any, images: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if needs_teacher(item):
        save(images, tmp_path / "teacher")
        monkeypatch.chdir(tmp_path)
    check([item], images, tmp_path)


def test_registering_a_part_grows_the_matrix() -> None:
    before = len(pairs())
    base: Any = registry.find("step", "clip_value")

    @registry.register("step", "dummy_clip")
    class DummyClip(base):
        """A part that only this test knows."""

    try:
        assert isinstance(DummyClip(max=1.0), Config)
        assert len(pairs()) > before
    finally:
        registry.unregister("step", "dummy_clip")
    assert len(pairs()) == before
