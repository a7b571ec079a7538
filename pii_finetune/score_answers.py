"""Asking a model about a table piece by piece, and keeping every piece's answers as they come."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from pii_finetune.languages import canonical_language
from pii_finetune.score_model import TableModel
from pii_finetune.score_parts import Answer, read_part, write_part
from pii_finetune.scores import Question
from pii_finetune.table_copy import QUESTION

_MAX_KNOWN = 50_000  # answers kept at hand, so that a label that comes again is not asked about again
_MAX_NAMES = 1_000  # unknown languages counted by name


class Scoring:
    """The parts of a table on their way to answers."""

    def __init__(self, folder: Path, model: TableModel) -> None:
        self._folder, self._model = folder, model
        self.columns = model.columns
        self._known: dict[Question, Answer] = {}
        self.num_kept = self.num_asked = 0
        self.answers: Counter[str] = Counter()
        self.unknown_languages: Counter[str] = Counter()

    def run(self, pieces: Iterable[pa.RecordBatch]) -> Iterator[int]:
        """Answer part after part; yields how many rows are answered."""
        done = 0
        for number, piece in enumerate(pieces):
            questions = self._questions(piece)
            answers = read_part(self._folder, number)
            if answers is None:
                answers = self._ask(questions)
                write_part(self._folder, number, self.columns, answers)
            else:
                self.num_kept += len(answers)
            self._remember(questions, answers)
            decision = self.columns.index("decision" if "decision" in self.columns else "sensitive")
            self.answers.update(str(answer[decision]) for answer in answers)
            done += len(answers)
            yield done

    def _questions(self, piece: pa.RecordBatch) -> list[Question]:
        labels, languages = (piece.column(at).to_pylist() for at in range(len(QUESTION)))
        names = {name: canonical_language(name) for name in set(languages) - {None}}
        for name in languages:
            if name is not None and names[name] is None:
                full = len(self.unknown_languages) >= _MAX_NAMES and name not in self.unknown_languages
                self.unknown_languages["others" if full else name] += 1
        return [(label, names.get(language)) for label, language in zip(labels, languages, strict=True)]

    def _ask(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer the questions, asking the model about those only whose answers are not at hand."""
        new = [question for question in dict.fromkeys(questions) if question not in self._known]
        found: dict[Question, Answer] = {}
        if new:
            found = dict(zip(new, self._model.answer(new), strict=True))
            self.num_asked += len(new)
        return [found.get(question) or self._known[question] for question in questions]

    def _remember(self, questions: Sequence[Question], answers: Sequence[Answer]) -> None:
        """Keep the last answers at hand: the same ones whether they were found now or before an interruption.

        What the model is asked together then does not depend on where the work was cut off, nor does the last digit of
        what it answers.
        """
        for question, answer in zip(questions, answers, strict=True):
            self._known.setdefault(question, answer)
        while len(self._known) > _MAX_KNOWN:
            del self._known[next(iter(self._known))]
