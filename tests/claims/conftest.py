"""A small model folder with a passport, and keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from assay.claims import Claim, DataCard, Effects, ModelCard
from assay.claims.passport import Origin, Passport, StageRecord
from assay.claims.signing import Signer, load_private_key
from assay.files import sha256

WEIGHTS = b"weights after stage 2"


def make_key(path: Path, seed: int) -> Path:
    key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


@pytest.fixture(scope="session")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return load_private_key(make_key(tmp_path_factory.mktemp("keys") / "key.pem", 1))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return load_private_key(make_key(tmp_path_factory.mktemp("keys") / "key.pem", 2))


def make_origin(recipe: str = "reviews") -> Origin:
    return Origin(
        recipe=recipe,
        assay="0.1.0",
        seed=7,
        threads=2,
        task={"text-classification": {}},
        model=ModelCard(name="minilm-l6", parameters=22_000_000),
        model_digest=sha256(b"base weights"),
        base={"name": "minilm-l6"},
        data=DataCard(name="reviews", classes=2),
        data_digest=sha256(b"data"),
        data_config={"name": "reviews"},
    )


def make_claim(kind: str = "quality.accuracy", value: float = 0.845, **more: object) -> Claim:
    fields = {
        "unit": "fraction",
        "dataset": "reviews",
        "split": "test",
        "method": "bootstrap 2000, percentile",
        "interval": (value - 0.02, value + 0.02),
        "n": 1000,
        **more,
    }
    return Claim(kind=kind, value=value, **fields)


def make_passport() -> Passport:
    """Lines: 1 origin, 2 finetune, 3 audit, 4 and 5 its claims, 6 export, 7 its claim."""
    trained = sha256(b"weights after stage 0")
    agreement = make_claim("agreement.top1", 1.0, split="test", interval=None)
    export = Effects(adds=("agreement.*",), keeps=("quality.*",))
    return (
        Passport()
        .append(make_origin())
        .with_stage(
            StageRecord(
                index=0, name="finetune", config={"epochs": 3}, used={"steps": 375}, subject=trained
            )
        )
        .with_stage(
            StageRecord(
                index=1,
                name="audit",
                effects=Effects(adds=("quality.*",), keeps=("*",)),
                subject=trained,
            ),
            [make_claim(), make_claim("quality.macro_f1", 0.8)],
        )
        .with_stage(
            StageRecord(index=2, name="export", effects=export, subject=sha256(WEIGHTS)),
            [agreement],
        )
    )


def make_folder(folder: Path, signer: Signer | None = None) -> Path:
    (folder / "parts").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "config.json").write_text("{}\n")
    (folder / "parts" / "vocabulary.txt").write_text("good\nbad\n")
    make_passport().write(folder, signer=signer)
    return folder


@pytest.fixture
def origin() -> Origin:
    return make_origin()


@pytest.fixture
def passport() -> Passport:
    return make_passport()


@pytest.fixture
def claim() -> Callable[..., Claim]:
    return make_claim


@pytest.fixture
def build_folder() -> Callable[..., Path]:
    return make_folder


@pytest.fixture
def key_file() -> Callable[[Path, int], Path]:
    return make_key


@pytest.fixture(scope="session")
def session_passport() -> Passport:
    return make_passport()
