"""`score` names every damage to what became of a planted record, in the topics and in the warehouse."""

from sqlalchemy import text

from tests.harness.servers import copied_database
from tests.integration.commands.score import damages as score_damages
from tests.integration.commands.verify import damages, families
from tests.integration.commands.verify.damaged.checking import connected, missed
from tests.integration.commands.verify.damages import Altered, reading_through


def test_score_misses_nothing(done):
    assert missed(done) == []


def test_score_sees_what_is_wrong_in_the_topics(done):
    change, made = Altered(), []
    for name, planted, m, instead, words in score_damages.of_topics(score_damages.Records(done)):
        change.records[damages.place(m)] = instead
        made.append((name, planted.shown, words))
    assert len(made) >= families.SCORED_TOPICS.at_least
    with reading_through(change):
        seen = missed(done)
    assert [d for d in made if not any(e.startswith(d[1]) and d[2] in e for e in seen)] == []
    # The others are of the same window or the same id, or the sale whose late record is another's now.
    others = [e for e in seen if not any(e.startswith(d[1]) for d in made)]
    assert [e for e in others if not any(w in e for w in ("its window", "its id", "not on sales.late"))] == []


def test_score_sees_what_is_wrong_in_the_warehouse(done):
    made = list(score_damages.of_warehouse(score_damages.Records(done)))
    assert len(made) >= families.SCORED_WAREHOUSE.at_least
    with copied_database(done) as copy:
        with connected(copy) as connection:
            for name, _, statement, _ in made:
                assert connection.execute(text(statement)).rowcount > 0, name
        seen = missed(copy)
    assert [d for d in made if not any(e.startswith(d[1].shown) and w in e for e in seen for w in d[3])] == []
    others = [e for e in seen if not any(e.startswith(d[1].shown) for d in made)]
    assert [e for e in others if "its window" not in e and "its id" not in e] == []
