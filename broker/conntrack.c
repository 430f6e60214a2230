// SPDX-License-Identifier: GPL-2.0-or-later
#include "conntrack.h"

#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <sys/socket.h>

#include "netlink.h"
#include "nsgate/mark.h"

#define MESSAGE_BYTES 128

/* Delete the entries whose mark under `mask` is `mark`. */
static int delete_marked(int fd, uint32_t mark, uint32_t mask)
{
	_Alignas(struct nlmsghdr) char buffer[MESSAGE_BYTES];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);
	struct nfgenmsg *nfg;

	/* A deletion without a tuple takes every entry that the mark fits. */
	nlh->nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE;
	nlh->nlmsg_flags = NLM_F_REQUEST;
	nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));
	nfg->nfgen_family = AF_UNSPEC;
	nfg->version = NFNETLINK_V0;
	mnl_attr_put_u32(nlh, CTA_MARK, htonl(mark));
	mnl_attr_put_u32(nlh, CTA_MARK_MASK, htonl(mask));
	return netlink_request(fd, nlh, NULL, NULL);
}

int conntrack_forget(int fd, uint32_t generation)
{
	return delete_marked(fd, generation << NSGATE_CTMARK_GEN_SHIFT, NSGATE_CTMARK_GEN_MASK);
}

int conntrack_forget_all(int fd)
{
	/* A remembered flow bears at least one of these. */
	static const uint32_t directions[] = {NSGATE_CTMARK_IN, NSGATE_CTMARK_OUT,
					      NSGATE_CTMARK_FORWARD};
	int r = 0;

	for (size_t i = 0; i < sizeof(directions) / sizeof(directions[0]) && r == 0; i++)
		r = delete_marked(fd, directions[i], directions[i]);
	return r;
}
