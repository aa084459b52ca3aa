"""`python -m benchmarks questions`: the questions of docs/questions.md over a million facts and 100,000 versions.

BENCH_RECORDS (1,000,000) facts over a year are written by SQL. Each question is asked three times by the reading role,
and prints its median time and its plan. BENCH_WRITE=1 puts answers and times into the document.
"""

import os
import statistics
import time

from sqlalchemy import Connection, text

from benchmarks.cleaner.running import say_goal
from benchmarks.cleaner.world import world
from benchmarks.questions import document
from benchmarks.questions.document import Answer, Question
from benchmarks.questions.load import VERSIONS, Year
from retail_stream.warehouse import postgres
from retail_stream.warehouse.roles import READER

_TIMES = 3
_GOAL_S = 1.0


def main() -> int:
    """Print plan and time of each question."""
    facts = int(os.environ.get("BENCH_RECORDS", 1_000_000))
    versions = sum(ids * each for ids, each in VERSIONS.values())
    answers = {}
    with world() as w:
        engine = postgres.engine(w.connections.database_url)
        print(f"writing {facts:,} facts and {versions:,} versions", flush=True)
        Year(facts).fill(engine)
        with engine.connect() as connection:
            connection.execute(text(f"SET ROLE {READER}"))
            for question in document.questions():
                answers[question.title] = _asked(connection, question)
        engine.dispose()
    print()
    for title, answer in answers.items():
        say_goal(title, answer.seconds, "<=", _GOAL_S)
    if os.environ.get("BENCH_WRITE"):
        measured = f"Median of {_TIMES} runs on two cores, {facts:,} facts and {versions:,} versions."
        document.write(answers, measured)
    return 0


def _asked(connection: Connection, question: Question) -> Answer:
    print(f"\n{question.title}\n")
    for line in connection.exec_driver_sql(f"EXPLAIN {question.sql}").scalars():
        print(f"    {line}")
    took = []
    for _ in range(_TIMES):
        began = time.monotonic()
        result = connection.exec_driver_sql(question.sql)
        rows = [tuple(row) for row in result]
        took.append(time.monotonic() - began)
    return Answer(list(result.keys()), rows, statistics.median(took))
