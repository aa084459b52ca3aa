// Avro records to columns, and columns to Avro records, driven by a table. reference.py says the same in Python and
// plan.py what the numbers of the table are. Needs 16 readable bytes behind the buffer and behind the pool.
#include "passes.h"

enum { KIND, SLOT, STORE, A, B, MARK, EXTRA, FIELD, WIDTH };
enum { NUL, BOOLEAN, INT, LONG, FLOAT, DOUBLE, BYTES, STRING, FIXED, ENUM, RECORD, UNION, ARRAY, MAP, DEFAULT, FAIL };
enum { PLAIN, AS_FLOAT, AS_DOUBLE, FROM_MILLIS, FROM_NANOS, VIEW, TEXT_VIEW, SYMBOL };
enum { NONE, CUT_SHORT, BAD_NUMBER, BAD_LENGTH, BAD_TEXT, BAD_BOOLEAN, BAD_BRANCH, BAD_SYMBOL, BAD_BLOCK, TOO_DEEP,
       TOO_MANY, LEFT_OVER, UNRESOLVED };
enum { DEEPEST = 128, MOST_EMPTY_ITEMS = 65536, INLINE = 12 };

typedef int32_t i32;
typedef uint32_t u32;
#define inlined static inline __attribute__((always_inline))

typedef struct {
  const u8 *data;
  const i32 *nodes, *links;
  const i64 *constants;
  i64 n, *values;  // slots × n
  u8 *valid;       // marks × n
  i64 items, *places;
  i64 end, row, item, empty_items, where, field;
  i32 fault;
} Pass;

inlined u64 load(const u8 *from) {
  u64 word;
  __builtin_memcpy(&word, from, 8);
  return word;
}

inlined i64 bad(Pass *p, i32 fault) {
  p->fault = fault;
  return -1;
}

// A varint of nine bytes or more, or one that does not end.
static i64 long_number(Pass *p, i64 at, i64 *value) {
  i64 next = at;
  *value = varint(p->data, &next, p->end);
  if (next >= 0) return next;
  return bad(p, p->end - at < 10 ? CUT_SHORT : BAD_NUMBER);
}

// The varint at `at`; where the next byte is, or -1. Up to eight bytes are read as one word.
inlined i64 number(Pass *p, i64 at, i64 *value) {
  u64 word = load(p->data + at), stops = ~word & 0x8080808080808080;
  if (!stops) return long_number(p, at, value);
  u64 bits = stops ^ (stops - 1);  // up to the highest bit of the last byte
  i64 next = at + ((64 - __builtin_clzll(bits)) >> 3);
  if (next > p->end) return bad(p, CUT_SHORT);
  // Seven bits of each byte, moved together by pairs.
  word &= bits & 0x7f7f7f7f7f7f7f7f;
  word = (word & 0x007f007f007f007f) | (word & 0x7f007f007f007f00) >> 1;
  word = (word & 0x00003fff00003fff) | (word & 0x3fff00003fff0000) >> 2;
  word = (word & 0x000000000fffffff) | (word & 0x0fffffff00000000) >> 4;
  *value = (i64)(word >> 1) ^ -(i64)(word & 1);
  return next;
}

inlined i64 length(Pass *p, i64 at, i64 *size) {
  at = number(p, at, size);
  if (at < 0) return -1;
  return *size < 0 || *size > p->end - at ? bad(p, BAD_LENGTH) : at;
}

inlined i64 indexed(Pass *p, i64 at, i64 count, i32 fault, i64 *index) {
  at = number(p, at, index);
  if (at < 0) return -1;
  return *index < 0 || *index >= count ? bad(p, fault) : at;
}

static int many_bytes_utf8(const u8 *b, i64 at, i64 end) {
  while (at < end) {
    u8 c = b[at];
    i64 left = end - at;
    if (c < 0x80) {
      at++;
    } else if (c < 0xC2) {
      return 0;
    } else if (c < 0xE0) {
      if (left < 2 || (b[at + 1] & 0xC0) != 0x80) return 0;
      at += 2;
    } else if (c < 0xF0) {
      if (left < 3 || (b[at + 1] & 0xC0) != 0x80 || (b[at + 2] & 0xC0) != 0x80) return 0;
      // Longer than need be; halves of UTF-16 pairs.
      if ((c == 0xE0 && b[at + 1] < 0xA0) || (c == 0xED && b[at + 1] > 0x9F)) return 0;
      at += 3;
    } else if (c < 0xF5) {
      if (left < 4 || (b[at + 1] & 0xC0) != 0x80 || (b[at + 2] & 0xC0) != 0x80 || (b[at + 3] & 0xC0) != 0x80) return 0;
      if ((c == 0xF0 && b[at + 1] < 0x90) || (c == 0xF4 && b[at + 1] > 0x8F)) return 0;
      at += 4;
    } else {
      return 0;
    }
  }
  return 1;
}

inlined int utf8(const u8 *b, i64 at, i64 end) {
  const u64 high = 0x8080808080808080;
  for (; at + 8 <= end; at += 8)
    if (load(b + at) & high) return many_bytes_utf8(b, at, end);
  if (at == end || !(load(b + at) & high & ~(~(u64)0 << (8 * (end - at))))) return 1;
  return many_bytes_utf8(b, at, end);
}

// Whether `count` times `each` more items without bytes are not too many.
inlined int counted(Pass *p, i64 each, i64 count) {
  if (count > (MOST_EMPTY_ITEMS - p->empty_items) / each) return bad(p, TOO_MANY) == 0;
  p->empty_items += count * each;
  return 1;
}

