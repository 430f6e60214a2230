/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Netlink messages of NFQUEUE: read as the kernel writes them, written as the kernel reads them. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/queue/nfq.h"

#define MESSAGE_SIZE 1024

struct message {
	_Alignas(8) uint8_t bytes[MESSAGE_SIZE];
	size_t length;
};

static struct nlmsghdr *begin(struct message *message, uint16_t type)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(message->bytes);

	nlh->nlmsg_type = NFNL_SUBSYS_QUEUE << 8 | type;
	mnl_nlmsg_put_extra_header(nlh, sizeof(struct nfgenmsg));
	return nlh;
}

static void put_packet_header(struct nlmsghdr *nlh, uint32_t id, uint8_t hook)
{
	struct nfqnl_msg_packet_hdr header = {
		.packet_id = htonl(id), .hw_protocol = htons(0x0800), .hook = hook};

	mnl_attr_put(nlh, NFQA_PACKET_HDR, sizeof(header), &header);
}

static void full_packet(struct message *message)
{
	struct nfqnl_msg_packet_hw hw = {.hw_addrlen = htons(6), .hw_addr = {2, 4, 6, 8, 10, 12}};
	struct nlmsghdr *nlh = begin(message, NFQNL_MSG_PACKET);

	put_packet_header(nlh, 0xfffffffe, 3);
	mnl_attr_put_u32(nlh, NFQA_IFINDEX_INDEV, htonl(7));
	mnl_attr_put_u32(nlh, NFQA_IFINDEX_OUTDEV, htonl(9));
	mnl_attr_put_u32(nlh, NFQA_MARK, htonl(0x01000042));
	mnl_attr_put(nlh, NFQA_HWADDR, sizeof(hw), &hw);
	mnl_attr_put_u32(nlh, NFQA_UID, htonl(1000));
	mnl_attr_put_u32(nlh, NFQA_GID, htonl(0));
	mnl_attr_put_u32(nlh, NFQA_SKB_INFO, htonl(NFQA_SKB_CSUMNOTREADY));
	mnl_attr_put_u32(nlh, NFQA_CAP_LEN, htonl(1500));
	mnl_attr_put(nlh, NFQA_PAYLOAD, 5, "hello");
	message->length = nlh->nlmsg_len;
}

static void reads_every_attribute(void **state)
{
	static const uint8_t mac[6] = {2, 4, 6, 8, 10, 12};
	struct message message;
	struct nfq_packet packet;
	int error;

	(void)state;
	full_packet(&message);
	assert_int_equal(nfq_parse(message.bytes, message.length, &packet, &error),
			 NFQ_KIND_PACKET);
	assert_int_equal(packet.id, 0xfffffffe);
	assert_int_equal(packet.hook, 3);
	assert_int_equal(packet.iif, 7);
	assert_int_equal(packet.oif, 9);
	assert_int_equal(packet.mark, 0x01000042);
	assert_true(packet.has_mac);
	assert_memory_equal(packet.mac, mac, sizeof(mac));
	assert_true(packet.has_uid);
	assert_int_equal(packet.uid, 1000);
	assert_true(packet.has_gid);
	assert_int_equal(packet.gid, 0);
	assert_int_equal(packet.skbinfo, NFQA_SKB_CSUMNOTREADY);
	assert_int_equal(packet.length, 1500);
	assert_int_equal(packet.caplen, 5);
	assert_memory_equal(packet.data, "hello", 5);
}

static void absent_attributes_are_absent(void **state)
{
	struct message message;
	struct nlmsghdr *nlh = begin(&message, NFQNL_MSG_PACKET);
	struct nfq_packet packet;
	int error;

	(void)state;
	put_packet_header(nlh, 1, 1);
	assert_int_equal(nfq_parse(message.bytes, nlh->nlmsg_len, &packet, &error),
			 NFQ_KIND_PACKET);
	assert_null(packet.data);
	assert_int_equal(packet.caplen, 0);
	assert_int_equal(packet.length, 0);
	assert_int_equal(packet.mark, 0);
	assert_false(packet.has_uid || packet.has_gid || packet.has_mac);
}

