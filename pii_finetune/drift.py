"""What changed from one version of the data to the next: rows, languages, answers."""

import re
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pii_finetune.records import Record, fingerprint
from pii_finetune.row_place import Place

NUM_SHOWN = 20  # rows of each kind in a report for people; the table has all

_JOINERS = "\u200c\u200d"  # invisible, but clean_label keeps them: in Indic scripts and emoji they carry meaning
# ASCII punctuation that Markdown or HTML could act on inside a cell: not - + , % nor what is inside a number or word.
_MARKUP = re.compile(r"[!-$&-*/:-@\[-^`{-~]|(?<!\d)\.|\.(?!\d)|(?<![^\W_])_|_(?![^\W_])")


@dataclass(frozen=True, slots=True)
class Relabelled:
    """A label whose answer is now the other one."""

    old: Record
    new: Record


@dataclass(frozen=True, slots=True)
class LanguageShift:
    """Rows in one language, before and after; a share is of all rows of that side, 0 if it has none."""

    language: str
    num_old: int
    num_new: int
    old_share: float
    new_share: float

    @property
    def shift(self) -> float:
        """How much the share grew, in [-1, 1]."""
        return self.new_share - self.old_share


@dataclass(frozen=True)
class DataDrift:
    """The difference between two datasets; rows stand in the order of their sheet."""

    added: tuple[Record, ...]
    removed: tuple[Record, ...]
    relabelled: tuple[Relabelled, ...]
    num_unchanged: int
    languages: tuple[LanguageShift, ...]  # largest shift first
    language_shift: float  # total variation distance of the languages' shares, in [0, 1]; 1 if just one side has rows
    old_sensitive_share: float  # 0 if there are no rows
    new_sensitive_share: float
    old_fingerprint: str
    new_fingerprint: str

    @property
    def num_old(self) -> int:
        """Rows before."""
        return len(self.removed) + len(self.relabelled) + self.num_unchanged

    @property
    def num_new(self) -> int:
        """Rows after."""
        return len(self.added) + len(self.relabelled) + self.num_unchanged

    @property
    def fingerprints_equal(self) -> bool:
        """Whether a model trained on either side would see the same data."""
        return self.old_fingerprint == self.new_fingerprint

    @property
    def summary(self) -> str:
        """The difference in one line."""
        if self.fingerprints_equal:
            return f"the same rows ({self.num_new:,}): at most order, exact duplicates or formatting differ"
        return (
            f"rows: {len(self.added):,} added, {len(self.removed):,} removed, {len(self.relabelled):,} relabelled, "
            f"{self.num_unchanged:,} unchanged"
        )


def compare(old: Sequence[Record], new: Sequence[Record]) -> DataDrift:
    """Return what changed; the sheet's row numbers do not count.

    A label written in another way is a row removed and a row added. Rows that occur several times are matched one
    with one, so every row of both sides is counted once.
    """
    unmatched = Counter(_key(r) for r in old)
    extra = []
    for record in new:
        key = _key(record)
        if unmatched[key]:
            unmatched[key] -= 1
        else:
            extra.append(record)
    missing = []
    for record in reversed(old):  # of equal rows the first were matched, as they were among the new
        key = _key(record)
        if unmatched[key]:
            unmatched[key] -= 1
            missing.append(record)
    missing.reverse()
    added, removed, relabelled = _pair(missing, extra)
    old_counts, new_counts = Counter(r.language for r in old), Counter(r.language for r in new)
    return DataDrift(
        added=added,
        removed=removed,
        relabelled=relabelled,
        num_unchanged=len(new) - len(extra),
        languages=_language_shifts(old_counts, new_counts),
        language_shift=_total_variation(old_counts, new_counts),
        old_sensitive_share=_share(sum(r.sensitive for r in old), len(old)),
        new_sensitive_share=_share(sum(r.sensitive for r in new), len(new)),
        old_fingerprint=fingerprint(old),
        new_fingerprint=fingerprint(new),
    )


def drift_table(drift: DataDrift) -> list[dict[str, Place | None]]:
    """Return every changed row, its text as it is; what a side does not have is None."""
    changes = [
        *(("added", None, r) for r in drift.added),
        *(("removed", r, None) for r in drift.removed),
        *(("relabelled", r.old, r.new) for r in drift.relabelled),
    ]
    return [
        {
            "change": change,
            "label": (old or new).label,
            "language": (old or new).language,
            "old_sensitive": old and old.answer,
            "new_sensitive": new and new.answer,
            "old_row": old and old.row,
            "new_row": new and new.row,
        }
        for change, old, new in changes
    ]


