"""Splitting names and prose into words, and detecting similar names. Pure; no index, no disk."""

import re
import unicodedata
from typing import Final

_WORD: Final = re.compile(r"[^\W_]+")
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NAME_LIKE: Final = re.compile(r"[^\W_][-_./][^\W_]|[a-z][A-Z]")
_QUOTES: Final = "`\"'“”„«»"
_AROUND: Final = ".,;:!?()[]{}<>*" + _QUOTES
_MAX_NAME: Final = 80
_MAX_WORD: Final = 64
_MAX_WRITTEN: Final = 16

# Words of prose, and project names so common that the word alone in a sentence does not identify a project.
COMMON: Final = frozenset(
    """
    a about add after again all also an and any api app apps are as at back backend base be been before below
    blog bug but by can change changes check class client code com common config core could data demo deploy dev
    did do doc docs does done each error errors example examples feature file files find first fix fixed folder
    for from frontend function get git github give go good has have help here home how i if in into is issue it
    its just keep kit lib library like line list look main make many me more most my name need needs new no not
    note notes now of old on one only open or org our out over page please pr project projects python read
    readme refactor release remove repo report repository review run same scripts see send server service
    services set should show site so some src summarise summarize summary sure tell test tests text than that
    the their them then there these they this those to tool tools type under up update us use used uses using
    util utils version want was way we web website were what when where which while who why will with work
    working would write you your
    """.split()  # noqa: SIM905 - 200 quoted words would be harder to read
)


def words(text: str) -> list[str]:
    """The words of a text, folded (NFKC, no case), CamelCase split: "ShopAPI-v2" → ["shop", "api", "v2"]."""
    apart = _CAMEL.sub(" ", text)
    return [word[:_MAX_WORD] for word in _WORD.findall(unicodedata.normalize("NFKC", apart).casefold())]


def joined(text: str) -> str:
    """All words as one: "Shop-API" and "shop_api" and "shopapi" are the same name."""
    return "".join(words(text))


def written_names(text: str) -> list[str]:
    """The words of a text that are written like names, folded and joined, each once, at most 16.

    That is: in quotes or backticks, in CamelCase, or with parts joined by one of - _ . /
    """
    names: dict[str, None] = {}
    for token in text.split():
        core = token.strip(_AROUND)
        if len(core) > _MAX_NAME or len(names) >= _MAX_WRITTEN:
            continue
        quoted = token[0] in _QUOTES
        if (quoted or _NAME_LIKE.search(core)) and (name := joined(core)):
            names[name] = None
    return list(names)


def near(a: str, b: str) -> bool:
    """Whether two joined names could be confused: equal, or one typo apart (two from 9 letters on).

    A typo is a letter added, omitted or changed, or two neighbours swapped (optimal string alignment).
    """
    if a == b:
        return True
    allowed = 2 if min(len(a), len(b)) >= 9 else 1
    if abs(len(a) - len(b)) > allowed or min(len(a), len(b)) < 3:
        return False
    # A typo removes at most one letter and adds at most one: this cheap test excludes most pairs.
    if len(set(a) ^ set(b)) > 2 * allowed:
        return False
    return _slips(a, b, allowed) <= allowed


def _slips(a: str, b: str, allowed: int) -> int:
    # Only a band of 2 * allowed + 1 around the diagonal can contain a distance of at most `allowed`.
    far = allowed + 1
    before: list[int] = []
    row = [j if j <= allowed else far for j in range(len(b) + 1)]
    for i in range(1, len(a) + 1):
        now = [far] * (len(b) + 1)
        if i <= allowed:
            now[0] = i
        for j in range(max(1, i - allowed), min(len(b), i + allowed) + 1):
            cost = min(row[j] + 1, now[j - 1] + 1, row[j - 1] + (a[i - 1] != b[j - 1]))
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                cost = min(cost, before[j - 2] + 1)
            now[j] = min(cost, far)
        if min(now) >= far:
            return far
        before, row = row, now
    return row[len(b)]