static void length_without_truncation_is_the_payload(void **state)
{
	struct message message;
	struct nlmsghdr *nlh = begin(&message, NFQNL_MSG_PACKET);
	struct nfq_packet packet;
	int error;

	(void)state;
	put_packet_header(nlh, 1, 1);
	mnl_attr_put(nlh, NFQA_PAYLOAD, 7, "1234567");
	nfq_parse(message.bytes, nlh->nlmsg_len, &packet, &error);
	assert_int_equal(packet.length, 7);
	assert_int_equal(packet.caplen, 7);
}

/* The receive slot was shorter than the message: the payload is cut, its length is known. */
static void a_cut_payload_keeps_its_length(void **state)
{
	uint8_t payload[200] = {0x45};
	struct message message;
	struct nlmsghdr *nlh = begin(&message, NFQNL_MSG_PACKET);
	struct nfq_packet packet;
	int error;

	(void)state;
	put_packet_header(nlh, 1, 1);
	mnl_attr_put(nlh, NFQA_PAYLOAD, sizeof(payload), payload);
	assert_int_equal(nfq_parse(message.bytes, nlh->nlmsg_len - 150, &packet, &error),
			 NFQ_KIND_PACKET);
	assert_int_equal(packet.length, 200);
	assert_int_equal(packet.caplen, 50);
}

static void a_packet_without_header_has_no_id(void **state)
{
	struct message message;
	struct nlmsghdr *nlh = begin(&message, NFQNL_MSG_PACKET);
	struct nfq_packet packet;
	int error;

	(void)state;
	mnl_attr_put_u32(nlh, NFQA_MARK, htonl(1));
	assert_int_equal(nfq_parse(message.bytes, nlh->nlmsg_len, &packet, &error), NFQ_KIND_NO_ID);
}

static void errors_are_told(void **state)
{
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
	} message = {.header = {.nlmsg_len = sizeof(message), .nlmsg_type = NLMSG_ERROR},
		     .error = {.error = -EPERM}};
	struct nfq_packet packet;
	int error = 0;

	(void)state;
	assert_int_equal(nfq_parse(&message, sizeof(message), &packet, &error), NFQ_KIND_ERROR);
	assert_int_equal(error, EPERM);
	/* An entry of conntrack that is to be forgotten may be none. */
	message.error.msg.nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE;
	assert_int_equal(nfq_parse(&message, sizeof(message), &packet, &error), NFQ_KIND_OTHER);
	message.error.msg.nlmsg_type = 0;
	message.header.nlmsg_type = NLMSG_DONE;
	assert_int_equal(nfq_parse(&message, sizeof(message), &packet, &error), NFQ_KIND_OTHER);
}

/* Whatever arrives: nothing is read beyond it (ASan), and what is told lies within it. */
static void check_contained(const uint8_t *bytes, size_t length)
{
	uint8_t *exact = malloc(length ? length : 1);
	struct nfq_packet packet;
	int error;

	assert_non_null(exact);
	memcpy(exact, bytes, length);
	if (nfq_parse(exact, length, &packet, &error) == NFQ_KIND_PACKET && packet.data) {
		assert_true(packet.data >= exact);
		assert_true(packet.data + packet.caplen <= exact + length);
	}
	free(exact);
}

static void survives_any_cut_and_any_noise(void **state)
{
	struct message message, noisy;

	(void)state;
	srand(7);
	full_packet(&message);
	for (size_t length = 0; length <= message.length; length++)
		check_contained(message.bytes, length);
	for (int i = 0; i < 20000; i++) {
		noisy = message;
		for (int flips = 0; flips < 4; flips++)
			noisy.bytes[(size_t)rand() % message.length] = (uint8_t)rand();
		check_contained(noisy.bytes, message.length);
	}
}

