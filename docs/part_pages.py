"""One page for each stage and part, made from the registry and the docstrings.

Nothing of it is kept in the repository: `docs/hooks.py` hands the pages to MkDocs at every build,
so that they never go stale. `pages(language)` is the whole interface.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic.fields import FieldInfo

from assay import registry
from assay.config import Config, PartField, build_part, dump

#: kind -> (its name in English and Chinese, where it is written in a recipe, in both)
KINDS: dict[str, dict[str, tuple[str, str]]] = {
    "stage": {
        "en": ("Stages", "One step of a recipe, written under `stages`."),
        "zh": ("阶段", "配方的一步，写在 `stages` 之下。"),
    },
    "term": {
        "en": ("Terms of the objective", "What is learnt, written under `objective`."),
        "zh": ("目标的各项", "学什么，写在 `objective` 之下。"),
    },
    "parameters": {
        "en": ("Parameters", "Which parameters move, written under `parameters`."),
        "zh": ("参数", "动哪些参数，写在 `parameters` 之下。"),
    },
    "step": {
        "en": ("Step", "How a step is taken, written under `step`."),
        "zh": ("步", "怎样走一步，写在 `step` 之下。"),
    },
    "place": {
        "en": ("Places", "Where a stage runs, written under `place`."),
        "zh": ("地点", "在哪里运行，写在 `place` 之下。"),
    },
    "augmentation": {
        "en": (
            "Augmentation",
            "How images are shown otherwise in training, written under `augment`.",
        ),
        "zh": ("数据增强", "训练时图像怎样换个样子，写在 `augment` 之下。"),
    },
    "structure": {
        "en": (
            "Structures",
            (
                "What a model's network was changed into. Stages write it into "
                "`model/config.json`, and it is applied at every load; a recipe does not name it."
            ),
        ),
        "zh": (
            "结构",
            "网络被改成了什么样。由阶段写入 `model/config.json`，每次载入时应用；配方里不写它。",
        ),
    },
    "architecture": {
        "en": ("Architectures", "A network from scratch, written under `model`."),
        "zh": ("架构", "从头开始的网络，写在 `model` 之下。"),
    },
    "audit": {
        "en": ("Audits", "What the stage `audit` measures, written under `audit`."),
        "zh": ("审计", "阶段 `audit` 测量什么，写在 `audit` 之下。"),
    },
    "task": {
        "en": ("Tasks", "What is predicted, written as `task`; by default what the data suggest."),
        "zh": ("任务", "预测什么，写作 `task`；默认由数据决定。"),
    },
    "sample": {
        "en": ("Samples", "Data sets that assay knows by name, written as `data`."),
        "zh": ("样例数据集", "assay 认得名字的数据集，写作 `data`。"),
    },
}

#: the words of the frame around a docstring
WORDS: dict[str, dict[str, str]] = {
    "en": {
        "title": "Stages and parts",
        "intro": "Made from the registry and the docstrings at every build of these pages. "
        "A part of your own is one file: see [your own part]({up}bring-your-own.md#part).",
        "note": "",
        "settings": "Settings",
        "head": "| setting | type | range | default | meaning |",
        "none": "It has no settings.",
        "required": "required",
        "parts": "parts of kind [{kind}]({up}parts/{page}.md), by name",
        "part": "a part of kind [{kind}]({up}parts/{page}.md)",
        "short": "Written as a bare value, it sets `{key}`.",
        "example": "Example",
        "source": "Source",
    },
    "zh": {
        "title": "阶段与部件",
        "intro": "这些页面在每次构建文档时由注册表和文档字符串生成。"
        "你自己的部件只需一个文件：见[自己的部件]({up}bring-your-own.md#part)。",
        "note": "> 说明文字取自源代码中的文档字符串，因此为英文；标题与表头为中文。\n",
        "settings": "设置",
        "head": "| 设置 | 类型 | 范围 | 默认值 | 含义 |",
        "none": "没有设置。",
        "required": "必填",
        "parts": "类别 [{kind}]({up}parts/{page}.md) 的部件，按名称",
        "part": "一个类别 [{kind}]({up}parts/{page}.md) 的部件",
        "short": "只写一个值时，设置的是 `{key}`。",
        "example": "示例",
        "source": "源代码",
    },
}

#: what an example is written into, so that it is a recipe but for model and data
FRAMES: dict[str, list[str]] = {
    "term": ["stages", "finetune", "objective"],
    "parameters": ["stages", "finetune", "parameters"],
    "step": ["stages", "finetune", "step"],
    "place": ["stages", "finetune", "place"],
    "augmentation": ["stages", "finetune", "augment"],
    "audit": ["stages", "audit"],
    "stage": ["stages"],
}


@dataclass
class Doc:
    """A docstring taken apart: its prose, and what its section `Attributes` says."""

    prose: str = ""
    attributes: dict[str, str] = field(default_factory=dict)


def docstring(cls: type) -> Doc:
    """The docstring of a class itself (not an inherited one), taken apart.

    >>> class Round:
    ...     '''Round weights.
    ...
    ...     Attributes:
    ...         bits: bits kept,
    ...             in 1..23.
    ...     '''
    >>> docstring(Round)
    Doc(prose='Round weights.', attributes={'bits': 'bits kept, in 1..23.'})
    """
    text = inspect.cleandoc(cls.__dict__.get("__doc__") or "")
    prose, _, rest = text.partition("\nAttributes:\n")
    doc, name = Doc(prose.strip()), ""
    for line in rest.splitlines():
        if line and not line.startswith(" "):
            break
        entry = re.match(r"    (\w+): (.*)", line)
        if entry:
            name = entry[1]
            doc.attributes[name] = entry[2].strip()
        elif line.strip() and name:
            doc.attributes[name] += " " + line.strip()
    return doc


def meanings(cls: type) -> dict[str, str]:
    """What the docstrings of a class and of its bases say of its fields; the nearest wins."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith(("assay.", "tests.")) or base is cls:
            found.update(docstring(base).attributes)
    return found


