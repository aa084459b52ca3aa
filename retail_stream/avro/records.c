// Avro records to columns, driven by a table; reference.py says the same in Python.
// Needs 16 readable bytes behind the buffer.
#include "values.h"

static i64 nested(Pass *p, const i32 *x, i64 at, i64 depth);

// What stands at a node; where the next byte is, or -1 with the fault noted.
inlined i64 value(Pass *p, const i32 *x, i64 at, i64 depth) {
  i64 v;
  if (x[KIND] == LONG || x[KIND] == INT) {
    at = number(p, at, &v);
    if (at < 0) return -1;
    if (x[KIND] == INT && v != (i32)v) return bad(p, BAD_NUMBER);
    return x[SLOT] >= 0 ? put_number(p, x, v, at) : at;
  }
  switch (x[KIND]) {
    case NUL:
      if (x[A]) return counted(p, x[A], 1) ? at : -1;
      if (x[SLOT] >= 0) {
        i64 *cell = p->values + x[SLOT] * p->n + x[B] * p->row;
        for (i32 i = 0; i < x[B]; i++) cell[i] = 0;
        there(p, x, 0);
      }
      return at;
    case BOOLEAN:
      if (at >= p->end) return bad(p, CUT_SHORT);
      if (p->data[at] > 1) return bad(p, BAD_BOOLEAN);
      if (x[SLOT] >= 0) put(p, x, p->data[at]);
      return at + 1;
    case FLOAT:
      if (p->end - at < 4) return bad(p, CUT_SHORT);
      if (x[SLOT] >= 0) {
        float real;
        __builtin_memcpy(&real, p->data + at, 4);
        put_real(p, x, (double)real);
      }
      return at + 4;
    case DOUBLE:
      if (p->end - at < 8) return bad(p, CUT_SHORT);
      if (x[SLOT] >= 0) {
        double real;
        __builtin_memcpy(&real, p->data + at, 8);
        put_real(p, x, real);
      }
      return at + 8;
    case BYTES:
    case STRING:
      at = length(p, at, &v);
      return at < 0 ? -1 : text(p, x, at, v, x[KIND] == STRING);
    case FIXED:
      return x[A] > p->end - at ? bad(p, CUT_SHORT) : text(p, x, at, x[A], 0);
    case ENUM:
      at = indexed(p, at, x[B], BAD_SYMBOL, &v);
      if (at < 0 || x[SLOT] < 0) return at;
      if (p->links[x[A] + v] < 0) return unresolved(p, -1 - p->links[x[A] + v]);
      put(p, x, p->links[x[A] + v]);
      return at;
    case DEFAULT: {
      i64 *cell = p->values + x[SLOT] * p->n + x[B] * p->row;
      for (i32 i = 0; i < x[B]; i++) cell[i] = p->constants[x[A] + i];
      there(p, x, 1);
      return at;
    }
    case FAIL:
      return unresolved(p, x[A]);
    default:
      return nested(p, x, at, depth);
  }
}

static i64 child(Pass *p, const i32 *x, i64 at, i64 depth) { return depth > DEEPEST ? bad(p, TOO_DEEP) : value(p, x, at, depth); }

static i64 blocks(Pass *p, const i32 *x, i64 at, i64 depth) {
  const i32 *item = p->nodes + (i64)x[A] * WIDTH;
  for (;;) {
    i64 count, size = -1;
    at = number(p, at, &count);
    if (at < 0 || !count) return at;
    if (count < 0) {
      at = length(p, at, &size);
      if (at < 0) return -1;
      // Of the smallest number there is no negative; no record holds as many items.
      count = count == INT64_MIN ? INT64_MAX : -count;
    }
    i64 began = at;
    if (x[KIND] == ARRAY && x[B]) {
      if (!counted(p, x[B], count)) return -1;
      count = 0;
    }
    for (; count; count--) {
      if (x[KIND] == MAP) {
        i64 key;
        at = length(p, at, &key);
        if (at < 0) return -1;
        if (!utf8(p->data, at, at + key)) return bad(p, BAD_TEXT);
        at += key;
      }
      at = child(p, item, at, depth + 1);
      if (at < 0) return -1;
    }
    if (size >= 0 && at != began + size) return bad(p, BAD_BLOCK);
  }
}

static i64 nested(Pass *p, const i32 *x, i64 at, i64 depth) {
  if (x[KIND] == UNION) {
    i64 branch;
    at = indexed(p, at, x[B], BAD_BRANCH, &branch);
    return at < 0 ? -1 : child(p, p->nodes + (x[A] + branch) * WIDTH, at, depth + 1);
  }
  if (x[KIND] != RECORD) return blocks(p, x, at, depth);
  const i32 *field = p->nodes + (i64)x[A] * WIDTH, *last = field + (i64)x[B] * WIDTH;
  if (field < last && depth + 1 > DEEPEST) return bad(p, TOO_DEEP);
  for (; field < last; field += WIDTH) {
    i64 began = at;
    if (field[FIELD] >= 0) p->field = field[FIELD];
    at = value(p, field, at, depth + 1);
    if (at < 0) return -1;
    if (__builtin_expect(field[EXTRA] >= 0, 0)) {
      i64 *place = p->places + 2 * field[EXTRA] * p->items + p->item;
      place[0] = began;
      place[p->items] = at;
    }
  }
  return at;
}

// The rows `rows[0 .. items)` of `n` values. `begins`: where the record begins, behind any header.
EXPORT void decode(const u8 *data, const i64 *begins, const i64 *ends, const i64 *rows, i64 items, i64 n,
                   const i32 *nodes, const i32 *links, const i64 *constants, i64 *values, u8 *valid, u8 *fault,
                   i32 *where, i64 *places, i64 pairs, i32 *branch) {
  Pass p = {.data = data, .nodes = nodes, .links = links, .constants = constants, .n = n, .values = values,
            .valid = valid, .items = items, .places = places};
  for (i64 i = 0; i < 2 * pairs * items; i++) places[i] = -1;
  for (i64 j = 0; j < items; j++) {
    i64 row = rows[j], at = begins[row], depth = 0;
    const i32 *x = nodes;
    p.row = row, p.item = j, p.end = ends[row], p.fault = NONE, p.empty_items = 0, p.field = -1, p.where = 0;
    branch[j] = 0;
    if (x[KIND] == UNION) {
      i64 chosen;
      at = indexed(&p, at, x[B], BAD_BRANCH, &chosen);
      if (at >= 0) branch[j] = (i32)chosen, x = nodes + (x[A] + chosen) * WIDTH, depth = 1;
    }
    if (at >= 0) at = child(&p, x, at, depth);
    if (at >= 0 && at != p.end) p.fault = LEFT_OVER;
    fault[row] = (u8)p.fault;
    where[row] = p.fault == NONE || p.fault == UNRESOLVED ? (i32)p.where
               : p.fault == LEFT_OVER                     ? (i32)(p.end - at)
                                                          : (i32)p.field;
  }
}
