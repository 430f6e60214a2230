# SPDX-License-Identifier: GPL-2.0-or-later
# Fuzzing. The top Makefile runs this for `make fuzz` and `make fuzz-check`, as a make of its own
# because everything is compiled once more: clang, coverage for libFuzzer, ASan, UBSan.
override BUILD := build-fuzz
override CC := clang
override CFLAGS := -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
override LDFLAGS := -fsanitize=fuzzer,address,undefined
FUZZ_SECONDS ?= 60
MUTATED_FRAMES ?= 20000
PROGRAMS_DIR ?= build

include Makefile
# What glibc checks with it the sanitizer no longer sees. Warnings are for the compiler of the programs:
# clang also finds some in libmnl's macros.
NSGATE_CFLAGS := $(filter-out -D_FORTIFY_SOURCE=2 -Werror -Wcast-qual,$(NSGATE_CFLAGS))

FUZZERS := $(patsubst tests/fuzz/%.c,%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
FUZZ_LIBS := $(BUILD)/libagent.a $(BUILD)/libbroker.a $(BUILD)/libnsgate.a
wrap = $(addprefix -Wl$(comma)--wrap=,$(1))
comma := ,

$(FUZZERS:%=$(BUILD)/%): $(BUILD)/%: $(BUILD)/tests/fuzz/%.o $(BUILD)/tests/fuzz/every_match.o $(FUZZ_LIBS)
	$(link) $(LIBS_agent) $(LIBS_broker) $(LIBS_proto)
# The targets themselves are not what is to be covered; their comparisons would be most of the work.
$(BUILD)/tests/fuzz/%.o: override CFLAGS := -O1 -g -fsanitize=address,undefined \
	-fno-sanitize-recover=undefined -fsanitize-coverage=inline-8bit-counters,pc-table
# The kernel as these two see it is a model inside them.
$(BUILD)/fuzz_turn: NSGATE_LDFLAGS += $(call wrap,recvmmsg recv sendmsg clock_gettime)
$(BUILD)/fuzz_queue: NSGATE_LDFLAGS += $(call wrap,recvmmsg sendmsg clock_gettime recvfrom recv getsockopt pread)
# What takes privilege; and time, and who it is.
$(BUILD)/fuzz_broker: NSGATE_LDFLAGS += $(call wrap,netns_fds_open netns_fds_ask netns_fds_identify enter_call members_find_attachment queue_setup queue_unbind \
	queue_release rules_install rules_open rules_pause rules_remove rules_changed rules_print \
	rules_follow_links conntrack_forget conntrack_forget_all loop_now_ms ipc_peer)
$(BUILD)/tests/fuzz/every_match.o: tests/fuzz/every_match.json
$(BUILD)/tests/fuzz/every_match.o: tests/fuzz/every_match.S
	@mkdir -p $(@D)
	$(CC) -c -o $@ $<

# It drives the programs that `make` built and needs no sanitizer itself.
$(BUILD)/mutated_frames: tests/fuzz/mutated_frames.c
	@mkdir -p $(@D)
	gcc -O2 -g $(NSGATE_CFLAGS) -o $@ $< -ljson-c

ifeq ($(shell command -v clang),)
$(error fuzzing needs clang and its runtime: apt-get install clang libclang-rt-14-dev)
endif
fuzzers: $(FUZZERS:%=$(BUILD)/%) $(BUILD)/mutated_frames

run-fuzz: fuzzers
	@BUILD=$(BUILD) FUZZ_SECONDS=$(FUZZ_SECONDS) tests/fuzz/run $(FUZZERS)
run-fuzz-check: fuzzers
	@BUILD=$(BUILD) FUZZ_SECONDS=$(FUZZ_SECONDS) MUTATED_FRAMES=$(MUTATED_FRAMES) \
		PROGRAMS_DIR=$(PROGRAMS_DIR) tests/fuzz/run $(FUZZERS) mutated_frames

.PHONY: fuzzers run-fuzz run-fuzz-check
