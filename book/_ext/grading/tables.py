"""Tables that people edit: read as a spreadsheet saves them, and written without losing a cell."""

from __future__ import annotations

import csv
import io
import os
import re
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# A spreadsheet would run a cell that begins like this.  The apostrophe in front is taken off when
# the cell is read, so that nothing changes however often a table goes round.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_MARKED = re.compile(r"'+[=+\-@\t\r\n]")
DELIMITERS = ",;\t"
LARGEST_TABLE = 64 * 2**20


@dataclass(frozen=True)
class Table:
    """Rows by the names of their columns, each with its line in the file, and the file's dialect.

    `extra` are the columns that a person has added; they are kept.
    """

    rows: tuple[tuple[int, dict[str, str]], ...] = ()
    extra: tuple[str, ...] = ()
    delimiter: str = ","
    mark: bool = field(default=False)  # does the file begin with a byte order mark?


def replace_file(path: Path, text: str, unchanged: Callable[[], bool] = lambda: True) -> bool:
    """Write beside the file, then rename: whoever reads sees the old text or the new one.

    Asks at the last moment whether the file is `unchanged`; else it is left, and False returned.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        # A submission may hold half characters, which UTF-8 has no place for.
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace", newline="") as file:
            file.write(text)
        os.chmod(name, 0o644)
        if not unchanged():
            Path(name).unlink()
            return False
        os.replace(name, path)
        return True
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def key(text: str) -> str:
    """A name as it is compared: without spaces around it, and with ü as one character."""
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return unicodedata.normalize("NFC", whole).strip()


def read_table(path: Path, needed: Sequence[str], known: Sequence[str] = ()) -> Table:
    """The rows of a table that a spreadsheet may have saved; empty when there is no file.

    Commas, semicolons or tabs; UTF-8, UTF-16 or Windows' cp1252.  Empty rows are dropped.  Raises
    ValueError with file, line and reason for what can't be read without a guess.
    """
    if not path.exists():
        return Table()
    if path.stat().st_size > LARGEST_TABLE:
        raise ValueError(f"{path}: the table is larger than {LARGEST_TABLE >> 20} MiB")
    text, mark = _decoded(path)
    header = text.split("\n", 1)[0]
    delimiter = max(DELIMITERS, key=lambda sign: _columns(header, sign, needed))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows, columns, begins = [], None, 1
    try:
        for cells in reader:
            line, begins = begins, reader.line_num + 1
            if columns is None:
                columns = _header(path, cells, needed, (*needed, *known))
            elif any(cell.strip() for cell in cells):
                rows.append((line, _row(path, line, columns, cells)))
    except csv.Error as error:
        hint = "; is a quotation mark missing?" if "end of data" in str(error) else ""
        raise ValueError(f"{path}, line {begins}: {error}{hint}") from None
    if columns is None:
        raise ValueError(f"{path}: expected the columns {', '.join(needed)}, got an empty file")
    extra = tuple(name for name in columns if name and name not in (*needed, *known))
    return Table(tuple(rows), extra, delimiter, mark)


def _decoded(path: Path) -> tuple[str, bool]:
    """The text, and whether it began with a byte order mark."""
    raw = path.read_bytes()
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            return raw.decode("utf-16"), True
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: the UTF-16 text is broken: {error.reason}") from None
    if b"\0" in raw:
        line = raw[: raw.index(b"\0")].count(b"\n") + 1
        raise ValueError(f"{path}, line {line}: not a text file; save it as CSV (UTF-8)")
    try:
        return raw.decode("utf-8-sig"), raw.startswith(b"\xef\xbb\xbf")
    except UnicodeDecodeError:
        pass
    try:
        return raw.decode("cp1252"), False  # what a spreadsheet on Windows calls CSV
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, line {line}: neither UTF-8 nor cp1252; save as UTF-8") from None


def _columns(header: str, delimiter: str, needed: Sequence[str]) -> int:
    cells = next(csv.reader([header.strip("\r")], delimiter=delimiter), [])
    return len({cell.strip().lower() for cell in cells} & set(needed))


def _header(
    path: Path, cells: Sequence[str], needed: Sequence[str], known: Sequence[str]
) -> list[str]:
    columns = [plain(cell).strip() for cell in cells]
    columns = [name.lower() if name.lower() in known else name for name in columns]
    missing = [name for name in needed if name not in columns]
    if missing:
        said = ", ".join(columns) or "none"
        raise ValueError(f"{path}: expected the columns {', '.join(needed)}, got {said}")
    named = [name for name in columns if name]
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        raise ValueError(f"{path}, line 1: the column {twice[0]!r} is there twice")
    return columns


def _row(path: Path, line: int, columns: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    over = [cell for name, cell in zip(columns, cells, strict=False) if not name and cell.strip()]
    over += [cell for cell in cells[len(columns) :] if cell.strip()]
    if over:
        raise ValueError(
            f"{path}, line {line}: {over[0]!r} stands in no named column; "
            "a text with a separator in it needs quotation marks"
        )
    values = [*cells, *[""] * len(columns)]
    return {
        name: plain(value).replace("\r\n", "\n")
        for name, value in zip(columns, values, strict=False)
        if name
    }


def plain(cell: str) -> str:
    """The text of a cell that `written` has marked."""
    return cell[1:] if _MARKED.match(cell) else cell


def written(
    columns: Sequence[str], rows: Iterable[Mapping[str, object]], like: Table | None = None
) -> str:
    """The text of a table, in the dialect of the one that it replaces."""
    like = like or Table()
    names = [*columns, *like.extra]
    text = io.StringIO()
    writer = csv.writer(text, delimiter=like.delimiter, lineterminator="\n")
    writer.writerow([_safe(name) for name in names])
    writer.writerows([_safe(row.get(name, "")) for name in names] for row in rows)
    return ("\ufeff" if like.mark else "") + text.getvalue()


def _safe(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell


def shown(text: str) -> str:
    """A stranger's text on one line of a terminal, which may not be steered by it."""
    return "".join(sign if sign.isprintable() else "�" for sign in text)


def number(value: float | None) -> str:
    """Points as they stand in a table: nothing for None, and no digits that aren't needed."""
    return "" if value is None else f"{value:g}"
