// SPDX-License-Identifier: GPL-2.0-or-later
/* Structs, messages, rules and layouts of releases that know less or more than this one. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "block_fixture.h"
#include "grow.h"
#include "ipc.h"
#include "nsgate/hook.h"
#include "record.h"

struct ours {
	uint32_t a, b;	 /* of the first release */
	uint32_t c, d;	 /* added since */
	uint8_t room[8]; /* no part of it: what others send behind it */
};
#define OURS offsetof(struct ours, room)

static void one_that_is_shorter_ends_in_zeroes(void **state)
{
	struct ours data;

	(void)state;
	memset(&data, 0xff, sizeof(data));
	assert_int_equal(grow_to_ours(&data, 8, 8, OURS), 0);
	assert_int_equal(data.b, UINT32_MAX);
	assert_int_equal(data.c, 0);
	assert_int_equal(data.d, 0);
	assert_int_equal(data.room[0], 0xff);
	memset(&data, 0xff, sizeof(data));
	assert_int_equal(grow_to_ours(&data, OURS, 8, OURS), 0);
	assert_int_equal(data.d, UINT32_MAX);
}

static void one_that_is_longer_may_say_nothing_more(void **state)
{
	struct ours data = {1, 2, 3, 4, {0}};

	(void)state;
	assert_int_equal(grow_to_ours(&data, sizeof(data), 8, OURS), 0);
	for (size_t i = 0; i < sizeof(data.room); i++) {
		memset(data.room, 0, sizeof(data.room));
		data.room[i] = 1;
		assert_int_equal(grow_to_ours(&data, sizeof(data), 8, OURS), -E2BIG);
		assert_int_equal(data.d, 4);
	}
}

static void one_that_is_too_short_is_none(void **state)
{
	struct ours data = {1, 2, 3, 4, {0}};

	(void)state;
	assert_int_equal(grow_to_ours(&data, 7, 8, OURS), -EBADMSG);
	assert_int_equal(grow_to_ours(&data, 0, 8, OURS), -EBADMSG);
	assert_int_equal(data.c, 3);
}

/* ---- messages ---- */

static union nsgate_msg message, received;

/* The message that is in `message`, with so many bytes. */
static int pass(size_t length)
{
	unsigned int fds;
	int ends[2], err;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
	message.header.length = (uint32_t)length;
	memset(&received, 0xff, sizeof(received));
	assert_int_equal(ipc_send(ends[0], &message.header, NULL, 0), 0);
	err = ipc_receive(ends[1], &received, NULL, 0, &fds);
	close(ends[0]);
	close(ends[1]);
	return err;
}

static void begin(enum nsgate_msg_type type)
{
	memset(&message, 0, sizeof(message));
	ipc_header(&message.header, type, 1);
}

static void a_message_of_an_earlier_release_is_completed(void **state)
{
	(void)state;
	begin(NSGATE_MSG_NS_RULES);
	message.ns_rules.cookie = 77;
	assert_int_equal(pass(200), 0);
	assert_int_equal(received.ns_rules.cookie, 77);
	assert_int_equal(pass(199), -EBADMSG);
	begin(NSGATE_MSG_NS_ADD);
	assert_int_equal(pass(1656), 0);
	assert_int_equal(pass(1655), -EBADMSG);
}

