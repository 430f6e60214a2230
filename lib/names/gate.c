/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "names/gate.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "names/address.h"
#include "nsgate/hook.h"
#include "proto/dns_answer.h"

#define DNS_PORT 53
#define UDP_HEADER 8
#define TCP_HEADER 20
#define TCP_FLAG_SYN 0x02
#define TCP_FLAG_ACK 0x10
#define NS_PER_S UINT64_C(1000000000)

static uint16_t get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)get16(at) << 16 | get16(at + 2);
}

/* ---- what a packet is ---- */

static const struct policy_names *said(const struct judge_policy *judge)
{
	return policy_info(judge->policy)->names;
}

static bool is_resolver(const struct judge_policy *judge, uint8_t family,
			const struct pkt_addr *address)
{
	const struct policy_names *names = said(judge);

	for (uint32_t i = 0; i < names->resolver_count; i++)
		if (names->resolvers[i].family == family &&
		    memcmp(&names->resolvers[i].address, address, sizeof(*address)) == 0)
			return true;
	return false;
}

/* Is that end a server of names? Others may redirect what goes to one on the loopback. */
static bool is_server(const struct judge_policy *judge, uint8_t family,
		      const struct pkt_addr *address, uint16_t port)
{
	return port == DNS_PORT ||
	       (pkt_addr_is_loopback(family, address) && is_resolver(judge, family, address));
}

static bool is_reply(const struct judge_packet *packet)
{
	return packet->pkt.ct & PKT_CT_REPLY;
}

enum gate_kind gate_kind(const struct judge_policy *judge, const struct judge_packet *packet)
{
	const struct pkt *pkt = &packet->pkt;

	if ((pkt->protocol != IPPROTO_UDP && pkt->protocol != IPPROTO_TCP) ||
	    pkt->have & PKT_HAVE_LATER_FRAGMENT)
		return GATE_KIND_OTHER;
	if (is_reply(packet))
		return is_server(judge, pkt->family, &pkt->src, pkt->sport) ? GATE_KIND_ANSWER
									    : GATE_KIND_OTHER;
	return is_server(judge, pkt->family, &pkt->dst, pkt->dport) ? GATE_KIND_QUERY
								    : GATE_KIND_OTHER;
}

/* The bytes behind a UDP header that says how many there are. Return: is that all there is? */
static bool datagram(const struct judge_packet *packet, const uint8_t **ret_data,
		     size_t *ret_length)
{
	const uint32_t at = packet->pkt.l4_offset;
	size_t length;

	if (packet->is_gso || packet->caplen < packet->pkt.length ||
	    packet->caplen < at + UDP_HEADER || packet->pkt.have & PKT_HAVE_FRAGMENT)
		return false;
	length = get16(packet->data + at + 4);
	if (length < UDP_HEADER || at + length != packet->pkt.length)
		return false;
	*ret_data = packet->data + at + UDP_HEADER;
	*ret_length = length - UDP_HEADER;
	return true;
}

/* The bytes behind a TCP header. Return: false where it is no whole header, or a fragment. */
static bool segment(const struct judge_packet *packet, struct names_segment *ret)
{
	const uint32_t at = packet->pkt.l4_offset;
	size_t header;

	if (packet->caplen < at + TCP_HEADER || packet->pkt.have & PKT_HAVE_FRAGMENT)
		return false;
	header = (size_t)(packet->data[at + 12] >> 4) * 4;
	if (header < TCP_HEADER || at + header > packet->caplen)
		return false;
	*ret = (struct names_segment){
		.at = get32(packet->data + at + 4),
		.data = packet->data + at + header,
		.length = packet->caplen - at - header,
		.is_cut = packet->caplen < packet->pkt.length,
	};
	return true;
}

static struct names_flow flow_of(const struct pkt *pkt, bool is_from_server)
{
	return (struct names_flow){
		.client = is_from_server ? pkt->dst : pkt->src,
		.server = is_from_server ? pkt->src : pkt->dst,
		.client_port = is_from_server ? pkt->dport : pkt->sport,
		.server_port = is_from_server ? pkt->sport : pkt->dport,
		.family = pkt->family,
	};
}

/* What a packet's message asks for, or answers: its two ends, and the question. */
static struct names_query query_of(const struct pkt *pkt, bool is_from_resolver,
				   const struct dns_question *question)
{
	return (struct names_query){
		.client = is_from_resolver ? pkt->dst : pkt->src,
		.resolver = is_from_resolver ? pkt->src : pkt->dst,
		.client_port = is_from_resolver ? pkt->dport : pkt->sport,
		.resolver_port = is_from_resolver ? pkt->sport : pkt->dport,
		.id = question->id,
		.type = question->type,
		.family = pkt->family,
		.protocol = pkt->protocol,
		.domain = question->name,
	};
}

