"""What hands do to JSON files (comments, broken lines, trailing commas), found by line and undone."""

from __future__ import annotations


def repair_json(text: str) -> tuple[str, list[tuple[int, str]]]:
    """Almost-JSON -> (text without those faults, [(line, what was wrong)]).

    Undone are `//` and `/* */` comments, line breaks and tabs inside texts (joined by one blank), and commas before a
    closing bracket. Anything else is left for the parser to refuse.
    """
    out: list[str] = []
    found: list[tuple[int, str]] = []
    line, at, inside = 1, 0, False
    while at < len(text):
        c = text[at]
        if inside:
            if c == "\\":
                out.append(text[at : at + 2])
                at += 2
                continue
            if c in "\n\r\t":
                end = at
                while end < len(text) and text[end] in " \t\r\n":
                    end += 1
                broken = text[at:end]
                what = (
                    "a line break inside a text"
                    if "\n" in broken or "\r" in broken
                    else "a tab inside a text"
                )
                found.append((line, what))
                line += broken.count("\n")
                while out and out[-1] == " ":
                    out.pop()
                out.append(" ")
                at = end
                continue
            inside = c != '"'
        elif c == '"':
            inside = True
        elif text.startswith("//", at):
            found.append((line, "a comment"))
            end = text.find("\n", at)
            at = len(text) if end < 0 else end
            continue
        elif text.startswith("/*", at):
            found.append((line, "a comment"))
            end = text.find("*/", at + 2)
            end = len(text) if end < 0 else end + 2
            line += text.count("\n", at, end)
            at = end
            continue
        elif c in "]}" and (comma := _last_mark(out)) is not None and out[comma] == ",":
            found.append((line, f"a comma before '{c}'"))
            del out[comma]
        line += c == "\n"
        out.append(c)
        at += 1
    return "".join(out), found


def _last_mark(out: list[str]) -> int | None:
    """Index of the last piece that is no blank."""
    return next((i for i in range(len(out) - 1, -1, -1) if not out[i].isspace()), None)
