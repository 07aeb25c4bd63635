"""The recipe: model, data, task, stages and what is required of the result."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationError, field_validator, model_validator

from assay import registry
from assay.claims import DataCard, PlanContext, Requirement
from assay.config import Config, PartField, _as_usage_error, build, dump, dump_part
from assay.data.config import DataConfig
from assay.errors import UsageError, did_you_mean
from assay.models.hub import ModelConfig
from assay.recipe.bounds import requirements
from assay.recipe.overrides import assign
from assay.recipe.reading import line_of, parse_yaml, read_text, write_yaml

if TYPE_CHECKING:
    from assay.recipe.outcome import Run
    from assay.recipe.plan import Plan
    from assay.training.context import Progress

#: keys whose text may name a file; a relative one is looked up beside the recipe first
_FILE_KEYS = ("path", "teacher", "student", "tokenizer")
#: what stands for a model that is there already, not for a file
_NO_FILES = frozenset({"current"})


class Recipe(Config):
    """Model, data, stages and what must hold at the end; YAML and Python have the same fields.

    Attributes:
        name: names the folder of its runs; by default the file's name.
        model: the network to start from, see `assay.models.hub.ModelConfig`.
        data: the data set, see `assay.data.config.DataConfig`.
        task: what the model is to do; by default what model and data suggest.
        seed: every random choice follows from it.
        stages: what is done, in order.
        require: what must hold of the model at the end.
        uses: Python files with parts of the user's own.

    Raises:
        UsageError: an unknown key, a wrong type, a missing or an invalid value.
    """

    name: str = Field(default="recipe", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    model: ModelConfig
    data: DataConfig
    task: Annotated[Any, PartField("task")] = None
    seed: int = Field(default=0, ge=0, lt=2**63, strict=True)
    stages: Annotated[tuple[Any, ...], PartField("stage", many=True)] = Field(min_length=1)
    require: tuple[Requirement, ...] = ()
    uses: tuple[str, ...] = ()

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _as_usage_error(error, "") from None

    @model_validator(mode="before")
    @classmethod
    def _from_plain(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        for key in values:
            if key not in cls.model_fields:
                raise UsageError(
                    f"unknown key {str(key)!r}",
                    where=str(key),
                    mend=did_you_mean(str(key), cls.model_fields),
                )
        out = dict(values)
        for key, config in (("model", ModelConfig), ("data", DataConfig)):
            if out.get(key) is None:
                raise UsageError("this key is missing", where=key, mend="add it")
            out[key] = build(config, out[key], key)
        out["stages"] = _stage_list(out.get("stages"))
        return out

    @field_validator("require", mode="before")
    @classmethod
    def _requirements(cls, raw: Any) -> Any:
        return requirements(raw)

    @field_validator("uses", mode="before")
    @classmethod
    def _one_or_many(cls, raw: Any) -> Any:
        return [raw] if isinstance(raw, str) else () if raw is None else raw

    @model_validator(mode="after")
    def _infer_task(self) -> Recipe:
        if self.task is None:
            # a frozen value is complete once it is built: this is the end of building it
            self.__dict__["task"] = _inferred_task(self)
        return self

    @property
    def base(self) -> Path:
        """The folder that relative paths of a built recipe start from: the current one."""
        return Path.cwd()

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        set: Sequence[str] = (),
        seed: int | None = None,
        allow: Iterable[Path | str] = (),
        resolved: bool = False,
    ) -> Recipe:
        """Read a recipe file.

        A relative path in it is looked up beside the file first, then in the current folder.

        Args:
            path: a YAML file.
            set: changes `path=value`, see `assay.recipe.overrides`.
            seed: replaces the recipe's seed.
            allow: Python files that `uses` may run.
            resolved: the file is one that assay wrote: its paths are what they are.

        Raises:
            UsageError: the file cannot be read, is not YAML, or the recipe is wrong.
        """
        file = Path(path)
        raw, lines = parse_yaml(read_text(file), str(file))
        if raw is None:
            raise UsageError(
                "the recipe is empty", where=str(file), mend="write one with: assay init"
            )
        if not isinstance(raw, Mapping):
            kind = "a list" if isinstance(raw, list) else f"the text {str(raw)[:40]!r}"
            raise UsageError(
                f"expected keys such as model, data and stages at the top, got {kind}",
                where=str(file),
                mend="see: assay init",
            )
        raw = dict(raw) if resolved else _beside(raw, file.parent)
        raw.setdefault("name", re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).strip(".-_") or "recipe")
        if seed is not None:
            raw["seed"] = seed
        changed: dict[str, str] = {}
        try:
            load_user_parts(raw.get("uses"), allow)
            for assignment in set:
                raw, where = assign(cls, raw, assignment)
                changed[where] = assignment
            return build(cls, {**raw, "stages": _stage_list(raw.get("stages"))})
        except UsageError as error:
            raise _located(error, file, lines, changed) from None

    @classmethod
    def from_data(cls, raw: Mapping[str, Any], *, allow: Iterable[Path | str] = ()) -> Recipe:
        """A recipe from plain data, running the user files it names where they are allowed.

        Raises:
            UsageError: a file is not allowed, or the recipe is wrong.
        """
        load_user_parts(raw.get("uses"), allow)
        return build(cls, {**raw, "stages": _stage_list(raw.get("stages"))})

    def dump(self) -> dict[str, Any]:
        """The recipe as plain data with every default; `Recipe.from_data` gives it back."""
        out: dict[str, Any] = dump(self)
        out["stages"] = [dump_part(stage) for stage in self.stages]
        out["require"] = [
            {**dump(item), "bound": item.bound.text if item.bound else None}
            for item in self.require
        ]
        return out

    def to_yaml(self) -> str:
        """`dump` as the text of a recipe file."""
        return write_yaml(self.dump())

    def context(self, stage: int = 0) -> PlanContext:
        """What is known before a stage, without claims and structures of the stages before it.

        Raises:
            AssayError: the model or the data are not there, or do not say what they are.
        """
        return PlanContext(
            model=self.model.card(self.base),
            data=self.data_card(),
            task=self.task,
            stage=stage,
            stages=self.stages,
        )

    def data_card(self) -> DataCard:
        """What is known of the data; a file that names no text columns is what the model reads.

        Raises:
            AssayError: the data are not there.
        """
        card = self.data.card(self.base)
        if self.data.path is None or self.data.text:
            return card
        return card.model_copy(update={"modality": self.model.card(self.base).modality})

    def plan(self, deep: bool = False) -> Plan:
        """What would happen, and what the model would carry at the end.

        Args:
            deep: build the network on the meta device and count.

        Raises:
            UsageError: the recipe cannot do what it requires, with the reason and the way out.
        """
        from assay.recipe.plan import plan

        return plan(self, deep)

    def run(
        self,
        *,
        out: Path | str | None = None,
        resume: Path | str | None = None,
        threads: int | None = None,
        sign: Path | str | None = None,
        progress: Progress | None = None,
        allow: Iterable[Path | str] = (),
    ) -> Run:
        """Do it.

        Args:
            out: folder of the run (default `runs/<name>/<n>` in the current folder).
            resume: folder of a run that was stopped.
            threads: intra-op threads.
            sign: file of an Ed25519 private key that signs the passport.
            progress: is told how far it is.
            allow: Python files that a resumed run's recipe may use.

        Raises:
            AssayError: see `assay.errors`.
        """
        from assay.recipe.run import run

        return run(
            self,
            out=Path(out) if out is not None else None,
            resume=Path(resume) if resume is not None else None,
            threads=threads,
            sign=Path(sign) if sign is not None else None,
            progress=progress,
            allow=tuple(Path(file) for file in allow),
        )


def load_user_parts(uses: Any, allow: Iterable[Path | str]) -> None:
    """Run the files that a recipe `uses`, those that are allowed.

    Raises:
        UsageError: one is not allowed, missing, or fails.
    """
    if uses is None:
        return
    files = [uses] if isinstance(uses, str) else uses
    if not isinstance(files, (list, tuple)) or not all(isinstance(f, str) for f in files):
        raise UsageError("expected paths of Python files", where="uses", mend="write [my_part.py]")
    allowed = {Path(item).expanduser().resolve() for item in allow}
    for file in files:
        path = Path(file).expanduser()
        registry.load_user_file(path, allowed=path.resolve() in allowed)


def _stage_list(raw: Any) -> list[Any]:
    if isinstance(raw, Config):
        raw = [raw]
    if not isinstance(raw, (list, tuple)):
        what = "this key is missing" if raw is None else f"expected a list of stages, got {raw!r}"
        raise UsageError(what[:200], where="stages", mend="write '- finetune: {...}' lines")
    if not raw:
        raise UsageError("there is no stage", where="stages", mend="add one, e.g. '- finetune'")
    for index, item in enumerate(raw):
        if isinstance(item, Mapping) and len(item) > 1:
            first, *others = map(str, item)
            raise UsageError(
                f"expected one stage, got the keys {', '.join([first, *others])}",
                where=f"stages[{index}]",
                mend=f"indent {others[0]!r} to stand below {first!r}, or start it with '- '",
            )
    return [{item: None} if isinstance(item, str) else item for item in raw]


def _inferred_task(recipe: Recipe) -> Any:
    """The task that modality and label suggest: regression where the label is said to be real."""
    data = recipe.data_card()
    known = registry.parts("task")
    label = recipe.data.columns.get(str(data.label))
    real = data.classes == 0 or (label is not None and getattr(label, "kind", None) == "numeric")
    kind = "regression" if real and not data.classes else "classification"
    name = f"{data.modality}-{kind}"
    if name not in known:
        raise UsageError(
            f"no task for {data.modality} data suggests itself",
            where="task",
            mend="write one of: " + ", ".join(known),
        )
    return build(known[name], None, "task")


def _beside(raw: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The recipe with relative file names that exist beside it written from the current folder."""
    from assay.models.hub import EMBEDDED

    known = {*EMBEDDED, *registry.names("architecture"), *_NO_FILES}

    def moved(text: Any) -> Any:
        if not isinstance(text, str) or not text or text in known or "\0" in text:
            return text
        if text.startswith(("hf:", "~")) or Path(text).is_absolute() or len(text) > 1000:
            return text
        return str(folder / text) if (folder / text).exists() else text

    def walk(value: Any, key: str) -> Any:
        if isinstance(value, Mapping):
            inner = {k: walk(v, str(k)) for k, v in value.items()}
            return {**inner, "name": moved(inner["name"])} if _names_model(key, inner) else inner
        if isinstance(value, list):
            return [walk(item, key) for item in value]
        return moved(value) if key in _FILE_KEYS else value

    out: dict[str, Any] = walk(raw, "")
    if isinstance(out.get("model"), dict):
        out["model"]["name"] = moved(out["model"].get("name"))
        if out["model"]["name"] is None:
            del out["model"]["name"]
    elif "model" in out:
        out["model"] = moved(out["model"])
    uses = out.get("uses")
    if isinstance(uses, (str, list)):
        out["uses"] = moved(uses) if isinstance(uses, str) else [moved(u) for u in uses]
    return out


def _names_model(key: str, value: Mapping[str, Any]) -> bool:
    """Whether a mapping is the `student:` of a stage, whose name may be a folder."""
    return key == "student" and value.get("name") is not None


def _located(
    error: UsageError, file: Path, lines: dict[str, int], changed: dict[str, str]
) -> UsageError:
    """The error with the place in the file, or the `--set`, that it comes from."""
    where = error.where or ""
    if where.startswith("--set"):
        return error
    for path, assignment in changed.items():
        if where == path or where.startswith((path + ".", path + "[")):
            return UsageError(error.what, where=f"--set {assignment}: {where}", mend=error.mend)
    line = line_of(where, lines)
    at = f"{file}:{line}" if line else str(file)
    return UsageError(error.what, where=f"{at}: {where}" if where else at, mend=error.mend)