/* ---- refusals on their way ---- */

/* Most packets are not from port 53, or are longer. */
bool gate_is_turned(struct judge_policy *judge, const struct judge_packet *packet,
		    uint32_t *ret_mark)
{
	const struct pkt *pkt = &packet->pkt;
	bool found;

	if (pkt->protocol != IPPROTO_UDP || pkt->sport != DNS_PORT ||
	    pkt->length > NAMES_TURNED_BYTES || packet->caplen < pkt->length)
		return false;
	pthread_mutex_lock(&judge->names->lock);
	found = names_turned_find(&judge->names->turned, packet->data, pkt->length,
				  judge->state.now_ns, ret_mark);
	pthread_mutex_unlock(&judge->names->lock);
	return found;
}

bool gate_is_datagram(const struct judge_packet *packet)
{
	const uint8_t *data;
	size_t length;

	return packet->pkt.query == PKT_QUERY_GOOD && packet->pkt.protocol == IPPROTO_UDP &&
	       packet->pkt.dport == DNS_PORT && datagram(packet, &data, &length) &&
	       length + NAMES_TURNED_HEADERS <= NAMES_TURNED_BYTES;
}

size_t gate_turn(struct judge_policy *judge, const struct judge_packet *packet, uint8_t *ret_packet)
{
	const bool is_refused = said(judge)->refuse == POLICY_REFUSE_REFUSED;
	struct dns_question question;
	const uint8_t *data;
	size_t length;

	if (!datagram(packet, &data, &length) ||
	    length + NAMES_TURNED_HEADERS > NAMES_TURNED_BYTES ||
	    dns_query_read(data, length, &question) < 0)
		return 0;
	length = names_turn(&packet->pkt, data, length, &question,
			    is_refused ? DNS_RCODE_REFUSED : DNS_RCODE_NXDOMAIN, ret_packet);
	pthread_mutex_lock(&judge->names->lock);
	names_turned_note(&judge->names->turned, ret_packet, length, packet->pkt.mark,
			  judge->state.now_ns);
	pthread_mutex_unlock(&judge->names->lock);
	return length;
}

void gate_refused(struct judge_policy *judge)
{
	pthread_mutex_lock(&judge->names->lock);
	judge->names->counts.refused++;
	pthread_mutex_unlock(&judge->names->lock);
}

/* ---- queries ---- */

static enum gate_queries_state open_segment(struct judge_policy *judge, struct judge_packet *packet,
					    struct gate_queries *ret)
{
	struct names_streams *streams = &judge->names->streams;
	struct pkt *pkt = &packet->pkt;
	struct names_stream *stream;
	enum names_sending sending = NAMES_SENDING_NEXT;

	if (!segment(packet, &ret->segment)) {
		pkt->query = PKT_QUERY_MALFORMED;
		return GATE_QUERIES_NONE;
	}
	ret->flow = flow_of(pkt, false);
	if (ret->segment.length == 0) {
		pkt->query = PKT_QUERY_NOT_YET;
		if ((pkt->tcp_flags & (TCP_FLAG_SYN | TCP_FLAG_ACK)) == TCP_FLAG_SYN) {
			pthread_mutex_lock(&judge->names->lock);
			names_stream_begin(streams, &ret->flow, ret->segment.at);
			pthread_mutex_unlock(&judge->names->lock);
		}
		return GATE_QUERIES_NONE;
	}
	pthread_mutex_lock(&judge->names->lock);
	stream = names_stream_find(streams, &ret->flow);
	if (stream)
		sending = names_stream_check(stream, &ret->segment);
	pthread_mutex_unlock(&judge->names->lock);
	pkt->query = PKT_QUERY_MALFORMED; /* of an unknown connection, and data in a SYN */
	if (!stream || pkt->tcp_flags & TCP_FLAG_SYN)
		return GATE_QUERIES_NONE;
	pkt->query = PKT_QUERY_NOT_YET; /* as when there was nothing to judge in it */
	if (sending == NAMES_SENDING_REPEATED)
		return GATE_QUERIES_NONE;
	ret->data = ret->segment.data;
	ret->length = ret->segment.length;
	return sending == NAMES_SENDING_NEXT ? GATE_QUERIES_SOME : GATE_QUERIES_STRAY;
}

enum gate_queries_state gate_open(struct judge_policy *judge, struct judge_packet *packet,
				  struct gate_queries *ret)
{
	*ret = (struct gate_queries){.is_stream = packet->pkt.protocol == IPPROTO_TCP};
	if (ret->is_stream)
		return open_segment(judge, packet, ret);
	packet->pkt.query = PKT_QUERY_MALFORMED;
	return datagram(packet, &ret->data, &ret->length) ? GATE_QUERIES_SOME : GATE_QUERIES_NONE;
}

