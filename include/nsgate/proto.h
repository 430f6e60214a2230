/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages on broker.sock and agent.sock (SOCK_SEQPACKET). One datagram is one message: a header
 * that says how long it is, a body, and the number of descriptors that the type asks for. Anything
 * else closes the connection. doc/PROTOCOL.md is the prose of this file.
 *
 * The two ends may be of different releases. A message grows at its end, and lib/ipc.c knows how
 * long each was at first and what becomes of an end that the receiver does not know. A struct
 * inside another one has a `spare` to grow into: 0. What has a place keeps it. doc/FORMATS.md says
 * how to add a field or a message.
 */
#ifndef NSGATE_PROTO_H
#define NSGATE_PROTO_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "nsgate/limits.h"

#define NSGATE_PROTO_MAGIC 0x4741544eU /* "NTAG" in memory order of little endian: N T A G */
#define NSGATE_PROTO_VERSION 1	       /* of the header: the rest grows without */
#define NSGATE_MSG_ROOM 65536	       /* a message of any release is at most as long */

enum nsgate_msg_type {
	/* Both ways, first on every connection. */
	NSGATE_MSG_HELLO = 1,
	NSGATE_MSG_REPLY, /* the outcome of the message with the same id */

	/* Client to broker, on broker.sock. */
	NSGATE_MSG_ATTACH, /* fds: what `target_kind` says */
	NSGATE_MSG_DETACH, /* also broker to a handoff, unasked: its namespace was detached */
	NSGATE_MSG_PROBE,  /* answered by NSGATE_MSG_FEATURES */
	NSGATE_MSG_FEATURES,

	/* Between broker and agent, on agent.sock. */
	NSGATE_MSG_NS_ADD,    /* broker to agent; fds: NSGATE_NSFD_*, then the queue sockets */
	NSGATE_MSG_NS_HELD,   /* agent to a new broker: the same record and fds back */
	NSGATE_MSG_HELD_END,  /* both ways, once: that was all that I hold */
	NSGATE_MSG_NS_RULES,  /* agent to broker: put these rules in force; answered by REPLY */
	NSGATE_MSG_NS_REMOVE, /* broker to agent: verdict what waits, close; answered by REPLY */
	NSGATE_MSG_NS_LINKS,  /* broker to agent: names of the links there */
	NSGATE_MSG_NS_STATE,  /* broker to agent: state of the container behind the namespace */

	/* Client to broker again. */
	NSGATE_MSG_LEAVE, /* a container has ended; the last one of a namespace detaches it */

	NSGATE_MSG_NS_TAMPER, /* broker to agent: somebody was at the rules or the queue */

	NSGATE_MSG_PROBE_STRICT, /* client to broker: can a policy be strict? answered by REPLY */

	NSGATE_MSG_PING, /* agent to a broker that knows it: a sign of life; answered by REPLY */
	NSGATE_MSG_MAX
};

struct nsgate_msg_header {
	uint32_t magic;
	uint16_t version;
	uint16_t type;	 /* enum nsgate_msg_type */
	uint32_t length; /* of the whole message, header included, bytes */
	uint32_t id;	 /* chosen by the asker, echoed by the REPLY */
};
static_assert(sizeof(struct nsgate_msg_header) == 16, "wire format");

/* Outcomes. nsgatectl turns them into its exit code. */
enum nsgate_status {
	NSGATE_STATUS_OK = 0,
	NSGATE_STATUS_FAILED = 1,
	NSGATE_STATUS_USAGE = 2,
	NSGATE_STATUS_UNREACHABLE = 3,
	NSGATE_STATUS_NOT_FOUND = 4,
	NSGATE_STATUS_REFUSED = 5,
	NSGATE_STATUS_BUSY = 6, /* under way already, ask again; no exit code: it becomes FAILED */
};

/* What the sender knows beyond the first release; who does not know a bit ignores it. */
enum nsgate_hello_feature {
	NSGATE_HELLO_PING = 1 << 0, /* broker to agent: it answers PING */
};

struct nsgate_msg_hello {
	struct nsgate_msg_header header;
	uint32_t pid;
	uint32_t features; /* enum nsgate_hello_feature */
};
static_assert(sizeof(struct nsgate_msg_hello) == 24, "wire format");

