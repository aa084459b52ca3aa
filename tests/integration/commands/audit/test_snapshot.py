"""The warehouse's rows come into the engine as they are."""

from pathlib import Path

from sqlalchemy import Engine

from commands.audit import engine as duck
from commands.audit.snapshot import load, reading

ODD = ["", '"', '""', "a,b", "line\r\nline\n", "\\x41", "NULL", "é𝄞\t", " ", None]


def test_texts_bytes_flags_numbers_and_nulls_come_through(warehouse: Engine, tmp_path: Path) -> None:
    texts = ", ".join("NULL" if t is None else f"U&'{_escaped(t)}'" for t in ODD)
    query = f"""
        SELECT i, t, convert_to(t, 'UTF8') AS b, CASE i WHEN 1 THEN NULL ELSE i % 2 = 0 END AS f,
               -i * 100000000000000000 AS n
        FROM unnest(ARRAY[{texts}]::text[]) WITH ORDINALITY u (t, i)
    """
    target = duck.connect(tmp_path)
    with reading(warehouse) as connection:
        load(connection, target, "odd", query)
        load(connection, target, "nothing", "SELECT 1::bigint AS x, NULL::text AS y WHERE false")
    rows = target.execute("SELECT * FROM odd ORDER BY i").fetchall()
    assert rows == [
        (i, t, None if t is None else t.encode(), None if i == 1 else i % 2 == 0, -i * 10**17)
        for i, t in enumerate(ODD, 1)
    ]
    assert target.execute("SELECT * FROM nothing").fetchall() == []


def test_line_ends_within_texts_begin_no_row(warehouse: Engine, tmp_path: Path) -> None:
    text = "repeat(E'1,\"x\"\\n2,', i::int % 40)"
    target = duck.connect(tmp_path)
    with reading(warehouse) as connection:
        load(connection, target, "long", f"SELECT i, {text} AS t FROM generate_series(1, 120000::bigint) i")
    wrong = "SELECT count(*), count(DISTINCT i), count(*) FILTER (t <> repeat('1,\"x\"' || chr(10) || '2,', i % 40))"
    assert target.execute(f"{wrong} FROM long").fetchall() == [(120_000, 120_000, 0)]


def _escaped(value: str) -> str:
    return "".join(f"\\+{ord(c):06x}" for c in value)