/* Take the message of a stream that is next. Return: false where it is not whole. */
static bool take_message(struct gate_queries *queries, const uint8_t **ret_data, size_t *ret_length)
{
	*ret_data = queries->data;
	*ret_length = queries->length;
	if (queries->is_stream) {
		if (queries->length < 2)
			return false;
		*ret_length = get16(queries->data);
		*ret_data = queries->data + 2;
		if (*ret_length > queries->length - 2)
			return false;
		queries->length -= 2;
		queries->data += 2;
	}
	queries->data += *ret_length;
	queries->length -= *ret_length;
	return true;
}

static void count_query(struct judge_policy *judge)
{
	pthread_mutex_lock(&judge->names->lock);
	judge->names->counts.queries++;
	pthread_mutex_unlock(&judge->names->lock);
}

bool gate_next(struct judge_policy *judge, struct judge_packet *packet,
	       struct gate_queries *queries)
{
	struct pkt *pkt = &packet->pkt;
	const uint8_t *data;
	size_t length;

	if (queries->count && queries->length == 0)
		return false;
	queries->count++;
	count_query(judge);
	pkt->query = PKT_QUERY_MALFORMED;
	if (!take_message(queries, &data, &length) ||
	    dns_query_read(data, length, &queries->question) < 0) {
		queries->length = 0;
		return true;
	}
	pkt->query = PKT_QUERY_GOOD;
	pkt->query_type = queries->question.type;
	pkt->query_lists = policy_name_lists(judge->policy, &queries->question.name);
	return true;
}

void gate_accepted(struct judge_policy *judge, const struct judge_packet *packet,
		   const struct gate_queries *queries)
{
	const struct pkt *pkt = &packet->pkt;
	struct names_query query;

	if (pkt->query != PKT_QUERY_GOOD || !is_resolver(judge, pkt->family, &pkt->dst))
		return;
	query = query_of(pkt, false, &queries->question);
	query.at_ns = judge->state.now_ns;
	query.oif = packet->oif;
	pthread_mutex_lock(&judge->names->lock);
	names_asked_add(&judge->names->asked, &query);
	pthread_mutex_unlock(&judge->names->lock);
}

void gate_close(struct judge_policy *judge, const struct gate_queries *queries)
{
	struct names_stream *stream;

	if (!queries->is_stream || queries->count == 0)
		return;
	pthread_mutex_lock(&judge->names->lock);
	stream = names_stream_find(&judge->names->streams, &queries->flow);
	if (stream)
		names_stream_sent(stream, &queries->segment);
	pthread_mutex_unlock(&judge->names->lock);
}

/* ---- answers ---- */

static uint64_t lists_of(const void *policy, const struct domain *domain)
{
	return policy_name_lists(policy, domain);
}

static struct names_asking asking(const struct judge_policy *judge)
{
	return (struct names_asking){
		.lists = lists_of,
		.policy = judge->policy,
		.policy_key = policy_info(judge->policy)->source_hash | 1,
	};
}

static uint64_t life_ns(const struct policy_names *names, uint32_t ttl)
{
	uint64_t life = ttl < names->ttl_max_s ? ttl : names->ttl_max_s;

	life = life > names->ttl_min_s ? life : names->ttl_min_s;
	return (life + names->grace_s) * NS_PER_S;
}

/* Addresses that no public name should have, or our own, are for the names in "private" alone. */
static bool may_learn(const struct judge_policy *judge, const struct names_query *query,
		      const struct dns_address *address)
{
	const uint64_t private_lists = said(judge)->private_lists;
	const bool is_own = address->family == query->family &&
			    memcmp(&address->address, &query->client, sizeof(query->client)) == 0;

	if (!is_own && !names_address_is_private(address->family, &address->address))
		return true;
	return private_lists && policy_name_lists(judge->policy, &query->domain) & private_lists;
}

static void learn(struct judge_policy *judge, const struct names_query *query,
		  const struct dns_answer *answer)
{
	struct names *names = judge->names;
	const uint64_t now_ns = judge->state.now_ns;

	for (uint8_t i = 0; i < answer->count; i++) {
		const struct dns_address *address = &answer->addresses[i];

		if (!may_learn(judge, query, address)) {
			names->counts.not_public++;
			continue;
		}
		names->counts.learnt += names_bindings_add(
			&names->bindings, address->family, &address->address, &query->domain,
			now_ns + life_ns(said(judge), address->ttl), false, now_ns);
	}
}