/* An odd attribute after the packet header: the id is known, so the packet can be dropped. */
static void an_odd_packet_keeps_its_id(void **state)
{
	struct message message;
	struct nlmsghdr *nlh = begin(&message, NFQNL_MSG_PACKET);
	struct nlattr odd = {.nla_len = 1, .nla_type = NFQA_MARK};
	struct nfq_packet packet;
	int error;

	(void)state;
	put_packet_header(nlh, 99, 1);
	memcpy(message.bytes + nlh->nlmsg_len, &odd, sizeof(odd));
	nlh->nlmsg_len += sizeof(odd);
	assert_int_equal(nfq_parse(message.bytes, nlh->nlmsg_len, &packet, &error),
			 NFQ_KIND_PACKET);
	assert_int_equal(packet.id, 99);
}

/* ---- writing; read back with libmnl ---- */

struct verdict {
	uint16_t type, number;
	uint32_t id, verdict, mark;
	bool has_mark;
	size_t payload_length;
	uint8_t first_byte;
};

static const struct nlmsghdr *read_verdict(const struct nlmsghdr *nlh, struct verdict *ret)
{
	const struct nfgenmsg *generic = mnl_nlmsg_get_payload(nlh);
	struct nlattr *attr;

	*ret = (struct verdict){.type = nlh->nlmsg_type & 0xff, .number = ntohs(generic->res_id)};
	assert_int_equal(nlh->nlmsg_flags, NLM_F_REQUEST);
	mnl_attr_for_each (attr, nlh, sizeof(*generic)) {
		const void *body = mnl_attr_get_payload(attr);

		switch (mnl_attr_get_type(attr)) {
		case NFQA_VERDICT_HDR:
			ret->verdict = ntohl(((const struct nfqnl_msg_verdict_hdr *)body)->verdict);
			ret->id = ntohl(((const struct nfqnl_msg_verdict_hdr *)body)->id);
			break;
		case NFQA_MARK:
			ret->has_mark = true;
			ret->mark = ntohl(mnl_attr_get_u32(attr));
			break;
		case NFQA_PAYLOAD:
			ret->payload_length = mnl_attr_get_payload_len(attr);
			ret->first_byte = *(const uint8_t *)body;
			break;
		default:
			fail();
		}
	}
	return (const void *)((const uint8_t *)nlh + NLMSG_ALIGN(nlh->nlmsg_len));
}

static void writes_verdicts_one_after_the_other(void **state)
{
	_Alignas(8) uint8_t buffer[256];
	struct nfq_batch batch = {.buffer = buffer, .size = sizeof(buffer)};
	const struct nlmsghdr *nlh = (const void *)buffer;
	struct verdict verdict;

	(void)state;
	assert_true(nfq_append(&batch, 5, 77, true, NF_ACCEPT, true, 0x10000001, NULL, 0));
	assert_true(
		nfq_append(&batch, 5, 78, false, NF_DROP, false, 0, (const uint8_t *)"abcde", 5));
	assert_true(nfq_append(&batch, 5, 79, false, NF_QUEUE | 9 << 16, false, 0, NULL, 0));

	nlh = read_verdict(nlh, &verdict);
	assert_int_equal(verdict.type, NFQNL_MSG_VERDICT_BATCH);
	assert_int_equal(verdict.number, 5);
	assert_int_equal(verdict.id, 77);
	assert_int_equal(verdict.verdict, NF_ACCEPT);
	assert_true(verdict.has_mark);
	assert_int_equal(verdict.mark, 0x10000001);

	nlh = read_verdict(nlh, &verdict);
	assert_int_equal(verdict.type, NFQNL_MSG_VERDICT);
	assert_int_equal(verdict.id, 78);
	assert_int_equal(verdict.verdict, NF_DROP);
	assert_false(verdict.has_mark);
	assert_int_equal(verdict.payload_length, 5);
	assert_int_equal(verdict.first_byte, 'a');

	nlh = read_verdict(nlh, &verdict);
	assert_int_equal(verdict.id, 79);
	assert_int_equal(verdict.verdict, NF_QUEUE | 9 << 16);
	assert_ptr_equal(nlh, buffer + batch.used);
}

