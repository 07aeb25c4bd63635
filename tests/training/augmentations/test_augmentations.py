"""Augmentations against closed forms; units, mixtures and resumption in the loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny import Bench, bench

from assay import registry
from assay.config import build, build_part
from assay.data.config import DataConfig
from assay.errors import UsageError
from assay.models.hub import ModelConfig
from assay.recipe.schema import Recipe
from assay.stages.finetune import Finetune
from assay.training.augmentation import PIXELS, Augmentation
from assay.training.batches import Batch, to_units
from assay.training.loop import Job


def part(written: Any) -> Any:
    return build_part("augmentation", written)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(n: int = 6, channels: int = 1, side: int = 8, floats: bool = False) -> Batch:
    pixels = torch.randint(0, 256, (n, channels, side, side), generator=seeded(1))
    return Batch(
        inputs={PIXELS: pixels / 255 if floats else pixels.to(torch.uint8)},
        targets=torch.arange(n) % 3,
        weights=torch.ones(n),
        rows=torch.arange(n) + 10,
        units=torch.arange(n),
        n_units=n,
        plain=True,
    )


def every() -> list[Augmentation]:
    known: list[Any] = list(registry.parts("augmentation").values())
    return [example for cls in known for example in cls.examples()]


@pytest.mark.parametrize("found", every(), ids=lambda p: p.part_name)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("floats", [False, True])
def test_what_is_drawn_is_the_generators(found: Augmentation, channels: int, floats: bool) -> None:
    given = batch(channels=channels, floats=floats)
    before = given.inputs[PIXELS].clone()
    first, again = found.apply(given, seeded(3)), found.apply(given, seeded(3))
    assert torch.equal(first.inputs[PIXELS], again.inputs[PIXELS])
    assert torch.equal(given.inputs[PIXELS], before), "the given batch was changed"
    out = first.inputs[PIXELS]
    assert out.shape[1:] == before.shape[1:]
    top = 1.0 if out.is_floating_point() else 255
    assert float(out.min()) >= 0 and float(out.max()) <= top
    # a unit's weight stays what it was, however many views it has
    weights = to_units(first.weights, first.units, first.n_units)
    torch.testing.assert_close(weights, torch.ones(6))
    assert set(first.rows.tolist()) == set(given.rows.tolist())


def test_flip_swaps_left_and_right() -> None:
    given = batch()
    pixels = given.inputs[PIXELS]
    assert torch.equal(part({"flip": 1.0}).images(pixels, seeded()), pixels.flip(3))
    assert torch.equal(part({"flip": 0.0}).images(pixels, seeded()), pixels)
    some = part({"flip": 0.5}).images(pixels.repeat(50, 1, 1, 1), seeded())
    turned = (some == pixels.repeat(50, 1, 1, 1).flip(3)).flatten(1).all(1).float().mean()
    assert 0.38 < float(turned) < 0.62  # 300 coins: more than four deviations


@pytest.mark.parametrize("fill", ["zero", "reflect"])
def test_crop_is_a_window_of_the_padded_image(fill: str) -> None:
    pixels = batch(side=6).inputs[PIXELS]
    out = part({"crop": {"padding": 3, "fill": fill}}).images(pixels, seeded())
    mode = "constant" if fill == "zero" else "reflect"
    padded = torch.nn.functional.pad(pixels.float(), (3, 3, 3, 3), mode=mode).to(torch.uint8)
    for i in range(len(pixels)):
        windows = [padded[i, :, y : y + 6, x : x + 6] for y in range(7) for x in range(7)]
        assert any(torch.equal(out[i], window) for window in windows)
    assert torch.equal(part({"crop": 0}).images(pixels, seeded()), pixels)


def test_erasing_blots_out_one_rectangle_of_the_area_asked_for() -> None:
    pixels = torch.full((40, 1, 20, 20), 0.5)
    erasing = part({"random_erasing": {"p": 1.0, "area": [0.2, 0.2], "aspect": 1.0}})
    changed = erasing.images(pixels, seeded()) != 0.5
    for image in changed[:, 0]:
        rows, columns = image.any(1).nonzero(), image.any(0).nonzero()
        assert len(rows) == len(columns) == 9  # sqrt(0.2) * 20 = 8.94
        assert int(rows[-1] - rows[0]) == 8 and int(columns[-1] - columns[0]) == 8
    assert torch.equal(part({"random_erasing": 0.0}).images(pixels, seeded()), pixels)


def test_mixup_blends_images_and_names_the_partner() -> None:
    given = batch()
    out = part({"mixup": 1.0}).apply(given, seeded(5))
    assert out.mixture is not None
    partner, share = out.mixture
    pixels = given.inputs[PIXELS].float() / 255
    expected = pixels * share[0] + pixels[partner] * (1 - share[0])
    torch.testing.assert_close(out.inputs[PIXELS], expected)


def test_cutmix_shares_by_the_real_area() -> None:
    given = batch(side=16)
    pixels = given.inputs[PIXELS]
    for seed in range(20):
        out = part({"cutmix": {"p": 1.0}}).apply(given, seeded(seed))
        assert out.mixture is not None
        partner, share = out.mixture
        pasted = out.inputs[PIXELS]
        other = (pasted == pixels[partner]) & (pasted != pixels)
        own = pasted == pixels
        assert bool((own | other).all())
        rows, columns = other[0, 0].any(1), other[0, 0].any(0)
        if int(partner[0]) != 0 and rows.any():
            # a pixel may be equal in both images, so what shows is at most the rectangle
            assert int(rows.sum()) * int(columns.sum()) <= round((1 - float(share[0])) * 256)


def test_views_of_an_image_are_rows_of_its_unit() -> None:
    out = part({"views": {"k": 3, "of": {"crop": 2}}}).apply(batch(n=4), seeded())
    assert out.units.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3] and not out.plain
    torch.testing.assert_close(out.weights, torch.full((12,), 1 / 3))
    losses = torch.rand(12, generator=seeded(2))
    units = to_units(losses * out.weights, out.units, out.n_units)
    torch.testing.assert_close(units, losses.view(4, 3).mean(1))


@pytest.fixture(scope="module")
def digits() -> Bench:
    model = ModelConfig(name="cnn", settings={"widths": [4, 4], "depth": 1})
    found = bench(build(DataConfig, "digit-images", "data"), model, Path())
    few = found.dataset.sample("train", 48, 1).sample("valid", 16, 1)
    return Bench(few, found.model, found.task)


def finetune(**settings: Any) -> Finetune:
    step = {"adamw": 0.01, "precision": {"mode": "fp32", "memory_format": "contiguous"}}
    return Finetune(**{"epochs": 2, "batch": 16, "step": step, **settings})


@pytest.mark.parametrize("mixing", [{"mixup": 1.0}, {"cutmix": {"p": 1.0}}])
def test_a_mixture_is_the_cross_entropy_with_shared_targets(digits: Bench, mixing: Any) -> None:
    stage = finetune(augment=mixing)
    job = Job(stage, digits.model, digits.context())
    given, _ = job.source.next(job.state, None)
    mixed = job.augmented(given, 0)
    assert mixed.mixture is not None
    losses, _ = job.objective(mixed, training=True)
    partner, share = mixed.mixture
    soft = torch.zeros(len(given), 10)
    rows = torch.arange(len(given))
    soft.index_put_((rows, given.targets), share, accumulate=True)
    soft.index_put_((rows, given.targets[partner]), 1 - share, accumulate=True)
    outputs = job.forward(mixed.inputs)
    expected = torch.nn.functional.cross_entropy(outputs, soft, reduction="none")
    torch.testing.assert_close(losses["model"], expected)
    job.close()


@pytest.mark.parametrize("found", every(), ids=lambda p: p.part_name)
def test_a_resumed_run_draws_the_same(digits: Bench, found: Augmentation, tmp_path: Path) -> None:
    stage = finetune(augment=(found,))
    weights = []
    for stop in (None, 2):
        folder = tmp_path / str(stop)
        folder.mkdir()
        if stop is not None:
            job = Job(stage, digits.model, digits.context(folder))
            for _ in range(stop):
                job.step()
            job.checkpoint()
            job.close()
        job = Job(stage, digits.model, digits.context(folder))
        stage.place.run(job)
        weights.append(job.finish().network.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_cached_views_are_those_that_the_network_would_see(digits: Bench, tmp_path: Path) -> None:
    augment = {"crop": 1, "flip": 0.5}
    stage = finetune(augment=augment, cached_views=2, parameters="head")
    job = Job(stage, digits.model, digits.context(tmp_path))
    assert job.feeder is not None and job.feeder.cached
    seen, state = [], job.state
    for _ in range(3 * job.steps_per_epoch):
        given, state = job.source.next(state, None)
        assert job.augmented(given, 0) is given
        fed = {k: v for k, v in given.inputs.items() if k != PIXELS}
        seen.append({int(r): f for r, f in zip(given.rows, next(iter(fed.values())), strict=True)})
    epochs = [
        {k: v for part in seen[i : i + job.steps_per_epoch] for k, v in part.items()}
        for i in range(0, len(seen), job.steps_per_epoch)
    ]
    same = [bool(torch.equal(epochs[0][r], epochs[2][r])) for r in epochs[0]]
    other = [bool(torch.equal(epochs[0][r], epochs[1][r])) for r in epochs[0]]
    assert all(same) and not all(other), "two views, in turn"
    job.close()


def test_curves_see_the_images_as_they_are(digits: Bench) -> None:
    plain = Job(finetune(), digits.model, digits.context())
    blotted = Job(finetune(augment={"random_erasing": 1.0}), digits.model, digits.context())
    values = []
    for job in (plain, blotted):
        assert job.valid is not None
        with job.evaluating():
            values.append(job.valid.measure(job))
        job.close()
    assert values[0] == values[1]


def test_what_cannot_be_cached_is_refused() -> None:
    with pytest.raises((UsageError, ValueError), match="mixup makes other batches"):
        finetune(augment={"mixup": 0.2}, cached_views=2)
    with pytest.raises((UsageError, ValueError), match="nothing is augmented"):
        finetune(cached_views=2)


def test_augmenting_a_table_is_refused_with_a_way_out() -> None:
    recipe = Recipe(
        model="mlp", data="breast_cancer", stages=[{"finetune": {"augment": {"flip": 0.5}}}]
    )
    with pytest.raises(UsageError, match="images"):
        recipe.plan()


def test_images_are_mixed_once() -> None:
    both = {"mixup": 0.2, "cutmix": 1.0}
    stages = [{"finetune": {"augment": both}}]
    with pytest.raises(UsageError, match="keep one of them"):
        Recipe(model="cnn", data="digit-images", stages=stages).plan()
    mixed = part({"mixup": 0.2}).apply(batch(), seeded())
    for again in both:
        with pytest.raises(UsageError, match="mixed already"):
            part(again).apply(mixed, seeded())


def test_views_differ_by_what_changes_single_images() -> None:
    for written in ("mixup", "cutmix", "views"):
        with pytest.raises((UsageError, ValueError), match="makes other batches"):
            part({"views": {"of": {written: {}}}})


def test_views_keep_the_mixture_they_were_made_of() -> None:
    mixed = part({"mixup": 1.0}).apply(batch(), seeded())
    out = part({"views": {"k": 2, "of": {"crop": 0}}}).apply(mixed, seeded())
    assert mixed.mixture is not None and out.mixture is not None
    partner, share = out.mixture
    assert torch.equal(out.rows[partner], mixed.rows[mixed.mixture[0]].repeat_interleave(2))
    assert torch.equal(share, mixed.mixture[1].repeat_interleave(2))


def test_views_without_a_cache_are_refused(digits: Bench) -> None:
    stage = finetune(augment={"flip": 0.5}, cached_views=2)
    with pytest.raises(UsageError, match="leave out cached_views"):
        Job(stage, digits.model, digits.context())
