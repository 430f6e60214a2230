# SPDX-License-Identifier: GPL-2.0-or-later
#: make            build everything into $(BUILD)
#: make demo       install what is missing, build, and show nsgate at work on real packets (root)
#: make check      install what is missing, build, and run all tests (root)
#: make runtimes-check    install container runtimes, and test nsgate with them (root)
#: make programs-check    install servers and clients of many kinds, and see that they do under nsgate
#:                 what they do without (root)
#: make systemd-check   build the Debian package, and run it and the units under a systemd in a machine of
#:                      its own; fetches a Debian tree (root)
#: make kernels-check   run suites on Debian's own kernels in virtual machines; fetches them and a Debian
#:                      tree, and keeps both in /var/tmp (root, an hour)
#: make kernel-check    Debian 12's kernel alone: does nsgate start on it, and the main path
#: make support    take what was run last into doc/SUPPORT.md
#: make soak       the reliability tests at full size, with their figures (root, ten minutes)
#: make unit | asan-unit | platform | netns    build and run one kind of tests
#: make test T=SUITE/PROGRAM [K=NAME]   build and run one of them, such as T=unit/test_judge; of a file
#:                 in Python the tests whose names contain NAME: T=netns/test_flows K=udp
#: make faults | faults-check    fail every call of the programs that can fail, or a sample of them (root)
#: make model      hold the engine against a model of nsgate-policy(5) written apart from it, with
#:                 MODEL_POLICIES (5000) random policies; MODEL_SEED=TEXT for other ones
#: make no-way-past   every attack of tests/netns/attacks.py in every mode (root, ten minutes)
#: make lint       run the linters, and count the instructions of a decision
#: make install    into $(DESTDIR)$(PREFIX); `make uninstall` removes it
#: make deps       install the Debian packages for all of the above but lint (root)
#: make clean
PREFIX ?= /usr/local
DESTDIR ?=
BUILD ?= build
VERSION := 0.1.0

CFLAGS ?= -O2 -g
WARNINGS := -Wall -Wextra -Wshadow -Wcast-qual -Wstrict-prototypes -Wmissing-prototypes -Wswitch-enum
ifdef CI
WARNINGS += -Werror
endif
NSGATE_CPPFLAGS := -std=gnu11 -D_GNU_SOURCE -DNSGATE_VERSION='"$(VERSION)"' -Iinclude -Ilib -I. -I/usr/include/libnl3
NSGATE_CFLAGS := $(NSGATE_CPPFLAGS) $(WARNINGS) -fstack-protector-strong -D_FORTIFY_SOURCE=2 -MMD -MP -pthread
NSGATE_LDFLAGS := -pthread -Wl,-z,relro,-z,now
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

LIBS_lib := -ljson-c -lmnl -lidn2
LIBS_proto := -lidn2 -lnettle
LIBS_broker := -lmnl -lnftnl -lnl-route-3 -lnl-3 -lcap -lseccomp
LIBS_agent := -lidn2 -lmnl -lnetfilter_queue -ljson-c -lmicrohttpd -lcap -lseccomp
LIBS_ctl := -lidn2 -ljson-c -lmnl -lcurl -lmicrohttpd -lnftables -lnl-route-3 -lnl-3
LIBS_enter := -lseccomp
LIBS_supervise := -lseccomp
LIBS_front := -lseccomp
LIBS_handoff := -lcap
LIBS_hook := -ljson-c
LIBS_cni := -ljson-c -lcurl

DAEMONS := nsgate-broker nsgate-agent
COMMANDS := nsgatectl nsgate-handoff
HELPERS := nsgate-enter nsgate-supervise nsgate-front oci-hook nsgate-runc
BINARIES := $(DAEMONS:%=$(BUILD)/%) $(COMMANDS:%=$(BUILD)/%) $(HELPERS:%=$(BUILD)/%) $(BUILD)/nsgate-cni