static void what_does_not_fit_is_not_begun(void **state)
{
	_Alignas(8) uint8_t buffer[100];
	struct nfq_batch batch = {.buffer = buffer, .size = 71};

	(void)state;
	assert_true(nfq_append(&batch, 1, 1, false, NF_ACCEPT, false, 0, NULL, 0));
	assert_false(nfq_append(&batch, 1, 2, false, NF_ACCEPT, true, 1, NULL, 0));
	assert_int_equal(batch.used, 32);
	assert_true(nfq_append(&batch, 1, 2, false, NF_ACCEPT, false, 0, NULL, 0));
	assert_int_equal(batch.used, 64);
}

static void the_largest_payload_is_an_attributes(void **state)
{
	const size_t size = 70000;
	uint8_t *buffer = malloc(size), *payload = calloc(1, 65536);
	struct nfq_batch batch = {.buffer = buffer, .size = size};

	(void)state;
	assert_non_null(buffer);
	assert_non_null(payload);
	assert_false(nfq_append(&batch, 1, 1, false, NF_ACCEPT, false, 0, payload, 65532));
	assert_true(nfq_append(&batch, 1, 1, false, NF_ACCEPT, false, 0, payload, 65531));
	free(buffer);
	free(payload);
}

static void configuration_is_one_message_with_one_mask(void **state)
{
	_Alignas(8) uint8_t buffer[128];
	struct nfq_batch batch = {.buffer = buffer, .size = sizeof(buffer)};
	const struct nlmsghdr *nlh = (const void *)buffer;
	unsigned int flags = 0, masks = 0, params = 0;
	struct nlattr *attr;

	(void)state;
	assert_true(nfq_append_config(&batch, 3, 128, NFQA_CFG_F_GSO,
				      NFQA_CFG_F_GSO | NFQA_CFG_F_UID_GID));
	assert_int_equal(nlh->nlmsg_len, batch.used);
	assert_int_equal(nlh->nlmsg_type, NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_CONFIG);
	assert_int_equal(nlh->nlmsg_flags, NLM_F_REQUEST);
	mnl_attr_for_each (attr, nlh, sizeof(struct nfgenmsg)) {
		switch (mnl_attr_get_type(attr)) {
		case NFQA_CFG_FLAGS:
			flags++;
			assert_int_equal(ntohl(mnl_attr_get_u32(attr)), NFQA_CFG_F_GSO);
			break;
		case NFQA_CFG_MASK:
			masks++;
			assert_int_equal(ntohl(mnl_attr_get_u32(attr)),
					 NFQA_CFG_F_GSO | NFQA_CFG_F_UID_GID);
			break;
		case NFQA_CFG_PARAMS: {
			const struct nfqnl_msg_config_params *body = mnl_attr_get_payload(attr);

			params++;
			assert_int_equal(ntohl(body->copy_range), 128);
			assert_int_equal(body->copy_mode, NFQNL_COPY_PACKET);
			break;
		}
		default:
			fail();
		}
	}
	assert_int_equal(flags, 1);
	assert_int_equal(masks, 1);
	assert_int_equal(params, 1);
}

static void a_barrier_configures_nothing(void **state)
{
	_Alignas(8) uint8_t buffer[128];
	struct nfq_batch batch = {.buffer = buffer, .size = sizeof(buffer)};
	const struct nlmsghdr *nlh = (const void *)buffer;
	unsigned int attrs = 0;
	struct nlattr *attr;

	(void)state;
	assert_true(nfq_append_barrier(&batch, 3));
	assert_int_equal(nlh->nlmsg_len, batch.used);
	assert_int_equal(nlh->nlmsg_type, NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_CONFIG);
	mnl_attr_for_each (attr, nlh, sizeof(struct nfgenmsg)) {
		attrs |= 1U << mnl_attr_get_type(attr);
		assert_int_equal(mnl_attr_get_u32(attr), 0);
	}
	assert_int_equal(attrs, 1U << NFQA_CFG_FLAGS | 1U << NFQA_CFG_MASK);
	batch.size = batch.used + 1;
	assert_false(nfq_append_barrier(&batch, 3));
}

static const struct nlattr *attr_in(const struct nlattr *nest, uint16_t type)
{
	const struct nlattr *attr;

	mnl_attr_for_each_nested (attr, nest) {
		if (mnl_attr_get_type(attr) == type)
			return attr;
	}
	fail_msg("attribute %u is missing", type);
	return NULL;
}

