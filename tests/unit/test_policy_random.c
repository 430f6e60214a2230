/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random policies and packets held against a matcher so plain that it can be seen to be right.
 * It works from its own description of the rules, not from anything the parser or the compiler
 * made. The seed is fixed: a failure comes back.
 */
#include <inttypes.h>

#include "policy_fixture.h"

static uint64_t seed;

static uint32_t below(uint32_t bound)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 32) % bound;
}

struct plain_value {
	uint64_t low, high, mask; /* of numbers; with a mask, low is the value */
	uint8_t family;
	uint8_t first[16], last[16];
	char link[8];
};

struct plain_match {
	enum policy_field field;
	bool negated;
	int count;
	struct plain_value values[4];
};

struct plain_rule {
	enum policy_action action;
	bool log, audit, marks;
	uint32_t set, mask;
	uint32_t burst, rate; /* 0: no limit */
	uint64_t tokens, filled_at;
	int match_count;
	struct plain_match matches[5];
	struct shm_count hits;
};

#define PLAIN_RULES 1300
static struct plain_rule plain[PLAIN_RULES];
static int plain_count;
static enum policy_action plain_default;
static bool plain_audit;
static char text[2000000];
static size_t text_length;

static void emit(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void emit(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	text_length +=
		(size_t)vsnprintf(text + text_length, sizeof(text) - text_length, format, args);
	va_end(args);
	assert_true(text_length < sizeof(text));
}

static const char *const field_names[POLICY_FIELD_MAX] = {
	"direction", "family",	  "protocol",  "src",  "dst", "sport",	  "dport",
	"icmp_type", "icmp_code", "tcp_flags", "iif",  "oif", "src_mac",  "mark",
	"uid",	     "gid",	  "length",    "dscp", "ttl", "fragment", "ct",
};

static void random_range(struct plain_value *value, uint32_t max)
{
	uint32_t a = below(4) ? below(max < 40 ? max + 1 : 40) : below(max) + 1;
	uint32_t b = below(2) ? a : below(4) ? a + below(8) : below(max) + 1;

	a = a > max ? max : a;
	b = b > max ? max : b;
	value->low = a < b ? a : b;
	value->high = a < b ? b : a;
	if (value->low == value->high && below(2))
		emit("%" PRIu64, value->low);
	else
		emit("\"%" PRIu64 "-%" PRIu64 "\"", value->low, value->high);
}

static void random_word(struct plain_value *value, const char *const *words, uint32_t count)
{
	value->low = value->high = below(count);
	emit("\"%s\"", words[value->low]);
}

/* Addresses near each other, in 10.0.x.x and 2001:db8::x:x. */
static void random_bytes(uint8_t family, uint8_t *bytes)
{
	static const uint8_t v4[16] = {10, 0}, v6[16] = {0x20, 0x01, 0x0d, 0xb8};
	size_t size = family == AF_INET ? 4 : 16;

	memcpy(bytes, family == AF_INET ? v4 : v6, 16);
	bytes[size - 2] = (uint8_t)below(3);
	bytes[size - 1] = (uint8_t)below(below(2) ? 8 : 256);
	if (below(16) == 0)
		bytes[0] = (uint8_t)(below(2) * 255);
}

static void random_address(struct plain_value *value)
{
	char first[INET6_ADDRSTRLEN], last[INET6_ADDRSTRLEN];
	uint8_t bytes[16];
	uint32_t size, bits;

	value->family = below(2) ? AF_INET : AF_INET6;
	size = value->family == AF_INET ? 4 : 16;
	random_bytes(value->family, value->first);
	if (below(3) == 0) {
		random_bytes(value->family, value->last);
		if (memcmp(value->first, value->last, 16) > 0) {
			memcpy(bytes, value->first, 16);
			memcpy(value->first, value->last, 16);
			memcpy(value->last, bytes, 16);
		}
		inet_ntop(value->family, value->first, first, sizeof(first));
		inet_ntop(value->family, value->last, last, sizeof(last));
		emit("\"%s-%s\"", first, last);
		return;
	}
	bits = below(8) ? size * 8 - below(20) : below(size * 8 + 1);
	memcpy(value->last, value->first, 16);
	for (uint32_t i = bits; i < size * 8; i++) {
		value->first[i / 8] &= (uint8_t) ~(0x80 >> i % 8);
		value->last[i / 8] |= (uint8_t)(0x80 >> i % 8);
	}
	inet_ntop(value->family, value->first, first, sizeof(first));
	if (bits == size * 8)
		emit("\"%s\"", first);
	else
		emit("\"%s/%u\"", first, bits);
}

static void random_value(enum policy_field field, struct plain_value *value)
{
	static const char *const directions[] = {"in", "out", "forward"};
	static const char *const families[] = {"ipv4", "ipv6"};
	static const char *const flags[] = {"fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"};
	static const char *const links[] = {"eth0", "eth1", "eth*", "lo", "*"};
	static const char *const states[] = {"new",	"reply",   "established",
					     "related", "invalid", "untracked"};
	static const uint8_t protocols[] = {1, 6, 17, 58, 132};

	switch (field) {
	case POLICY_FIELD_DIRECTION:
		random_word(value, directions, 3);
		break;
	case POLICY_FIELD_FAMILY:
		random_word(value, families, 2);
		break;
	case POLICY_FIELD_PROTOCOL:
		value->low = value->high = protocols[below(5)];
		emit("%" PRIu64, value->low);
		break;
	case POLICY_FIELD_SRC:
	case POLICY_FIELD_DST:
		random_address(value);
		break;
	case POLICY_FIELD_SPORT:
	case POLICY_FIELD_DPORT:
	case POLICY_FIELD_LENGTH:
		random_range(value, 65535);
		break;
	case POLICY_FIELD_UID:
	case POLICY_FIELD_GID:
		random_range(value, 4294967294);
		break;
	case POLICY_FIELD_ICMP_CODE:
	case POLICY_FIELD_TTL:
		random_range(value, 255);
		break;
	case POLICY_FIELD_DSCP:
		random_range(value, 63);
		break;
	case POLICY_FIELD_ICMP_TYPE:
		value->low = value->high = below(6);
		emit("%" PRIu64, value->low);
		break;
	case POLICY_FIELD_TCP_FLAGS: {
		uint32_t a = below(8), b = below(8);

		value->low = UINT64_C(1) << a;
		value->mask = value->low | UINT64_C(1) << b;
		emit("\"%s/%s,%s\"", flags[a], flags[b], flags[a]);
		break;
	}
	case POLICY_FIELD_IIF:
	case POLICY_FIELD_OIF:
		strcpy(value->link, links[below(5)]);
		emit("\"%s\"", value->link);
		break;
	case POLICY_FIELD_SRC_MAC:
		value->low = value->high = UINT64_C(0x020000000000) | below(6);
		emit("\"02:00:00:00:00:%02x\"", (unsigned int)value->low & 0xff);
		break;
	case POLICY_FIELD_MARK:
		value->mask = below(2) ? UINT32_MAX : below(16);
		value->low = below(8) & value->mask;
		if (value->mask == UINT32_MAX)
			emit("%" PRIu64, value->low);
		else
			emit("\"0x%" PRIx64 "/%" PRIu64 "\"", value->low, value->mask);
		break;
	case POLICY_FIELD_FRAGMENT:
		value->low = value->high = below(2);
		emit("%s", value->low ? "true" : "false");
		break;
	case POLICY_FIELD_CT:
		value->low = below(6);
		emit("\"%s\"", states[value->low]);
		value->low = value->mask = UINT64_C(1) << value->low;
		break;
	case POLICY_FIELD_DOMAIN: /* test_policy_names */
	case POLICY_FIELD_DNS:
	case POLICY_FIELD_MAX:
		break;
	}
}

static void random_match(struct plain_rule *rule, enum policy_field field)
{
	struct plain_match *match = &rule->matches[rule->match_count];

	for (int i = 0; i < rule->match_count; i++) {
		if (rule->matches[i].field == field)
			return;
	}
	memset(match, 0, sizeof(*match));
	match->field = field;
	match->negated = below(4) == 0;
	match->count = 1 + (int)below(3);
	emit(",\"%s%s\":[", match->negated ? "not_" : "", field_names[field]);
	for (int i = 0; i < match->count; i++) {
		if (i > 0)
			emit(",");
		random_value(field, &match->values[i]);
	}
	emit("]");
	rule->match_count++;
}

static void random_rule(struct plain_rule *rule, int index, uint32_t field_count)
{
	memset(rule, 0, sizeof(*rule));
	rule->action = (enum policy_action)below(POLICY_ACTION_MAX);
	if (rule->action == POLICY_ACTION_REPEAT && below(4))
		rule->action = POLICY_ACTION_CONTINUE;
	emit("%s{\"name\":\"r%d\",\"action\":\"%s\"", index ? "," : "", index,
	     policy_action_names[rule->action]);
	if (rule->action == POLICY_ACTION_QUEUE)
		emit(",\"queue\":%d", index);
	rule->log = below(8) == 0;
	rule->audit = below(8) == 0;
	if (rule->log)
		emit(",\"log\":true");
	if (rule->audit)
		emit(",\"audit\":true");
	rule->marks = rule->action == POLICY_ACTION_REPEAT ||
		      (rule->action != POLICY_ACTION_DROP && rule->action != POLICY_ACTION_REJECT &&
		       below(4) == 0);
	if (below(10) == 0) {
		rule->rate = 1 + below(3);
		rule->burst = 1 + below(4);
		rule->tokens = rule->burst * UINT64_C(1000000000);
		emit(",\"limit\":{\"rate\":\"%u/s\",\"burst\":%u}", rule->rate, rule->burst);
	}
	for (uint32_t i = 1 + below(4); i > 0; i--) {
		enum policy_field field = (enum policy_field)below(field_count);

		if (field != POLICY_FIELD_MARK || !rule->marks)
			random_match(rule, field);
	}
	if (rule->marks) {
		rule->mask = below(2) ? UINT32_MAX : below(16);
		rule->set = below(8) & rule->mask;
		emit(",\"mark\":{\"set\":%u,\"mask\":\"0x%x\"}", rule->set, rule->mask);
	}
	emit("}");
}

static void random_policy(int rules)
{
	static const char *const defaults[] = {"accept", "drop", "reject"};
	uint32_t field_count = below(2) ? POLICY_FIELD_CT + 1 : POLICY_FIELD_DPORT + 1;

	text_length = 0;
	plain_count = rules;
	plain_default = (enum policy_action)below(3);
	plain_audit = below(8) == 0;
	emit("{\"version\":1,\"mode\":\"%s\",\"default\":\"%s\",\"rules\":[",
	     plain_audit ? "audit" : "enforce", defaults[plain_default]);
	for (int i = 0; i < rules; i++)
		random_rule(&plain[i], i, field_count);
	emit("]}");
}

static bool plain_number(const struct pkt *pkt, enum policy_field field, uint64_t *ret)
{
	*ret = 0;
	if (field == POLICY_FIELD_DIRECTION)
		*ret = pkt->direction;
	else if (field == POLICY_FIELD_FAMILY)
		*ret = pkt->family == AF_INET ? 0 : 1;
	else if (field == POLICY_FIELD_PROTOCOL)
		*ret = pkt->protocol;
	else if (field == POLICY_FIELD_SPORT || field == POLICY_FIELD_DPORT) {
		*ret = field == POLICY_FIELD_SPORT ? pkt->sport : pkt->dport;
		return pkt->have & PKT_HAVE_PORTS;
	} else if (field == POLICY_FIELD_ICMP_TYPE || field == POLICY_FIELD_ICMP_CODE) {
		*ret = field == POLICY_FIELD_ICMP_TYPE ? pkt->icmp_type : pkt->icmp_code;
		return pkt->have & PKT_HAVE_ICMP;
	} else if (field == POLICY_FIELD_TCP_FLAGS) {
		*ret = pkt->tcp_flags;
		return pkt->have & PKT_HAVE_TCP_FLAGS;
	} else if (field == POLICY_FIELD_SRC_MAC) {
		*ret = UINT64_C(0x020000000000) | pkt->src_mac[5];
		return pkt->have & PKT_HAVE_MAC;
	} else if (field == POLICY_FIELD_MARK)
		*ret = pkt->mark;
	else if (field == POLICY_FIELD_UID) {
		*ret = pkt->uid;
		return pkt->have & PKT_HAVE_UID;
	} else if (field == POLICY_FIELD_GID) {
		*ret = pkt->gid;
		return pkt->have & PKT_HAVE_GID;
	} else if (field == POLICY_FIELD_LENGTH)
		*ret = pkt->length;
	else if (field == POLICY_FIELD_DSCP)
		*ret = pkt->dscp;
	else if (field == POLICY_FIELD_TTL)
		*ret = pkt->ttl;
	else if (field == POLICY_FIELD_FRAGMENT)
		*ret = pkt->have & PKT_HAVE_FRAGMENT ? 1 : 0;
	else if (field == POLICY_FIELD_CT)
		*ret = pkt->ct;
	return true;
}

static bool plain_value_holds(enum policy_field field, const struct plain_value *value,
			      const struct pkt *pkt, const char *iif, const char *oif,
			      uint64_t number)
{
	const uint8_t *bytes = field == POLICY_FIELD_SRC ? pkt->src.bytes : pkt->dst.bytes;

	if (field == POLICY_FIELD_SRC || field == POLICY_FIELD_DST)
		return value->family == pkt->family && memcmp(bytes, value->first, 16) >= 0 &&
		       memcmp(bytes, value->last, 16) <= 0;
	if (field == POLICY_FIELD_IIF || field == POLICY_FIELD_OIF)
		return policy_ifpattern_match(value->link, field == POLICY_FIELD_IIF ? iif : oif);
	if (field == POLICY_FIELD_MARK || field == POLICY_FIELD_TCP_FLAGS ||
	    field == POLICY_FIELD_CT)
		return (number & value->mask) == value->low;
	return number >= value->low && number <= value->high;
}

static bool plain_rule_holds(struct plain_rule *rule, const struct pkt *pkt, const char *iif,
			     const char *oif, uint64_t now)
{
	bool forbids = rule->action == POLICY_ACTION_DROP || rule->action == POLICY_ACTION_REJECT;
	uint64_t number;

	for (int i = 0; i < rule->match_count; i++) {
		const struct plain_match *match = &rule->matches[i];
		bool found = false;

		if (pkt->unknown >> match->field & 1) {
			if (!forbids)
				return false;
			continue;
		}
		if (!plain_number(pkt, match->field, &number))
			return false;
		for (int j = 0; j < match->count; j++)
			found |= plain_value_holds(match->field, &match->values[j], pkt, iif, oif,
						   number);
		if (found == match->negated)
			return false;
	}
	if (rule->rate == 0)
		return true;
	if (pkt->unknown)
		return forbids;
	rule->tokens += (now - rule->filled_at) * rule->rate;
	rule->filled_at = now;
	if (rule->tokens > rule->burst * UINT64_C(1000000000))
		rule->tokens = rule->burst * UINT64_C(1000000000);
	if (rule->tokens < 1000000000)
		return false;
	rule->tokens -= 1000000000;
	return true;
}

static void plain_log(struct policy_decision *ret, int rule)
{
	if (ret->log_count < POLICY_LOGS_MAX)
		ret->log_rules[ret->log_count] = rule;
	ret->log_count++;
}

static bool same_logs(const struct policy_decision *a, const struct policy_decision *b)
{
	for (uint32_t i = 0; i < a->log_count && i < POLICY_LOGS_MAX; i++) {
		if (a->log_rules[i] != b->log_rules[i])
			return false;
	}
	return true;
}

static void plain_decide(const struct pkt *packet, const char *iif, const char *oif, uint64_t now,
			 struct policy_decision *ret)
{
	struct pkt pkt = *packet;
	enum policy_action action = plain_default;
	const bool counts = !pkt.unknown; /* a question about a reversed packet counts nothing */
	bool audit = plain_audit;
	int i;

	memset(ret, 0, sizeof(*ret));
	ret->rule = -1;
again:
	for (i = 0; i < plain_count; i++) {
		struct plain_rule *rule = &plain[i];

		if (ret->repeated && rule->action == POLICY_ACTION_REPEAT)
			continue;
		if (!plain_rule_holds(rule, &pkt, iif, oif, now))
			continue;
		rule->hits.packets += counts;
		rule->hits.bytes += counts ? pkt.length : 0;
		if (rule->log)
			plain_log(ret, i);
		if (rule->marks) {
			pkt.mark = (pkt.mark & ~rule->mask) | rule->set;
			if (rule->mask == UINT32_MAX)
				pkt.unknown &= ~(UINT64_C(1) << POLICY_FIELD_MARK);
		}
		if (rule->action == POLICY_ACTION_CONTINUE)
			continue;
		if (rule->action == POLICY_ACTION_REPEAT) {
			ret->repeated = true;
			goto again;
		}
		ret->rule = i;
		action = rule->action;
		audit |= rule->audit;
		break;
	}
	ret->mark = pkt.mark;
	ret->verdict = action == POLICY_ACTION_ACCEPT	? POLICY_VERDICT_ACCEPT
		       : action == POLICY_ACTION_DROP	? POLICY_VERDICT_DROP
		       : action == POLICY_ACTION_REJECT ? POLICY_VERDICT_REJECT
							: POLICY_VERDICT_QUEUE;
	ret->would_drop = audit && (action == POLICY_ACTION_DROP || action == POLICY_ACTION_REJECT);
	if (ret->would_drop) {
		ret->verdict = POLICY_VERDICT_ACCEPT;
		if (ret->rule < 0 || !plain[ret->rule].log)
			plain_log(ret, ret->rule);
	}
}

static uint64_t link_bits(const struct policy_info *info, const char *name)
{
	uint64_t bits = 0;

	for (size_t i = 0; i < info->ifpattern_count; i++)
		bits |= (uint64_t)policy_ifpattern_match(info->ifpatterns[i], name) << i;
	return bits;
}

static void random_packet(const struct policy_info *info, struct pkt *pkt, const char **iif,
			  const char **oif)
{
	static const char *const links[] = {"eth0", "eth1", "eth2", "lo", "wg0"};
	static const uint8_t protocols[] = {1, 6, 17, 58, 132};
	struct pkt reversed;
	const char *swap;

	memset(pkt, 0, sizeof(*pkt));
	pkt->direction = (uint8_t)below(3);
	pkt->family = below(2) ? AF_INET : AF_INET6;
	pkt->protocol = protocols[below(5)];
	random_bytes(pkt->family, pkt->src.bytes);
	random_bytes(pkt->family, pkt->dst.bytes);
	pkt->sport = (uint16_t)(below(3) ? below(45) : below(65536));
	pkt->dport = (uint16_t)(below(3) ? below(45) : below(65536));
	pkt->icmp_type = (uint8_t)below(7);
	pkt->icmp_code = (uint8_t)below(50);
	pkt->tcp_flags = (uint8_t)below(256);
	pkt->src_mac[0] = 2;
	pkt->src_mac[5] = (uint8_t)below(7);
	pkt->mark = below(9) | (below(3) ? 0 : 0xa5000000);
	pkt->uid = below(3) ? below(45) : below(UINT32_MAX);
	pkt->gid = below(3) ? below(45) : below(UINT32_MAX);
	pkt->length = below(3) ? below(45) : below(65536);
	pkt->dscp = (uint8_t)below(64);
	pkt->ttl = (uint8_t)below(256);
	pkt->ct = (uint8_t)below(64);
	pkt->have = (uint16_t)below(256);
	*iif = links[below(5)];
	*oif = links[below(5)];
	pkt->iif_bits = link_bits(info, *iif);
	pkt->oif_bits = link_bits(info, *oif);
	if (below(5) == 0) {
		pkt_reverse(&reversed, pkt);
		*pkt = reversed;
		swap = *iif;
		*iif = *oif;
		*oif = swap;
	} else if (below(10) == 0) { /* any set of unknown fields, also such as never occur */
		pkt->unknown = (uint64_t)below(1U << POLICY_FIELD_MAX) & below(UINT32_MAX);
	}
}

static void compare(int round, int packet, const struct policy_decision *expected,
		    const struct policy_decision *decision)
{
	if (expected->rule == decision->rule && expected->verdict == decision->verdict &&
	    expected->mark == decision->mark && expected->log_count == decision->log_count &&
	    same_logs(expected, decision) && expected->repeated == decision->repeated &&
	    expected->would_drop == decision->would_drop &&
	    (expected->verdict != POLICY_VERDICT_QUEUE || decision->queue == decision->rule))
		return;
	fail_msg("policy %d packet %d: rule %d verdict %d mark %x expected, rule %d verdict %d "
		 "mark %x decided",
		 round, packet, expected->rule, (int)expected->verdict, expected->mark,
		 decision->rule, (int)decision->verdict, decision->mark);
}

static void test_against_plain_matcher(void **test)
{
	static const int sizes[] = {1, 2, 3, 5, 8, 13, 40, 64, 65, 130, 511, 512, 513, 1290};
	int policies = 240, packets = 1000, decided = 0;

	(void)test;
	seed = UINT64_C(0x5eed5eed12345678);
	for (int round = 0; round < policies; round++) {
		struct policy_decision expected, decision;
		const struct policy_info *info;
		const char *iif, *oif;
		struct fixture f;
		struct pkt pkt;

		/* The large ones are few, as the plain matcher is slow. */
		random_policy(sizes[below(round % 8 == 0 ? 14 : 10)]);
		open_text(&f, text, text_length);
		f.state.now_ns = 0;
		info = policy_info(f.policy);
		for (int i = 0; i < packets; i++) {
			random_packet(info, &pkt, &iif, &oif);
			f.state.now_ns += below(200000000);
			plain_decide(&pkt, iif, oif, f.state.now_ns, &expected);
			decision = decide(&f, &pkt);
			compare(round, i, &expected, &decision);
			decided += decision.rule >= 0;
		}
		for (int i = 0; i < plain_count; i++) {
			assert_int_equal(plain[i].hits.packets, counters[i].count.packets);
			assert_int_equal(plain[i].hits.bytes, counters[i].count.bytes);
		}
		close_policy(&f);
	}
	/* The generator is of use only while both rules and defaults decide. */
	assert_in_range(decided, policies * packets / 10, policies * packets * 9 / 10);
}

/* Another packet of the same flow by the same hook. */
static void vary(struct pkt *pkt, const struct policy_info *info)
{
	const uint16_t own = PKT_HAVE_TCP_FLAGS | PKT_HAVE_MAC | PKT_HAVE_UID | PKT_HAVE_GID;
	const char *iif, *oif;
	struct pkt other;

	do
		random_packet(info, &other, &iif, &oif);
	while (other.unknown);
	other.direction = pkt->direction;
	other.family = pkt->family;
	other.protocol = pkt->protocol;
	other.src = pkt->src;
	other.dst = pkt->dst;
	other.sport = pkt->sport;
	other.dport = pkt->dport;
	other.have = (uint16_t)(PKT_HAVE_PORTS | (other.have & own));
	*pkt = other;
}

/* What is said to hold for a flow does. That it is said often enough, test_policy_flow sees to. */
static void test_decisions_of_flows(void **test)
{
	static const int sizes[] = {1, 2, 3, 5, 8, 13, 40, 130, 513};
	int flows = 0, held = 0;

	(void)test;
	seed = UINT64_C(0xf10f10f10f1);
	for (int round = 0; round < 400; round++) {
		struct policy_decision first, next;
		const struct policy_info *info;
		struct fixture f;
		struct pkt pkt = {.family = AF_INET};

		random_policy(sizes[below(round % 8 == 0 ? 9 : 6)]);
		open_text(&f, text, text_length);
		info = policy_info(f.policy);
		for (int i = 0; i < 50; i++, flows++) {
			pkt.direction = (uint8_t)below(3);
			pkt.family = below(2) ? AF_INET : AF_INET6;
			pkt.protocol = below(2) ? IPPROTO_TCP : IPPROTO_UDP;
			random_bytes(pkt.family, pkt.src.bytes);
			random_bytes(pkt.family, pkt.dst.bytes);
			pkt.sport = (uint16_t)below(45);
			pkt.dport = (uint16_t)below(45);
			vary(&pkt, info);
			first = decide(&f, &pkt);
			if (!policy_decides_flow(f.policy, &pkt, &first))
				continue;
			held++;
			for (int j = 0; j < 40; j++) {
				vary(&pkt, info);
				f.state.now_ns += below(200000000);
				next = decide(&f, &pkt);
				assert_int_equal(next.rule, first.rule);
				assert_int_equal(next.verdict, first.verdict);
				assert_false(next.repeated);
			}
		}
		close_policy(&f);
	}
	assert_in_range(held, flows / 20, flows * 19 / 20);
}

static void test_ten_thousand_rules(void **test)
{
	struct policy_decision decision;
	struct fixture f;
	struct pkt pkt;
	char address[32];

	(void)test;
	text_length = 0;
	emit("{\"version\":1,\"default\":\"accept\",\"rules\":[");
	for (int i = 0; i < 10000; i++)
		emit("%s{\"name\":\"r%d\",\"action\":\"drop\",\"dst\":\"10.%d.%d.0/24\","
		     "\"dport\":\"%d-%d\",\"protocol\":\"%s\"}",
		     i ? "," : "", i, i / 256, i % 256, i, i + 7, i % 2 ? "tcp" : "udp");
	emit("]}");
	open_text(&f, text, text_length);
	for (int i = 0; i < 10000; i++) {
		snprintf(address, sizeof(address), "10.%d.%d.%d", i / 256, i % 256, i % 250);
		pkt = tcp_to(address, (uint16_t)(i + 7));
		pkt.protocol = i % 2 ? IPPROTO_TCP : IPPROTO_UDP;
		decision = decide(&f, &pkt);
		assert_int_equal(decision.rule, i);
		pkt.dport++;
		decision = decide(&f, &pkt);
		assert_int_equal(decision.rule, POLICY_RULE_DEFAULT);
	}
	close_policy(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_plain_matcher),
		cmocka_unit_test(test_decisions_of_flows),
		cmocka_unit_test(test_ten_thousand_rules),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
