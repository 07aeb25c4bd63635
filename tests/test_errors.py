from __future__ import annotations

import pytest

from assay import errors
from assay.errors import AssayError, did_you_mean


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("AssayError", 1),
        ("UsageError", 2),
        ("ClaimError", 3),
        ("LoadError", 4),
        ("BudgetError", 5),
        ("SiteError", 6),
        ("ArtefactError", 7),
    ],
)
def test_exit_codes(name: str, code: int) -> None:
    kind = getattr(errors, name)
    assert kind.exit_code == code
    assert issubclass(kind, AssayError)


def test_an_error_is_one_line() -> None:
    error = AssayError("broken\n  twice", where="here", mend="mend\tit")
    assert str(error) == error.line() == "here: broken twice; mend it"
    assert (error.what, error.where, error.mend) == ("broken\n  twice", "here", "mend\tit")
    assert str(AssayError("broken")) == "broken"
    assert str(AssayError("broken", mend="mend it")) == "broken; mend it"


def test_did_you_mean() -> None:
    assert did_you_mean("qualty", ["quality", "efficiency"]) == "did you mean 'quality'?"
    assert did_you_mean("zzz", ["b", "a"]) == "one of: a, b"
    assert did_you_mean("zzz", []) == "one of: "
