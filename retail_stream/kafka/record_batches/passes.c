// Passes over the records of Kafka's record batches (magic 2). reference.py explains the format and does the same.
// A pass never reads outside the bounds it is given: every length is compared with the bytes that are left.
#include "passes.h"

// Rows of the table of batches: where the records are, and what the batch's header says of them.
enum { AT, END, COUNT, BASE_OFFSET, LAST_DELTA, BASE_TIME, APPEND_TIME, BATCH_FIELDS };
// Rows of the table of records (columns.py); a row holds `capacity` numbers.
enum { OFFSET, TIMESTAMP, KEY_AT, KEY_SIZE, VALUE_AT, VALUE_SIZE, HEADERS_AT, HEADERS_SIZE, HEADER_COUNT };
// What is wrong with a record (reference.Fault).
enum { FINE, SIZE, ATTRIBUTES, TIME_DELTA, OFFSET_DELTA, KEY, VALUE, HEADERS, TRAILING, BEHIND };
// Where `parse` goes on, and what it met.
enum { BATCH, RECORD, POSITION, FAULT };

// A field of -1 (null) or more bytes at *at: its size; *at moves behind it, or to -1 if it does not fit.
static inline i64 field(const u8 *b, i64 *at, i64 end, i64 smallest, i64 *where) {
  i64 size = varint(b, at, end);
  if (*at < 0) return 0;
  if (size < smallest || size > end - *at) {
    *at = -1;
    return 0;
  }
  *where = *at;
  if (size > 0) *at += size;
  return size;
}

// Up to `capacity` records from state on, those below `lowest` left out. Returns rows; state[FAULT] tells of an error.
EXPORT i64 parse(const i64 *arguments) {
  const u8 *b = BYTES(arguments[0]);
  const i64 *batches = NUMBERS(arguments[1]);
  i64 batch_count = arguments[2], lowest = arguments[3], capacity = arguments[5];
  i64 *records = NUMBERS(arguments[4]), *state = NUMBERS(arguments[6]);
  i64 row = 0;
  for (; state[BATCH] < batch_count; state[BATCH]++, state[RECORD] = 0, state[POSITION] = -1) {
    const i64 *batch = batches + state[BATCH] * BATCH_FIELDS;
    i64 at = state[POSITION] < 0 ? batch[AT] : state[POSITION], end = batch[END];
    for (i64 k = state[RECORD]; k < batch[COUNT]; k++) {
      state[RECORD] = k, state[POSITION] = at;
      if (row == capacity) return row;
      i64 size = varint(b, &at, end), where = 0;
      if (at < 0 || size < 0 || size > end - at) return state[FAULT] = SIZE, row;
      i64 stop = at + size;
      if (at++ == stop) return state[FAULT] = ATTRIBUTES, row;
      i64 time = varint(b, &at, stop);
      if (at < 0) return state[FAULT] = TIME_DELTA, row;
      i64 delta = varint(b, &at, stop);
      if (at < 0 || delta < 0 || delta > batch[LAST_DELTA]) return state[FAULT] = OFFSET_DELTA, row;
      i64 key_at = 0, key = field(b, &at, stop, -1, &key_at);
      if (at < 0) return state[FAULT] = KEY, row;
      i64 value_at = 0, value = field(b, &at, stop, -1, &value_at);
      if (at < 0) return state[FAULT] = VALUE, row;
      i64 headers = varint(b, &at, stop), headers_at = at;
      if (at < 0 || headers < 0 || headers > stop - at) return state[FAULT] = HEADERS, row;
      for (i64 h = 0; h < headers; h++) {
        field(b, &at, stop, 0, &where);
        if (at >= 0) field(b, &at, stop, -1, &where);
        if (at < 0) return state[FAULT] = HEADERS, row;
      }
      if (at != stop) return state[FAULT] = TRAILING, row;
      i64 offset = (i64)((u64)batch[BASE_OFFSET] + (u64)delta);
      if (offset < lowest) continue;
      i64 *record = records + row++;
      record[OFFSET * capacity] = offset;
      record[TIMESTAMP * capacity] = batch[APPEND_TIME] ? batch[BASE_TIME] : (i64)((u64)batch[BASE_TIME] + (u64)time);
      record[KEY_AT * capacity] = key_at;
      record[KEY_SIZE * capacity] = key;
      record[VALUE_AT * capacity] = value_at;
      record[VALUE_SIZE * capacity] = value;
      record[HEADERS_AT * capacity] = headers_at;
      record[HEADERS_SIZE * capacity] = stop - headers_at;
      record[HEADER_COUNT * capacity] = headers;
    }
    if (at != end) return state[FAULT] = BEHIND, row;
  }
  return row;
}