def type_text(annotation: Any) -> str:
    """An annotation as a reader would write it.

    >>> type_text(int | None), type_text(typing.Literal["a", "b"]), type_text(dict[str, float])
    ('int or None', "'a' or 'b'", 'dict of str to float')
    """
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return type_text(inside[0])
    if origin is typing.Literal:
        return " or ".join(map(repr, inside))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_text(one) for one in inside)
    if annotation is type(None):
        return "None"
    if origin is tuple and inside[-1] is not Ellipsis:
        return f"{len(inside)} of {type_text(inside[0])}"
    if origin in (tuple, list, set, frozenset):
        return f"list of {type_text(inside[0])}"
    if origin is not None and len(inside) == 2:
        return f"dict of {type_text(inside[0])} to {type_text(inside[1])}"
    return getattr(annotation, "__name__", str(annotation))


def range_text(info: FieldInfo) -> str:
    """The bounds that pydantic checks, in words of mathematics."""
    found = []
    for item in info.metadata:
        match item:
            case Ge(ge=bound):
                found.append(f"≥ {bound}")
            case Gt(gt=bound):
                found.append(f"> {bound}")
            case Le(le=bound):
                found.append(f"≤ {bound}")
            case Lt(lt=bound):
                found.append(f"< {bound}")
            case MinLen(min_length=bound):
                found.append(f"length ≥ {bound}")
            case MaxLen(max_length=bound):
                found.append(f"length ≤ {bound}")
            case _:
                pass
    return ", ".join(found)


