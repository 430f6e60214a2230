/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fed: the first sequence number, then segments (where they begin, relative to what comes next or
 * to the flow's start; how long; how their bytes differ from those that honest ones have) and
 * acknowledgements.
 *
 * Must hold, against a plain reassembler that keeps every byte that ever passed: the result is what
 * looking at each byte gives; whatever passes agrees with all that passed before and was not
 * acknowledged; what is stored is what any receiver of the passed segments assembles, in order.
 */
#include "fuzz.h"
#include "proto/stream.h"

#define ROOM 256
#define FLOW_MAX 8192
#define SEGMENT_MAX 320
#define BEFORE 64 /* so far before the start do segments begin */

static int passed[FLOW_MAX]; /* by place in the flow: the byte, -1 for none */
static int acked, next;	     /* places */

/* What an honest sender has at a place. */
static uint8_t honest(int place)
{
	return (uint8_t)(place * 7 + place / 256);
}

static enum stream_result plainly(int begin, const uint8_t *data, int length, int *ret_new)
{
	int known = 0;

	*ret_new = 0;
	if (length == 0)
		return STREAM_KNOWN;
	if (begin > next)
		return STREAM_GAP;
	if (begin < 0 && acked == 0)
		return STREAM_BEFORE;
	for (int i = 0; i < length; i++) {
		const int place = begin + i;

		if (place >= acked && place < next && passed[place] != data[i])
			return STREAM_CONFLICT;
		known += place < next;
	}
	if (known == length)
		return STREAM_KNOWN;
	if (begin + length - acked > ROOM)
		return STREAM_FULL;
	*ret_new = length - known;
	return STREAM_NEW;
}

static void pass(int begin, const uint8_t *data, int length)
{
	for (int i = 0; i < length; i++) {
		const int place = begin + i;

		if (place < acked)
			continue;
		MUST(place <= next);
		MUST(passed[place] == -1 || passed[place] == data[i]);
		passed[place] = data[i];
		next += place == next;
	}
}

static void check_stored(const struct stream *stream)
{
	MUST(stream->next - stream->acked == (uint32_t)(next - acked));
	for (int place = acked; place < next; place++)
		MUST(stream->bytes[(uint32_t)place % ROOM] == passed[place]);
}

static void segment(struct stream *stream, uint32_t first, struct input *input, bool absolute)
{
	const int shift = (int)input_take(input, 2);
	const int length = (int)(input_take(input, 2) % SEGMENT_MAX);
	const uint8_t change = (uint8_t)input_take(input, 1);
	const int changed = (int)input_take(input, 1);
	const int begin = absolute ? shift % FLOW_MAX - BEFORE : next + shift % 256 - 192;
	uint8_t *data = malloc(length ? (size_t)length : 1);
	size_t new;
	int wanted_new;

	MUST(data);
	if (begin < -BEFORE || begin + length > FLOW_MAX) {
		free(data);
		return;
	}
	for (int i = 0; i < length; i++)
		data[i] = (uint8_t)(honest(begin + i) ^ (i == changed ? change : 0));
	const enum stream_result wanted = plainly(begin, data, length, &wanted_new);
	const enum stream_result result =
		stream_feed(stream, first + (uint32_t)begin, data, (size_t)length, &new);
	MUST(result == wanted && new == (size_t)wanted_new);
	if (length && (result == STREAM_NEW || result == STREAM_KNOWN))
		pass(begin, data, length);
	free(data);
	check_stored(stream);
}

static void acknowledge(struct stream *stream, uint32_t first, struct input *input)
{
	const int place = next + (int)(input_take(input, 2) % 512) - 384;

	stream_ack(stream, first + (uint32_t)place);
	if (place > acked && place <= next)
		acked = place;
	check_stored(stream);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	uint8_t *ring = malloc(ROOM);
	struct stream stream;
	uint32_t first;

	MUST(ring);
	first = input_take(&input, 4);
	acked = next = 0;
	memset(passed, 0xff, sizeof(passed));
	stream_init(&stream, first, ring, ROOM);
	while (input.left) {
		const uint32_t op = input_take(&input, 1);

		if (op % 4 == 0)
			acknowledge(&stream, first, &input);
		else
			segment(&stream, first, &input, op % 4 == 1);
	}
	free(ring);
	return 0;
}
