# The bench: `make bench` (root, minutes), `make bench-micro` (timed), `make bench-micro-check` (CI).
BENCH_PROGRAMS := $(BUILD)/bench/load $(BUILD)/bench/peers/textbook $(BUILD)/bench/peers/textbook_threads \
	$(BUILD)/bench/peers/minimal

MICRO := $(BUILD)/bench/micro $(BUILD)/bench/micro_proto

bench: all $(BENCH_PROGRAMS) $(MICRO)
	@deploy/deps.sh bench
	bench/run $(BUILD)
bench-programs: $(BENCH_PROGRAMS) $(MICRO)
bench-micro: $(MICRO)
	bench/micro $(BUILD)
bench-micro-check: $(MICRO)
	CC='$(CC)' bench/micro $(BUILD) --check

$(BUILD)/bench/load: $(patsubst %.c,$(BUILD)/%.o,$(wildcard bench/load*.c)) $(BUILD)/libnsgate.a
	$(link) $(LIBS_lib)
$(BUILD)/bench/peers/%: $(BUILD)/bench/peers/%.o $(BUILD)/bench/peers/peer.o $(BUILD)/libbroker.a $(BUILD)/libnsgate.a
	$(link) $(LIBS_agent) $(LIBS_broker)

# Flags of their own, whatever CFLAGS are, so that instruction counts can be compared.
micro = $(CC) -O2 -g -std=gnu11 -D_GNU_SOURCE -Iinclude -Ilib -I. -pthread -o $@ $(filter %.c %.o,$^)
MICRO_SOURCES := agent/queue/nfq.c $(wildcard lib/*.c lib/names/*.c lib/policy/*.c lib/proto/domain*.c lib/proto/dns_*.c)
$(BUILD)/bench/micro: bench/micro.c $(MICRO_SOURCES) $(BUILD)/lib/policy/schema.o $(wildcard lib/*.h lib/policy/*.h agent/queue/nfq.h)
	@mkdir -p $(@D)
	$(micro) $(LIBS_lib) -lseccomp -lcap
$(BUILD)/bench/micro_proto: bench/micro_proto.c $(wildcard lib/proto/*.c lib/proto/*.h) $(wildcard tests/unit/*_fixture.h)
	@mkdir -p $(@D)
	$(micro) $(LIBS_proto)

.PHONY: bench bench-programs bench-micro bench-micro-check