def nested(annotation: Any) -> type[Config] | None:
    """The configuration class within an annotation, if there is one."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return annotation
    found = [c for c in map(nested, typing.get_args(annotation)) if c is not None]
    return found[0] if found else None


def marker(info: FieldInfo) -> PartField | None:
    """What says that a field holds parts."""
    return next((item for item in info.metadata if isinstance(item, PartField)), None)


def default_text(info: FieldInfo, word: dict[str, str]) -> str:
    """The default as YAML has it."""
    parts = marker(info)
    value = parts.default if parts is not None else None
    if parts is None:
        if info.is_required():
            return word["required"]
        value = dump(info.get_default(call_default_factory=True))
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000).strip()
    return code(text.removesuffix("\n...").strip())


def code(text: str) -> str:
    """Text in backticks that a cell of a table can hold."""
    return f"`{text}`".replace("|", "&#124;") if text else ""


def cell(text: str) -> str:
    """Prose that a cell of a table can hold: a bar would end it."""
    return text.replace("|", "&#124;")


def linked(text: str) -> str:
    """Every number of a paper on arXiv leads to it."""
    return re.sub(
        r"arXiv\s+(\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", text, flags=re.DOTALL
    )


def rows(cls: type[Config], word: dict[str, str], up: str, before: str = "") -> Iterator[str]:
    """The rows of the table of settings; those of a nested group follow it, with its name."""
    said = meanings(cls)
    for name, info in cls.model_fields.items():
        parts, group = marker(info), nested(info.annotation)
        if parts is not None:
            key = "parts" if parts.many else "part"
            kind = word[key].format(kind=parts.kind, page=f"{parts.kind}/index", up=up)
        else:
            kind = code(type_text(info.annotation))
        yield (
            f"| `{before}{name}` | {kind} | {range_text(info)} | {default_text(info, word)} "
            f"| {linked(cell(said.get(name, '')))} |"
        )
        if group is not None and not before:
            inner = "*." if typing.get_origin(info.annotation) is dict else ""
            yield from rows(group, word, up, f"{name}.{inner}")


def named(part: Config) -> Any:
    """A part as a recipe writes it: its name, or its name with its settings."""
    inside = settings(part)
    return {part.part_name: inside} if inside else part.part_name


def settings(part: Config) -> Any:
    """What must be written to get this part: settings that stand at their default are left out."""
    out: dict[str, Any] = {}
    for name, info in type(part).model_fields.items():
        value, parts = getattr(part, name), marker(info)
        if parts is not None:
            if dump(value) == dump(getattr(type(part).model_construct(**standing(part)), name)):
                continue
            several = [named(one) for one in value] if parts.many else [named(value)]
            written = {k: v for one in several for k, v in as_mapping(one).items()}
            out[name] = several[0] if len(several) == 1 else written
        elif isinstance(value, Config):
            out[name] = settings(value)
        elif info.is_required() or value != info.get_default(call_default_factory=True):
            out[name] = dump(value)
    return out if part.inline is None else out.get(part.inline)


def as_mapping(written: Any) -> dict[str, Any]:
    """A part that is written as its name alone, as a mapping."""
    return {written: {}} if isinstance(written, str) else dict(written)


def standing(part: Config) -> dict[str, Any]:
    """The parts that a field holds when nothing is written."""
    out: dict[str, Any] = {}
    for name, info in type(part).model_fields.items():
        parts = marker(info)
        if parts is not None and parts.default is None:
            out[name] = () if parts.many else None
        elif parts is not None:
            raw = parts.default if isinstance(parts.default, dict) else {parts.default: None}
            built = tuple(build_part(parts.kind, {k: v}) for k, v in raw.items())
            out[name] = built if parts.many else built[0]
    return out


def example(kind: str, name: str, cls: type[Config]) -> dict[str, Any] | None:
    """A recipe, but for model and data, that uses the part; None where recipes do not name it."""
    if kind in ("sample", "task"):
        return {"data" if kind == "sample" else "task": name}
    canonical = getattr(cls, "examples", None)
    found = [settings(one) for one in canonical()] if callable(canonical) else []
    if kind == "stage":  # one that needs no other model's folder
        found = [one for one in found if not isinstance(one, dict) or "teacher" not in one]
    chosen: Any = min(found, key=lambda one: len(str(one))) if found else {}
    if kind == "architecture":
        return {"model": {"name": name, "settings": chosen} if chosen else name}
    raw: Any = {name: chosen} if chosen else name
    if kind == "step" and getattr(cls, "slot", "") != "optimiser":
        raw = {"adamw": {"lr": 1.0e-3}, **as_mapping(raw)}
    for key in reversed(FRAMES[kind]):
        raw = {"stages": [raw]} if key == "stages" else {key: raw}
    return dict(raw)


def flow(raw: Any) -> str:
    """YAML as recipes are written: one line for what is innermost."""
    return yaml.safe_dump(
        raw, sort_keys=False, default_flow_style=None, width=88, allow_unicode=True
    )


def part_page(kind: str, name: str, cls: type[Config], language: str) -> str:
    """The page of one part, in Markdown."""
    word, up = WORDS[language], "../../"
    title, where = KINDS[kind][language]
    out = [f"# {name}", f"*{title}.* {where}"]
    if language == "zh":
        out.append(word["note"].strip())
    out.append(linked(docstring(cls).prose))
    out.append(f"## {word['settings']}")
    if cls.model_fields:
        out.append(
            "\n".join([word["head"], "| --- | --- | --- | --- | --- |", *rows(cls, word, up)])
        )
    else:
        out.append(word["none"])
    if cls.shorthand is not None:
        out.append(word["short"].format(key=cls.shorthand))
    raw = example(kind, name, cls) if kind != "structure" else None
    if raw is not None:
        out += [f"## {word['example']}", f"```yaml\n{flow(raw)}```"]
    out.append(f"{word['source']}: `{cls.__module__}`")
    return "\n\n".join(out) + "\n"


def headline(cls: type[Config]) -> str:
    """The first sentence of a docstring, on one line and fit for a table."""
    first = docstring(cls).prose.partition("\n\n")[0]
    return linked(cell(" ".join(first.split())))


def ours(kind: str) -> dict[str, type[Config]]:
    """The parts of a kind that come with assay (a recipe or a test may have registered more)."""
    return {n: c for n, c in registry.parts(kind).items() if c.__module__.startswith("assay.")}


def kind_page(kind: str, language: str) -> str:
    """The list of the parts of a kind."""
    word = WORDS[language]
    title, where = KINDS[kind][language]
    lines = [f"- [{n}]({n}.md): {headline(c)}" for n, c in ours(kind).items()]
    note = [word["note"].strip()] if language == "zh" else []
    return "\n\n".join([f"# {title}", where, *note, "\n".join(lines)]) + "\n"


def index_page(language: str) -> str:
    """The list of the kinds."""
    word = WORDS[language]
    out = [f"# {word['title']}", word["intro"].format(up="../")]
    if language == "zh":
        out.append(word["note"].strip())
    for kind in registry.KINDS:
        title, where = KINDS[kind][language]
        names = ", ".join(f"[{n}]({kind}/{n}.md)" for n in ours(kind))
        out += [f"## [{title}]({kind}/index.md)", where, names]
    return "\n\n".join(out) + "\n"


def pages(language: str) -> dict[str, str]:
    """Path below the docs' folder -> Markdown, for `en` or `zh`."""
    out = {"parts/index.md": index_page(language)}
    for kind in registry.KINDS:
        out[f"parts/{kind}/index.md"] = kind_page(kind, language)
        for name, cls in ours(kind).items():
            out[f"parts/{kind}/{name}.md"] = part_page(kind, name, cls, language)
    return out


def navigation() -> list[Any]:
    """The pages as a part of MkDocs' navigation."""
    out: list[Any] = ["parts/index.md"]
    for kind in registry.KINDS:
        names = [f"parts/{kind}/{name}.md" for name in ours(kind)]
        out.append({KINDS[kind]["en"][0]: [f"parts/{kind}/index.md", *names]})
    return out
