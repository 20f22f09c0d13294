"""Negations: how far `not`, `no` or `without` reach in an English sentence."""

from __future__ import annotations

import re

from data_pipeline.answers.cues import NOT_ONLY

# A negation holds to the end of its clause, over a list (`no joy, anger or fear`), but not over
# another verb.
_NEGATION = re.compile(
    r"\b(?:\w+n't|not|no|never|neither|nor|without|hardly|lacks?|lacking|cannot|rather than|"
    r"instead of|absence of|far from|anything but|free of|devoid of)\b"
)
_NOT_A_NEGATION = re.compile(
    r"\b(?:without (?:a |any )?doubt|no doubt|never (?:been |felt |seemed |"
    r"looked )*(?:so|more))\b"
    rf"|{NOT_ONLY.pattern}"
)
_CLAUSE_END = re.compile(
    r"[.;!?]|\b(?:but|however|while|although|though|yet|instead|is|are|was|look(?:s|ed)?|seem(?:s|"
    r"ed)?|appear(?:s|ed)?|show(?:s|ed)?|sound(?:s|ed)?|feels?|felt|rather(?! than)|just|only|"
    r"merely|simply|suggest\w*|indicate\w*|points? to|he|she|they|it|est[áa]|parece|muestra|siente|"
    r"se ve|sino|pero)\b"
)


def is_negated(before: str) -> bool:
    """Returns whether a text negates what follows it: `no joy, anger or`, `isn't really`."""
    clause = before[max((m.end() for m in re.finditer(r"[.;!?]", before)), default=0) :]
    clause = _NOT_A_NEGATION.sub(" ", clause)
    last = max((m for m in _NEGATION.finditer(clause)), key=lambda m: m.start(), default=None)
    if last is None:
        return False
    reach = clause[last.end() :]
    if last.group().endswith("n't") or last.group() in ("not", "never"):
        # `does not look sad`: the negated verb is part of the negation.
        reach = re.sub(
            r"^\s*(?:\w+ly\s+)?(?:be|look|seem|appear|show|sound|feel|suggest|indicate|point to|"
            r"looking|seeming|feeling|showing|sounding)\b",
            "",
            reach,
        )
    elif last.group() in ("rather than", "instead of"):  # `rather than being just sad`
        reach = re.sub(r"^\s*(?:being |feeling )?(?:just|only|merely|simply)\b", "", reach)
    if _CLAUSE_END.search(reach):
        return False
    # Over a comma only as a list of single words.
    return all(
        len(piece.split()) <= (4 if n == 0 else 2)
        for n, piece in enumerate(reach.split(","))
        if piece.strip()
    ) or ("," not in reach and len(reach.split()) <= 6)
