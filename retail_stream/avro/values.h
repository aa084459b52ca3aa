// The bytes of Avro values, and the columns that take them. plan.py says what the numbers of the table are.
#pragma once
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
