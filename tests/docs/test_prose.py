"""Sentences of the pages are short: at most 25 words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from doc_pages import PAGES, called
from markdown_it import MarkdownIt

LONGEST = 25
_MARKDOWN = MarkdownIt("commonmark").enable("table")
_ABBREVIATIONS = re.compile(r"\b(al|cf|e\.g|eq|fig|i\.e|no|sec|vs)\.", re.IGNORECASE)
_END = re.compile(r"(?<=[.!?])[)\"”*]*\s+")


def sentences(text: str) -> Iterator[tuple[int, str]]:
    """Each sentence of paragraphs and lists with the line where its paragraph begins; not of tables and headings.
    Code within a sentence counts as one word."""
    within = ""
    for token in _MARKDOWN.parse(text):
        kind, _, end = token.type.rpartition("_")
        if kind in ("table", "heading"):
            within = kind if end == "open" else ""
        if token.type == "inline" and not within:
            shown = {"code_inline": "code", "softbreak": " ", "hardbreak": " ", "image": ""}
            plain = "".join(shown.get(child.type, child.content) for child in token.children or [])
            first = token.map[0] + 1 if token.map else 0
            yield from ((first, sentence) for sentence in _END.split(_ABBREVIATIONS.sub(r"\1", plain)))


def words(sentence: str) -> int:
    return sum(re.search(r"\w", word) is not None for word in sentence.split())


@pytest.mark.parametrize("page", PAGES, ids=called)
def test_sentences_are_short(page: Path) -> None:
    found = [(line, words(each), each) for line, each in sentences(page.read_text("utf-8")) if words(each) > LONGEST]
    assert found == [], f"{called(page)}: {found[0][1]} words in the paragraph of line {found[0][0]}: {found[0][2]}"


def test_sentences_are_told_apart() -> None:
    text = "# A title. Not read\n\nOne `a b` [link](to) (Li et al. 2021,\neq. 3). Two?\n\n- Three\n"
    text += "\n| four. | five |\n|--|--|\n"
    assert list(sentences(text)) == [(3, "One code link (Li et al 2021, eq 3)."), (3, "Two?"), (6, "Three")]
    assert words("One – two 3 % a/b.") == 4
