"""Learning where another model looks: closed forms, and real networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.tiny import (
    Bench,
    bench,
    table_bench,
    text_bench,
    write_reviews,
    write_table,
    write_tokenizer,
)

from assay.data.config import DataConfig
from assay.errors import UsageError
from assay.models.hub import ModelConfig
from assay.stages.finetune import Finetune
from assay.training.inside import outputs_inside
from assay.training.loop import Job
from assay.training.objectives.attention import (
    flat_map,
    is_channels,
    is_probabilities,
    looking,
    transfer,
)
from assay.training.parts import MODEL
from assay.training.tuning import attention_of


def maps(seed: int, n: int = 3, size: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, size, size, generator=generator).softmax(dim=2)


def test_mean_squared_difference_over_real_pairs() -> None:
    ours, theirs = maps(0), maps(1)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
    got = looking(ours, theirs, "mse", mask).numpy()
    for i, real in enumerate((4, 2, 1)):
        block = (ours[i, :real, :real] - theirs[i, :real, :real]).numpy()
        np.testing.assert_allclose(got[i], (block**2).mean(), rtol=1e-5)
    full = (ours - theirs).square().mean(dim=(1, 2))
    torch.testing.assert_close(looking(ours, theirs), full)


def test_divergence_of_the_students_from_the_teachers() -> None:
    ours, theirs = maps(0), maps(1)
    expected = (theirs * (theirs / ours).log()).sum(dim=2).mean(dim=1)
    torch.testing.assert_close(looking(ours, theirs, "kl"), expected)
    mask = torch.tensor([[1, 1, 1, 0]] * 3)
    part = (theirs * (theirs / ours).log())[:, :3, :3].sum(dim=2).mean(dim=1)
    torch.testing.assert_close(looking(ours, theirs, "kl", mask), part)
    dropped = torch.zeros_like(ours)
    assert bool(torch.isfinite(looking(dropped, theirs, "kl")).all())
    torch.testing.assert_close(looking(ours, ours, "kl"), torch.zeros(3))


def test_attention_transfer_is_the_paper_s() -> None:
    """Zagoruyko and Komodakis 2016, equation 2 without beta / 2 and squared."""
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(2, 5, 3, 3)), rng.normal(size=(2, 7, 3, 3))
    q = [(x**2).sum(axis=1).reshape(2, -1) for x in (student, teacher)]
    q = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in q]
    expected = ((q[0] - q[1]) ** 2).sum(axis=1)
    ours, theirs = (flat_map(torch.from_numpy(x).float()) for x in (student, teacher))
    np.testing.assert_allclose(transfer(ours, theirs).numpy(), expected, rtol=1e-4)
    # scale does not matter, and sizes are averaged down
    torch.testing.assert_close(transfer(9 * ours, theirs), transfer(ours, theirs))
    large = theirs.repeat_interleave(2, 1).repeat_interleave(2, 2)
    torch.testing.assert_close(transfer(ours, large), transfer(ours, theirs))


@pytest.mark.parametrize("compare", ["mse", "kl"])
def test_a_row_is_of_itself_alone(compare: Any) -> None:
    ours, theirs = maps(0), maps(1)
    alone = [looking(ours[i : i + 1], theirs[i : i + 1], compare) for i in range(3)]
    torch.testing.assert_close(looking(ours, theirs, compare), torch.cat(alone))
    alone = [transfer(ours[i : i + 1], theirs[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(transfer(ours, theirs), torch.cat(alone))


# -- real networks ------------------------------------------------------------------------------


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.chdir(tmp_path)
    write_reviews(tmp_path / "reviews.jsonl")
    write_tokenizer(tmp_path / "words")
    return text_bench(tmp_path, dropout=0.0)


@pytest.fixture(scope="module")
def images() -> Bench:
    """A small convolutional network on some digits."""
    model = ModelConfig(name="cnn", settings={"widths": [4, 6]})
    made = bench(DataConfig(name="digit-images"), model, Path.cwd())
    made.dataset = made.dataset.few(2)
    return made


def job(found: Bench, **settings: Any) -> Job:
    objective = {"attention": {"teacher": "current", **settings}}
    stage = Finetune(objective=objective, epochs=2, batch=8, curves=False)
    return Job(stage, found.model, found.context())


def test_the_last_layer_of_a_transformer_is_compared_padding_apart(texts: Bench) -> None:
    one = job(texts)
    ((_, (pairs, _)),) = one._terms
    (name, own) = next(iter(pairs.items()))
    assert name == own and name.startswith("backbone.encoder.layer.1.")
    probabilities = flat_map(outputs_inside(texts.model)[name])
    torch.testing.assert_close(
        probabilities.sum(dim=2), torch.ones(probabilities.shape[:2]), rtol=0, atol=1e-5
    )
    batch, _ = one.source.next(one.source.init(), one.model)
    with one.evaluating():  # a student that is its teacher
        losses, _ = one.objective(batch, training=True)
    torch.testing.assert_close(losses[MODEL], torch.zeros(len(batch)), rtol=0, atol=1e-9)
    assert one.kernel.attention == "eager"
    one.close()


def test_the_teacher_s_own_choice_of_attention_comes_back(texts: Bench) -> None:
    before = attention_of(texts.model.network)
    one = job(texts)
    one.step()
    one.close()
    assert attention_of(texts.model.network) == before == "sdpa"


def test_maps_of_channels_of_a_convolutional_network(images: Bench) -> None:
    one = job(images)
    ((_, (pairs, inside)),) = one._terms
    (name,) = pairs
    output = outputs_inside(images.model)[name]
    assert is_channels(output) and not is_probabilities(output)
    start = one.players[MODEL].flat.params.clone()
    one.step()
    one.step()  # the student leaves its teacher only by the noise of its batch norms
    assert inside._kept["train"][name].shape == (20, *output.shape[2:])
    assert not torch.equal(one.players[MODEL].flat.params, start)
    one.close()


def test_what_has_no_maps_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, texts: Bench
) -> None:
    write_table(tmp_path / "table.csv")
    with pytest.raises(UsageError, match="mlp has no maps inside"):
        job(table_bench(tmp_path))
    with pytest.raises(UsageError, match="the module 'pool' has no maps"):
        job(texts, layers={"pool": "pool"})
