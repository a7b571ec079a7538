import csv
import itertools
import re
from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from transformers import AutoTokenizer

from make_data.glossary import GLOSSARY, LANGUAGE_OF, UNSEEN_GLOSSARY, read_glossary
from make_data.pretrain import _LENGTHS, FOLDER, Batches, alignment_loss
from make_data.pretraining_text import FIELDS, PHRASES, SHARES, Entry, Line, Pair, TextGenerator, read_entries
from pii_finetune.labels import fold_label, spell_out
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
    concepts = {entry.name: entry for entry in ENTRIES if entry.kind == "concept"}
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
            origins = [e.labels[language][0] for e in ENTRIES if spell_out(e.labels[target][0]) == word]
            assert [w for w in origins if only_letters(w) in letters], (label, word)


def test_phrases_have_labels_and_no_definitions():
    entries = {entry.name: entry for entry in ENTRIES if entry.kind == "phrase"}
    with PHRASES.open(encoding="utf-8", newline="") as file:
        phrases = [row["phrase"] for row in csv.DictReader(file)]
    known = [entries[name] for name in phrases if name in entries]
    assert len(known) > 1500
    assert not [entry.name for entry in known if entry.definitions]


def test_further_fields_are_defined_and_have_no_answer():
    with FIELDS.open(encoding="utf-8", newline="") as file:
        assert "sensitive" not in next(csv.reader(file))
    fields = [entry for entry in ENTRIES if entry.kind == "field"]
    assert len(fields) > 1300
    assert all(entry.definitions and entry.examples and entry.places for entry in fields)


def test_labels_are_spelled_out_as_the_prompt_spells_them(lines: list[Line]):
    asked = [label for line in lines for label in re.findall(r'\w+ field: "([^"]+)"', line.given)]
    assert len(asked) > 10_000
    assert not [label for label in asked if label != spell_out(label)]


def test_about_is_answered_yes_for_a_word_of_the_label_and_no_for_any_other():
    generator = TextGenerator(ENTRIES, 0)
    generator._target = lambda: "English"
    generator._field = lambda entry: f"{entry.kind} {entry.name}"
    by_name = {f"{entry.kind} {entry.name}": entry for entry in ENTRIES}
    answers = Counter()
    for _ in range(3000):
        line = generator._about()
        word, name = re.search(r'About "(.+)"\?<.*\n<\|im_start\|>user\n(.+)<\|im_end', line.given).groups()
        says = line.learned.removesuffix("<|im_end|>\n")
        assert (says == "yes") == (word in spell_out(by_name[name].labels["English"][0]).split()), (word, name)
        answers[says] += 1
    assert min(answers["yes"], answers["no"]) > 1000


def test_a_pair_says_one_thing_twice_and_never_an_unseen_one():
    generator = TextGenerator(ENTRIES, 0)
    unseen = {fold_label(x) for c in read_glossary(UNSEEN_GLOSSARY) for labels in c.labels.values() for x in labels}
    count = Counter(entry.name for entry in ENTRIES)  # some words are concepts too
    by_name = {entry.name: entry for entry in ENTRIES if count[entry.name] == 1}
    pairs = [generator.draw_pair() for _ in range(3000)]
    for pair in pairs:
        for half in (pair.first, pair.second):
            assert half.startswith("<|im_start|>system\n")
            assert half.endswith("<|im_end|>\n<|im_start|>assistant\n")
            if quoted := re.search(r'(\w+) field: "([^"]+)"', half):
                assert fold_label(quoted.group(2)) not in unseen
    translated = [p for p in pairs if p.thing in by_name and p.second.count('field: "')]
    assert len(translated) > 700
    for pair in translated:
        for half in (pair.first, pair.second):
            language, label = re.search(r'(\w+) field: "([^"]+)"', half).groups()
            known = [spell_out(x) for x in (*by_name[pair.thing].labels[language], *by_name[pair.thing].abbreviations)]
            assert any(only_letters(x.rstrip("s")) in only_letters(label) for x in known), (label, known)


def test_what_is_learned_in_a_batch_is_what_the_lines_say():
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    batch = next(iter(Batches(tokenizer, num_lines=16, num_pairs=4, seed=3, shares=SHARES)))
    flat = batch.input_ids.flatten()
    assert torch.equal(flat[batch.positions + 1], batch.next_ids)
    assert batch.positions.max() < 16 * batch.input_ids.shape[1]  # nothing is learned from pairs
    text = TextGenerator(ENTRIES, 3000)
    drawn = [next(iter(text)) for _ in range(64)]
    learned = sorted(tokenizer.encode(line.learned)[0 if line.given else 1 :] for line in drawn)
    told, rows = batch.next_ids.tolist(), (batch.positions // batch.input_ids.shape[1]).tolist()
    by_row = [[token for token, at in zip(told, rows, strict=True) if at == row] for row in range(16)]
    assert all(row in learned for row in by_row)
    ends = tokenizer.batch_decode(flat[batch.last[:, None] + torch.arange(-1, 1)])
    assert set(ends) == {"assistant\n"}
    assert batch.same.diagonal().all()


def test_what_is_longer_than_a_batch_holds_is_left_out(monkeypatch: pytest.MonkeyPatch):
    lines, pairs = TextGenerator.__iter__, TextGenerator.draw_pair
    long, turns = "field " * 200, itertools.count()

    def some_long_lines(generator: TextGenerator) -> Iterator[Line]:
        for number, line in enumerate(lines(generator)):
            yield Line(line.given, long) if number % 10 == 0 else line

    def some_long_pairs(generator: TextGenerator) -> Pair:
        pair = pairs(generator)
        return Pair(pair.thing, pair.first, long) if next(turns) % 2 else pair

    monkeypatch.setattr(TextGenerator, "__iter__", some_long_lines)
    monkeypatch.setattr(TextGenerator, "draw_pair", some_long_pairs)
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    batches = list(itertools.islice(Batches(tokenizer, num_lines=16, num_pairs=8, seed=3, shares=SHARES), 8))
    assert all(batch.same.shape == (8, 8) and batch.input_ids.shape[1] <= 96 for batch in batches)
    num_lines = sum(len(batch.input_ids) - 2 * 8 for batch in batches)
    assert num_lines == 2 * 57  # of 64 lines drawn twice, 7 are too long each time


def test_alignment_is_lost_only_where_the_other_half_is_not_the_nearest():
    here = torch.eye(3, 5)
    apart = torch.eye(3, dtype=torch.bool)
    assert alignment_loss(torch.cat([here, here]), apart) < 1e-3
    crossed = torch.cat([here, here[[1, 0, 2]]])
    assert alignment_loss(crossed, apart) > 5
    one_thing = apart.clone()
    one_thing[0, 1] = one_thing[1, 0] = True  # the two that are crossed are about one thing
    twins = torch.cat([here[[0, 0, 2]], here[[0, 0, 2]]])
    assert alignment_loss(twins, one_thing) < 1e-3 < alignment_loss(twins, apart)


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
