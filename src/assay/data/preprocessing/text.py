"""Text as token ids: the ids that Hugging Face's tokenizer of the same file gives."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from assay.config import dump
from assay.data.columns import is_string, plain
from assay.data.preprocessing.base import FILE, Encoded, Preprocessing, required
from assay.errors import LoadError
from assay.files import write_bytes, write_json

if TYPE_CHECKING:
    import pyarrow as pa

#: the file of a model folder that holds the tokenizer, in Hugging Face's format
TOKENIZER = "tokenizer.json"
#: rows tokenised at once: it bounds memory
_ROWS = 4096


class TextPreprocessing(Preprocessing):
    """Joins columns of text and gives their token ids, cut to a length, not padded.

    Attributes:
        columns: columns of text, joined in this order.
        tokenizer: the content of a Hugging Face `tokenizer.json`.
        max_length: most tokens a row, special ones included.
        separator: what stands between the columns of a row.
        pad_id: the token that fills up a batch.

    Raises:
        ValueError: the tokenizer cannot be read.
    """

    kind: ClassVar[str] = "text"

    columns: tuple[str, ...] = Field(min_length=1)
    tokenizer: str = Field(repr=False)
    max_length: int = Field(default=128, ge=3)
    separator: str = " "
    pad_id: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> TextPreprocessing:
        self._tokenizer()
        return self

    def _tokenizer(self) -> Any:
        digest = hashlib.sha256(self.tokenizer.encode()).hexdigest()
        return _tokenizer(digest, _Text(self.tokenizer), self.max_length)

    @property
    def inputs(self) -> dict[str, tuple[str, int]]:
        """See `Preprocessing.inputs`."""
        return {"input_ids": ("int64", 2), "attention_mask": ("int64", 2)}

    @property
    def vocabulary(self) -> int:
        """Number of tokens, added ones included."""
        return int(self._tokenizer().get_vocab_size(with_added_tokens=True))

    def texts(self, table: pa.Table) -> list[str]:
        """The text of each row; a missing value is an empty text.

        Raises:
            LoadError: a column is missing or holds no text.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        found = []
        for name in self.columns:
            column = plain(required(table, name, "data"))
            if pa.types.is_null(column.type):
                column = column.cast(pa.string())
            if not is_string(column.type):
                raise LoadError(
                    f"the text column {name!r} holds {column.type}, not text",
                    where="data",
                    mend="give text, as when the model was trained",
                )
            found.append(pc.fill_null(column, "").to_pylist())
        return [self.separator.join(words) for words in zip(*found, strict=True)]

    def encode(self, table: pa.Table) -> Encoded:
        """See `Preprocessing.encode`: ragged `input_ids`."""
        texts, tokenizer = self.texts(table), self._tokenizer()
        parts: list[Any] = []
        lengths = np.zeros(len(texts) + 1, dtype=np.int64)
        for start in range(0, len(texts), _ROWS):
            for row, found in enumerate(tokenizer.encode_batch_fast(texts[start : start + _ROWS])):
                ids = found.ids
                parts.append(np.array(ids, dtype=np.int32))
                lengths[start + row + 1] = len(ids)
        flat = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int32)
        return Encoded({"input_ids": flat}, np.cumsum(lengths), {"input_ids": self.pad_id})

    def synthetic(self, rows: int, stretch: float = 0.5) -> dict[str, Any]:
        """See `Preprocessing.synthetic`: all rows as long but the first, which is shorter."""
        length = max(2, round(self.max_length * stretch))
        rng = np.random.default_rng(0)
        mask = np.ones((rows, length), dtype=np.int64)
        mask[0, (length + 1) // 2 :] = 0
        ids = rng.integers(0, self.vocabulary, (rows, length)) * mask + self.pad_id * (1 - mask)
        return {"input_ids": ids, "attention_mask": mask}

    def save(self, folder: Path) -> list[str]:
        """See `Preprocessing.save`."""
        settings = dump(self)
        del settings["tokenizer"]
        write_bytes(folder / TOKENIZER, self.tokenizer.encode())
        write_json(folder / FILE, {"kind": self.kind, **settings})
        return [FILE, TOKENIZER]


class _Text:
    """Text that a cache tells apart by the digest beside it, so that it is not hashed again."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Text)


@lru_cache(maxsize=8)
def _tokenizer(digest: str, content: _Text, max_length: int) -> Any:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(content.text)
    except Exception as error:  # the library raises a bare Exception
        raise ValueError(f"the tokenizer cannot be read: {error}; restore the file") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    return tokenizer


def text_preprocessing(
    tokenizer_file: Path,
    columns: tuple[str, ...],
    max_length: int = 128,
    separator: str = " ",
    pad_token: str | None = None,
    id: str | None = None,
) -> TextPreprocessing:
    """The preprocessing of text by a Hugging Face `tokenizer.json`.

    Args:
        tokenizer_file: that file.
        columns: columns of text.
        max_length: most tokens a row, special ones included.
        separator: what stands between columns.
        pad_token: the token that fills up a batch (default: what the file says, else one of
            `[PAD]`, `<pad>`, else token 0).
        id: the column that names rows, if any.

    Raises:
        LoadError: the file is missing or no tokenizer.
    """
    import json

    from tokenizers import Tokenizer

    try:
        content = tokenizer_file.read_text(encoding="utf-8")
        tokenizer = Tokenizer.from_str(content)
        padding = json.loads(content).get("padding") or {}
    except Exception as error:  # the library raises a bare Exception
        raise LoadError(
            f"the tokenizer cannot be read: {error}",
            where=str(tokenizer_file),
            mend="restore the file",
        ) from error
    names = [pad_token] if pad_token is not None else [padding.get("pad_token"), "[PAD]", "<pad>"]
    ids = (tokenizer.token_to_id(name) for name in names if name)
    return TextPreprocessing(
        columns=columns,
        tokenizer=content,
        max_length=max_length,
        separator=separator,
        id=id,
        pad_id=next((i for i in ids if i is not None), 0),
    )