struct nsgate_msg_reply {
	struct nsgate_msg_header header;
	uint32_t status; /* enum nsgate_status */
	uint32_t generation;
	char text[NSGATE_TEXT_MAX]; /* one line: what, why, what to do; empty where all is well */
};
static_assert(sizeof(struct nsgate_msg_reply) == 24 + NSGATE_TEXT_MAX, "wire format");

/* What comes with an ATTACH. */
enum nsgate_target_kind {
	NSGATE_TARGET_NETNS = 1, /* netns:NAME; fds: [netns] opened below /run/netns */
	NSGATE_TARGET_PID,	 /* pid:N; fds: [pidfd] */
	NSGATE_TARGET_PATH,	 /* path:/...; fds: [netns] */
	NSGATE_TARGET_SELF,	 /* self; fds: [netns] of the caller */
	/*
	 * A process inside hands over sockets that it opened there. fds: [NETLINK_NETFILTER for the
	 * queue], or that and [NETLINK_NETFILTER for the rules, NETLINK_NETFILTER for reading
	 * counters, NETLINK_ROUTE, /proc/net/netfilter/nfnetlink_queue] where the broker cannot
	 * enter the namespace itself. The namespace stays attached while the connection stays open.
	 */
	NSGATE_TARGET_HANDOFF,
};

#define NSGATE_HANDOFF_FDS 5 /* fds of a full handoff, in the order above */

enum nsgate_attach_flag {
	NSGATE_ATTACH_PENDING = 1 << 0,	   /* the policy need not exist yet */
	NSGATE_ATTACH_ALLOW_HOST = 1 << 1, /* also the broker's own namespace */
	NSGATE_ATTACH_REPLACE = 1 << 2,	   /* a name that is in use moves to this namespace */
	/*
	 * With NSGATE_TARGET_PID and a label NSGATE_LABEL_CONTAINER: attach for that container, or
	 * join the others where its namespace is attached already. It lasts until the last leaves.
	 */
	NSGATE_ATTACH_CONTAINER = 1 << 3,
	/*
	 * The broker's own, in records: the target did not lead there from where the broker is
	 * (another mount namespace), so that it does not now says nothing.
	 */
	NSGATE_ATTACH_UNSEEN = 1 << 4,
	/*
	 * The broker's own, in records on disk: it is about to change the rules, so those that are
	 * found may be others than the record's although nobody else was there.
	 */
	NSGATE_ATTACH_CHANGING = 1 << 5,

	NSGATE_ATTACH_ALL = (1 << 6) - 1,
};

#define NSGATE_LABEL_CONTAINER "io.nsgate.container" /* the id that the runtime gave it */

struct nsgate_msg_attach {
	struct nsgate_msg_header header;
	uint32_t target_kind; /* enum nsgate_target_kind */
	uint32_t flags;	      /* enum nsgate_attach_flag */
	uint16_t queue_first;
	uint16_t queue_count;
	uint32_t reserved;
	char name[NSGATE_NAME_MAX];
	char policy[NSGATE_NAME_MAX];
	char target[NSGATE_TARGET_MAX]; /* as typed: for people and for records */
	char labels[NSGATE_LABELS_MAX];
};
static_assert(sizeof(struct nsgate_msg_attach) == 32 + 64 + 64 + 256 + 1024, "wire format");

struct nsgate_msg_detach {
	struct nsgate_msg_header header;
	char name[NSGATE_NAME_MAX];
};
static_assert(sizeof(struct nsgate_msg_detach) == 16 + 64, "wire format");

struct nsgate_msg_leave {
	struct nsgate_msg_header header;
	char container[NSGATE_ID_MAX];
};
static_assert(sizeof(struct nsgate_msg_leave) == 16 + 256, "wire format");

struct nsgate_msg_plain { /* PROBE, HELD_END, PROBE_STRICT, PING */
	struct nsgate_msg_header header;
};

enum nsgate_backend {
	NSGATE_BACKEND_NONE = 0,
	NSGATE_BACKEND_NFT_QUEUE = 1, /* the native nftables queue expression */
	NSGATE_BACKEND_NFT_XT = 2,    /* the xt NFQUEUE target through nft_compat */
};

