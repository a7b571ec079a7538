"""What regular expressions on English column names find: how data catalogues tag personal data without a model.

The rules were written from general knowledge of what such tools look for, before any look at the rows they are measured
on, and are not to be tuned on them: a baseline that has seen the answers is none.
"""

import math
import re
from collections.abc import Sequence

import numpy as np

from pii_finetune.labels import spell_out
from pii_finetune.scores import Question, Scores

# A rule says yes or no, not how surely. 9 to 1 is a convention that keeps the Brier score and calibration error fair.
MARGIN = math.log(9)

_PEOPLE = (
    "(account|applicant|author|beneficiary|candidate|card|cardholder|child|client|contact|customer|driver|employee|father|"
    "guardian|guest|holder|member|mother|owner|parent|partner|passenger|patient|person|recipient|sender|signatory|spouse|"
    "staff|student|subscriber|teacher|tenant|user|worker)"
)
_NUMBER = "(no|num|number)"

# Whole words, found anywhere in the label as spelled out (lower case, one space); `first ?name` is `firstname` too.
_ALTERNATIVES = {
    "name": (
        "(first|last|middle|full|given|family|maiden|birth|legal|preferred|display|nick|sur|fore) ?names?",
        *(f"{_PEOPLE} ?names?", "^names?$", "[fl] ?name", "initials", "salutation", "name suffix"),
    ),
    "username": ("(user|login|account) ?(name|id|handle)", "login", "screen ?name"),
    "password": ("pass(word|wd|code|phrase)?", "pwd", "pin( ?(code|number))?", "secret", "security (question|answer)"),
    "e-mail": ("e ?mails?", "e ?mail ?address", "mail ?address", "mail$"),
    "phone": (f"(tele)?phone( ?{_NUMBER})?", "tel", "mobile", "cell( ?phone)?", "fax", "msisdn"),
    "address": (r"\w*address(es)?", "addr", "street", "apartment", f"house {_NUMBER}", "p ?o ?box", "residence"),
    "place": ("city", "town", "county", "state", "province", "country"),
    "postcode": ("zip( ?code)?", "post(al)? ?code"),
    "coordinates": ("lat(itude)?", "l(on|ng|ongitude)", "geo ?(location|point|code|hash)?", "gps", "coordinates?"),
    "national id": ("ssn", "social ?security", "sin", "nino", "national ?(id|identifier|insurance)", "aadhaa?r"),
    "tax": ("tax ?(id|payer|number|identifier)", "i?tin", "vat ?(id|number)", "pan ?(card|number)"),
    "passport": ("passport", f"visa {_NUMBER}"),
    "licence": ("driv(er|ers|er s|ing) ?licen[cs]e", f"dl ?{_NUMBER}", "id ?card", "identity ?(card|number)"),
    "vehicle": ("licen[cs]e ?plate", "number ?plate", "vin", "vehicle (identification|registration)"),
    "bank": ("iban", "bic", "swift", "bank ?(account|acct)", f"(account|routing) ?{_NUMBER}", "sort ?code"),
    "card": ("(credit|debit|payment|bank) ?card", f"card ?{_NUMBER}", "card ?holder", f"cc ?{_NUMBER}", "cv[vc]2?"),
    "crypto": ("(bitcoin|btc|ethereum|eth|litecoin|wallet) ?(address|wallet|id)",),
    "birth": ("birth ?(day|date|place|year)?", "date ?of ?birth", "dob"),
    "age": ("age",),
    "gender": ("gender", "sex", "pronouns?"),
    "belief and origin": (
        *("rac(e|ial)", "ethnic(ity)?", "religio(n|us)", "nationality", "citizenship", "political", "trade union"),
        "sexual (orientation|preference)",
    ),
    "family": ("marital( ?status)?", "spouse", "next of kin", "emergency contact", "depend[ae]nts?"),
    "health": ("health", "medical", "patient", "diagnos(is|es|tic)", "disease", "allerg(y|ies)", "disabilit(y|ies)"),
    "treatment": ("treatment", "medications?", "prescriptions?", "blood ?(type|group|pressure)", "mrn", "icd ?(9|10)?"),
    "body": ("height", "weight", "(eye|hair) ?colou?r", "biometrics?", "finger ?prints?", "face ?id", "dna"),
    "money": ("salar(y|ies)", "wages?", "income", "compensation", "bonus", "credit ?score", "net ?worth", "payroll"),
    "employment": (f"(employee|staff|personnel) ?(id|{_NUMBER})", "job ?title", "occupation"),
    "network": ("ip( ?(v4|v6|addr))?", "ipv[46]", "mac ?addr", "user ?agent", "cookie( ?id)?"),
    "device": ("imei", "imsi", "device ?(id|identifier)", "advertising ?id", "idfa"),
    "crime": ("criminal", "convictions?", "arrests?"),
    "picture": ("(profile )?(photo|picture|selfie)", "signature"),
}
RULES = {name: re.compile(rf"\b(?:{'|'.join(each)})\b") for name, each in _ALTERNATIVES.items()}


def matching_rules(label: str) -> tuple[str, ...]:
    """Return the names of the rules that the label meets, whatever its language."""
    text = spell_out(label)
    return tuple(name for name, pattern in RULES.items() if pattern.search(text))


def answer_by_rules(questions: Sequence[Question]) -> Scores:
    """Say yes, with a margin of log 9, to each label that meets a rule, and no, with minus that, to all others."""
    matched = np.array([bool(matching_rules(label)) for label, _ in questions], dtype=bool)
    return Scores(np.where(matched, MARGIN, -MARGIN), np.ones(len(questions), dtype=bool))