/* Return: is it what was asked for? Then it is learnt, and not waited for any more. */
static bool take_answer(struct judge_policy *judge, const struct judge_packet *packet,
			const struct dns_answer *answer)
{
	struct names *names = judge->names;
	const struct names_query wanted = query_of(&packet->pkt, true, &answer->question);
	const int slot = names_asked_find(&names->asked, &wanted, judge->state.now_ns);
	const struct names_query *query;

	if (slot < 0) {
		names->counts.unasked++;
		return false;
	}
	query = names_asked_at(&names->asked, slot);
	if (query->oif != packet->iif) {
		names->counts.wrong_link++;
		return false;
	}
	if (answer->truncated)
		names->counts.cut_short++;
	else
		learn(judge, query, answer);
	names_asked_remove(&names->asked, slot);
	return true;
}

static bool read_answer(struct judge_policy *judge, const struct judge_packet *packet,
			const uint8_t *data, size_t length)
{
	struct dns_answer answer;

	judge->names->counts.answers++;
	if (dns_answer_read(data, length, &answer) < 0) {
		judge->names->counts.garbled++;
		return false;
	}
	return take_answer(judge, packet, &answer);
}

static void feed(struct judge_policy *judge, const struct judge_packet *packet,
		 struct names_stream *stream, const struct names_segment *received)
{
	size_t at = 0, used = 0;

	while (at < received->length && !stream->is_lost) {
		const uint8_t *message;
		size_t length;

		switch (dns_stream_feed(&stream->answers, received->data + at,
					received->length - at, &used)) {
		case DNS_STREAM_MESSAGE:
			length = dns_stream_message(&stream->answers, &message);
			read_answer(judge, packet, message, length);
			break;
		case DNS_STREAM_BAD:
			stream->is_lost = true;
			judge->names->counts.cut_short++;
			break;
		case DNS_STREAM_MORE:
		default:
			break;
		}
		at += used;
	}
}

static enum gate_answer receive(struct judge_policy *judge, const struct judge_packet *packet)
{
	const struct names_flow flow = flow_of(&packet->pkt, true);
	struct names_stream *stream = names_stream_find(&judge->names->streams, &flow);
	struct names_segment received;
	bool is_new;

	if (!stream || !segment(packet, &received))
		return GATE_ANSWER_UNKNOWN;
	if (packet->pkt.tcp_flags & TCP_FLAG_SYN)
		names_stream_answered(stream, received.at);
	else if (received.length && !names_stream_receive(stream, &received, &is_new))
		return GATE_ANSWER_DROP;
	else if (received.length && is_new)
		feed(judge, packet, stream, &received);
	return GATE_ANSWER_PASS;
}

static enum gate_answer receive_datagram(struct judge_policy *judge,
					 const struct judge_packet *packet)
{
	const uint8_t *data;
	size_t length;

	if (!datagram(packet, &data, &length)) {
		judge->names->counts.garbled++;
		return GATE_ANSWER_UNKNOWN;
	}
	return read_answer(judge, packet, data, length) ? GATE_ANSWER_PASS : GATE_ANSWER_UNKNOWN;
}

enum gate_answer gate_answer(struct judge_policy *judge, const struct judge_packet *packet)
{
	enum gate_answer result;

	if (!is_resolver(judge, packet->pkt.family, &packet->pkt.src))
		return GATE_ANSWER_UNKNOWN;
	pthread_mutex_lock(&judge->names->lock);
	result = packet->pkt.protocol == IPPROTO_TCP ? receive(judge, packet)
						     : receive_datagram(judge, packet);
	pthread_mutex_unlock(&judge->names->lock);
	return result;
}

/* ---- names of addresses ---- */

static const struct pkt_addr *remote(const struct pkt *pkt)
{
	return pkt->direction == PKT_DIRECTION_IN ? &pkt->src : &pkt->dst;
}

/* A flow that began when its address had a name keeps it. */
static bool is_begun(const struct judge_packet *packet)
{
	return packet->pkt.ct & (PKT_CT_ESTABLISHED | PKT_CT_REPLY);
}

void gate_look_up(struct judge_policy *judge, struct judge_packet *packet, struct pkt *pkt)
{
	const struct names_asking names_of = asking(judge);
	bool found;

	pthread_mutex_lock(&judge->names->lock);
	found = names_bindings_look_up(&judge->names->bindings, pkt->family, remote(pkt),
				       is_begun(packet), judge->state.now_ns, &names_of,
				       &pkt->domains);
	pthread_mutex_unlock(&judge->names->lock);
	pkt->have &= (uint16_t)~PKT_HAVE_DOMAIN;
	if (found)
		pkt->have |= PKT_HAVE_DOMAIN;
}