struct nsgate_msg_features {
	struct nsgate_msg_header header;
	uint32_t backend;      /* enum nsgate_backend */
	uint32_t owned_tables; /* 0 or 1: NFT_TABLE_F_OWNER with F_PERSIST */
	uint32_t label;	       /* 0 or 1: conntrack labels can be set */
	uint32_t attached;     /* namespaces now */
	uint32_t agent;	       /* 0 or 1: the agent is connected */
	uint32_t nofile;       /* RLIMIT_NOFILE of the broker */
};
static_assert(sizeof(struct nsgate_msg_features) == 40, "wire format");

enum nsgate_rules_flag {
	NSGATE_RULES_BYPASS = 1 << 0,	 /* nobody bound to the queue: let packets pass */
	NSGATE_RULES_OFFLOAD = 1 << 1,	 /* the kernel accepts further packets of accepted flows */
	NSGATE_RULES_STRICT = 1 << 2,	 /* drop what leaves past the hooks */
	NSGATE_RULES_OVERLOAD = 1 << 3,	 /* the queue lets packets pass when it is overloaded */
	NSGATE_RULES_DENIED = 1 << 4,	 /* with OFFLOAD: drops those of denied flows, too */
	NSGATE_RULES_CONSUMERS = 1 << 5, /* some packets are handed to other programs */
	NSGATE_RULES_NAMES = 1 << 6,	 /* all that belongs to queries of the DNS is queued */

	NSGATE_RULES_ALL = (1 << 7) - 1,
	NSGATE_RULES_UNKNOWN = 1 << 30, /* nobody sends it: something else was asked for that the
					   receiver does not know */
};

/* By which mark a consumer says that a packet stands for its flow: mark & mask == value. */
struct nsgate_bypass_mark {
	uint32_t value, mask;
};

#define NSGATE_BYPASS_MARKS_MAX 8 /* different ones of a policy */

/* What the agent wants enforced in a namespace; all that the broker knows of its policy. */
struct nsgate_rules_spec {
	uint32_t hooks;	     /* mask of NSGATE_HOOK_BIT() */
	uint32_t flags;	     /* enum nsgate_rules_flag */
	uint32_t generation; /* of the policy, 1..NSGATE_GENERATION_MAX; 0: no rules yet */
	uint32_t bypass_count;
	struct nsgate_bypass_mark bypass[NSGATE_BYPASS_MARKS_MAX];
	uint32_t spare[8]; /* 0: who does not know what is here does not put it in force */
};
static_assert(sizeof(struct nsgate_rules_spec) == 16 + 8 * 8 + 32, "wire format");

/* A namespace as broker and agent both know it. It ends its messages, so it may grow at its end. */
struct nsgate_ns_record {
	uint64_t cookie;      /* SO_NETNS_COOKIE: never used twice; the identity */
	uint64_t inode;	      /* of the nsfs file, for people */
	int64_t attached_at;  /* Unix time, s */
	uint64_t bound_at_ns; /* CLOCK_BOOTTIME: when the queues were bound; ids count from there */
	uint32_t target_kind;
	uint32_t flags; /* enum nsgate_attach_flag */
	uint16_t queue_first;
	uint16_t queue_count;
	uint16_t backend;   /* enum nsgate_backend */
	uint16_t has_watch; /* 1: a pidfd comes along (NSGATE_NSFD_WATCH) */
	uint32_t wrapped;   /* 1: generations came round once */
	uint32_t repairs;   /* since attach: what somebody changed was put right so often */
	struct nsgate_rules_spec rules; /* in force; generation 0: none */
	char name[NSGATE_NAME_MAX];
	char policy[NSGATE_NAME_MAX];
	char target[NSGATE_TARGET_MAX];
	char labels[NSGATE_LABELS_MAX];
	uint32_t table_inet; /* what its tables are called (nsgate/table.h) */
	uint32_t table_netdev;
	uint64_t spare[7]; /* who does not know what is here carries it along */
#ifdef NSGATE_TEST_GROWN
	uint64_t grown;
#endif
};
static_assert(offsetof(struct nsgate_ns_record, table_inet) == 168 + 64 + 64 + 256 + 1024 &&
		      offsetof(struct nsgate_ns_record, spare) == 168 + 64 + 64 + 256 + 1024 + 8,
	      "wire format");

