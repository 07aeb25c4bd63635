"""The commented recipes that `assay init` writes."""

from __future__ import annotations

from pathlib import Path

from assay.errors import LoadError, UsageError, did_you_mean
from assay.files import write_bytes

_HEAD = """\
# A recipe: what to start from, what is done to it in order, and what must hold at the end.
#
#   assay plan {file}      what would happen, before any compute is spent
#   assay run {file}       do it; the report is in runs/{stem}/<n>/report.html
#
# Every key is checked: a mistyped one fails with the line and a suggestion.

"""

_TEXT = """\
# The network. Pretrained ones: assay models. Also a folder, or hf:org/name (fetched).
model: minilm-l6

# The data. Named samples: assay data. Your own file instead:
#   data:
#     path: reviews.csv        # CSV, Parquet, Arrow or JSON lines
#     label: score             # the column to predict
#     text: review             # the column the network reads
#     splits: {valid: 0.1, test: 0.2}
data: reviews

seed: 0                        # every random choice follows from it

stages:
  - finetune:
      epochs: 2
      # what is learnt; add terms to a weighted sum: {supervised: {}, distillation: {...}}
      objective: {supervised: {label_smoothing: 0.1}}
      # which parameters move: full, head, lora, ...
      parameters: full
      # how a step is taken: an optimiser, a schedule, and what else is wanted
      step:
        adamw: {lr: 3.0e-5, weight_decay: 0.01}
        linear: {warmup: 0.1}
  - audit:                     # measure what the model is worth, on rows it has not seen
      quality: {}
      efficiency: {}
  - export                     # ONNX, checked against the network it came from

# What must hold at the end: `plan` refuses a recipe that cannot carry it,
# `run` exits with 3 when it is measured and missed.
require:
  quality.accuracy: ">= 0.80"
"""

_TABLE = """\
# The network: a multilayer perceptron, trained from scratch.
model: {name: mlp, settings: {hidden: [64, 32]}}

# The data. Named samples: assay data. Your own file instead:
#   data:
#     path: patients.csv       # CSV, Parquet, Arrow or JSON lines
#     label: died              # the column to predict
#     unit: patient            # all rows of one patient stay in one split
#     sensitive: [sex]         # audits split results by it; no feature
#     drop: [row_number]
#     splits: {valid: 0.1, test: 0.2}
data: breast_cancer

seed: 0                        # every random choice follows from it

stages:
  - finetune:
      epochs: 30
      batch: 32
      parameters: full         # which parameters move
      step:                    # how a step is taken
        adamw: {lr: 3.0e-3, weight_decay: 0.01}
        cosine: {warmup: 0.1}
  - audit:                     # measure what the model is worth, on rows it has not seen
      quality: {}
      efficiency: {}
  - export                     # ONNX, checked against the network it came from

# What must hold at the end: `plan` refuses a recipe that cannot carry it,
# `run` exits with 3 when it is measured and missed.
require:
  quality.auroc: ">= 0.90"
"""

_IMAGE = """\
# The network. Pretrained ones: assay models. Small ones from scratch: cnn, resnet18, vit.
#   model: {name: efficientnet-lite0, resolution: 96}
model: {name: cnn, settings: {widths: [16, 32], depth: 1}}

# The data. Named samples: assay data. Your own pictures instead, one folder for each class
# (perhaps below train/ and test/):
#   data:
#     path: photographs        # photographs/cat/1.jpg, photographs/dog/2.png, ...
#     splits: {valid: 0.1, test: 0.2}
data: digit-images

seed: 0                        # every random choice follows from it

stages:
  - finetune:
      epochs: 12
      batch: 32
      parameters: full         # which parameters move: full, head, {last: 4}, ...
      step:                    # how a step is taken
        adamw: {lr: 5.0e-3, weight_decay: 0.01}
        one_cycle: {warmup: 0.2}
  - audit:                     # measure what the model is worth, on rows it has not seen
      quality: {}
      efficiency: {}
  - export                     # ONNX, checked against the network it came from

# What must hold at the end: `plan` refuses a recipe that cannot carry it,
# `run` exits with 3 when it is measured and missed.
require:
  quality.accuracy: ">= 0.90"
"""

#: name -> body
TEMPLATES: dict[str, str] = {"text": _TEXT, "table": _TABLE, "image": _IMAGE}


def template(name: str, file: str = "recipe.yaml") -> str:
    """The text of a template.

    Args:
        name: `text`, `table` or `image`.
        file: the file it will be, for the comments.

    Raises:
        UsageError: no such template.
    """
    if name not in TEMPLATES:
        raise UsageError(
            f"no template {name!r}", where="--template", mend=did_you_mean(name, TEMPLATES)
        )
    head = _HEAD.replace("{file}", file).replace("{stem}", Path(file).stem)
    return head + TEMPLATES[name]


def write_template(path: Path, name: str) -> None:
    """Write a template to a new file, whole or not at all.

    Raises:
        UsageError: the file is there already, or no such template.
        LoadError: it cannot be written.
    """
    text = template(name, str(path))
    if path.exists() or path.is_symlink():
        raise UsageError(
            "there is such a file already", where=str(path), mend="name another, or remove it"
        )
    if not path.parent.is_dir():
        raise LoadError("no such folder", where=str(path.parent), mend="make it first")
    write_bytes(path, text.encode())
