import csv
import itertools
import re

import pytest
from transformers import AutoTokenizer

from make_data.glossary import GLOSSARY, LANGUAGE_OF, UNSEEN_GLOSSARY, read_glossary
from make_data.pretrain import _LENGTHS, FOLDER
from make_data.pretraining_text import PHRASES, Entry, Line, TextGenerator, read_entries
from pii_finetune.labels import fold_label
from pii_finetune.prompt import SYSTEM

ENTRIES = read_entries()


def draw(seed: int, count: int) -> list[Line]:
    return list(itertools.islice(TextGenerator(ENTRIES, seed), count))


@pytest.fixture(scope="module")
def lines() -> list[Line]:
    return draw(0, 20_000)


def test_the_same_seed_draws_the_same_lines():
    assert draw(3, 50) == draw(3, 50) != draw(4, 50)


def test_the_text_never_contains_the_question(lines: list[Line]):
    assert not [line for line in lines if SYSTEM in line.given + line.learned]


def test_no_text_of_ours_is_or_holds_the_question():
    fragments = re.findall(r"\w+ \w+ \w+", SYSTEM.lower())
    for entry in ENTRIES:
        for text in (*entry.definitions, *entry.examples, *entry.places, *itertools.chain(*entry.labels.values())):
            assert not [fragment for fragment in fragments if fragment in text.lower()]


def test_a_dialogue_is_chatml_and_ends_its_turn(lines: list[Line]):
    dialogues = [line for line in lines if line.given]
    assert len(dialogues) > len(lines) / 2
    for line in dialogues:
        assert line.given.startswith("<|im_start|>system\n")
        assert line.given.endswith("<|im_end|>\n<|im_start|>assistant\n")
        assert line.learned.endswith("<|im_end|>\n")
        assert (line.given + line.learned).count("<|im_start|>") == 3


def test_yes_and_no_are_said_equally_often(lines: list[Line]):
    said = [line.learned for line in lines]
    yes, no = said.count("yes<|im_end|>\n"), said.count("no<|im_end|>\n")
    assert min(yes, no) > 1000
    assert 0.45 < yes / (yes + no) < 0.55


def test_every_concept_is_defined_and_named_in_every_language():
    concepts = {entry.name: entry for entry in ENTRIES if entry.is_concept}
    assert set(concepts) == {concept.name for concept in read_glossary(GLOSSARY)}
    assert all(entry.definitions for entry in concepts.values())
    assert all(entry.labels[language] for entry in ENTRIES for language in LANGUAGE_OF.values())


def test_every_line_fits_the_longest_batch(lines: list[Line]):
    tokenizer = AutoTokenizer.from_pretrained(FOLDER).backend_tokenizer
    encoded = tokenizer.encode_batch([line.given + line.learned for line in lines])
    assert max(len(each.ids) for each in encoded) <= max(_LENGTHS)


def only_letters(text: str) -> str:
    return re.sub(r"[\s_\-'’]+", "", text).casefold()


def test_labels_put_together_are_translated_word_by_word(lines: list[Line]):
    asked = re.compile(r'In (\w+), word by word\?<\|im_end\|>\n<\|im_start\|>user\n(\w+) field: "(.+)"<')
    found = [(match, line.learned) for line in lines if (match := asked.search(line.given))]
    assert len(found) > 1000
    for match, learned in found[:200]:
        target, language, label = match.groups()
        letters = only_letters(label)
        words = learned.removesuffix("<|im_end|>\n").split(", ")
        assert 2 <= len(words) <= 3
        for word in words:  # each answer translates a word that stands in the label
            origins = [e.labels[language][0] for e in ENTRIES if e.labels[target][0] == word]
            assert [w for w in origins if only_letters(w) in letters], (label, word)


def test_phrases_have_labels_and_no_definitions():
    entries = {entry.name: entry for entry in ENTRIES}
    with PHRASES.open(encoding="utf-8", newline="") as file:
        phrases = [row["phrase"] for row in csv.DictReader(file)]
    known = [entries[name] for name in phrases if name in entries]
    assert len(known) > 1500
    assert not [entry.name for entry in known if entry.definitions or entry.is_concept]


def test_words_drawn_at_random_never_make_an_unseen_label():
    assert "shelf life" in {concept.labels["English"][0] for concept in read_glossary(UNSEEN_GLOSSARY)}
    words = [
        Entry(w, False, dict.fromkeys(LANGUAGE_OF.values(), (w,)), (), (), (), ()) for w in ("shelf", "life", "door")
    ]
    generator = TextGenerator(ENTRIES, 0)
    generator._single_words = dict.fromkeys(LANGUAGE_OF.values(), words)
    lines = [generator._translate_words() for _ in range(1000)]
    labels = [fold_label(line.given.split('"')[1]) for line in lines]
    assert fold_label("life shelf") in labels
    assert fold_label("shelf life") not in labels
