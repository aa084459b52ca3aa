// Columns to Avro records, driven by a table; reference_encoder.py says the same in Python.
// Needs 16 readable bytes behind the buffer and the pool, and as many to write behind the output.
#include "values.h"

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
