/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ClientHellos as tests want them: RFC 8446, 4.1.2. */
#ifndef NSGATE_TESTS_HELLO_FIXTURE_H
#define NSGATE_TESTS_HELLO_FIXTURE_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct hello_bytes {
	uint8_t bytes[20000];
	size_t length;
};

static inline void hello_put(struct hello_bytes *hello, const void *bytes, size_t length)
{
	if (hello->length + length > sizeof(hello->bytes))
		abort();
	memcpy(hello->bytes + hello->length, bytes, length);
	hello->length += length;
}

static inline void hello_put_16(struct hello_bytes *hello, size_t value)
{
	hello_put(hello, (const uint8_t[]){(uint8_t)(value >> 8), (uint8_t)value}, 2);
}

static inline void hello_put_extension(struct hello_bytes *hello, size_t type, const void *data,
				       size_t length)
{
	hello_put_16(hello, type);
	hello_put_16(hello, length);
	hello_put(hello, data, length);
}

/* server_name with one name of a host. */
static inline void hello_put_name(struct hello_bytes *hello, const char *name, size_t length)
{
	hello_put_16(hello, 0);
	hello_put_16(hello, length + 5);
	hello_put_16(hello, length + 3);
	hello_put(hello, "", 1);
	hello_put_16(hello, length);
	hello_put(hello, name, length);
}

/* Up to its extensions, the length of which hello_end() writes. */
static inline struct hello_bytes hello_begin(void)
{
	struct hello_bytes hello = {.length = 0};
	uint8_t random[64];

	memset(random, 0xa5, sizeof(random));
	hello_put(&hello, "\1\0\0\0\3\3", 6);
	hello_put(&hello, random, 32);
	hello_put(&hello, "\40", 1);
	hello_put(&hello, random, 32);
	hello_put(&hello, "\0\4\23\1\23\2\1\0\0\0", 10);
	return hello;
}

#define HELLO_EXTENSIONS 81 /* where they begin */

static inline void hello_end(struct hello_bytes *hello)
{
	const size_t body = hello->length - 4, extensions = hello->length - HELLO_EXTENSIONS;

	hello->bytes[1] = (uint8_t)(body >> 16);
	hello->bytes[2] = (uint8_t)(body >> 8);
	hello->bytes[3] = (uint8_t)body;
	hello->bytes[HELLO_EXTENSIONS - 2] = (uint8_t)(extensions >> 8);
	hello->bytes[HELLO_EXTENSIONS - 1] = (uint8_t)extensions;
}

/* What a browser says of itself, `length` bytes in all by padding. */
static inline struct hello_bytes hello_make(const char *name, size_t length)
{
	static const uint8_t zeroes[20000];
	struct hello_bytes hello = hello_begin();

	hello_put_extension(&hello, 0x0a0a, "", 0);
	if (name)
		hello_put_name(&hello, name, strlen(name));
	hello_put_extension(&hello, 43, "\4\3\4\3\3", 5);
	hello_put_extension(&hello, 16, "\0\14\2h2\10http/1.1", 14);
	if (length > hello.length + 4)
		hello_put_extension(&hello, 21, zeroes, length - hello.length - 4);
	hello_end(&hello);
	return hello;
}

/* In records of at most `size` bytes each. */
static inline struct hello_bytes hello_records(const struct hello_bytes *hello, size_t size)
{
	struct hello_bytes stream = {.length = 0};

	for (size_t at = 0; at < hello->length; at += size) {
		const size_t left = hello->length - at < size ? hello->length - at : size;

		hello_put(&stream, "\26\3\1", 3);
		hello_put_16(&stream, left);
		hello_put(&stream, hello->bytes + at, left);
	}
	return stream;
}

#endif