static void check_bytes(const struct nlattr *attr, const void *bytes, size_t length)
{
	assert_int_equal(mnl_attr_get_payload_len(attr), length);
	assert_memory_equal(mnl_attr_get_payload(attr), bytes, length);
}

/* A request without the flow would have the kernel delete them all. */
static void forgets_one_flow_and_no_other(void **state)
{
	struct nfq_tuple tuple = {.family = AF_INET6,
				  .protocol = IPPROTO_ICMPV6,
				  .icmp_type = 128,
				  .icmp_id = htons(77),
				  .src = {.bytes = {0xfd, [15] = 1}},
				  .dst = {.bytes = {0xfd, [15] = 2}}};
	_Alignas(8) uint8_t buffer[256];
	struct nfq_batch batch = {.buffer = buffer, .size = sizeof(buffer)};
	const struct nlmsghdr *nlh = (const void *)buffer;
	const struct nlattr *original, *ip, *protocol;

	(void)state;
	assert_true(nfq_append_forget(&batch, &tuple));
	assert_int_equal(nlh->nlmsg_len, batch.used);
	assert_int_equal(nlh->nlmsg_type, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE);
	assert_int_equal(((const struct nfgenmsg *)mnl_nlmsg_get_payload(nlh))->nfgen_family,
			 AF_INET6);
	original = mnl_nlmsg_get_payload_offset(nlh, sizeof(struct nfgenmsg));
	assert_int_equal(mnl_attr_get_type(original), CTA_TUPLE_ORIG);
	ip = attr_in(original, CTA_TUPLE_IP);
	check_bytes(attr_in(ip, CTA_IP_V6_SRC), &tuple.src, 16);
	check_bytes(attr_in(ip, CTA_IP_V6_DST), &tuple.dst, 16);
	protocol = attr_in(original, CTA_TUPLE_PROTO);
	check_bytes(attr_in(protocol, CTA_PROTO_NUM), &tuple.protocol, 1);
	check_bytes(attr_in(protocol, CTA_PROTO_ICMPV6_ID), &tuple.icmp_id, 2);
	check_bytes(attr_in(protocol, CTA_PROTO_ICMPV6_TYPE), &tuple.icmp_type, 1);
	check_bytes(attr_in(protocol, CTA_PROTO_ICMPV6_CODE), &tuple.icmp_code, 1);

	batch.size = 2 * batch.used - 1;
	assert_false(nfq_append_forget(&batch, &tuple));
	batch.used = 0;
	tuple.family = AF_INET;
	tuple.protocol = IPPROTO_ICMP;
	assert_true(nfq_append_forget(&batch, &tuple));
	original = mnl_nlmsg_get_payload_offset(nlh, sizeof(struct nfgenmsg));
	check_bytes(attr_in(attr_in(original, CTA_TUPLE_IP), CTA_IP_V4_DST), &tuple.dst, 4);
	check_bytes(attr_in(attr_in(original, CTA_TUPLE_PROTO), CTA_PROTO_ICMP_ID), &tuple.icmp_id,
		    2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_every_attribute),
		cmocka_unit_test(absent_attributes_are_absent),
		cmocka_unit_test(length_without_truncation_is_the_payload),
		cmocka_unit_test(a_cut_payload_keeps_its_length),
		cmocka_unit_test(a_packet_without_header_has_no_id),
		cmocka_unit_test(errors_are_told),
		cmocka_unit_test(survives_any_cut_and_any_noise),
		cmocka_unit_test(an_odd_packet_keeps_its_id),
		cmocka_unit_test(writes_verdicts_one_after_the_other),
		cmocka_unit_test(what_does_not_fit_is_not_begun),
		cmocka_unit_test(the_largest_payload_is_an_attributes),
		cmocka_unit_test(configuration_is_one_message_with_one_mask),
		cmocka_unit_test(a_barrier_configures_nothing),
		cmocka_unit_test(forgets_one_flow_and_no_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