static void of_a_later_one_what_is_told_is_ignored_and_what_is_asked_for_is_not(void **state)
{
	static const struct {
		enum nsgate_msg_type type;
		bool asks;
	} types[] = {
		{NSGATE_MSG_HELLO, false},     {NSGATE_MSG_REPLY, false},
		{NSGATE_MSG_ATTACH, true},     {NSGATE_MSG_DETACH, true},
		{NSGATE_MSG_LEAVE, true},      {NSGATE_MSG_NS_ADD, false},
		{NSGATE_MSG_NS_RULES, true},   {NSGATE_MSG_NS_STATE, false},
		{NSGATE_MSG_NS_REMOVE, false}, {NSGATE_MSG_PING, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		const size_t length = ipc_length(types[i].type);

		begin(types[i].type);
		assert_int_equal(pass(length + 24), 0);
		assert_int_equal(received.header.id, 1);
		message.room[length + 23] = 1;
		assert_int_equal(pass(length + 24), types[i].asks ? -E2BIG : 0);
		assert_int_equal(received.header.type, types[i].type);
		assert_int_equal(pass(15), -EBADMSG);
	}
}

static void links_of_any_length_become_ours(void **state)
{
	const size_t at = offsetof(struct nsgate_msg_ns_links, links);

	(void)state;
	for (uint32_t size = 20; size < 40; size += 4) {
		begin(NSGATE_MSG_NS_LINKS);
		message.ns_links.count = 3;
		message.ns_links.link_size = size;
		for (uint32_t i = 0; i < 3; i++) {
			memset(&message.room[at + i * size], 0xee, size);
			memcpy(&message.room[at + i * size], &(uint32_t){i + 1}, sizeof(i));
			memcpy(&message.room[at + i * size + 4], "eth0", 5);
		}
		assert_int_equal(pass(at + 3 * size), 0);
		for (uint32_t i = 0; i < 3; i++) {
			assert_int_equal(received.ns_links.links[i].ifindex, i + 1);
			assert_string_equal(received.ns_links.links[i].name, "eth0");
		}
		assert_int_equal(received.header.length, at + 3 * sizeof(struct nsgate_link));
		assert_int_equal(pass(at + 3 * size - 1), -EBADMSG);
		message.ns_links.link_size = 16;
		assert_int_equal(pass(at + 3 * 16), -EBADMSG);
	}
	message.ns_links.count = UINT32_MAX;
	assert_int_equal(pass(at), -EBADMSG);
}

/* ---- rules ---- */

static const struct nsgate_rules_spec rules = {.hooks = 2, .flags = 1, .generation = 3};

static void rules_with_more_to_them_are_not_put_in_force(void **state)
{
	struct nsgate_rules_spec later = rules;

	(void)state;
	assert_true(record_rules_valid(&later));
	later.flags |= 1U << 20;
	assert_false(record_rules_valid(&later));
	later = rules;
	later.spare[7] = 1;
	assert_false(record_rules_valid(&later));
	later = rules;
	later.hooks |= 1U << NSGATE_HOOK_MAX;
	assert_false(record_rules_valid(&later));
}

static void a_record_of_a_later_release_is_served_as_far_as_it_is_known(void **state)
{
	struct nsgate_ns_record record = {.queue_first = 1,
					  .queue_count = 1,
					  .backend = NSGATE_BACKEND_NFT_QUEUE,
					  .rules = rules,
					  .name = "web",
					  .policy = "web"};

	(void)state;
	record.rules.flags |= 1U << 20;
	record.rules.spare[0] = 1;
	record.rules.hooks |= 1U << NSGATE_HOOK_MAX;
	record.spare[0] = 4711;
	assert_true(record_valid(&record));
	record_rules_forget_unknown(&record.rules);
	assert_memory_equal(&record.rules, &rules, sizeof(rules));
	assert_int_equal(record.spare[0], 4711);
	record.rules.hooks = 1U << NSGATE_HOOK_MAX;
	record_rules_forget_unknown(&record.rules);
	assert_int_equal(record.rules.generation, 0);
}

/* ---- blocks ---- */

static void a_layout_holds_what_this_release_needs(void **state)
{
	struct shm_layout layout, good;

	(void)state;
	shm_lay_out(&good);
	assert_int_equal(good.size, SHM_BLOCK_SIZE);
	assert_true(shm_layout_valid(&good, 2, 2 * SHM_BLOCK_SIZE));
	assert_false(shm_layout_valid(&good, 2, 2 * SHM_BLOCK_SIZE - 1));

	layout = good; /* of a later release */
	layout.size += 4096;
	layout.words += 512;
	layout.rules_at += 4096;
	layout.kept_at += 4096;
	layout.spare[0] = 1;
	assert_true(shm_layout_valid(&layout, 1, layout.size));
	for (size_t i = 0; i < 7; i++) {
		uint32_t words[sizeof(layout) / sizeof(uint32_t)];

		for (unsigned int bit = 0; bit < 32; bit++) {
			memcpy(words, &good, sizeof(good));
			words[i] ^= 1U << bit;
			memcpy(&layout, words, sizeof(layout));
			if (!shm_layout_valid(&layout, 1, SHM_BLOCK_SIZE))
				continue;
			assert_in_range(layout.rules_at, sizeof(struct shm_queue), SHM_BLOCK_SIZE);
			assert_true(layout.rules_at + layout.rules * sizeof(struct shm_rule) <=
				    SHM_BLOCK_SIZE);
			assert_true(layout.kept_at + layout.kept * sizeof(struct shm_rule) <=
				    SHM_BLOCK_SIZE);
		}
	}
}

static void slots_are_where_the_layout_says(void **state)
{
	static union {
		union block_fixture fixture;
		unsigned char bytes[2 * SHM_BLOCK_SIZE + 8192];
	} memory;
	struct shm_queue *block = block_begin(&memory.fixture);

	(void)state;
	assert_ptr_equal(shm_rules(block), (char *)block + sizeof(*block));
	assert_ptr_equal(shm_block(block, 1), (char *)block + SHM_BLOCK_SIZE);
	block->layout.rules_at += 4096;
	block->layout.kept_at += 4096;
	block->layout.size += 4096;
	assert_ptr_equal(shm_rules(block), (char *)block + sizeof(*block) + 4096);
	assert_ptr_equal(shm_block(block, 1), (char *)block + SHM_BLOCK_SIZE + 4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_that_is_shorter_ends_in_zeroes),
		cmocka_unit_test(one_that_is_longer_may_say_nothing_more),
		cmocka_unit_test(one_that_is_too_short_is_none),
		cmocka_unit_test(a_message_of_an_earlier_release_is_completed),
		cmocka_unit_test(
			of_a_later_one_what_is_told_is_ignored_and_what_is_asked_for_is_not),
		cmocka_unit_test(links_of_any_length_become_ours),
		cmocka_unit_test(rules_with_more_to_them_are_not_put_in_force),
		cmocka_unit_test(a_record_of_a_later_release_is_served_as_far_as_it_is_known),
		cmocka_unit_test(a_layout_holds_what_this_release_needs),
		cmocka_unit_test(slots_are_where_the_layout_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
