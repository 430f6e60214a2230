/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What has to be installed before anything can be compiled. The Makefile has this preprocessed
 * first, once: what is left of it is what is missing, by the names of the packages. The same are in
 * deps.sh, beside this file.
 */
#if !defined(__LP64__)
"a 64-bit system: nsgate does not run on others"
#else
#if !__has_include(<linux/netfilter/nf_tables.h>)
"the kernel's headers: linux-libc-dev (Debian), kernel-headers (Fedora), linux-headers (Alpine)"
#endif
#if !__has_include(<libmnl/libmnl.h>)
	"libmnl: libmnl-dev (Debian, Alpine), libmnl-devel (Fedora)"
#endif
#if !__has_include(<libnftnl/table.h>)
	"libnftnl: libnftnl-dev (Debian, Alpine), libnftnl-devel (Fedora)"
#endif
#if !__has_include(<libnetfilter_queue/libnetfilter_queue.h>)
	"libnetfilter_queue: libnetfilter-queue-dev (Debian), libnetfilter_queue-devel (Fedora), "
	"libnetfilter_queue-dev (Alpine)"
#endif
#if !__has_include(<netlink/route/link.h>)
	"libnl: libnl-route-3-dev (Debian), libnl3-devel (Fedora), libnl3-dev (Alpine)"
#endif
#if !__has_include(<nftables/libnftables.h>)
	"libnftables: libnftables-dev (Debian), nftables-devel (Fedora), nftables-dev (Alpine)"
#endif
#if !__has_include(<json-c/json.h>)
	"json-c: libjson-c-dev (Debian), json-c-devel (Fedora), json-c-dev (Alpine)"
#endif
#if !__has_include(<idn2.h>)
	"libidn2: libidn2-dev (Debian, Alpine), libidn2-devel (Fedora)"
#endif
#if !__has_include(<microhttpd.h>)
	"libmicrohttpd: libmicrohttpd-dev (Debian, Alpine), libmicrohttpd-devel (Fedora)"
#endif
#if !__has_include(<nettle/gcm.h>)
	"nettle: nettle-dev (Debian, Alpine), nettle-devel (Fedora)"
#endif
#if !__has_include(<curl/curl.h>)
	"libcurl: libcurl4-gnutls-dev (Debian), libcurl-devel (Fedora), curl-dev (Alpine)"
#endif
#if !__has_include(<sys/capability.h>)
	"libcap: libcap-dev (Debian, Alpine), libcap-devel (Fedora)"
#endif
#if !__has_include(<seccomp.h>)
	"libseccomp: libseccomp-dev (Debian, Alpine), libseccomp-devel (Fedora)"
#endif
#if defined(NEEDS_TESTS) && !__has_include(<cmocka.h>)
	"cmocka, for the tests: libcmocka-dev (Debian), libcmocka-devel (Fedora), cmocka-dev "
	"(Alpine)"
#endif
#endif
