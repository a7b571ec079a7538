from collections import Counter

from make_data.glossary import GLOSSARY, LANGUAGE_OF, UNSEEN_GLOSSARY, read_glossary
from pii_finetune.labels import clean_label
from pii_finetune.languages import LANGUAGES

CONCEPTS = read_glossary(GLOSSARY)
UNSEEN = read_glossary(UNSEEN_GLOSSARY)

# The 56 classes of ai4privacy/pii-masking-200k
AI4PRIVACY = set(
    """
    ACCOUNTNAME ACCOUNTNUMBER AGE AMOUNT BIC BITCOINADDRESS BUILDINGNUMBER CITY COMPANYNAME COUNTY CREDITCARDCVV
    CREDITCARDISSUER CREDITCARDNUMBER CURRENCY CURRENCYCODE CURRENCYNAME CURRENCYSYMBOL DATE DOB EMAIL ETHEREUMADDRESS
    EYECOLOR FIRSTNAME GENDER HEIGHT IBAN IP IPV4 IPV6 JOBAREA JOBTITLE JOBTYPE LASTNAME LITECOINADDRESS MAC
    MASKEDNUMBER MIDDLENAME NEARBYGPSCOORDINATE ORDINALDIRECTION PASSWORD PHONEIMEI PHONENUMBER PIN PREFIX
    SECONDARYADDRESS SEX SSN STATE STREET TIME URL USERAGENT USERNAME VEHICLEVIN VEHICLEVRM ZIPCODE
    """.split()  # noqa: SIM905
)


def test_there_are_enough_concepts_and_about_half_are_sensitive():
    share = Counter(concept.sensitive for concept in CONCEPTS)["yes"] / len(CONCEPTS)
    assert len(CONCEPTS) >= 170
    assert 0.4 <= share <= 0.6


def test_there_are_enough_unseen_concepts_and_about_half_are_sensitive():
    share = Counter(concept.sensitive for concept in UNSEEN)["yes"] / len(UNSEEN)
    assert len(UNSEEN) >= 25
    assert 0.4 <= share <= 0.6


def test_every_concept_has_an_answer_a_category_and_a_label_in_eight_languages():
    assert len(LANGUAGE_OF) == 8
    assert set(LANGUAGE_OF.values()) <= set(LANGUAGES)
    for concept in (*CONCEPTS, *UNSEEN):
        assert concept.sensitive in ("yes", "no")
        assert concept.category
        assert all(concept.labels[language] for language in LANGUAGE_OF.values())


def test_every_ai4privacy_class_is_covered():
    assert len(AI4PRIVACY) == 56
    assert AI4PRIVACY - {name for concept in CONCEPTS for name in concept.ai4privacy} == set()


def test_no_concept_is_there_twice():
    for glossary in (CONCEPTS, UNSEEN):
        assert not [name for name, count in Counter(concept.name for concept in glossary).items() if count > 1]


def test_labels_are_clean():
    labels = [label for c in (*CONCEPTS, *UNSEEN) for labels in c.labels.values() for label in labels]
    assert not [label for label in labels if clean_label(label) != label]


def test_no_label_has_both_answers_in_one_language():
    answers: dict[tuple[str, str], set[str]] = {}
    for concept in CONCEPTS:
        for language, labels in concept.labels.items():
            for label in labels:
                answers.setdefault((label.casefold(), language), set()).add(concept.sensitive)
    assert not [label for label, found in answers.items() if len(found) > 1]


def test_near_misses_of_sensitive_words_are_there():
    harmless = {label for c in CONCEPTS if c.sensitive == "no" for label in c.labels["English"]}
    assert {"product name", "file name", "birth rate", "account type"} <= harmless
