"""What a registry answers: schemas that need no other, its own error codes, and answers of something else."""

from collections.abc import Callable
from typing import Any

import pytest

from retail_stream.avro.registry import Registry, SchemaRefused, SubjectSchemas
from retail_stream.avro.types import parse
from retail_stream.errors import Unavailable
from tests.harness.registry import JSON, Answer, answering, as_json, error

LOST = r"no longer has version 1 of sales\.raw-value"


def schema_of(subject: str, **subjects: dict[str, Any]) -> Any:
    """The schema of a subject's only version."""

    def answers(method: str, path: str) -> Answer:
        _, _, name, _, *number = path.split("/")
        return as_json({"id": 7, **subjects[name]} if number else [1])

    with answering(answers) as url:
        return Registry(url).versions(subject)[1][1]


def test_types_of_other_subjects_are_written_out_also_those_that_they_refer_to() -> None:
    sale = {
        "schema": '{"type": "record", "name": "Sale", "fields": [{"name": "paid", "type": "m.Money"}]}',
        "references": [{"name": "m.Money", "subject": "money", "version": 1}],
    }
    money = {
        "schema": '{"type": "record", "name": "m.Money", "fields": [{"name": "unit", "type": "m.Unit"}]}',
        "references": [{"name": "m.Unit", "subject": "unit", "version": 1}],
    }
    unit = {"schema": '{"type": "enum", "name": "m.Unit", "symbols": ["EUR"]}'}
    found = schema_of("sale", sale=sale, money=money, unit=unit)
    (paid,) = parse(found).fields
    assert (paid.type.name, paid.type.fields[0].type.symbols) == ("m.Money", ["EUR"])


def test_a_schema_that_is_not_json_stays_text() -> None:
    assert schema_of("p", p={"schema": "message Sale {}", "schemaType": "PROTOBUF"}) == "message Sale {}"


@pytest.mark.parametrize("code", [40401, 40402, 40403])
def test_the_codes_of_the_registry_mean_that_nothing_is_registered(code: int) -> None:
    with answering(lambda method, path: error(code)) as url:
        assert Registry(url).versions("sales.raw-value") == {}
        assert Registry(url).schema(7) is None
        assert Registry(url).mode("sales.raw-value") is None


@pytest.mark.parametrize(
    ("answer", "came"),
    [
        ((404, "text/html", b"<html>not here</html>"), "404 and an HTML page"),
        ((404, JSON, b'{"error": "no route"}'), "404 and JSON that is not a schema registry's"),
        (error(404), "404 and the error 404: no"),
        (error(40101, 401), "401 and the error 40101: no"),
        ((401, JSON, b""), "401 and an empty body"),
        ((403, "text/plain", b"forbidden"), "403 and a body that is not JSON"),
        ((408, JSON, b""), "408 and an empty body"),
        ((429, JSON, b""), "429 and an empty body"),
        (error(40401, 500), "500 and the error 40401: no"),
        ((503, "text/html", b"<!DOCTYPE html>"), "503 and an HTML page"),
        ((302, "text/html", b"<html>"), "302 and a redirect to https://login.example/in"),
        ((200, "text/html", b"<html>Sign in</html>"), "200 and an HTML page"),
        ((200, JSON, b""), "200 and an empty body"),
        ((200, JSON, b"[1, 2"), "200 and a body that is not JSON"),
        ((200, JSON, b'"maintenance"'), "200 and JSON that is not a schema registry's"),
    ],
)
def test_every_other_answer_is_one_sentence_that_is_waited_for(answer: Answer, came: str) -> None:
    with answering(lambda method, path: answer) as url:
        registry = Registry(url)
        at = url.replace("retail:p%40ss@", "")
        for call in (
            lambda: registry.versions("sales.raw-value"),
            lambda: registry.register("sales.raw-value", {"type": "string"}),
            lambda: registry.register("sales.raw-value", {"type": "string"}, "NONE"),
            lambda: registry.schema(7),
            SubjectSchemas(registry, "sales.raw-value").learn,
        ):
            with pytest.raises(Unavailable) as caught:
                call()
            assert str(caught.value).startswith(f"{at}/")
            assert str(caught.value).endswith(f" answers with HTTP {came}.")
            assert "ss@" not in str(caught.value)
            assert "secret" not in str(caught.value)


def test_no_id_is_unknown_because_of_a_registry_that_lost_its_data() -> None:
    answer = as_json([1])
    version = as_json({"id": 7, "schema": '"string"'})

    def wait(fetch: Callable[[], Any]) -> Any:
        return fetch()

    with answering(lambda method, path: version if path.endswith("/1") else answer) as url:
        schemas = SubjectSchemas(Registry(url), "sales.raw-value", wait)
        assert set(schemas.get([7])) == {7}
        for empty in (error(40401), as_json([]), as_json([2])):
            answer = empty
            with pytest.raises(Unavailable, match=LOST):
                schemas.get([8])
        # It was filled anew: its first version is another one.
        answer, version = as_json([1, 2]), as_json({"id": 1, "schema": '"string"'})
        with pytest.raises(Unavailable, match=LOST):
            schemas.get([8])
        assert set(schemas.get([7])) == {7}


def test_a_schema_that_the_registry_refuses_is_no_outage_unless_it_is_there_already() -> None:
    known = False

    def answers(method: str, path: str) -> Answer:
        if path.endswith("/versions"):
            return error(409, 409)
        return as_json({"id": 7}) if known else error(40403)

    with answering(answers) as url:
        with pytest.raises(SchemaRefused, match="refuses the schema: no"):
            Registry(url).register("sales.raw-value", {"type": "string"})
        known = True
        assert Registry(url).register("sales.raw-value", {"type": "string"}) == 7


def test_of_several_registries_the_next_one_is_asked() -> None:
    with answering(lambda method, path: as_json([])) as url:
        assert Registry(f"http://127.0.0.1:1,{url}").versions("sales.raw-value") == {}