sources = $(wildcard $(1)/*.c $(1)/*/*.c)
objects = $(patsubst %.c,$(BUILD)/%.o,$(sources))
LIB_OBJS := $(call objects,lib) $(BUILD)/lib/policy/schema.o
BROKER_OBJS := $(call objects,broker)
AGENT_OBJS := $(call objects,agent)
ENTER_OBJS := $(call objects,enter)
SUPERVISE_OBJS := $(call objects,supervise)
FRONT_OBJS := $(call objects,front)
CTL_OBJS := $(call objects,ctl)
CNI_OBJS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard runtimes/cni*.c))

UNIT_TESTS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/test_*.c))
PLATFORM_TESTS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/platform/test_*.c))

FAULTS := $(BUILD)/tests/faults/libfault.so
CAPTURED := $(BUILD)/tests/captured/libcaptured.so

all: $(BINARIES)

# ---- programs ----

$(BUILD)/libnsgate.a: $(LIB_OBJS)
	rm -f $@ && $(AR) qcs $@ $^
# The programs' own modules without main(), for unit tests: the linker takes only what a test needs.
$(BUILD)/libbroker.a: $(filter-out $(BUILD)/broker/main.o,$(BROKER_OBJS))
	rm -f $@ && $(AR) qcs $@ $^
$(BUILD)/libagent.a: $(filter-out $(BUILD)/agent/main.o,$(AGENT_OBJS))
	rm -f $@ && $(AR) qcs $@ $^
$(BUILD)/libctl.a: $(filter-out $(BUILD)/ctl/main.o,$(CTL_OBJS))
	rm -f $@ && $(AR) qcs $@ $^

link = $(CC) $(CFLAGS) $(NSGATE_LDFLAGS) $(LDFLAGS) -o $@ $(filter %.o %.a,$^)
$(BUILD)/nsgate-broker: $(BROKER_OBJS) $(BUILD)/libnsgate.a
	$(link) $(LIBS_broker)
$(BUILD)/nsgate-enter: $(ENTER_OBJS) $(BUILD)/libnsgate.a
	$(link) $(LIBS_enter)
$(BUILD)/nsgate-supervise: $(SUPERVISE_OBJS) $(BUILD)/libnsgate.a
	$(link) $(LIBS_supervise)
$(BUILD)/nsgate-front: $(FRONT_OBJS) $(BUILD)/libnsgate.a
	$(link) $(LIBS_front)
$(BUILD)/nsgate-agent: $(AGENT_OBJS) $(BUILD)/libnsgate.a
	$(link) $(LIBS_agent)
$(BUILD)/nsgatectl: $(CTL_OBJS) $(BUILD)/libnsgate.a
	$(link) $(LIBS_ctl)
$(BUILD)/nsgate-handoff: $(BUILD)/runtimes/handoff.o $(BUILD)/libnsgate.a
	$(link) $(LIBS_handoff)
$(BUILD)/oci-hook: $(BUILD)/runtimes/oci_hook.o $(BUILD)/libnsgate.a
	$(link) $(LIBS_hook)
$(BUILD)/nsgate-runc: $(BUILD)/runtimes/runc_shim.o $(BUILD)/libnsgate.a
	$(link) $(LIBS_hook)
$(BUILD)/nsgate-cni: $(CNI_OBJS) $(BUILD)/libnsgate.a
	$(link) $(LIBS_cni)

# Nothing is compiled before all that it needs is there.
$(BUILD)/needs $(BUILD)/needs-tests: deploy/needs.c
	@mkdir -p $(@D)
	@missing=$$($(CC) $(CFLAGS) $(NSGATE_CPPFLAGS) $(if $(findstring tests,$(@F)),-DNEEDS_TESTS) -E -P $<) || exit; \
		[ -z "$$missing" ] || { echo "nsgate needs:"; echo "$$missing" | tr -d '"'; exit 1; } >&2; touch $@
