// What all passes share. No standard library: a WebAssembly module has only its own memory.
#pragma once
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

// A pass takes a pointer to its arguments, which are 64 bits each; these two make addresses of them.
#define BYTES(argument) ((u8 *)(uintptr_t)(argument))
#define NUMBERS(argument) ((i64 *)(uintptr_t)(argument))

typedef int64_t i64;
typedef uint64_t u64;
typedef uint8_t u8;

static inline void copy(u8 *to, const u8 *from, i64 size) { __builtin_memcpy(to, from, (unsigned long)size); }

// The zigzag varint at b[*at], which ends before `end`; *at moves behind it, or to -1 if there is none.
// Kafka and Avro both write numbers so: seven bits a byte, lowest first, at most ten bytes for 64 bits.
static inline i64 varint(const u8 *b, i64 *at, i64 end) {
  i64 p = *at;
  if (p < end && b[p] < 0x80) {
    *at = p + 1;
    return (i64)(b[p] >> 1) ^ -(i64)(b[p] & 1);
  }
  u64 raw = 0;
  for (int i = 0; i < 10 && p < end; i++) {
    u64 c = b[p++];
    raw |= (c & 0x7f) << (7 * i);
    if (c < 0x80) {
      if (i == 9 && c > 1) break;
      *at = p;
      return (i64)(raw >> 1) ^ -(i64)(raw & 1);
    }
  }
  *at = -1;
  return 0;
}

// Bytes of a zigzag varint.
static inline i64 varint_size(i64 value) {
  u64 raw = ((u64)value << 1) ^ (u64)(value >> 63);
  i64 size = 1;
  while (raw >= 0x80) raw >>= 7, size++;
  return size;
}

// Writes a zigzag varint at out[at]; where the next byte goes.
static inline i64 put_varint(u8 *out, i64 at, i64 value) {
  u64 raw = ((u64)value << 1) ^ (u64)(value >> 63);
  while (raw >= 0x80) {
    out[at++] = (u8)(raw | 0x80);
    raw >>= 7;
  }
  out[at++] = (u8)raw;
  return at;
}

// Whether the bytes from `at` to `end` are UTF-8.
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
