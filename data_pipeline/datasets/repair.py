"""Repairs JSON that was edited by hand: comments, broken lines, trailing commas.

Our own, because the json-repair library reports no lines, keeps line breaks inside texts (one
record of MERR then differs) and guesses at any other fault, which must be refused.
"""

from __future__ import annotations


def repair_json(text: str) -> tuple[str, list[tuple[int, str]]]:
    """Repairs `//` and `/* */` comments, line breaks and tabs inside texts, and trailing commas.

    A line break or tab becomes one blank. Any other fault is left for the JSON parser.

    Returns:
      (repaired text, [(line, what was wrong)]).
    """
    out: list[str] = []
    problems: list[tuple[int, str]] = []
    line, at, in_string = 1, 0, False
    while at < len(text):
        char = text[at]
        if in_string:
            if char == "\\":
                out.append(text[at : at + 2])
                at += 2
                continue
            if char in "\n\r\t":
                blanks, what = _broken_string(text, at)
                problems.append((line, what))
                line += blanks.count("\n")
                while out and out[-1] == " ":
                    out.pop()
                out.append(" ")
                at += len(blanks)
                continue
            in_string = char != '"'
        elif char == '"':
            in_string = True
        elif text.startswith(("//", "/*"), at):
            problems.append((line, "a comment"))
            end = _comment_end(text, at)
            line += text.count("\n", at, end)
            at = end
            continue
        elif char in "]}" and (last := _last_non_blank(out)) is not None and out[last] == ",":
            problems.append((line, f"a comma before '{char}'"))
            del out[last]
        line += char == "\n"
        out.append(char)
        at += 1
    return "".join(out), problems


def _broken_string(text: str, start: int) -> tuple[str, str]:
    """(the blanks from `start` on, the fault in them)."""
    end = start
    while end < len(text) and text[end] in " \t\r\n":
        end += 1
    blanks = text[start:end]
    line_break = "\n" in blanks or "\r" in blanks
    return blanks, f"a {'line break' if line_break else 'tab'} inside a text"


def _comment_end(text: str, start: int) -> int:
    line_comment = text.startswith("//", start)
    end = text.find("\n" if line_comment else "*/", start + 2)
    if end < 0:
        return len(text)
    return end if line_comment else end + 2


def _last_non_blank(out: list[str]) -> int | None:
    return next((i for i in range(len(out) - 1, -1, -1) if not out[i].isspace()), None)
