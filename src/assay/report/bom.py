"""`bom.cdx.json`: a run as a machine-learning bill of materials, for registries and scanners.

Format: CycloneDX 1.6 (ECMA-424), https://cyclonedx.org/docs/1.6/json. The same files give the same
bytes: the serial number is made of the content, and no clock is read.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from assay.errors import LoadError
from assay.files import canonical_json, file_digest, write_bytes
from assay.report.attest import attest, clean, stated
from assay.report.card import limits, use
from assay.report.numbers import number, pair
from assay.report.reading import RunFiles, as_list, as_map, read_run
from assay.report.timeline import Track, kind_of, tracks

Json = dict[str, Any]

MODEL = "model"
#: licences by their SPDX identifier; any other text is a licence's name
_SPDX = {
    name.lower(): name
    for name in (
        *("Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "MPL-2.0", "CC0-1.0", "CC-BY-4.0"),
        *("CC-BY-SA-4.0", "CC-BY-NC-4.0", "GPL-2.0-only", "GPL-3.0-only", "LGPL-3.0-only"),
    )
}
#: what a model takes, by its modality
_INPUTS = {"text": "string", "image": "image", "tabular": "table row"}
_HEX = re.compile(r"[0-9a-fA-F]{64}")


def write_bom(run_folder: Path) -> Path:
    """Write `bom.cdx.json` into a run folder, from the files of that folder alone.

    Rows of data and what audits kept of them never go in. Where the data are private only the owner
    may read the file.

    Args:
        run_folder: `runs/<recipe>/<n>`.

    Returns:
        The path of the file.

    Raises:
        LoadError: it is not a run folder, or the file cannot be written.
        ArtefactError: a file of the run is damaged.
    """
    run = read_run(run_folder)
    made = document(run, _hashed(run_folder / "model"))
    text = json.dumps(made, indent=2, ensure_ascii=True, allow_nan=False) + "\n"
    path = run_folder / "bom.cdx.json"
    write_bytes(path, text.encode(), mode=0o600 if run.private else None)
    return path


def document(run: RunFiles, files: Mapping[str, str]) -> Json:
    """The bill of materials of a run.

    Args:
        run: what the run folder says.
        files: SHA-256 (64 hex digits) of each file of the model, by its path in the model folder.
    """
    data, libraries = _data(run), _libraries(run)
    forebears = [*_bases(run), *_teachers(run)]
    found = tracks(run)
    model = _model(run, found, files, [d["bom-ref"] for d in data], forebears)
    declarations, definitions = attest(run, found, MODEL)
    parts = [*data, *libraries]
    made: Json = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"tools": {"components": [_tool(run)]}, "component": model},
        "components": parts,
        "dependencies": [
            {"ref": MODEL, "dependsOn": [p["bom-ref"] for p in [*parts, *forebears]]},
            *({"ref": p["bom-ref"]} for p in [*parts, *forebears]),
        ],
        "declarations": declarations,
    }
    if definitions:
        made["definitions"] = definitions
    serial = uuid.uuid5(uuid.NAMESPACE_URL, canonical_json(made).decode())
    return {**made, "serialNumber": f"urn:uuid:{serial}"}


def _hashed(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a folder, by its path in it; links are not followed."""
    try:
        return {
            path.relative_to(folder).as_posix(): file_digest(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.is_symlink()
        }
    except OSError as error:
        raise LoadError(
            f"cannot read: {error.strerror}", where=str(folder), mend="make it readable"
        ) from error


def _tool(run: RunFiles) -> Json:
    """Assay as the tool that made the run; its version is the one that ran."""
    origin = run.origins[-1] if run.origins else {}
    version = as_map(run.environment.get("versions")).get("assay") or origin.get("assay")
    return {"type": "application", "name": "assay"} | _some("version", version)


def _some(key: str, value: object) -> Json:
    """`{key: text}` where there is a text, else nothing."""
    text = clean(value)
    return {key: text} if text and value is not None else {}


def _licenses(name: object) -> Json:
    text = clean(name)
    if name is None or not text:
        return {}
    known = _SPDX.get(text.lower())
    return {"licenses": [{"license": {"id": known} if known else {"name": text}}]}


def _properties(**values: object) -> Json:
    """Properties in the name space of assay; those that nobody recorded are left out."""
    rows = [
        {"name": f"assay:{key}", "value": text}
        for key, value in values.items()
        if value is not None and (text := clean(value))
    ]
    return {"properties": rows} if rows else {}


def _model(
    run: RunFiles,
    found: list[Track],
    files: Mapping[str, str],
    data: list[str],
    forebears: list[Json],
) -> Json:
    made: Json = {
        "type": "machine-learning-model",
        "bom-ref": MODEL,
        "name": clean(run.recipe_name) or "unnamed",
        "version": clean(run.run) or "0",
    }
    weights = files.get("model.safetensors", "")
    if _HEX.fullmatch(weights):
        made["hashes"] = [{"alg": "SHA-256", "content": weights}]
    made |= _licenses(run.final.get("license"))
    if forebears:
        made["pedigree"] = {"ancestors": forebears}
    inside = [
        {
            "type": "file",
            "bom-ref": f"file:{place}",
            "name": clean(f"model/{name}"),
            "hashes": [{"alg": "SHA-256", "content": digest}],
        }
        for place, (name, digest) in enumerate(sorted(files.items()))
    ]
    if inside:
        made["components"] = inside
    made["modelCard"] = _card(run, found, data)
    count, head = run.passport
    about = {"parameters": run.final.get("parameters"), "modality": run.final.get("modality")}
    return made | _properties(
        **about, passport_records=count or None, passport_head=head or None, recipe=run.recipe_name
    )


def _card(run: RunFiles, found: list[Track], data: list[str]) -> Json:
    """What was measured and what a reader must not take from it."""
    parameters: Json = {
        **_some("task", run.task or None),
        **_some("architectureFamily", run.final.get("architecture")),
        **_some("modelArchitecture", run.final.get("name")),
    }
    if data:
        # the first is what this run itself read; the others were read before it
        parameters["datasets"] = [{"ref": ref} for ref in data]
    modality = run.final.get("modality") or run.data.get("modality")
    if isinstance(modality, str):
        parameters["inputs"] = [{"format": _INPUTS.get(modality) or clean(modality) or "unknown"}]
    if run.task:
        classes = run.task.endswith("classification")
        parameters["outputs"] = [{"format": "probability of each class" if classes else "number"}]
    metrics = [_metric(t.claim) for t in found if t.status == "holds" and _counts(t.claim)]
    considerations: Json = {
        "useCases": [clean(use(run))],
        "technicalLimitations": [clean(limit) for limit in limits(run, found)],
    }
    risks = [
        {"name": f"sensitive column of the data: {clean(column)}"}
        for column in as_list(run.data.get("sensitive"))
    ]
    if risks:
        considerations["ethicalConsiderations"] = risks
    card: Json = {"modelParameters": parameters, "considerations": considerations}
    if metrics:
        once = [m for place, m in enumerate(metrics) if m not in metrics[:place]]
        card["quantitativeAnalysis"] = {"performanceMetrics": once}
    return card


def _counts(claim: Mapping[str, Any]) -> bool:
    return number(claim.get("value")) is not None


def _metric(claim: Mapping[str, Any]) -> Json:
    """A claim that holds: its value, the rows that it speaks of, and its interval."""
    made: Json = {"type": clean(kind_of(claim)) or "unnamed", "value": clean(claim["value"])}
    made |= _some("slice", stated(claim) or None)
    ends = pair(claim.get("interval"))
    if ends is not None:
        made["confidenceInterval"] = {"lowerBound": repr(ends[0]), "upperBound": repr(ends[1])}
    return made


def _origins(run: RunFiles) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Data that reached the model, each with who read it: this run, those before, its teachers."""
    yield "this run", {**run.data}
    for origin in reversed(run.origins[:-1]):
        yield (
            f"the earlier run {clean(origin.get('recipe'))}",
            {**as_map(origin.get("data")), "digest": origin.get("data_digest")},
        )
    for name, lineage in _lineages(run):
        for origin in map(as_map, as_list(lineage.get("origins"))):
            yield (
                f"the teacher {name}",
                {
                    "name": origin.get("data"),
                    "digest": origin.get("data_digest"),
                    "license": origin.get("data_license"),
                    "private": origin.get("data_private"),
                },
            )


def _data(run: RunFiles) -> list[Json]:
    """Each data set once, by name and digest."""
    made: list[Json] = []
    seen: set[tuple[str, str]] = set()
    for reader, card in _origins(run):
        key = clean(card.get("name")), clean(card.get("digest"))
        if not card.get("name") or key in seen:
            continue
        seen.add(key)
        made.append(_data_set(f"data:{len(made)}", key[0] or "unnamed", card, reader))
    return made


def _data_set(ref: str, name: str, card: Mapping[str, Any], reader: str) -> Json:
    rows = as_map(card.get("split_rows"))
    told: Json = {"type": "dataset", "name": name}
    if "private" in card and card["private"] is not None:
        told["classification"] = "private" if card["private"] else "not declared private"
    columns = [clean(column) for column in as_list(card.get("sensitive"))]
    if columns:
        told["sensitiveData"] = columns
    contents = _properties(
        rows=card.get("rows"),
        label=card.get("label"),
        classes=card.get("classes"),
        privacy_unit=card.get("unit"),
        **{f"rows_{split}": n for split, n in sorted(rows.items())},
    )
    if contents:
        told["contents"] = contents
    return {
        "type": "data",
        "bom-ref": ref,
        "name": name,
        **_licenses(card.get("license")),
        "data": [told],
        # a digest of the rows as assay reads them, not of a file's bytes: no `hashes`
        **_properties(digest=card.get("digest"), read_by=reader),
    }


def _bases(run: RunFiles) -> list[Json]:
    """Pretrained models that the runs began with, and students of a stage `distill` that were any.

    Where a student took the model's place, none of the first one's weights are in it: it is named
    as what the student learnt from.
    """
    students = [as_map(s.used.get("student")) for s in run.stages if s.used.get("student")]
    relation = "base model, replaced by its student" if students else "base model"
    made = []
    for origin in reversed(run.origins or ({"model": run.model},)):
        card, base = as_map(origin.get("model")), as_map(origin.get("base"))
        if card.get("pretrained"):
            digest = origin.get("model_digest")
            made.append(_base(card, base.get("revision"), digest, relation))
    made += [
        _base(student, None, student["model_digest"], "student before it learnt")
        for student in students
        if student.get("model_digest")
    ]
    return [{**base, "bom-ref": f"base:{place}"} for place, base in enumerate(made)]


def _base(card: Mapping[str, Any], revision: object, digest: object, relation: str) -> Json:
    return {
        "type": "machine-learning-model",
        "name": clean(card.get("name")) or "unnamed",
        **_some("version", revision),
        **_licenses(card.get("license")),
        **_properties(relation=relation, digest=digest, architecture=card.get("architecture")),
    }


def _lineages(run: RunFiles) -> list[tuple[str, Mapping[str, Any]]]:
    """What the stages recorded of the models that this one learnt from, by name."""
    found: dict[str, Mapping[str, Any]] = {}
    for stage in run.stages:
        for name, lineage in as_map(stage.used.get("inherits")).items():
            found[clean(name)] = as_map(lineage)
        for name, digest in as_map(stage.used.get("teachers")).items():
            found.setdefault(clean(name), {"digest": digest})
    return list(found.items())


def _teachers(run: RunFiles) -> list[Json]:
    made = []
    for place, (name, lineage) in enumerate(_lineages(run)):
        origins = [as_map(origin) for origin in as_list(lineage.get("origins"))]
        bases = dict.fromkeys(clean(o["model"]) for o in origins if o.get("model"))
        made.append(
            {
                "type": "machine-learning-model",
                "bom-ref": f"teacher:{place}",
                "name": name or "unnamed",
                **_licenses(origins[-1].get("model_license") if origins else None),
                **_properties(
                    relation="teacher",
                    passport_head=lineage.get("digest"),
                    base_models=", ".join(bases) or None,
                ),
            }
        )
    return made


def _libraries(run: RunFiles) -> list[Json]:
    """The libraries that ran, with their versions."""
    made: list[Json] = []
    for name, version in sorted(as_map(run.environment.get("versions")).items(), key=str):
        text, release = clean(name), clean(version)
        if not text or version is None or not release:
            continue
        made.append(
            {
                "type": "platform" if text == "python" else "library",
                "bom-ref": f"library:{len(made)}",
                "name": text,
                "version": release,
                "purl": _purl(text, release),
            }
        )
    return made


def _purl(name: str, version: str) -> str:
    """A package URL.

    >>> _purl("Torch_Vision", "2.13.0+cpu"), _purl("python", "3.11.7")
    ('pkg:pypi/torch-vision@2.13.0%2Bcpu', 'pkg:generic/python@3.11.7')
    """
    if name == "python":
        return f"pkg:generic/python@{quote(version, safe='.-_~')}"
    normal = re.sub(r"[-_.]+", "-", name).lower()
    return f"pkg:pypi/{quote(normal, safe='.-_~')}@{quote(version, safe='.-_~')}"