def drift_markdown(drift: DataDrift) -> str:
    """Return a page for people; text from the data is escaped, so that none of it becomes Markdown or HTML."""
    lines = ["# Data drift", "", drift.summary[0].upper() + drift.summary[1:] + "."]
    if drift.fingerprints_equal:
        return "\n".join([*lines, "", f"Fingerprint {drift.new_fingerprint}", ""])
    lines += _section("", ("", "old", "new"), [
        ("rows", f"{drift.num_old:,}", f"{drift.num_new:,}"),
        ("sensitive", f"{drift.old_sensitive_share:.1%}", f"{drift.new_sensitive_share:.1%}"),
        ("fingerprint", drift.old_fingerprint, drift.new_fingerprint),
    ])  # fmt: skip
    lines += _section(
        f"Languages: total shift {drift.language_shift:.3f}",
        ("language", "old", "new", "old share", "new share", "shift"),
        [
            (e.language, f"{e.num_old:,}", f"{e.num_new:,}", f"{e.old_share:.1%}", f"{e.new_share:.1%}", points(e))
            for e in drift.languages
        ],
    )
    for name, records in (("Added", drift.added), ("Removed", drift.removed)):
        rows = [(r.label, r.language, r.answer, str(r.row)) for r in records[:NUM_SHOWN]]
        lines += _section(f"{name}: {len(records):,}", ("label", "language", "sensitive", "row"), rows, len(records))
    rows = [
        (e.new.label, e.new.language, e.old.answer, e.new.answer, str(e.old.row), str(e.new.row))
        for e in drift.relabelled[:NUM_SHOWN]
    ]
    columns = ("label", "language", "sensitive before", "sensitive now", "row before", "row now")
    lines += _section(f"Relabelled: {len(drift.relabelled):,}", columns, rows, len(drift.relabelled))
    return "\n".join([*lines, ""])


def points(language: LanguageShift) -> str:
    """Return the shift of a language's share in percentage points, with its sign."""
    return f"{100 * language.shift:+.1f}"


def visible(text: str) -> str:
    """Return `text` on one line: line breaks, control and text-direction characters as their code points."""
    return "".join(c if c.isprintable() or c in _JOINERS else f"[U+{ord(c):04X}]" for c in text)


def _key(record: Record) -> tuple[str, str, bool]:
    return record.label, record.language, record.sensitive


def _pair(
    missing: Sequence[Record], extra: Sequence[Record]
) -> tuple[tuple[Record, ...], tuple[Record, ...], tuple[Relabelled, ...]]:
    """Return (added, removed, relabelled): a row that went and one that came with the other answer are one row."""
    gone: defaultdict[tuple[str, str, bool], deque[Record]] = defaultdict(deque)
    for record in missing:
        gone[_key(record)].append(record)
    added, relabelled = [], []
    for record in extra:
        others = gone.get((record.label, record.language, not record.sensitive))
        if others:
            relabelled.append(Relabelled(others.popleft(), record))
        else:
            added.append(record)
    taken = Counter(_key(each.old) for each in relabelled)
    removed = []
    for record in missing:
        key = _key(record)
        if taken[key]:
            taken[key] -= 1
        else:
            removed.append(record)
    return tuple(added), tuple(removed), tuple(relabelled)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _language_shifts(old: Counter[str], new: Counter[str]) -> tuple[LanguageShift, ...]:
    num_old, num_new = old.total(), new.total()
    shifts = [
        LanguageShift(name, old[name], new[name], _share(old[name], num_old), _share(new[name], num_new))
        for name in old.keys() | new.keys()
    ]
    return tuple(sorted(shifts, key=lambda each: (-abs(each.shift), each.language)))


def _total_variation(old: Counter[str], new: Counter[str]) -> float:
    """Return half the sum of |p - q|, in whole numbers until the end, so that it is exactly 0, or 1, where it is."""
    num_old, num_new = old.total(), new.total()
    if not num_old or not num_new:
        return float(num_old != num_new)
    distance = sum(abs(old[name] * num_new - new[name] * num_old) for name in old.keys() | new.keys())
    return distance / (2 * num_old * num_new)


def _section(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], num_rows: int = 0) -> list[str]:
    if not rows:
        return []
    heading = ["", f"## {title}", ""] if title else [""]
    more = ["", f"and {num_rows - len(rows):,} more"] if num_rows > len(rows) else []
    return [
        *heading,
        _line(columns),
        _line(["---"] * len(columns)),
        *(_line(_cell(c) for c in row) for row in rows),
        *more,
    ]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    """Return `text` as a table cell that shows just it; as character references, marks cannot be structure."""
    return _MARKUP.sub(lambda mark: f"&#{ord(mark.group())};", visible(text))
