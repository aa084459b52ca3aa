"""The rows of a plan, and how a value of any type is walked over without being stored."""

import numpy as np

from retail_stream.avro.plan import MOST_EMPTY_ITEMS, NODE_WIDTH, Int32s, Int64s, Kind, Store
from retail_stream.avro.types import AvroType

_EXTRA, _FIELD = 6, 7


class Table:
    """Nodes, links and constants as they are added."""

    def __init__(self) -> None:
        self._nodes: list[list[int]] = []
        self._links: list[int] = []
        self._constants: list[int] = []
        #: records that have rows already, by identity: one that contains itself refers back to them
        self._known: dict[int, int] = {}
        self._empty: dict[int, int] = {}

    def reserve(self, count: int) -> int:
        """The first of ``count`` new rows, for children that belong side by side."""
        first = len(self._nodes)
        self._nodes.extend([Kind.NULL, -1, Store.PLAIN, 0, 0, -1, -1, -1] for _ in range(count))
        return first

    def put(
        self, node: int, kind: Kind, slot: int = -1, store: Store | None = None, a: int = 0, b: int = 0, mark: int = -1
    ) -> None:
        """Fill a row; see :mod:`retail_stream.avro.plan`."""
        self._nodes[node][:6] = [kind, slot, Store.PLAIN if store is None else store, a, b, mark]

    def mark_extra(self, node: int, pair: int) -> None:
        """Let a field's byte range be noted."""
        self._nodes[node][_EXTRA] = pair

    def mark_field(self, node: int, field: int) -> None:
        """Let errors at this node and inside it name a field."""
        self._nodes[node][_FIELD] = field

    def link(self, numbers: list[int]) -> int:
        """Where the numbers begin among the links."""
        self._links.extend(numbers)
        return len(self._links) - len(numbers)

    def constant(self, cell: tuple[int, ...]) -> int:
        """Where the cell begins among the constants."""
        self._constants.extend(cell)
        return len(self._constants) - len(cell)

    def skip(self, node: int, avro_type: AvroType) -> None:
        """Fill a row, and others that it needs, to walk over a value and check all of it."""
        if values := self._without_bytes(avro_type):
            # Nothing is there to check. Only what readers of the record would have to make is counted.
            self.put(node, Kind.NULL, a=values if values > 1 else 0)
            return
        match avro_type.kind:
            case "record":
                self.put(node, Kind.RECORD, a=self._fields(avro_type), b=len(avro_type.fields))
            case "union":
                first = self.reserve(len(avro_type.parts))
                self.put(node, Kind.UNION, a=first, b=len(avro_type.parts))
                for i, branch in enumerate(avro_type.parts, first):
                    self.skip(i, branch)
            case "array" | "map":
                item = avro_type.parts[0]
                child = self.reserve(1)
                each = self._without_bytes(item) if avro_type.kind == "array" else 0
                self.put(node, Kind[avro_type.kind.upper()], a=child, b=each)
                self.skip(child, item)
            case "fixed":
                self.put(node, Kind.FIXED, a=avro_type.size)
            case "enum":
                self.put(node, Kind.ENUM, b=len(avro_type.symbols))
            case kind:
                self.put(node, Kind[kind.upper()])

    def arrays(self) -> tuple[Int32s, Int32s, Int64s]:
        """Nodes (n, 8), links, constants."""
        nodes = np.array(self._nodes, np.int32).reshape(-1, NODE_WIDTH)
        return nodes, np.array(self._links, np.int32), np.array(self._constants, np.int64)

    def _fields(self, record: AvroType) -> int:
        known = self._known.get(id(record))
        if known is not None:
            return known
        first = self._known[id(record)] = self.reserve(len(record.fields))
        for i, f in enumerate(record.fields, first):
            self.skip(i, f.type)
        return first

    def _without_bytes(self, avro_type: AvroType) -> int:
        """How many values a value of the type is, itself included, if none of them has bytes; 0 if any has.

        Records of records of nulls can be more than memory holds: beyond the limit it is the limit and one.
        """
        match avro_type.kind:
            case "null":
                return 1
            case "fixed":
                return int(avro_type.size == 0)
            case "record":
                if id(avro_type) not in self._empty:
                    # A record that contains itself has no value at all; the pass ends by its depth.
                    self._empty[id(avro_type)] = 0
                    parts = [self._without_bytes(f.type) for f in avro_type.fields]
                    self._empty[id(avro_type)] = min(1 + sum(parts), MOST_EMPTY_ITEMS + 1) if all(parts) else 0
                return self._empty[id(avro_type)]
        return 0