inlined void there(Pass *p, const i32 *x, u8 flag) {
  if (x[MARK] >= 0) p->valid[x[MARK] * p->n + p->row] = flag;
}

inlined void put(Pass *p, const i32 *x, i64 value) {
  p->values[x[SLOT] * p->n + p->row] = value;
  there(p, x, 1);
}

inlined void put_real(Pass *p, const i32 *x, double value) {
  i64 bits = 0x7ff8000000000000;  // one NaN for all
  if (value == value) __builtin_memcpy(&bits, &value, 8);
  put(p, x, bits);
}

inlined i64 unresolved(Pass *p, i64 sentence) {
  p->where = sentence;
  return bad(p, UNRESOLVED);
}

inlined i64 put_number(Pass *p, const i32 *x, i64 value, i64 at) {
  if (x[STORE]) switch (x[STORE]) {
    case AS_FLOAT: put_real(p, x, (double)(float)value); return at;
    case AS_DOUBLE: put_real(p, x, (double)value); return at;
    case FROM_MILLIS:
      if (value > INT64_MAX / 1000 || value < INT64_MIN / 1000) return unresolved(p, x[B]);
      value *= 1000;
      break;
    case FROM_NANOS: value = value / 1000 - (value % 1000 < 0); break;
  }
  put(p, x, value);
  return at;
}

inlined void put_view(Pass *p, const i32 *x, i64 at, i64 size) {
  u64 first = load(p->data + at), *view = (u64 *)(p->values + x[SLOT] * p->n) + 2 * p->row;
  if (size > INLINE) {
    view[0] = (u64)(u32)size | first << 32;
    view[1] = (u64)at << 32;
  } else {
    u64 rest = load(p->data + at + 4);
    // Only the first `size` bytes of the twelve.
    if (size < 4) first &= ((u64)1 << (8 * size)) - 1;
    rest = size <= 4 ? 0 : rest & (~(u64)0 >> (8 * (12 - size)));
    view[0] = (u64)size | first << 32;
    view[1] = rest;
  }
  there(p, x, 1);
}

inlined i64 text(Pass *p, const i32 *x, i64 at, i64 size, int checked) {
  if ((checked || x[STORE] == TEXT_VIEW) && !utf8(p->data, at, at + size)) return bad(p, BAD_TEXT);
  if (x[SLOT] >= 0) put_view(p, x, at, size);
  return at + size;
}

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

enum { TO_KIND, TO_SLOT, TO_MARK, TO_NULL, TO_VALUE, TO_WIDTH };

// Writes, and reads, up to 7 bytes too many; `memory.copy` costs more than that for a few bytes.
inlined u8 *append(u8 *out, const u8 *from, i64 size) {
  if (size > 64) {
    copy(out, from, size);
  } else {
    for (i64 i = 0; i < size; i += 8) {
      u64 word = load(from + i);
      __builtin_memcpy(out + i, &word, 8);
    }
  }
  return out + size;
}

inlined u8 *append_number(u8 *out, i64 value) { return out + put_varint(out, 0, value); }

// The rows `rows[0 .. items)` as records of a target, one behind the other, each behind `header`; `offsets` takes where
// each begins and where the last ends. A null that the target has no branch for ends the pass: minus the item, less 1.
EXPORT i64 encode(const u8 *data, const u8 *pool, const i64 *values, const u8 *valid, i64 n, const i64 *rows,
                  i64 items, const u8 *header, i64 header_size, const i32 *steps, i64 count, const i64 *places,
                  i64 pairs, u8 *out, i64 *offsets) {
  u8 *at = out;
  for (i64 j = 0; j < items; j++) {
    i64 row = rows[j];
    offsets[j] = at - out;
    at = append(at, header, header_size);
    for (const i32 *x = steps; x < steps + count * TO_WIDTH; x += TO_WIDTH) {
      if (x[TO_MARK] >= 0 && !valid[x[TO_MARK] * n + row]) {
        if (x[TO_NULL] < 0) return -j - 1;
        at = append_number(at, x[TO_NULL]);
        continue;
      }
      if (x[TO_VALUE] >= 0) at = append_number(at, x[TO_VALUE]);
      i64 cell = values[x[TO_SLOT] * n + row];
      switch (x[TO_KIND]) {
        case BOOLEAN: *at++ = (u8)cell; break;
        case FLOAT: {
          double real;
          __builtin_memcpy(&real, &cell, 8);
          float single = (float)real;
          __builtin_memcpy(at, &single, 4);
          at += 4;
          break;
        }
        case DOUBLE: __builtin_memcpy(at, &cell, 8), at += 8; break;
        case BYTES:
        case STRING:
        case FIXED: {
          const i64 *view = values + x[TO_SLOT] * n + 2 * row;
          i64 size = (u32)view[0];
          if (x[TO_KIND] != FIXED) at = append_number(at, size);
          const u8 *from = (const u8 *)view + 4;
          if (size > INLINE) from = ((u32)view[1] ? pool : data) + (u32)((u64)view[1] >> 32);
          at = append(at, from, size);
          break;
        }
        default: at = append_number(at, cell);
      }
    }
    for (const i64 *place = places + j; place < places + 2 * pairs * items; place += 2 * items)
      at = append(at, data + place[0], place[items] - place[0]);
  }
  offsets[items] = at - out;
  return at - out;
}