$(UNIT_TESTS:%=%.o) $(PLATFORM_TESTS:%=%.o): | $(BUILD)/needs-tests

$(BUILD)/%.o: %.c | $(BUILD)/needs
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(NSGATE_CFLAGS) -c -o $@ $<
$(BUILD)/%.o: %.S
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -Ilib -I. -c -o $@ $<
$(BUILD)/lib/policy/schema.o: lib/policy/policy-v1.schema.json

# ---- tests ----

$(BUILD)/tests/unit/test_%: $(BUILD)/tests/unit/test_%.o $(BUILD)/libagent.a $(BUILD)/libbroker.a $(BUILD)/libctl.a $(BUILD)/libnsgate.a
	$(link) $(LIBS_agent) $(LIBS_broker) $(LIBS_ctl) $(LIBS_proto) -lcmocka
$(BUILD)/tests/unit/policy_lint: $(BUILD)/tests/unit/policy_lint.o $(BUILD)/libnsgate.a
	$(link) $(LIBS_lib)
$(BUILD)/tests/model/engine: $(BUILD)/tests/model/engine.o $(BUILD)/libnsgate.a
	$(link) $(LIBS_lib)
$(BUILD)/tests/platform/test_%: $(BUILD)/tests/platform/test_%.o $(BUILD)/tests/platform/platform.o $(BUILD)/libbroker.a $(BUILD)/libnsgate.a
	$(link) $(LIBS_agent) $(LIBS_broker) -lcmocka

$(FAULTS): tests/faults/libfault.c tests/faults/calls.h
	@mkdir -p $(@D)
	$(CC) -O2 -g $(NSGATE_CPPFLAGS) $(WARNINGS) -fPIC -shared -o $@ $<

$(CAPTURED): tests/captured/libcaptured.c include/nsgate/proto.h
	@mkdir -p $(@D)
	$(CC) -O2 -g $(NSGATE_CPPFLAGS) $(WARNINGS) -fPIC -shared -o $@ $<

unit-programs: $(UNIT_TESTS) $(BUILD)/tests/unit/policy_lint $(BUILD)/tests/model/engine
platform-programs: $(PLATFORM_TESTS)
fault-programs: all $(FAULTS)
asan-programs:
	@$(MAKE) BUILD=$(BUILD)-asan CFLAGS='-O1 -g $(SANITIZE)' unit-programs

# As many jobs as there are processors, unless the caller has said how many.
jobs = $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(shell nproc))
need_root = $(if $(filter-out 0,$(shell id -u)),$(error make $@ needs root, as it makes network namespaces: run it as root))

SUITES := unit asan-unit schema model deploy platform netns
check:
	$(need_root)
	@deploy/deps.sh build test
	@$(MAKE) $(jobs) --no-print-directory --silent all unit-programs platform-programs asan-programs $(BUILD)/bench/load $(CAPTURED)
	@tests/run-all --build $(BUILD) $(SUITES)
unit: all unit-programs
	@tests/run-all --build $(BUILD) unit schema model
MODEL_POLICIES ?= 5000
model: unit-programs
	@MODEL_POLICIES=$(MODEL_POLICIES) tests/run-all --build $(BUILD) --minutes 60 model
asan-unit: asan-programs
	@tests/run-all --build $(BUILD) asan-unit
test:
	$(if $(T),,$(error make test T=netns/test_flows, T=unit/test_judge, ...))
	@$(MAKE) $(jobs) --no-print-directory --silent $(if $(filter netns/%,$(T)),all $(BUILD)/bench/load $(CAPTURED),\
		$(if $(filter unit/test_% platform/test_%,$(T)),$(BUILD)/tests/$(T),all unit-programs))
	@tests/run-all --build $(BUILD) $(if $(K),--only '$(K)') $(T)