/* Order of the descriptors of NS_ADD and NS_HELD. */
enum nsgate_nsfd {
	NSGATE_NSFD_SHM,   /* file of queue_count x struct shm_queue */
	NSGATE_NSFD_PROC,  /* /proc/net/netfilter/nfnetlink_queue of that namespace */
	NSGATE_NSFD_AUX,   /* NETLINK_NETFILTER socket there, for reading counters */
	NSGATE_NSFD_FIXED, /* then the pidfd where has_watch, then queue_count queue sockets */
};
#define NSGATE_NSFD_SPARE 4 /* a later release may send so many more behind them */
#define NSGATE_NSFD_MAX (NSGATE_NSFD_FIXED + 1 + NSGATE_QUEUES_MAX + NSGATE_NSFD_SPARE)

struct nsgate_msg_ns { /* NS_ADD, NS_HELD */
	struct nsgate_msg_header header;
	struct nsgate_ns_record record;
};

struct nsgate_msg_ns_rules {
	struct nsgate_msg_header header;
	uint64_t cookie;
	struct nsgate_rules_spec rules;
	char policy[NSGATE_NAME_MAX]; /* bound now: a rebind must outlive the agent */
#ifdef NSGATE_TEST_GROWN
	uint64_t grown;
#endif
};
static_assert(offsetof(struct nsgate_msg_ns_rules, policy) == 136, "wire format");

struct nsgate_msg_ns_remove {
	struct nsgate_msg_header header;
	uint64_t cookie;
};
static_assert(sizeof(struct nsgate_msg_ns_remove) == 24, "wire format");

struct nsgate_link {
	uint32_t ifindex;
	char name[16]; /* IFNAMSIZ */
};
static_assert(sizeof(struct nsgate_link) == 20, "wire format");

/*
 * Sent with only the `count` links that are set: the one message of variable length. Each has
 * `link_size` bytes, so it is the links that may grow.
 */
struct nsgate_msg_ns_links {
	struct nsgate_msg_header header;
	uint64_t cookie;
	uint32_t count;
	uint32_t link_size;
	struct nsgate_link links[NSGATE_LINKS_MAX];
};

struct nsgate_msg_ns_state {
	struct nsgate_msg_header header;
	uint64_t cookie;
	uint32_t orphaned; /* 1: the container is gone, a NS_REMOVE follows */
	uint32_t degraded; /* 1: enforcement is incomplete, see text */
	char text[NSGATE_TEXT_MAX];
#ifdef NSGATE_TEST_GROWN
	uint64_t grown;
#endif
};
static_assert(offsetof(struct nsgate_msg_ns_state, text) == 32, "wire format");

enum nsgate_tamper {
	NSGATE_TAMPER_RULES = 1, /* rules were not as they should be; they are again */
	NSGATE_TAMPER_QUEUE,	 /* somebody else has the queue's number; another is in use now */
	NSGATE_TAMPER_TABLE,	 /* the same of a table's name */
};

struct nsgate_msg_ns_tamper {
	struct nsgate_msg_header header;
	uint64_t cookie;
	uint32_t kind;	  /* enum nsgate_tamper, of the last one */
	uint32_t repairs; /* since attach */
	char text[NSGATE_TEXT_MAX];
	uint32_t table_inet, table_netdev; /* as in the record, now */
};
static_assert(offsetof(struct nsgate_msg_ns_tamper, table_inet) == 32 + NSGATE_TEXT_MAX,
	      "wire format");

/* Any message; what a receive buffer must hold. */
union nsgate_msg {
	struct nsgate_msg_header header;
	struct nsgate_msg_hello hello;
	struct nsgate_msg_reply reply;
	struct nsgate_msg_attach attach;
	struct nsgate_msg_detach detach;
	struct nsgate_msg_leave leave;
	struct nsgate_msg_features features;
	struct nsgate_msg_ns ns;
	struct nsgate_msg_ns_rules ns_rules;
	struct nsgate_msg_ns_remove ns_remove;
	struct nsgate_msg_ns_links ns_links;
	struct nsgate_msg_ns_state ns_state;
	struct nsgate_msg_ns_tamper ns_tamper;
	unsigned char room[NSGATE_MSG_ROOM];
};

#endif
