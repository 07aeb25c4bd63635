"""What private data are charged: the words, the table, and what is not promised."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from assay.report.bom import write_bom
from assay.report.card import write_card
from assay.report.charged import charged
from assay.report.reading import read_run
from assay.report.strings import speaking
from tests.report.conftest import ORIGIN, claim, read, stage, stated, statement, write
from tests.report.test_page import Node, page_of, sound

SUM: dict[str, Any] = {
    "mechanism": "gaussian", "noise_multiplier": 15.0, "sampling": 1.0, "steps": 1,
    "data": "d" * 64, "unit": "patient", "adjacency": "add-remove", "n_public": True,
}  # fmt: skip
PARTS: list[dict[str, Any]] = [
    *[SUM | {"by": "wards: preprocessing", "epsilon": 0.219, "what": "preprocessing.range"}] * 3,
    SUM | {"by": "wards: preprocessing", "epsilon": 0.219, "what": "preprocessing.moments"},
    SUM
    | {
        "by": "finetune", "epsilon": 1.9992, "what": "gradient steps", "noise_multiplier": 2.513,
        "sampling": 0.0673329, "steps": 300,
    },
]  # fmt: skip
LEFT_OUT = [
    "what the base model was pretrained on",
    "the number of privacy units, which counts as public",
]
READS: list[dict[str, Any]] = [
    {**read("train", ["weights"], "private gradient steps"), "private": True},
    read("train", ["report"], "training losses"),
]
RECEIPT = {
    "ledger": "c8988f08", "run": "14e4", "row": 7, "digest": "53de1a1c5fe5794d" + "0" * 48,
    "request": "413a",
    "charged": [{"data": "d", "unit": "patient", "epsilon": 2.2314, "delta": 1e-5}],
}  # fmt: skip


def run_of(
    folder: Path,
    value: float | None = 2.1292,
    *,
    told: bool = True,
    receipt: dict[str, Any] | None = None,
    reads: list[dict[str, Any]] | None = None,
    **more: Any,
) -> Path:
    """A run on private data with one private stage; `told`: it claims an epsilon."""
    about = {
        "dataset": "wards", "split": "train", "n": 1901, "nature": "historical",
        "conditions": {"delta": 1e-5, "unit": "patient"}, "method": "distributions",
    } | more  # fmt: skip
    row = claim("privacy.epsilon", value, "epsilon", 0, **about)
    begun: dict[str, Any] = ORIGIN["origin"]  # type: ignore[assignment]
    data = {**begun["data"], "name": "wards", "unit": "patient", "private": True}
    origin = {**begun, "recipe": "wards", "data": data, "receipt": receipt or {}}
    origin["reads"] = [{**read("train", ["preprocessing"], "means"), "private": True}]
    trained = stage(0, "finetune", [], ["privacy.epsilon"], reads=READS if reads is None else reads)
    details = {"parts": PARTS, "not_covered": LEFT_OUT}
    records = [{"type": "origin", "origin": origin}, trained]
    # only the passport has the details
    records += [stated(0, row | {"details": details})] if told else []
    write(folder, "claims.json", {"ok": True, "claims": [row] if told else []})
    write(folder, "model/claims.jsonl", [statement(record) for record in records])
    return folder


def section(folder: Path) -> Node:
    page = page_of(folder)
    sound(page)
    assert page.root.one("a", href="#charged").text == "Privacy"
    return page.root.one("section", id="charged")


def test_epsilon_is_told_in_words(tmp_path: Path) -> None:
    found = section(run_of(tmp_path / "r" / "1"))
    assert found.one("b").text == (
        "Whoever sees the model can tell only within limits whether any one patient was among the "
        "1,901."
    )
    assert "with ε = 2.13 and δ = 1e-05" in found.text
    assert "by at most a factor of e^ε = 8.41, except with probability δ" in found.text
    assert "is at most 89.4% sure afterwards" in found.text
    assert "看到模型的人只能在限度之内判断任何一个“patient”是否在这 1,901 个之中。" in found.chinese
    assert "e^ε = 8.41 倍" in found.chinese
    assert [dd.text for dd in found.all("dd")] == ["2.13", "1e-05", "patient", "1,901"]
    assert found.all("dd")[0].one("data").attributes["value"] == "2.1292"


def test_what_was_spent_stands_by_stage_and_together_costs_less(tmp_path: Path) -> None:
    found = section(run_of(tmp_path / "r" / "1"))
    rows = [[c.text for c in r.children if isinstance(c, Node)] for r in found.all("tr")[1:]]
    before = "before the first stage of wards"
    assert rows == [
        [before, "ranges of columns", "0.223 times", "15", "1", "1"],
        [before, "means and spreads of columns", "0.22", "15", "1", "1"],
        ["finetune", "gradient steps", "2.00", "2.513", "0.06733", "300"],
    ]
    total = math.fsum(part["epsilon"] for part in PARTS)
    assert f"{total:.4f}" == "2.8752"
    assert "Together they cost ε = 2.13, less than the 2.88 that they add up to" in found.text
    assert "梯度更新" in found.chinese


def test_what_is_not_promised_is_listed(tmp_path: Path) -> None:
    found = section(run_of(tmp_path / "r" / "1"))
    assert [li.text for li in found.all("li")] == [
        *LEFT_OUT,
        "0 finetune: train rows, training losses",
    ]
    for text in (
        "基础模型的预训练数据",
        "隐私单元的数目，视为公开",
        "0 finetune：train 行，训练损失",
    ):
        assert text in found.chinese
    assert "No owner's ledger was asked" in found.text


def test_the_owners_receipt_is_shown(tmp_path: Path) -> None:
    found = section(run_of(tmp_path / "r" / "1", receipt=RECEIPT))
    assert (
        "wards was granted and charged in row 7 of the ledger c8988f08; the row's digest begins "
        "with 53de1a1c5fe5794d." in found.text
    )
    assert "It reserved ε = 2.24 at δ = 1e-05 before it read a row." in found.text
    assert "No owner's ledger" not in found.text


@pytest.mark.parametrize(
    ("epsilon", "said", "never"),
    [
        (0.5, "can hardly tell", "promises little"),
        (1.0, "can hardly tell", "promises little"),
        (1.01, "only within limits", "hardly"),
        (10.5, "promises little", "hardly"),
        (300.0, "bounds nothing that anyone would notice", "hardly"),
    ],
)
def test_a_greater_epsilon_promises_less(
    epsilon: float, said: str, never: str, tmp_path: Path
) -> None:
    text = section(run_of(tmp_path / "r" / "1", epsilon)).text
    assert said in text
    assert never not in text


@pytest.mark.parametrize("epsilon", [0.013, 0.7, 2.1292, 5.0, 9.99, 19.9])
def test_what_is_rounded_never_promises_more_than_holds(epsilon: float, tmp_path: Path) -> None:
    found = charged(read_run(run_of(tmp_path / "r" / "1", epsilon)))
    assert found is not None
    formal, example = found.promises[0].formal
    assert float(str(formal.values["factor"]).replace(",", "")) >= math.exp(epsilon) * (1 - 1e-9)
    assert float(str(formal.values["epsilon"])) >= epsilon * (1 - 1e-9)
    sure = float(str(example.values["sure"]).removesuffix("%"))
    assert 100 > sure >= 100 * math.exp(epsilon) / (1 + math.exp(epsilon)) - 1e-6


def test_no_epsilon_is_no_privacy_everywhere(tmp_path: Path) -> None:
    why = "no privacy: sampling and noise came from a seed that can be guessed"
    folder = run_of(tmp_path / "r" / "1", None, method=why)
    found = section(folder)
    assert found.one("b").text.startswith("No privacy: whoever sees the model may be able to tell")
    assert f"The claim says: {why}." in found.text
    assert "没有隐私：抽样和噪声来自可以猜到的种子" in found.chinese
    assert "status fails" in [n.attributes.get("class") for n in found.all("span")]
    assert found.all("dd")[0].text == "∞"
    assert [s.text for s in found.all("s")] == ["0.22", "0.22", "2.00"]
    assert "Together" not in found.text
    assert "One claim of this model fails." in page_of(folder).root.one("section", id="answer").text
    (row,) = [
        line
        for line in write_card(folder).read_text().splitlines()
        if line.startswith("| Privacy loss")
    ]
    assert row.endswith("| – | – | 1,901 | fails |")
    made = json.loads(write_bom(folder).read_text(encoding="utf-8"))
    (told,) = [one["predicate"] for one in made["declarations"]["claims"]]
    assert told == (
        "privacy.epsilon = no value on wards, train split, delta 1e-05, unit patient, n = 1901"
    )
    assert "privacy.epsilon" not in str(made["components"][0].get("modelCard"))


def test_card_and_bill_tell_an_epsilon(tmp_path: Path) -> None:
    folder = run_of(tmp_path / "r" / "1")
    card = write_card(folder).read_text(encoding="utf-8")
    assert (
        "| Privacy loss ε | wards, train split · delta 1e-05, unit patient | 2.129 epsilon |"
        in card
    )
    assert "type: privacy_epsilon" in card
    assert "privacy.epsilon = 2.1292 epsilon on wards" in write_bom(folder).read_text()


@pytest.mark.parametrize(
    ("status", "said"),
    [("void", "Nothing is promised any more"), ("fails", "This claim does not hold.")],
)
def test_an_epsilon_that_does_not_stand_promises_nothing(
    status: str, said: str, tmp_path: Path
) -> None:
    found = section(run_of(tmp_path / "r" / "1", status=status))
    assert said in found.one("b").text
    assert "sure afterwards" not in found.text
    assert len(found.all("s")) >= 3


def test_uncharged_readings_are_named_where_nothing_is_claimed(tmp_path: Path) -> None:
    reads = [*READS, read("valid", ["choice"], "step.early_stopping")]
    found = section(run_of(tmp_path / "r" / "1", told=False, reads=reads))
    assert found.one("b").text.startswith("No ε is claimed: these readings")
    assert [li.text for li in found.all("li")] == [
        "0 finetune: valid rows, step.early_stopping",
        "0 finetune: train rows, training losses",
    ]
    with speaking("zh"):
        whole = charged(read_run(tmp_path / "r" / "1"))
        assert whole is not None
        assert str(whole.uncharged[0]) == "0 finetune：valid 行，step.early_stopping"


def test_public_runs_have_no_such_section(reviews_run: Path, regression_run: Path) -> None:
    assert charged(read_run(reviews_run)) is None
    assert charged(read_run(regression_run)) is None


@pytest.mark.parametrize(
    "details",
    [None, {"parts": None}, {"parts": [None, 3]}, {"parts": [{"epsilon": "much", "steps": True}]}],
)
def test_odd_details_leave_a_whole_page(details: Any, tmp_path: Path) -> None:
    folder = run_of(tmp_path / "r" / "1", n=None, conditions={}, told=False)
    row = claim("privacy.epsilon", 1.5, "epsilon", 0, dataset="wards", details=details)
    write(folder, "claims.json", {"claims": [row]})
    found = section(folder)
    assert "whether any one row was among the others." in found.one("b").text
    assert "much" not in found.text.partition("much the same")[2]
    assert "Together" not in found.text