#: make golden      write the rule sets' texts (tests/unit/rules) anew, where the rules are meant to differ
golden: $(BUILD)/tests/unit/test_rules_text
	@rm -f tests/unit/rules/*.nft
	@NSGATE_GOLDEN=write $<
	@git --no-pager diff --stat tests/unit/rules
platform: platform-programs
	@tests/run-all --build $(BUILD) platform
netns: all $(BUILD)/bench/load $(CAPTURED)
	@tests/run-all --build $(BUILD) netns
runtimes-check:
	$(need_root)
	@deploy/deps.sh build test runtimes
	@$(MAKE) $(jobs) --no-print-directory --silent all
	@tests/run-all --build $(BUILD) runtimes
programs-check:
	$(need_root)
	@deploy/deps.sh build test programs
	@$(MAKE) $(jobs) --no-print-directory --silent all
	@tests/run-all --build $(BUILD) programs
systemd-check:
	$(need_root)
	@deploy/deps.sh build test deb systemd
	@$(MAKE) $(jobs) --no-print-directory --silent all
	@tests/run-all --build $(BUILD) --minutes 15 deb systemd
# bullseye's kernel is too old, and shows what is said then.
KERNELS := bullseye bookworm trixie trixie-backports
RESULTS := $(abspath $(BUILD))/results.jsonl
kernels-check: KERNELS_RUN = $(KERNELS)
kernel-check: KERNELS_RUN = bookworm:fresh,netns/test_main_path
kernels-check kernel-check:
	$(need_root)
	@deploy/deps.sh build test kernels
	@$(MAKE) $(jobs) --no-print-directory --silent all platform-programs $(BUILD)/bench/load $(CAPTURED)
	@NSGATE_RESULTS="$${NSGATE_RESULTS:-$(RESULTS)}" tests/kernels/run --build $(BUILD) $(KERNELS_RUN)
#: make userlands-check   the same in Debian 13 and testing, for arm64, by clang, and against musl; fetches
#:                      Debian trees (root, an hour). userland-check: a part of Debian 13's, in minutes
USERLANDS := trixie testing arm64 clang musl
userlands-check: USERLANDS_RUN = $(USERLANDS)
userland-check: USERLANDS_RUN = trixie:unit,netns/test_main_path,netns/test_not_ascii musl
userlands-check userland-check:
	$(need_root)
	@deploy/deps.sh build test userlands
	@NSGATE_RESULTS="$${NSGATE_RESULTS:-$(RESULTS)}" tests/userlands/run $(USERLANDS_RUN)
support:
	@tests/support merge $(RESULTS)
#: make tsan-check  suites with the agent under ThreadSanitizer, without Landlock and seccomp (root)
TSAN_SUITES := $(addprefix netns/test_,main_path flows policies restarts events healing http strict supervised tamper)
tsan-check:
	$(need_root)
	@deploy/deps.sh build test
	@$(MAKE) $(jobs) --no-print-directory --silent all
	@$(MAKE) $(jobs) --no-print-directory --silent BUILD=$(BUILD)-tsan \
		CFLAGS='-O1 -g -fsanitize=thread -Wno-tsan -DNSGATE_UNCONFINED' $(BUILD)-tsan/nsgate-agent
	@cp $(filter-out %/nsgate-agent,$(BINARIES)) $(BUILD)-tsan
	@tests/tsan $(BUILD)-tsan $(TSAN_SUITES)
#: make upgrade-check   upgrade from an earlier commit to this tree under traffic, and back, and with a
#:                 later one; needs a clone with its history (root, two minutes)
upgrade-check:
	$(need_root)
	@deploy/deps.sh build test upgrade
	@$(MAKE) $(jobs) --no-print-directory --silent all
	@tests/upgrade/build $(BUILD)/upgrade
	@tests/run-all --build $(BUILD) upgrade
soak: all $(BUILD)/bench/load
	$(need_root)
	@tests/run-all --build $(BUILD) --minutes 90 soak
no-way-past: all
	$(need_root)
	@tests/run-all --build $(BUILD) --minutes 30 no-way-past
asan-fault-programs:
	@$(MAKE) BUILD=$(BUILD)-asan CFLAGS='-O1 -g $(SANITIZE)' fault-programs
faults-check:
	$(need_root)
	@deploy/deps.sh build test
	@$(MAKE) $(jobs) --no-print-directory --silent fault-programs asan-fault-programs
	@tests/run-all --build $(BUILD) faults
faults: fault-programs asan-fault-programs
	$(need_root)
	@NSGATE_FAULTS=all tests/run-all --minutes 240 --build $(BUILD) faults
demo:
	$(need_root)
	@deploy/deps.sh build demo
	@$(MAKE) $(jobs) --no-print-directory --silent all
	@deploy/demo.sh $(BUILD)

deps:
	@deploy/deps.sh build demo test

# ---- linters: each of them counts as one test in .ci/run ----

SOURCES := $(call sources,lib) $(call sources,agent) $(call sources,broker) $(call sources,ctl) $(wildcard $(addsuffix /*.c,enter supervise front runtimes bench bench/peers tests/unit tests/model tests/platform tests/netns/runtimes tests/fuzz tests/faults tests/captured))
HEADERS := $(wildcard $(addsuffix /*.h,$(foreach part,lib agent broker ctl,$(part) $(part)/*) enter supervise front runtimes include/nsgate bench bench/peers tests/unit tests/platform tests/fuzz tests/faults tests/captured))
SCRIPTS := .ci/run $(wildcard deploy/*.sh deploy/debian/nsgate.p* deploy/completion/* tests/*.sh tests/lines tests/tsan tests/fuzz/run tests/upgrade/build tests/netns/run tests/kernels/guest-init tests/userlands/enter tests/userlands/musl)
MAN := $(wildcard doc/man/*.[1578])

LINTERS := lint-format lint-tidy lint-cppcheck lint-shell lint-man
lint:
	@$(MAKE) --no-print-directory --silent $(MICRO)
	@CC='$(CC)' tests/run-all --build $(BUILD) --minutes 20 $(LINTERS) instructions
lint-format:
	clang-format --dry-run -Werror $(SOURCES) $(HEADERS)
lint-tidy:
	@$(MAKE) $(jobs) --no-print-directory --keep-going --silent $(SOURCES:%=%.tidy)
%.tidy: %
	clang-tidy --quiet $< -- $(NSGATE_CPPFLAGS)
lint-cppcheck:
	cppcheck --quiet -j "$$(nproc)" --enable=warning,performance,portability --error-exitcode=1 \
		--inline-suppr --suppressions-list=.cppcheck-suppressions --std=c11 --library=posix \
		-D_GNU_SOURCE -DNSGATE_VERSION='"$(VERSION)"' -Iinclude -Ilib -I. $(SOURCES)
lint-shell:
	shellcheck $(SCRIPTS)
lint-man:
	mandoc -Tlint -Wwarning $(MAN)

# ---- installation ----

UNITS := $(notdir $(wildcard deploy/systemd/*.service deploy/systemd/*.socket))
SHARE := $(DESTDIR)$(PREFIX)/share
INSTALLED = $(DAEMONS:%=sbin/%) $(COMMANDS:%=bin/%) $(foreach page,$(MAN),share/man/man$(subst .,,$(suffix $(page)))/$(notdir $(page))) \
	libexec/nsgate lib/cni/nsgate share/containers/oci/hooks.d/50-nsgate.json \
	share/bash-completion/completions/nsgatectl share/nsgate lib/sysusers.d/nsgate.conf lib/tmpfiles.d/nsgate.conf \
	lib/modules-load.d/nsgate.conf lib/modprobe.d/nsgate.conf $(UNITS:%=lib/systemd/system/%)

install: all
	install -D -t $(DESTDIR)$(PREFIX)/sbin $(DAEMONS:%=$(BUILD)/%)
	install -D -t $(DESTDIR)$(PREFIX)/bin $(COMMANDS:%=$(BUILD)/%)
	install -D $(BUILD)/nsgate-cni $(DESTDIR)$(PREFIX)/lib/cni/nsgate
	install -D -m 644 -t $(SHARE)/nsgate/cni deploy/cni/*.conflist
	for page in $(MAN); do install -D -m 644 -t "$(SHARE)/man/man$${page##*.}" "$$page" || exit; done
	install -D -m 644 deploy/completion/nsgatectl.bash $(SHARE)/bash-completion/completions/nsgatectl
	install -D -m 644 -t $(SHARE)/nsgate lib/policy/policy-v1.schema.json
	install -D -m 644 -t $(SHARE)/nsgate/policies deploy/policies/*.json
	install -D -m 644 -t $(SHARE)/nsgate/prometheus deploy/prometheus/nsgate.rules.yml
	install -D -m 644 -t $(SHARE)/nsgate/grafana deploy/grafana/nsgate.json
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/sysusers.d deploy/sysusers.d/nsgate.conf
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/tmpfiles.d deploy/tmpfiles.d/nsgate.conf
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/modules-load.d deploy/modules-load.d/nsgate.conf
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/modprobe.d deploy/modprobe.d/nsgate.conf
	install -D -t $(DESTDIR)$(PREFIX)/libexec/nsgate $(HELPERS:%=$(BUILD)/%)
	install -d $(SHARE)/containers/oci/hooks.d
	sed 's|@PREFIX@|$(PREFIX)|g' deploy/oci/50-nsgate.json >$(SHARE)/containers/oci/hooks.d/50-nsgate.json
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	for unit in $(UNITS); do sed 's|@PREFIX@|$(PREFIX)|g' "deploy/systemd/$$unit" \
		> "$(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit" || exit; done
uninstall:
	rm -rf $(INSTALLED:%=$(DESTDIR)$(PREFIX)/%)

#: make deb        build a Debian package into $(BUILD)/deb, checked by lintian
deb:
	@deploy/deps.sh build deb
	rm -rf $(BUILD)/deb && mkdir -p $(BUILD)/deb/nsgate-$(VERSION)
	tar -c --exclude-vcs --exclude='./build*' . | tar -x -C $(BUILD)/deb/nsgate-$(VERSION)
	mv $(BUILD)/deb/nsgate-$(VERSION)/deploy/debian $(BUILD)/deb/nsgate-$(VERSION)/debian
	cd $(BUILD)/deb/nsgate-$(VERSION) && env -u MAKEFLAGS -u MAKELEVEL -u BUILD -u PREFIX -u DESTDIR \
		dpkg-buildpackage -b -us -uc -ui
	lintian --allow-root --info --display-info --fail-on error,warning,info $(BUILD)/deb/*.changes

# ---- measuring and fuzzing ----

#: make bench      time it against peers, as root, into bench/RESULTS.md; bench-micro: without a kernel
include bench/bench.mk

#: make fuzz | fuzz-check    fuzz what strangers feed us, FUZZ_SECONDS (60) a target; needs clang
fuzz fuzz-check: all
	@$(MAKE) $(jobs) --no-print-directory --silent -f tests/fuzz/fuzz.mk PROGRAMS_DIR=$(BUILD) run-$@

clean:
	rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-tsan build-fuzz build-clang
help:
	@sed -n 's/^#: //p' $(firstword $(MAKEFILE_LIST))

.PHONY: all test golden unit-programs platform-programs asan-programs check unit asan-unit model platform netns soak no-way-past runtimes-check programs-check systemd-check upgrade-check \
	kernels-check kernel-check userlands-check userland-check tsan-check support \
	faults faults-check demo deps fuzz fuzz-check \
	lint $(LINTERS) install uninstall deb clean help
.SECONDARY:
-include $(shell find $(BUILD) -path $(BUILD)/deb -prune -o -path $(BUILD)/upgrade -prune -o -name '*.d' -type f -print 2>/dev/null)
