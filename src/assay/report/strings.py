"""Every visible string of the report and the card, in one table, and phrases made from it.

A template never holds a word: it shows phrases. A phrase keeps its key and its values until it is
written, so that one page can show it in several languages: a language is one more column here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

#: key -> language -> text; `{name}` is filled in from the phrase's values
TABLE: dict[str, dict[str, str]] = {
    # words that stand alone
    "literal": {"en": "{text}"},
    "pair": {"en": "{a}, {b}"},
    "list": {"en": "{a}; {b}"},
    "dot": {"en": "{a} · {b}"},
    "sentence": {"en": "{a} {b}"},
    "yes": {"en": "yes"},
    "no": {"en": "no"},
    "none": {"en": "\u2013"},
    "unknown": {"en": "unknown"},
    "brand": {"en": "assay"},
    # page
    "page.title": {"en": "{recipe}: assay report"},
    "page.report": {"en": "model report"},
    "page.run": {"en": "run {run}"},
    "page.skip": {"en": "Skip to the answer"},
    "page.contents": {"en": "On this page"},
    "page.foot": {
        "en": "Made by assay {version} from the files of this run folder alone. This page loads "
        "nothing from anywhere."
    },
    "page.foot_plain": {
        "en": "Made by assay from the files of this run folder alone. This page loads nothing "
        "from anywhere."
    },
    "nav.answer": {"en": "Answer"},
    "nav.numbers": {"en": "Baselines"},
    "nav.claims": {"en": "Claims"},
    "nav.learning": {"en": "Learning"},
    "nav.errors": {"en": "Errors"},
    "nav.cost": {"en": "Cost"},
    "nav.data": {"en": "Data"},
    "nav.recipe": {"en": "Recipe"},
    "nav.environment": {"en": "Environment"},
    "nav.verify": {"en": "Verify"},
    "fact.model": {"en": "Model"},
    "fact.data": {"en": "Data"},
    "fact.task": {"en": "Task"},
    "fact.stages": {"en": "Stages"},
    "fact.time": {"en": "Time"},
    "fact.rows": {"en": "{name}, {rows} rows"},
    "fact.parameters": {"en": "{name}, {count} parameters"},
    "fact.stages_many": {"en": "{count} stages, {first} to {last}"},
    # verdict
    "verdict.all.one": {"en": "The required claim holds."},
    "verdict.all.many": {"en": "All {n} required claims hold."},
    "verdict.none.one": {"en": "The required claim does not hold."},
    "verdict.some.one": {"en": "{bad} of {n} required claims does not hold."},
    "verdict.some.many": {"en": "{bad} of {n} required claims do not hold."},
    "verdict.claims_fail.one": {"en": "One claim of this model fails."},
    "verdict.claims_fail.many": {"en": "{n} claims of this model fail."},
    "verdict.free": {"en": "Nothing was required of this model."},
    "verdict.empty": {"en": "Nothing was measured."},
    "verdict.empty_more": {
        "en": "The run states no claim about this model. Add an audit stage to its recipe to learn "
        "how good it is."
    },
    "verdict.model": {"en": "{metric} is {value}{interval} on {where}{n}."},
    "verdict.model_bare": {"en": "{metric} is {value}{interval}{n}."},
    "verdict.interval": {"en": " ({level} interval {interval})"},
    "verdict.n": {"en": ", {n} rows"},
    "verdict.n_units": {"en": ", {n} privacy units"},
    "verdict.void_headline": {
        "en": "{metric} was {value}, but a later stage changed the model and it was not measured "
        "again."
    },
    "verdict.better": {
        "en": "That is {delta} better than {name} ({value}), the best automatic baseline."
    },
    "verdict.better_unclear": {
        "en": "That is {delta} better than {name} ({value}), the best automatic baseline, but the "
        "interval contains the baseline."
    },
    "verdict.same": {"en": "That is no better than {name} ({value}), the best automatic baseline."},
    "verdict.worse_unclear": {
        "en": "That is {delta} worse than {name} ({value}), the best automatic baseline, but the "
        "interval contains the baseline."
    },
    "verdict.worse": {
        "en": "That is {delta} worse than {name} ({value}), the best automatic baseline."
    },
    "verdict.miss": {"en": "{what} is {value}, {margin}: {bound} was required."},
    "verdict.miss_strict": {
        "en": "{what} is {value}, but the worse end of its interval is {worst}, where {bound} was "
        "required."
    },
    "verdict.miss_fails": {"en": "{what} was claimed as {value}, but does not hold."},
    "verdict.miss_unmeasured": {"en": "{what} was required, but nothing measured it."},
    "verdict.miss_void": {
        "en": "{what} was {value}, but is void since stage {stage} and was not measured again."
    },
    "verdict.miss_void_since": {
        "en": "{what} was {value}, but a later stage made it void and it was not measured again."
    },
    "verdict.miss_unverifiable": {"en": "{what} cannot be checked here."},
    "verdict.others": {"en": "Of {n} claims in all, {parts}."},
    "verdict.everything": {"en": "All {n} claims of this run hold."},
    "verdict.count.holds": {"en": "{n} hold"},
    "verdict.count.fails": {"en": "{n} fail"},
    "verdict.count.void": {"en": "{n} are void"},
    "verdict.count.unverifiable": {"en": "{n} cannot be checked here"},
    "verdict.count.holds.one": {"en": "1 holds"},
    "verdict.count.fails.one": {"en": "1 fails"},
    "verdict.count.void.one": {"en": "1 is void"},
    "verdict.count.unverifiable.one": {"en": "1 cannot be checked here"},
    # required claims
    "require.title": {"en": "What was required"},
    "require.claim": {"en": "Claim"},
    "require.value": {"en": "Value"},
    "require.where": {"en": "Where the value lies"},
    "require.bound": {"en": "Required"},
    "require.result": {"en": "Result"},
    "require.any": {"en": "must hold"},
    "require.strip": {
        "en": "{what}: {value}, interval {interval}, required {bound}. The shaded side passes."
    },
    "require.strip_point": {"en": "{what}: {value}, required {bound}. The shaded side passes."},
    "bound.at_least": {"en": "at least {limit}"},
    "bound.at_most": {"en": "at most {limit}"},
    "bound.above": {"en": "more than {limit}"},
    "bound.below": {"en": "less than {limit}"},
    "bound.equal": {"en": "exactly {limit}"},
    "margin.spare": {"en": "{delta} to spare"},
    "margin.exact": {"en": "just met"},
    "margin.short": {"en": "{delta} too low"},
    "margin.over": {"en": "{delta} too high"},
    "margin.off": {"en": "off by {delta}"},
    "delta.points": {"en": "{value} points"},
    "delta.point": {"en": "{value} point"},
    "interval": {"en": "{low} to {high}"},
    "rows.n": {"en": "n = {n}"},
    "where.split": {"en": "{dataset}, {split} split"},
    "where.folds": {"en": "{dataset}, out of fold"},
    "where.dataset": {"en": "{dataset}"},
    "condition": {"en": "{name} {value}"},
    # statuses and events
    "status.holds": {"en": "holds"},
    "status.fails": {"en": "fails"},
    "status.void": {"en": "void"},
    "status.unverifiable": {"en": "unverifiable"},
    "event.added": {"en": "measured"},
    "event.again": {"en": "measured again"},
    "event.kept": {"en": "kept"},
    "event.voided": {"en": "voided"},
    # baselines
    "numbers.title": {"en": "Against the automatic baselines"},
    "numbers.alone": {"en": "Headline numbers"},
    "numbers.lead": {
        "en": "Each baseline was fitted on the same training rows and measured on the same rows as "
        "the model. Bars are {level} intervals."
    },
    "numbers.lead_alone": {"en": "No automatic baseline was measured beside the model."},
    "numbers.model": {"en": "this model"},
    "numbers.metric": {"en": "Metric"},
    "numbers.figure": {"en": "This model and the automatic baselines"},
    "numbers.figure_about": {"en": "Dot chart of {metrics} for this model and {n} baselines."},
    "numbers.required": {"en": "required"},
    "numbers.interval": {"en": "{level} interval"},
    "numbers.table": {"en": "All headline numbers"},
    "numbers.lower": {"en": "{metric}, lower is better"},
    # claims
    "claims.title": {"en": "Claims, stage by stage"},
    "claims.lead": {
        "en": "A stage that changes the model voids every claim it does not keep; only measuring "
        "again brings it back. Values are those the run recorded."
    },
    "claims.claim": {"en": "Claim"},
    "claims.now": {"en": "Now"},
    "claims.voided_by": {"en": "voided by stage {index}, {name}"},
    "claims.claimed": {"en": "claimed {claimed}, measured {measured}"},
    "claims.more": {"en": "{n} more claims"},
    "claims.legend": {"en": "Key"},
    "claims.empty": {"en": "This run states no claims."},
    "claims.stage": {"en": "Stage {index}"},
    "stages.title": {"en": "What each stage did"},
    "stages.moves": {"en": "Moves {what}."},
    "stages.adds": {"en": "Measures {what}."},
    "stages.still": {"en": "Changes no weight."},
    "stages.used": {"en": "Used"},
    "time.seconds": {"en": "{s} s"},
    "time.minutes": {"en": "{m} min {s} s"},
    "time.hours": {"en": "{h} h {m} min"},
    # learning curves
    "learning.title": {"en": "How it learnt"},
    "learning.loss": {"en": "Loss"},
    "learning.of": {"en": "{metric}, stage {index} ({name})"},
    "learning.about": {"en": "{metric} by {axis} in stage {index} ({name}). {ends}"},
    "learning.end": {"en": "{split}: from {first} to {last}."},
    "learning.step": {"en": "step"},
    "learning.epoch": {"en": "epoch"},
    "learning.train": {"en": "train"},
    "learning.valid": {"en": "valid"},
    "learning.more": {"en": "{n} more training stages are in metrics.jsonl."},
    # errors
    "errors.title": {"en": "Where it is wrong"},
    "errors.lead": {"en": "From the audit at stage {index}."},
    "errors.confusion": {"en": "Confusion matrix"},
    "errors.confusion_about": {
        "en": "Rows are true classes, columns are predicted classes. {right} of {n} predictions "
        "are on the diagonal."
    },
    "errors.folded": {"en": "The {shown} largest of {n} classes; the rest stand under “{other}”."},
    "errors.other": {"en": "other {n}"},
    "errors.worst": {"en": "The most common mistake: {true} taken for {predicted}, {n} times."},
    "errors.true": {"en": "true class"},
    "errors.predicted": {"en": "predicted class"},
    "errors.roc": {"en": "ROC curve"},
    "errors.roc_about": {"en": "True positive rate against false positive rate."},
    "errors.roc_area": {"en": "Area {auroc}."},
    "errors.fpr": {"en": "false positive rate"},
    "errors.tpr": {"en": "true positive rate"},
    "errors.chance": {"en": "chance"},
    "errors.roc_classes": {"en": "One line a class, each against the rest."},
    "errors.scatter": {"en": "Predictions"},
    "errors.scatter_about": {
        "en": "Predicted against true value of {n} rows; the diagonal is a perfect prediction."
    },
    "errors.true_value": {"en": "true value"},
    "errors.predicted_value": {"en": "predicted value"},
    "errors.mistakes": {"en": "The most confident mistakes"},
    "errors.row": {"en": "Row"},
    "errors.true_label": {"en": "True class"},
    "errors.predicted_label": {"en": "Predicted class"},
    "errors.probability": {"en": "Probability"},
    "errors.reliability": {"en": "Reliability"},
    "errors.reliability_about": {
        "en": "Observed frequency against predicted probability; the diagonal is perfect "
        "calibration."
    },
    "errors.predicted_p": {"en": "predicted probability"},
    "errors.observed": {"en": "observed frequency"},
    "errors.perfect": {"en": "perfect"},
    # cost
    "cost.title": {"en": "Size and speed"},
    "cost.latency": {"en": "Latency"},
    "cost.conditions": {"en": "Conditions"},
    "cost.machine": {"en": "Measured on {machine}. Another machine gives other times."},
    "cost.threads.one": {"en": "{machine} with one thread"},
    "cost.threads.many": {"en": "{machine} with {n} threads"},
    # data
    "data.title": {"en": "The data"},
    "data.name": {"en": "Name"},
    "data.modality": {"en": "Kind"},
    "data.rows": {"en": "Rows"},
    "data.label": {"en": "Label"},
    "data.classes": {"en": "Classes"},
    "data.sensitive": {"en": "Sensitive columns"},
    "data.sensitive_none": {"en": "none declared"},
    "data.unit": {"en": "Privacy unit"},
    "data.unit_row": {"en": "a row"},
    "data.unit_column": {"en": "all rows with one value of {column}"},
    "data.private": {"en": "Private"},
    "data.license": {"en": "Licence"},
    "data.digest": {"en": "Digest"},
    "data.split": {"en": "Split"},
    "data.share": {"en": "Share"},
    "data.splits": {"en": "Rows by split"},
    "data.reads": {"en": "What was read, and what it could influence"},
    "data.stage": {"en": "Stage"},
    "data.influences": {"en": "Influences"},
    "data.why": {"en": "Why"},
    "data.kind": {"en": "Counts as"},
    "data.influence": {"en": "influence"},
    "data.disclosure": {"en": "disclosure"},
    "data.mechanism": {"en": "private mechanism"},
    "data.disclosures": {"en": "Disclosures"},
    "data.disclosures_lead": {
        "en": "A disclosure reached only claims and this page, never a weight or a choice: {list}."
    },
    "data.disclosures_none": {"en": "Nothing was read for claims or this page alone."},
    "data.disclosure_of": {"en": "{split} rows at stage {index} ({name})"},
    "data.base": {
        "en": "The data that the base model was pretrained on are not covered by anything on this "
        "page."
    },
    "influence.weights": {"en": "weights"},
    "influence.structure": {"en": "structure"},
    "influence.preprocessing": {"en": "preprocessing"},
    "influence.choice": {"en": "a choice"},
    "influence.claims": {"en": "claims"},
    "influence.report": {"en": "this page"},
    # recipe, environment, verify
    "recipe.title": {"en": "The recipe"},
    "recipe.lead": {"en": "With every default resolved. Saved as recipe.yaml."},
    "environment.title": {"en": "The environment"},
    "environment.packages": {"en": "{name}, {n} entries"},
    "verify.title": {"en": "Check it yourself"},
    "verify.lead": {
        "en": "Do not take this page's word for it. This measures every claim again from the "
        "finished model and the data:"
    },
    "verify.code.0": {"en": "exit 0: what could be checked holds"},
    "verify.code.3": {"en": "exit 3: a claim or a requirement does not hold"},
    "verify.code.7": {"en": "exit 7: a file of the model or its passport was changed"},
    "verify.strict": {
        "en": "With --strict, a claim that cannot be checked here (latency on another machine, "
        "data that are absent) is an error too."
    },
    "verify.passport": {"en": "Passport: {n} records, head {digest}."},
    "command.verify": {"en": "assay verify {folder}"},
    "command.predict": {"en": "assay predict {folder}/model INPUT --out FILE"},
    # card
    "card.title": {"en": "{recipe} ({model})"},
    "card.lead": {
        "en": "Made by assay from a recipe. Every number below is a claim that `assay verify` "
        "measures again."
    },
    "card.use": {"en": "Intended use"},
    "card.use_text": {
        "en": "The task is {task} on data like {data}, with the label “{label}”. Anything else, "
        "other languages, other populations or other label definitions included, was not tested."
    },
    "card.use_text_plain": {
        "en": "Data like those it was trained on. Anything else was not tested."
    },
    "card.results": {"en": "Claims"},
    "card.interval": {"en": "Interval"},
    "card.n": {"en": "n"},
    "card.measured_on": {"en": "Measured on"},
    "card.status": {"en": "Status"},
    "card.required": {"en": "Required"},
    "card.limits": {"en": "Limits"},
    "card.limit.interval": {
        "en": "Numbers are estimates from {n} rows; read them with their intervals."
    },
    "card.limit.void": {"en": "Void, because a later stage changed the model: {kinds}."},
    "card.limit.fails": {"en": "Does not hold: {kinds}."},
    "card.limit.untested": {"en": "No claim is made about {families}: they were not measured."},
    "card.limit.pretraining": {
        "en": "The base model's own pretraining data are not covered by any claim here."
    },
    "card.limit.sensitive": {"en": "Sensitive columns of the data: {columns}."},
    "card.limit.none": {"en": "The run measured nothing: how good this model is, is unknown."},
    "card.training": {"en": "How it was made"},
    "card.verify": {"en": "How to verify"},
    "card.verify_text": {
        "en": "The model folder carries its passport (`claims.jsonl`). In the run folder:"
    },
    "card.load": {"en": "How to use"},
    "family.quality": {"en": "quality"},
    "family.size": {"en": "size"},
    "family.latency": {"en": "latency"},
    "family.agreement": {"en": "agreement"},
    "family.fairness": {"en": "fairness"},
    "family.robustness": {"en": "robustness"},
    "family.explanation": {"en": "explanation"},
    "family.privacy": {"en": "privacy"},
    "family.calibration": {"en": "calibration"},
    # automatic baselines (others are shown by their own name)
    "baseline.majority": {"en": "most common class"},
    "baseline.mean": {"en": "mean"},
    "baseline.logistic": {"en": "logistic regression"},
    "baseline.linear": {"en": "linear regression"},
    "baseline.ridge": {"en": "ridge regression"},
    "baseline.gradient_boosting": {"en": "gradient boosting"},
    "baseline.tf_idf_logistic": {"en": "TF-IDF + logistic"},
    # kinds of claim (others are shown by their own name)
    "kind.quality.accuracy": {"en": "Accuracy"},
    "kind.quality.balanced_accuracy": {"en": "Balanced accuracy"},
    "kind.quality.macro_f1": {"en": "Macro F1"},
    "kind.quality.f1": {"en": "F1"},
    "kind.quality.auroc": {"en": "AUROC"},
    "kind.quality.auprc": {"en": "AUPRC"},
    "kind.quality.sensitivity": {"en": "Sensitivity"},
    "kind.quality.specificity": {"en": "Specificity"},
    "kind.quality.ppv": {"en": "Positive predictive value"},
    "kind.quality.npv": {"en": "Negative predictive value"},
    "kind.quality.log_loss": {"en": "Log loss"},
    "kind.quality.brier": {"en": "Brier score"},
    "kind.quality.mcc": {"en": "MCC"},
    "kind.quality.rmse": {"en": "RMSE"},
    "kind.quality.mae": {"en": "Mean absolute error"},
    "kind.quality.median_ae": {"en": "Median absolute error"},
    "kind.quality.r2": {"en": "R²"},
    "kind.size.parameters": {"en": "Parameters"},
    "kind.size.bytes": {"en": "Size on disk"},
    "kind.size.macs": {"en": "Multiply-adds a row"},
    "kind.latency.p50_ms": {"en": "Latency, median"},
    "kind.latency.p99_ms": {"en": "Latency, 99th percentile"},
    "kind.agreement.top1": {"en": "Export agreement"},
    "kind.agreement.max_abs": {"en": "Export, largest difference"},
    "kind.calibration.ece": {"en": "Calibration error (ECE)"},
    "kind.privacy.epsilon": {"en": "Privacy loss ε"},
    "kind.sparsity.zeros": {"en": "Zero weights"},
    "kind.transfer.gain": {"en": "Transfer gain"},
}

#: the language of everything that is shown once
LANGUAGE = "en"


@dataclass(frozen=True)
class Phrase:
    """A visible text: a key of `TABLE` and what fills it in (other phrases too).

    Attributes:
        key: key in `TABLE`.
        values: name -> value for the text's fields.
    """

    key: str
    values: Mapping[str, object] = field(default_factory=dict)

    def text(self, language: str = LANGUAGE) -> str:
        """The text in a language."""
        filled = {
            name: value.text(language) if isinstance(value, Phrase) else value
            for name, value in self.values.items()
        }
        return TABLE[self.key][language].format(**filled)

    def __str__(self) -> str:
        return self.text()

    def __html__(self) -> str:
        from markupsafe import escape

        return str(escape(self.text()))


def say(key: str, /, **values: object) -> Phrase:
    """A phrase.

    >>> str(say("bound.at_least", limit="84%"))
    'at least 84%'
    """
    return Phrase(key, values)


def literal(text: object) -> Phrase:
    """A phrase that reads the same in every language: a name, a number."""
    return Phrase("literal", {"text": text})


def plural(key: str, n: int, /, **values: object) -> Phrase:
    """The phrase `key.one` or `key.many`, as `n` asks."""
    return Phrase(f"{key}.{'one' if n == 1 else 'many'}", values)


def chain(phrases: Iterable[Phrase], join: str = "pair") -> Phrase | None:
    """Phrases one after the other, joined by the two-field phrase `join`; None when there is none.

    >>> str(chain([literal("a"), literal("b"), literal("c")]))
    'a, b, c'
    """
    result: Phrase | None = None
    for phrase in phrases:
        result = phrase if result is None else Phrase(join, {"a": result, "b": phrase})
    return result


def part_name(group: str, name: str) -> Phrase:
    """What a family, a baseline, ... is called: its phrase, else its own name.

    >>> str(part_name("baseline", "mean")), str(part_name("baseline", "my_own"))
    ('mean', 'my own')
    """
    key = f"{group}.{re.sub('[^a-z0-9]+', '_', name.lower())}"
    return Phrase(key) if key in TABLE else literal(name.replace("_", " "))


def kind_name(kind: str) -> Phrase:
    """What a kind of claim is called.

    >>> str(kind_name("quality.macro_f1")), str(kind_name("fairness.equalised_odds"))
    ('Macro F1', 'Equalised odds')
    """
    key = f"kind.{kind}"
    if key in TABLE:
        return Phrase(key)
    words = kind.rpartition(".")[2].replace("_", " ").strip()
    return literal(words[:1].upper() + words[1:])
