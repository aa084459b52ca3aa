"""What every Python peer is told, on its command line: one JSON object."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

#: before each Avro record: the magic byte 0 and the schema id
HEADER_BYTES = 5


@dataclass(frozen=True)
class Arguments:
    """``source`` is read from its beginning; ``clean`` and ``dead`` have as many ``partitions``."""

    servers: str
    group: str
    source: str
    clean: str
    dead: str
    partitions: int
    schema_file: str
    state: str

    @property
    def schema(self) -> dict[str, Any]:
        """The writer schema of every record in the topic."""
        return json.loads(Path(self.schema_file).read_text())

    @property
    def plain_schema(self) -> dict[str, Any]:
        """The same without logical types: times stay numbers, which every reader decodes faster."""
        schema = self.schema
        types = {f["name"]: f["type"]["type"] if isinstance(f["type"], dict) else f["type"] for f in schema["fields"]}
        return {**schema, "fields": [{"name": n, "type": t} for n, t in types.items()]}

    def text(self) -> str:
        """For the command line."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> "Arguments":
        """The inverse of :meth:`text`."""
        return cls(**json.loads(text))