// The last header of that name in each record: where its value is and its size (-1 null, -2 no such header).
// numbers[i]: the value as an 8-byte big-endian integer, where it has 8 bytes.
EXPORT void find(const i64 *arguments) {
  const u8 *b = BYTES(arguments[0]), *name = BYTES(arguments[3]);
  const i64 *records = NUMBERS(arguments[1]);
  i64 rows = arguments[2], name_size = arguments[4];
  i64 *ats = NUMBERS(arguments[5]), *sizes = NUMBERS(arguments[6]), *numbers = NUMBERS(arguments[7]);
  for (i64 i = 0; i < rows; i++) {
    i64 at = records[HEADERS_AT * rows + i], end = at + records[HEADERS_SIZE * rows + i], where = 0;
    i64 found = 0, found_size = -2;
    for (i64 h = records[HEADER_COUNT * rows + i]; h > 0; h--) {
      i64 size = field(b, &at, end, 0, &where);
      if (at < 0) break;
      int same = size == name_size;
      for (i64 j = 0; same && j < size; j++) same = b[where + j] == name[j];
      size = field(b, &at, end, -1, &where);
      if (at < 0) break;
      if (same) found = where, found_size = size;
    }
    ats[i] = found, sizes[i] = found_size, numbers[i] = 0;
    if (found_size == 8) {
      u64 number;
      __builtin_memcpy(&number, b + found, 8);
      numbers[i] = (i64)__builtin_bswap64(number);
    }
  }
}

// Whether the names of all headers of each record are UTF-8: 1 or 0 in flags[i].
EXPORT void names(const i64 *arguments) {
  const u8 *b = BYTES(arguments[0]);
  const i64 *records = NUMBERS(arguments[1]);
  i64 rows = arguments[2];
  u8 *flags = BYTES(arguments[3]);
  for (i64 i = 0; i < rows; i++) {
    i64 at = records[HEADERS_AT * rows + i], end = at + records[HEADERS_SIZE * rows + i], where = 0;
    flags[i] = 1;
    for (i64 h = records[HEADER_COUNT * rows + i]; h > 0 && flags[i]; h--) {
      i64 size = field(b, &at, end, 0, &where);
      if (at < 0) break;
      flags[i] = (u8)many_bytes_utf8(b, where, where + size);
      field(b, &at, end, -1, &where);
      if (at < 0) break;
    }
  }
}

// What `build` made.
enum { MADE_ROWS, MADE_BYTES, MADE_BASE_TIME, MADE_MAX_TIME, NEXT_BYTES };

// Records of a new batch from chosen[first] on, as many as fit in `limit` bytes. Key, value and headers are copied,
// `added_count` headers follow: those of the i-th chosen row are the bytes added[offsets[i]] to added[offsets[i + 1]].
// made[NEXT_BYTES]: bytes of the record that did not fit any more, or 0.
EXPORT void build(const i64 *arguments) {
  const u8 *b = BYTES(arguments[0]), *added = BYTES(arguments[6]);
  const i64 *records = NUMBERS(arguments[1]), *chosen = NUMBERS(arguments[3]), *offsets = NUMBERS(arguments[7]);
  i64 rows = arguments[2], first = arguments[4], last = arguments[5], added_count = arguments[8], limit = arguments[10];
  u8 *out = BYTES(arguments[9]);
  i64 *made = NUMBERS(arguments[11]);
  i64 o = 0, base = -1, largest = -1, count = 0;
  made[NEXT_BYTES] = 0;
  for (i64 i = first; i < last; i++, count++) {
    const i64 *record = records + chosen[i];
    i64 time = record[TIMESTAMP * rows], key = record[KEY_SIZE * rows], value = record[VALUE_SIZE * rows];
    i64 headers = record[HEADERS_SIZE * rows], header_count = record[HEADER_COUNT * rows] + added_count;
    i64 more = offsets[i + 1] - offsets[i];
    if (!count) base = time;
    i64 delta = (i64)((u64)time - (u64)base);
    i64 size = 1 + varint_size(delta) + varint_size(count) + varint_size(key) + (key > 0 ? key : 0) + varint_size(value) +
               (value > 0 ? value : 0) + varint_size(header_count) + headers + more;
    i64 all = varint_size(size) + size;
    if (all > limit - o) {
      made[NEXT_BYTES] = all;
      break;
    }
    if (!count || time > largest) largest = time;
    o = put_varint(out, o, size);
    out[o++] = 0;  // attributes
    o = put_varint(out, o, delta);
    o = put_varint(out, o, count);
    o = put_varint(out, o, key);
    if (key > 0) copy(out + o, b + record[KEY_AT * rows], key), o += key;
    o = put_varint(out, o, value);
    if (value > 0) copy(out + o, b + record[VALUE_AT * rows], value), o += value;
    o = put_varint(out, o, header_count);
    copy(out + o, b + record[HEADERS_AT * rows], headers), o += headers;
    copy(out + o, added + offsets[i], more), o += more;
  }
  made[MADE_ROWS] = count, made[MADE_BYTES] = o, made[MADE_BASE_TIME] = base, made[MADE_MAX_TIME] = largest;
}
