"""Results as LaTeX tables (package booktabs), for papers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_pipeline.io import write_text
from emojax.evaluate.results_folder import sets_of
from emojax.reports import comparison
from emojax.reports.evaluation_tables import class_table, main_table

_SPECIAL = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        **{c: f"\\{c}" for c in "&%$#_{}"},
    }
)


def latex_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str, texts: int = 1
) -> str:
    """A `table` environment.

    Args:
      header: names of the columns.
      rows: cells as text; special characters are escaped.
      caption: of the table.
      texts: number of first columns that are set left; the others are set right.
    """

    def line(cells: Sequence[str]) -> str:
        return " & ".join(cell.translate(_SPECIAL) for cell in cells) + r" \\"

    columns = "l" * texts + "r" * (len(header) - texts)
    return "\n".join(
        (
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption.translate(_SPECIAL)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            line(header),
            r"\midrule",
            *map(line, rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        )
    )


def write_evaluation_tex(results: dict[str, Any], out: Path) -> Path:
    """Writes evaluation.tex: the main table, and the classes of each set.

    Args:
      results: the contents of evaluation.json.
      out: the folder.

    Returns:
      The file.
    """
    header, rows = main_table(results)
    used = [i for i in range(len(header)) if any(row[i] != "-" for row in rows)]
    tables = [
        latex_table(
            [header[i] for i in used],
            [[row[i] for i in used] for row in rows],
            caption="Scores by set; brackets: 95 % intervals.",
        )
    ]
    tables += [
        latex_table(*class_table(s), caption=f"Classes of {name}; brackets: 95 % intervals.")
        for name, s in sets_of(results).items()
        if "per_class" in s
    ]
    return _write(out / "evaluation.tex", tables)


def write_comparison_tex(result: dict[str, Any], out: Path) -> Path:
    """Writes comparison.tex.

    Args:
      result: of `comparison_stats.compare_runs`.
      out: the folder.

    Returns:
      The file.
    """
    header, rows = comparison.comparison_table(result)
    caption = comparison.legend(result)
    return _write(out / "comparison.tex", [latex_table(header, rows, caption=caption, texts=2)])


def _write(path: Path, tables: Sequence[str]) -> Path:
    write_text(path, "% needs \\usepackage{booktabs}\n" + "\n".join(tables))
    return path
