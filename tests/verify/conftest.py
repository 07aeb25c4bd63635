"""A small artefact whose stage measures again, without a network."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from assay import registry
from assay.claims import Claim, Effects, ModelCard
from assay.claims.claim import Status
from assay.claims.passport import LINES, Origin, Passport, StageRecord
from assay.claims.records import START
from assay.claims.signing import Signer, load_private_key
from assay.config import build_part, dump
from assay.errors import ArtefactError, LoadError
from assay.files import canonical_json, sha256
from assay.stages.base import Stage, close

WEIGHTS = b"weights"


class Weigh(Stage):
    """Claims the weights' size, the share of a label, a time, and what was spent.

    Attributes:
        keeps: kinds that it keeps.
        silent: it measures nothing.
        slack: by how much the share may be off.
    """

    #: the machine that this is; a test may move
    machine: ClassVar[str] = "here"
    #: called before anything is measured
    first: ClassVar[Callable[[Any, Any], None]] = lambda model, context: None

    keeps: tuple[str, ...] = ()
    silent: bool = False
    slack: float = 0.0

    def effects(self, context: Any) -> Effects:
        return Effects(adds=("*",), keeps=self.keeps)

    def measure(self, model: Any, context: Any) -> None:
        if self.silent:
            return
        Weigh.first(model, context)
        context.claim(Claim(kind="size.bytes", value=len(model.weights), unit="bytes"))
        context.claim(
            Claim(
                kind="latency.p50_ms",
                value=1.0 if Weigh.machine == "here" else 3.0,
                unit="ms",
                conditions={"threads": context.threads},
                details={"machine": Weigh.machine},
            )
        )
        if "steps" in context.used:
            context.claim(
                Claim(
                    kind="privacy.epsilon",
                    value=context.used["steps"] / 100,
                    unit="epsilon",
                    nature="historical",
                )
            )
        targets = context.dataset.targets("test")
        share = float(targets.mean())
        context.claim(
            Claim(
                kind="quality.accuracy",
                value=share,
                unit="fraction",
                dataset=context.dataset.card.name,
                split="test",
                conditions={"threshold": 0.5},
                method="counted",
                interval=(share - 0.1, share + 0.1),
                n=len(targets),
            )
        )

    def agrees(self, claim: Claim, again: Claim) -> Status:
        if claim.details.get("machine") != again.details.get("machine"):
            return "unverifiable"
        return "holds" if close(claim.value, again.value, absolute=self.slack) else "fails"


@pytest.fixture(autouse=True)
def weigh(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Weigh]]:
    registry.register("stage", "weigh")(Weigh)

    def load_model(folder: Path) -> Any:
        return SimpleNamespace(weights=(folder / "model.safetensors").read_bytes(), folder=folder)

    monkeypatch.setattr("assay.models.load.load_model", load_model)
    monkeypatch.setattr(Weigh, "machine", "here")
    monkeypatch.setattr(Weigh, "first", lambda model, context: None)
    yield Weigh
    registry.unregister("stage", "weigh")


@dataclass
class Maker:
    """Makes artefacts, and forges them."""

    root: Path

    def data(self, name: str = "rows.csv", flip: int = 0) -> Path:
        path = self.root / name
        rows = [f"{i},{i % 7},{'yes' if (i + (i == flip)) % 3 else 'no'}" for i in range(60)]
        path.write_text("\n".join(["a,b,y", *rows]) + "\n")
        return path

    def origin(self, path: Path, data_base: str = ".") -> Origin:
        from assay.data.config import DataConfig

        task = build_part("task", "tabular-classification")
        relative = path.relative_to(self.root / data_base)
        config = DataConfig(path=str(relative), label="y")
        dataset = config.load(self.root / data_base, task)
        return Origin(
            recipe="small",
            assay="0.1.0",
            threads=1,
            task={"tabular-classification": {}},
            model=ModelCard(name="mlp", architecture="mlp"),
            base={"name": "mlp"},
            data=dataset.card,
            data_digest=dataset.digest,
            data_config=dump(config),
            data_base=data_base,
        )

    def stage(self, passport: Passport, claims: bool = True, **settings: Any) -> Passport:
        """One more stage `weigh`, and what it claims on the data of the last run."""
        from assay.data.config import DataConfig
        from assay.training.context import RunContext
        from assay.verify.measure import plan_context

        used = settings.pop("used", {})
        name = settings.pop("name", "weigh")
        stage = Weigh(**settings)
        after = passport.stages()
        origin = passport.origin
        assert origin is not None
        own = sum(s.number >= 0 for s in after)
        record = StageRecord(
            index=own,
            name=name,
            config=dump(stage),
            effects=Effects(keeps=stage.keeps),
            used=used,
            subject=sha256(WEIGHTS),
        )
        before, passport = passport, passport.append(record)
        if not claims:
            return passport
        context = RunContext(
            dataset=DataConfig(**origin.data_config).load(self.root / origin.data_base, None),
            plan=plan_context(passport, passport.stages()[-1]),
            used=dict(used),
        )
        stage.measure(SimpleNamespace(weights=WEIGHTS), context)
        return before.with_stage(record, context.claims)

    def start(self) -> Passport:
        return Passport().append(self.origin(self.data()))

    def write(self, passport: Passport, name: str = "model", signer: Signer | None = None) -> Path:
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.safetensors").write_bytes(WEIGHTS)
        (folder / "config.json").write_text("{}")
        passport.write(folder, signer=signer)
        return folder

    def forge(self, folder: Path, change: Callable[[list[Any]], None]) -> None:
        """Change statements, then rebuild chain and head as a careful forger does."""
        statements = []
        for line in (folder / LINES).read_bytes().splitlines():
            value = json.loads(line)
            inner = b64decode(value["payload"]) if "payload" in value else line
            statements.append(json.loads(inner))
        change(statements)
        lines: list[bytes] = []
        for index, statement in enumerate(statements):
            previous = sha256(lines[-1]) if lines else START
            statement["predicate"] |= {"index": index, "previous": previous}
            lines.append(canonical_json(statement))
        files = {
            path.name: sha256(path.read_bytes())
            for path in folder.iterdir()
            if path.name not in (LINES, "head.json")
        }
        data = b"".join(line + b"\n" for line in lines)
        files[LINES] = sha256(data)
        (folder / LINES).write_bytes(data)
        head = {"count": len(lines), "last": sha256(lines[-1]), "files": files}
        (folder / "head.json").write_bytes(canonical_json(head) + b"\n")


@pytest.fixture
def make(workspace: Path) -> Maker:
    return Maker(workspace)


@pytest.fixture
def folder(make: Maker) -> Path:
    return make.write(make.stage(make.start()))


@dataclass
class Keys:
    """A key pair as files."""

    signer: Signer
    public: Path


@pytest.fixture
def new_keys(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Keys]:
    def new(seed: int) -> Keys:
        key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        place = tmp_path_factory.mktemp("keys")
        private, public = place / "key.pem", place / "key.pub"
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        public.write_bytes(
            key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        return Keys(load_private_key(private), public)

    return new


@pytest.fixture
def keys(new_keys: Callable[[int], Keys]) -> Keys:
    return new_keys(1)


@pytest.fixture
def errors() -> dict[str, Exception]:
    return {
        "load": LoadError("no such thing", where="there", mend="look"),
        "artefact": ArtefactError("contradicts itself"),
        "import": ModuleNotFoundError("No module named 'magic'", name="magic"),
        "value": ValueError("what a shape"),
        "runtime": RecursionError("too deep"),
    }
