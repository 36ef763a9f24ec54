# Segue. `make help` lists the targets; `make run` shows the service at work; `make test` proves it.
#
# One file, no recursion but into build variants (`make asan` is this file with VARIANT=asan). Sources are listed, not
# found. V=1 shows the commands.

MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

VARIANT ?=
B := build$(if $(VARIANT),/$(VARIANT))
Q := $(if $(V),,@)
JOBS := $(shell nproc)

# ---- sources ---------------------------------------------------------------------------------------------------

BASE_SRC := base64 buf bug bytes checksum compress crew cur db db_pages digest err feed file hash_table hlc journal journal_segment json_lines json_read json_write log problem utf8 uuid
ROWS_SRC := live_difference live_result preview read_set rows
ROWS_SRC += values/arena values/type values/value values/value_convert values/elements values/elements_convert values/exact_sum values/instant
ROWS_SRC += sql/sql sql/sql_const sql/sql_expr sql/sql_scan sql/sql_schema sql/sql_select sql/sql_tree sql/sql_words
ROWS_SRC += schema/schema schema/schema_build schema/schema_codec schema/schema_constraints schema/schema_text schema/schema_versions
ROWS_SRC += state/row_keys state/record state/history state/past state/versions state/tell state/index state/index_fill state/horizon state/blob_names
ROWS_SRC += batch/decide batch/decide_constraints batch/decide_end batch/decide_references batch/row_batch batch/merge batch/pending batch/validate batch/effects batch/apply
ROWS_SRC += query/expr query/expr_call query/expr_compile query/expr_text query/select_compile query/select_group query/plan query/plan_joined query/exec query/exec_access query/exec_group query/exec_key query/exec_run query/exec_sub query/explain query/query query/query_canonical query/query_live query/query_run query/key_set query/source query/scan query/sort_keys query/show query/tally
ROWS_SRC += live/delta live/delta_known live/delta_plan live/interests live/interests_cover live/interests_range live/join_diff live/join_scan live/join_view live/lazy_view live/table_view live/table_view_read live/view live/view_streams live/view_diff live/view_feed live/view_history live/view_ring live/group_diff live/group_look live/group_rows live/group_scan live/group_state live/group_view
STREAMS_SRC := stream_apply stream_decide stream_effects stream_expiry stream_feed stream_fork stream_groups stream_hash stream_keys stream_observe stream_read stream_reclaim stream_record stream_seal stream_segment stream_segments stream_slice stream_tail stream_trim stream_writers streams
BLOBS_SRC := blob_apply blob_audit blob_check blob_index blob_join blob_keys blob_life blob_mark blob_read blob_reader blob_refs blob_upload blob_verified blob_work blobs chunk_lanes chunk_table chunker gear pack upload_feed upload_keys uploads
# The engine sees neither the others nor a loop.
SERVICE_SRC := engine/app engine/app_branch engine/app_decide engine/app_flight engine/app_short engine/app_turn engine/auth engine/batch engine/batch_json engine/batch_reads engine/branch_feed engine/branches engine/entry engine/fates engine/jobs engine/live_preview engine/llm_kind engine/reservations engine/result_feed engine/result_set engine/row_texts engine/seq_times engine/subs engine/subs_decide engine/subs_glob
SERVICE_SRC += http/call http/conn http/conns http/egress http/http_parse http/http_scan http/http_select http/outbox http/percent http/reach http/reply http/request http/wheel http/ws_frames http/ws_handshake
SERVICE_SRC += live/crowd live/hub live/message live/session live/session_pack live/stream_frame live/sync live/sync_branch live/sync_messages live/sync_schema live/sync_tx live/ws live/ws_records
SERVICE_SRC += llm/llm llm/llm_job llm/llm_parse llm/llm_parse_chat llm/llm_parse_messages llm/llm_parse_responses llm/llm_provider llm/llm_queue llm/llm_reply llm/llm_sweep llm/llm_tail llm/llm_ui llm/llm_ui_request llm/llm_writer llm/llm_writer_ui
SERVICE_SRC += workers/path_set workers/subs_deliver workers/subs_run workers/webhook_sign workers/webhook_url
SERVICE_SRC += api/api_admin api/api_apps api/api_batch api/api_blob api/api_blob_care api/api_blob_pins api/api_blob_put api/api_blob_sign api/api_branch api/api_chunks api/api_chunks_blob api/api_ds api/api_fate api/api_history api/api_llm api/api_llm_ask api/api_llm_pass api/api_llm_proxy api/api_llm_ui api/api_preview api/api_query api/api_resumable api/api_schema api/api_stream api/api_stream_live api/api_stream_read api/api_stream_write api/api_subscribe api/api_tx api/api_upload api/api_upload_content api/api_upload_patch api/api_upload_post api/blob_care api/blob_link api/blob_row api/blob_send api/blob_view api/chunk_frames api/chunk_list api/disposition api/history_care api/holds api/rufh api/stream_care api/stream_headers api/stream_pace api/stream_pipe api/tus api/upload_care api/upload_intake api/upload_join
SERVICE_SRC += apps daemon directory key_file lane mailbox main metrics options origin pool routes server survey
LIBSEGUE_SRC := branch calls client cuts delta get http lanes listing outbox outbox_send outbox_store put socket source sse state stream subscribe tree tree_get tree_pin tree_put tree_state tree_walk tus tx upload ws ws_answer
CLI_SRC := cli cmd_app cmd_ask cmd_batch cmd_blob cmd_blobs cmd_branch cmd_history cmd_outbox cmd_query cmd_schema cmd_stream cmd_sub cmd_tree cmd_tx main options progress sub_place sub_print table

# Unit tests, by folder: tests/unit/<folder>/test_<name>.c
UNIT_base := base64 buf bug bytes checksum compress crew cur db db_pages digest disk err feed file hash_table hlc image journal journal_faults json_lines json_read json_write log problem span utf8 uuid
UNIT_rows := constraints delta exact_sum exec_key expr group_view horizon index interests join_view live_diff live_schema merge past preview query query_diff query_model read_set record rows schema schema_growth select sql sql_select validate value view
UNIT_streams := stream_apply stream_decide stream_feed stream_fork stream_model stream_reclaim stream_seal stream_segment stream_slice stream_tail stream_writers streams
UNIT_blobs := blob_apply blob_huge blob_index blob_join blob_keys blob_life blob_read blob_reader blob_upload blobs chunk_lanes chunker given pack uploads
UNIT_service := app app_disk app_flight app_upload auth batch blob_link branch_feed branches call conn crowd directory egress entry fates http_parse http_scan http_select hub jobs lane llm_parse llm_ui llm_ui_request mailbox merge_laws message moves options outbox pump_model reach redecide request result_feed rufh seq_times session stream_care stream_frame stream_headers stream_pace subs subs_app subs_glob sync transaction tus webhook wheel ws_frames ws_handshake ws_records
UNIT_clients := outbox_store sse tree tree_state

# Fuzz targets: tests/fuzz/fuzz_<name>.c with a corpus in tests/fuzz/corpus/<name>/
FUZZ := batch chunk_frames chunk_list http http_select journal json json_lines llm_events llm_ui manifest pack_record query read_set row_effects rufh sql stream_effects stream_headers subs tree upload_headers upload_op ws ws_answer ws_records

TESTLIB_SRC := app_lab blob_lab disk disk_fault disk_log disk_quota disk_record flights http_peer journal_rig live_script query_dice rows_rig session_peer stream_rig tmp toy_http
# The power-cut simulator: tests/powercut/<name>.c
POWERCUT_SRC := image
# The simulation: tests/sim/<name>.c; what judges is tested by itself.
SIM_JUDGE_SRC := checker graph history model
SIM_SRC := care flight machine server sim watchers works world
UNIT_sim := checker model
# The load generator: tests/bench/<name>.c
BENCH_SRC := bare batches catchup closed download filters first histogram link load pipeline readers text usage wire

# ---- packages --------------------------------------------------------------------------------------------------

PACKAGES_BUILD := gcc libc6-dev pkg-config libuv1-dev liblmdb-dev libxxhash-dev libzstd-dev zlib1g-dev libcurl4-openssl-dev \
	libhttp-parser-dev libwslay-dev libjansson-dev libssl-dev libpg-query-dev
PACKAGES_TEST := libcmocka-dev libsqlite3-dev curl nodejs npm chromium
PACKAGES_BENCH := redis-server nginx restic postgresql
# Peers of the append and the upload cells; their place is below build/.
NPM_BENCH := @durable-streams/server@0.3 @tus/server@2 @tus/file-store@2 pg@8 tinybase@10 ws@8

# ---- compilers -------------------------------------------------------------------------------------------------

CC := gcc
STD := -std=gnu17
WARN := -Wall -Wextra -Wno-missing-field-initializers -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wwrite-strings -Wundef -Wvla -Werror=implicit-function-declaration -Werror=incompatible-pointer-types
OPT := -O2 -g
HARDEN := -fstack-protector-strong -fno-strict-aliasing -fPIC
SAN :=
SAN_asan := -fsanitize=address -fno-omit-frame-pointer
SAN_ubsan := -fsanitize=undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
SAN_tsan := -fsanitize=thread -fno-omit-frame-pointer
DEF_bugs := -DSEGUE_BUGS
OPT_asan := -O1 -g
OPT_ubsan := -O1 -g
OPT_tsan := -O1 -g
CFLAGS = $(STD) $(WARN) $(or $(OPT_$(VARIANT)),$(OPT)) $(HARDEN) -D_GNU_SOURCE $(DEF_$(VARIANT)) $(SAN_$(VARIANT)) $(EXTRA)
LDFLAGS = $(SAN_$(VARIANT)) $(EXTRA) -pthread -rdynamic

# Each folder sees just these.
SEE_base := -iquote base
SEE_rows := -iquote base -iquote rows $(addprefix -iquote rows/,values sql schema state batch query live)
SEE_streams := -iquote base -iquote streams
SEE_blobs := -iquote base -iquote blobs
SEE_engine := -iquote base -iquote rows -iquote streams -iquote blobs -iquote service/engine
SEE_service := $(SEE_engine) -iquote service $(addprefix -iquote service/,http live llm workers api)
SEE_c := -iquote base -iquote blobs -iquote clients/c
SEE_cli := -iquote base -iquote clients/c -iquote clients/cli
SEE_tests := $(SEE_rows) $(SEE_service) -iquote tests/lib -iquote tests/powercut -iquote tests/sim -iquote tests/fuzz -iquote clients/c

LIBS_base := -llmdb -lxxhash -lzstd -lz -ljansson -lcrypto -lm
LIBS_service := -luv -lwslay -lhttp_parser -lcurl -lpg_query $(LIBS_base)
LIBS_test_query_diff := -lsqlite3
LIBS_libsegue := -lcurl -ljansson -lcrypto -llmdb -lwslay -lxxhash
LIBS_cli := $(LIBS_libsegue) $(LIBS_base)

obj = $(patsubst %,$(B)/$(1)/%.o,$(2))
BASE_OBJ := $(call obj,base,$(BASE_SRC))
ROWS_OBJ := $(call obj,rows,$(ROWS_SRC))
STREAMS_OBJ := $(call obj,streams,$(STREAMS_SRC))
BLOBS_OBJ := $(call obj,blobs,$(BLOBS_SRC))
SERVICE_OBJ := $(call obj,service,$(SERVICE_SRC))
# The rule by which contents are cut is the service's and the client's.
LIBSEGUE_OBJ := $(call obj,clients/c,$(LIBSEGUE_SRC)) $(call obj,blobs,chunker gear)
CLI_OBJ := $(call obj,clients/cli,$(CLI_SRC))
TESTLIB_OBJ := $(call obj,tests/lib,$(TESTLIB_SRC)) $(call obj,tests/powercut,$(POWERCUT_SRC)) $(call obj,tests/sim,$(SIM_JUDGE_SRC))
LIBS := $(B)/libbase.a $(B)/librows.a $(B)/libstreams.a $(B)/libblobs.a $(B)/libservice.a

ifeq ($(VARIANT),tsan)
export TSAN_OPTIONS := suppressions=$(CURDIR)/tests/tsan.supp $(TSAN_OPTIONS)
endif

.PHONY: deps deps-build
# Prints the apt-get line for what is missing and runs it: on a terminal after Enter, without one at once.
deps:
	@.ci/deps $(PACKAGES_BUILD) $(PACKAGES_TEST)
deps-build:
	@.ci/deps $(PACKAGES_BUILD)

# ---- the product -----------------------------------------------------------------------------------------------

.PHONY: all
all: $(B)/segued $(B)/segue $(B)/libsegue.a

$(B)/libbase.a: $(BASE_OBJ)
$(B)/librows.a: $(ROWS_OBJ)
$(B)/libstreams.a: $(STREAMS_OBJ)
$(B)/libblobs.a: $(BLOBS_OBJ)
$(B)/libservice.a: $(filter-out %/main.o,$(SERVICE_OBJ))
$(B)/%.a:
	@mkdir -p $(@D)
	$(Q)rm -f $@ && ar rcs $@ $^

$(B)/segued: $(B)/service/main.o $(LIBS)
	@echo "  LINK $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $< -Wl,--start-group $(LIBS) -Wl,--end-group $(LIBS_service)

# What libsegue takes from base is inside of it, and only what segue.h names is seen from outside.
$(B)/libsegue.a: $(B)/libsegue.o
$(B)/libsegue.o: $(LIBSEGUE_OBJ) $(B)/libbase.a
	@echo "  LD   $@"
	$(Q)$(CC) -r -nostdlib -o $@ $^ && objcopy --wildcard --keep-global-symbol='segue_*' $@

$(B)/segue: $(CLI_OBJ) $(B)/libsegue.a $(B)/libbase.a
	@echo "  LINK $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_cli)

define folder_rule
$(B)/$(1)/%.o: $(1)/%.c
	@mkdir -p $$(@D)
	@echo "  CC   $$<"
	$$(Q)$$(CC) $$(CFLAGS) -MMD -MP $(2) -c -o $$@ $$<
endef
$(eval $(call folder_rule,base,$$(SEE_base)))
$(eval $(call folder_rule,rows,$$(SEE_rows)))
$(eval $(call folder_rule,streams,$$(SEE_streams)))
$(eval $(call folder_rule,blobs,$$(SEE_blobs)))
$(eval $(call folder_rule,service/engine,$$(SEE_engine)))
$(eval $(call folder_rule,service,$$(SEE_service)))
$(eval $(call folder_rule,clients/c,$$(SEE_c)))
$(eval $(call folder_rule,clients/cli,$$(SEE_cli)))
$(eval $(call folder_rule,tests/unit/clients,$$(SEE_c) -iquote tests/lib -iquote tests/powercut))
$(eval $(call folder_rule,tests,$$(SEE_tests)))

-include $(shell find $(B) -name '*.d' 2>/dev/null)

# ---- tests -----------------------------------------------------------------------------------------------------

UNIT_FOLDERS := base rows streams blobs service clients sim
UNIT_BIN := $(foreach f,$(UNIT_FOLDERS),$(patsubst %,$(B)/tests/unit/$(f)/test_%,$(UNIT_$(f))))
FUZZ_REPLAY := $(patsubst %,$(B)/tests/fuzz/replay_%,$(FUZZ))

$(B)/tests/unit/%: $(B)/tests/unit/%.o $(TESTLIB_OBJ) $(LIBS)
	@echo "  LINK $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $< $(TESTLIB_OBJ) -Wl,--start-group $(LIBS) -Wl,--end-group $(LIBS_service) -lcmocka -ldl $(LIBS_$(@F))
# A client's insides, with nothing of the service beside them.
$(B)/tests/unit/clients/%: $(B)/tests/unit/clients/%.o $(call obj,tests/lib,disk disk_fault disk_log disk_quota disk_record tmp) $(call obj,tests/powercut,image) $(LIBSEGUE_OBJ) $(B)/libbase.a
	@echo "  LINK $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_libsegue) -lcmocka -ldl
.PRECIOUS: $(B)/tests/unit/%.o $(B)/tests/unit/clients/%.o $(B)/tests/fuzz/%.o

# What a client parses, with nothing of the client behind it.
FUZZ_CLIENT_OBJ := $(call obj,clients/c,tree ws_answer)
FUZZ_OBJ := $(B)/tests/fuzz/replay_main.o $(B)/tests/lib/tmp.o $(FUZZ_CLIENT_OBJ)
$(B)/tests/fuzz/replay_%: $(B)/tests/fuzz/fuzz_%.o $(FUZZ_OBJ) $(LIBS)
	@echo "  LINK $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $< $(FUZZ_OBJ) -Wl,--start-group $(LIBS) -Wl,--end-group $(LIBS_service)

# The interposer for the real daemon, never with a sanitizer: it comes before the program's own libraries.
$(B)/tests/lib/disk.so: tests/lib/disk.c tests/lib/disk_fault.c tests/lib/disk_quota.c tests/lib/disk_record.c tests/lib/disk.h tests/lib/disk_private.h
	@mkdir -p $(@D)
	@echo "  SO   $@"
	$(Q)$(CC) $(STD) $(WARN) $(OPT) -fPIC -D_GNU_SOURCE -iquote tests/lib -shared -o $@ $(filter %.c,$^) -ldl -pthread

.PHONY: unit
# make unit T=journal runs the unit tests of that name alone.
# Some run once more with a disk that another thread waits for.
UNIT_FLOWN := $(addprefix $(B)/tests/unit/service/test_,app app_disk app_upload branches session subs_app sync transaction)
UNIT_RUN := $(if $(T),$(filter %/test_$(T),$(UNIT_BIN)),$(UNIT_BIN))
unit: $(UNIT_RUN)
	$(if $(UNIT_RUN),,$(error no unit test is called $(T)))
	@for t in $(UNIT_RUN); do echo "$$t"; $$t || exit 1; done
	@for t in $(filter $(UNIT_FLOWN),$(UNIT_RUN)); do echo "$$t, in flight"; SEGUE_LAB_FLIGHTS=1 $$t || exit 1; done

.PHONY: fuzz-replay fuzz
# Every input of the corpora, through each target.
fuzz-replay: $(FUZZ_REPLAY)
	@$(foreach f,$(FUZZ),echo "fuzz $(f)"; $(B)/tests/fuzz/replay_$(f) tests/fuzz/corpus/$(f) || exit 1;)
	@echo "$(words $(FUZZ)) passed, 0 failed"

# make fuzz F=sql S=600: searches for new inputs with libFuzzer (packages clang, libclang-rt-14-dev).
F ?= $(firstword $(FUZZ))
S ?= 60
fuzz:
	@$(MAKE) --no-print-directory B=build/fuzz CC=clang EXTRA="-fsanitize=fuzzer-no-link,address,undefined" build/fuzz/libfuzz.a
	@mkdir -p build/fuzz/found/$(F)
	clang $(STD) -g -O1 -D_GNU_SOURCE -fsanitize=fuzzer,address,undefined $(SEE_tests) -o build/fuzz/fuzz_$(F) tests/fuzz/fuzz_$(F).c \
		-Wl,--start-group build/fuzz/lib*.a -Wl,--end-group $(LIBS_service) -lstdc++
	build/fuzz/fuzz_$(F) -max_total_time=$(S) -print_final_stats=1 build/fuzz/found/$(F) tests/fuzz/corpus/$(F)
$(B)/libfuzz.a: $(LIBS) $(TESTLIB_OBJ) $(FUZZ_CLIENT_OBJ)
	$(Q)rm -f $@ && ar rcs $@ $(TESTLIB_OBJ) $(FUZZ_CLIENT_OBJ)

# What a power cut may leave is built and opened at POINTS points of recorded runs. BUG=ack_before_journal (or publish_before_barrier,
# skip_pack_sync, recycle_early, nosync, stream_seal_unsynced, stream_file_removed_early) plants that mistake, which has to be found: then this target fails.
POINTS ?= 5000
POWERCUT_CHECK = $(B)/tests/powercut/check
POWERCUT_OBJ = $(call obj,tests/powercut,check truth image) $(call obj,tests/lib,tmp disk disk_fault disk_quota disk_record disk_log)
$(B)/tests/powercut/check: $(POWERCUT_OBJ) $(LIBS)
	@echo "  LINK $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $(POWERCUT_OBJ) -Wl,--start-group $(LIBS) -Wl,--end-group $(LIBS_service) -ldl
.PHONY: powercut
powercut: $(POWERCUT_CHECK) $(B)/tests/lib/disk.so $(B)/segued $(B)/tests/provider/provider
	$(if $(BUG),@$(MAKE) --no-print-directory -j$(JOBS) VARIANT=bugs build/bugs/segued)
	@SEGUED=$(if $(BUG),build/bugs/segued,$(B)/segued) CHECK=$(POWERCUT_CHECK) DISK=$(B)/tests/lib/disk.so PROVIDER=$(B)/tests/provider/provider BUG=$(BUG) ONLY=$(ONLY) node tests/powercut/powercut.mjs $(POINTS)

# Many clients and the engine in one thread, with a clock, randomness and a disk that follow from the seed: crashes, lost and doubled messages. make sim SEED=7
# DURATION_S=3600 goes on for an hour from seed 7; WORLDS=1 replays one seed. BUG=no_read_set (or no_phantom_check, own_rows_unread, no_dedup, half_batch, lww_by_arrival, nosync, ack_before_journal, publish_before_barrier) plants that
# mistake, which has to be found by its name: then this target fails. A quarter of that time more goes into live queries beside fresh ones (tests/unit/rows/test_live_diff.c).
DURATION_S ?= 60
SIM_OBJ = $(call obj,tests/sim,$(SIM_SRC) $(SIM_JUDGE_SRC)) $(call obj,tests/powercut,image) $(call obj,tests/lib,tmp disk disk_fault disk_quota disk_record disk_log app_lab flights session_peer)
$(B)/tests/sim/sim: $(SIM_OBJ) $(LIBS)
	@echo "  LINK $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $(SIM_OBJ) -Wl,--start-group $(LIBS) -Wl,--end-group $(LIBS_service) -ldl
.PHONY: sim
sim: $(if $(BUG),,$(B)/tests/sim/sim) $(if $(BUG)$(WORLDS),,$(B)/tests/unit/rows/test_live_diff)
	$(if $(BUG),@$(MAKE) --no-print-directory -j$(JOBS) VARIANT=bugs build/bugs/tests/sim/sim)
	$(Q)$(if $(BUG),build/bugs,$(B))/tests/sim/sim --seed $(or $(SEED),$(shell date +%s)) --seconds $(DURATION_S) $(if $(WORLDS),--worlds $(WORLDS)) $(if $(BUG),--bug $(BUG))
	$(if $(BUG)$(WORLDS),,$(Q)SEED=$(or $(SEED),$(shell date +%s)) DURATION_S=$$(($(DURATION_S) / 4)) $(B)/tests/unit/rows/test_live_diff)

# The daemon from outside: node alone, no packages.
.PHONY: e2e crash run
E2E := SEGUED=$(B)/segued SEGUE=$(B)/segue DISK_SO=$(B)/tests/lib/disk.so PROVIDER=$(B)/tests/provider/provider \
	LIBSEGUE=$(B)/libsegue.a LIBSEGUE_CC="$(CC) $(SAN_$(VARIANT)) $(EXTRA)" LIBSEGUE_LIBS="$(LIBS_libsegue)"
# The tests wait more than they work: several files at once, where node can be told so.
E2E_NODE = node --test $(if $(shell node --help | grep -e --test-concurrency),--test-concurrency=3)
e2e: $(B)/segued $(B)/segue $(B)/libsegue.a $(B)/tests/lib/disk.so $(B)/tests/provider/provider
	$(Q)$(E2E) $(E2E_NODE) $(if $(T),tests/e2e/$(T).test.mjs,$(wildcard tests/e2e/*.test.mjs))

# The pages of clients/web in headless Chromium, whose driver comes from npm by the lock file.
WEB_MODULES := tests/web/node_modules/.package-lock.json
$(WEB_MODULES): tests/web/package-lock.json
	$(Q)cd tests/web && npm ci --fetch-retries=1 --no-audit --no-fund --ignore-scripts --silent && touch node_modules/.package-lock.json
.PHONY: web
web: $(B)/segued $(WEB_MODULES)
	$(Q)$(E2E) node --test tests/web/*.test.mjs
# Where npm reaches nothing, the rest is tested all the same, and this says so. CI wants all of it.
.PHONY: web-if-npm
web-if-npm:
	@if [ -n "$(CI)" ] || $(MAKE) --no-print-directory VARIANT=$(VARIANT) $(WEB_MODULES) >/dev/null 2>&1; then $(MAKE) --no-print-directory VARIANT=$(VARIANT) web; \
	else echo "web: NOT RUN, npm cannot bring playwright-core here (make web says why)"; fi

# The Durable Streams protocol's public suite, which comes from npm by the lock file: on a fresh folder, and on one that a kill -9 left.
# make conformance ONLY="Fork" runs what is called so, once.
CONFORMANCE_MODULES := tests/conformance/node_modules/.package-lock.json
$(CONFORMANCE_MODULES): tests/conformance/package-lock.json
	$(Q)cd tests/conformance && npm ci --fetch-retries=1 --no-audit --no-fund --ignore-scripts --silent && touch node_modules/.package-lock.json
.PHONY: conformance conformance-if-npm
conformance: $(B)/segued $(CONFORMANCE_MODULES)
	$(Q)SEGUED=$(B)/segued ONLY="$(ONLY)" node tests/conformance/conformance.mjs
conformance-if-npm:
	@if [ -n "$(CI)" ] || $(MAKE) --no-print-directory VARIANT=$(VARIANT) $(CONFORMANCE_MODULES) >/dev/null 2>&1; then $(MAKE) --no-print-directory VARIANT=$(VARIANT) conformance; \
	else echo "conformance: NOT RUN, npm cannot bring the suite here (make conformance says why)"; fi
# The clients that apps use already, unmodified, by the lock file: what they need of the service, they get.
CLIENT_MODULES := tests/clients/node_modules/.package-lock.json
$(CLIENT_MODULES): tests/clients/package-lock.json
	$(Q)cd tests/clients && npm ci --fetch-retries=1 --no-audit --no-fund --ignore-scripts --silent && touch node_modules/.package-lock.json
.PHONY: clients clients-if-npm
clients: $(B)/segued $(B)/tests/provider/provider $(CLIENT_MODULES)
	$(Q)$(E2E) $(E2E_NODE) $(if $(T),tests/clients/$(T).test.mjs,$(wildcard tests/clients/*.test.mjs))
clients-if-npm:
	@if [ -n "$(CI)" ] || $(MAKE) --no-print-directory VARIANT=$(VARIANT) $(CLIENT_MODULES) >/dev/null 2>&1; then $(MAKE) --no-print-directory VARIANT=$(VARIANT) clients; \
	else echo "clients: NOT RUN, npm cannot bring the clients here (make clients says why)"; fi

# One file by every way that there is, each broken twice, and one corpus by all of them: tus-js-client in Node and in Chromium, curl, segue put.
# make uploads SIZE=256 ONLY=Chromium: MiB, and the ways that are called so.
SIZE ?= 32
.PHONY: uploads uploads-if-npm
uploads: $(B)/segued $(B)/segue $(CLIENT_MODULES) $(WEB_MODULES)
	$(Q)$(E2E) SIZE=$(SIZE) ONLY="$(ONLY)" node tests/uploads/broken.mjs
	$(if $(ONLY),,$(Q)$(E2E) node --test $(wildcard tests/uploads/*.test.mjs))
uploads-if-npm:
	@if [ -n "$(CI)" ] || $(MAKE) --no-print-directory VARIANT=$(VARIANT) $(CLIENT_MODULES) $(WEB_MODULES) >/dev/null 2>&1; then $(MAKE) --no-print-directory VARIANT=$(VARIANT) uploads; \
	else echo "uploads: NOT RUN, npm cannot bring the clients here (make uploads says why)"; fi

RUNS ?= 200
CRASH_jobs := asked
CRASH_blobs := blobs
CRASH_live := live
# A program with an outbox, for the campaign that kills it.
$(B)/tests/crash/outboxer: $(B)/tests/crash/outboxer.o $(B)/libsegue.a
	@echo "  LINK $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_libsegue)
# BUG=reclaim_bytes_first (or another one of the power cuts'; of ONLY=live outbox_renames, sub_repeats, skip_range) plants that mistake: then this target fails, and names it.
crash: $(B)/segued $(B)/segue $(B)/tests/crash/outboxer $(B)/tests/lib/disk.so $(B)/tests/provider/provider
	$(if $(BUG),@$(MAKE) --no-print-directory -j$(JOBS) VARIANT=bugs build/bugs/segued build/bugs/segue build/bugs/tests/crash/outboxer)
	$(Q)$(E2E) OUTBOXER=$(if $(BUG),build/bugs,$(B))/tests/crash/outboxer $(if $(BUG),SEGUED=build/bugs/segued SEGUE=build/bugs/segue SEGUE_BUG=$(BUG)) RUNS=$(RUNS) $(if $(SEED),SEED=$(SEED)) node tests/crash/$(or $(CRASH_$(ONLY)),crash).mjs

run: deps-build
	@$(MAKE) --no-print-directory all $(B)/tests/provider/provider
	$(Q)tests/story/run.sh $(B)

# The stand-in for an LLM provider, which replays tests/fixtures/provider.
$(B)/tests/provider/provider: $(B)/tests/provider/provider.o $(B)/libbase.a
	@echo "  LINK $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_base)

# Every figure beside a peer or a physical limit, in build/bench.tsv. make bench ONLY=append ROUNDS=5 runs one cell, five times.
$(B)/tests/bench/load: $(call obj,tests/bench,$(BENCH_SRC)) $(B)/libbase.a
	@echo "  LINK $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_base)
# Where SQLite's header is missing its figures are.
$(B)/tests/bench/plain: $(B)/tests/bench/plain.o
	@echo "  LINK $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(if $(wildcard /usr/include/sqlite3.h),-lsqlite3)
$(B)/tests/bench/rows: $(B)/tests/bench/rows.o $(LIBS)
	@echo "  LINK $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $(B)/tests/bench/rows.o $(B)/libservice.a $(B)/librows.a $(B)/libstreams.a $(B)/libblobs.a $(B)/libbase.a $(LIBS_service) \
		$(if $(wildcard /usr/include/sqlite3.h),-lsqlite3)
$(B)/tests/bench/stages: $(B)/tests/bench/stages.o $(B)/libblobs.a $(B)/libbase.a
	@echo "  LINK $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_base)
$(B)/tests/bench/reads: $(B)/tests/bench/reads.o $(B)/librows.a $(B)/libbase.a
	@echo "  LINK $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -lpg_query -lsqlite3 $(LIBS_base)
.PHONY: bench bench-deps
bench: $(B)/segued $(B)/tests/bench/load $(B)/tests/bench/plain $(B)/tests/bench/rows $(B)/tests/bench/stages $(if $(wildcard /usr/include/sqlite3.h),$(B)/tests/bench/reads)
	$(Q)B=$(B) ONLY=$(ONLY) $(if $(ROUNDS),ROUNDS=$(ROUNDS)) node tests/bench/bench.mjs
# The peers. `make test` never needs them, and `make bench` starts its own, whatever the packages start.
bench-deps: deps
	@.ci/deps $(PACKAGES_BENCH)
	@mkdir -p build/bench-npm
	$(Q)npm install --prefix build/bench-npm --fetch-retries=1 --no-audit --no-fund --ignore-scripts --silent $(NPM_BENCH)

.PHONY: lint
lint:
	@tests/lint/check-source

.PHONY: test asan ubsan tsan
# Everything that is quick: what each commit has to pass. The campaigns run in their short form.
test: deps
	@$(MAKE) --no-print-directory -j$(JOBS) VARIANT=$(VARIANT) all $(UNIT_BIN) $(FUZZ_REPLAY) $(POWERCUT_CHECK) $(B)/tests/lib/disk.so $(B)/tests/provider/provider
	@$(MAKE) --no-print-directory VARIANT=$(VARIANT) unit fuzz-replay e2e web-if-npm clients-if-npm uploads-if-npm conformance-if-npm
	@$(MAKE) --no-print-directory VARIANT=$(VARIANT) crash RUNS=6
	@$(MAKE) --no-print-directory VARIANT=$(VARIANT) crash ONLY=jobs RUNS=80
	@$(MAKE) --no-print-directory VARIANT=$(VARIANT) crash ONLY=blobs RUNS=10
	@$(MAKE) --no-print-directory VARIANT=$(VARIANT) crash ONLY=live RUNS=12
	@$(MAKE) --no-print-directory VARIANT=$(VARIANT) powercut POINTS=200
	@$(MAKE) --no-print-directory VARIANT=$(VARIANT) sim DURATION_S=12

# The same tests under a sanitizer.
asan ubsan tsan:
	@$(MAKE) --no-print-directory VARIANT=$@ test

.PHONY: install clean format help
PREFIX ?= /usr/local
install: all
	install -D -m 755 $(B)/segued $(DESTDIR)$(PREFIX)/bin/segued
	install -D -m 755 $(B)/segue $(DESTDIR)$(PREFIX)/bin/segue
	install -D -m 644 $(B)/libsegue.a $(DESTDIR)$(PREFIX)/lib/libsegue.a
	install -D -m 644 clients/c/segue.h $(DESTDIR)$(PREFIX)/include/segue.h
	@mkdir -p $(DESTDIR)$(PREFIX)/lib/pkgconfig
	sed -e 's|@prefix@|$(PREFIX)|' -e "s|@version@|$$(sed -n 's/^#define SEGUE_VERSION "\(.*\)"/\1/p' clients/c/segue.h)|" \
		clients/c/segue.pc.in >$(DESTDIR)$(PREFIX)/lib/pkgconfig/segue.pc

format:
	clang-format -i $$(git ls-files '*.c' '*.h')

clean:
	rm -rf build

help:
	@echo "make                 build build/segued, build/segue and build/libsegue.a"
	@echo "make run             see the service at work"
	@echo "make test            all quick tests;  make asan | ubsan | tsan  the same under a sanitizer"
	@echo "make unit T=journal  one unit test;    make e2e   the daemon from outside;  make web  pages in a browser"
	@echo "make conformance     the Durable Streams protocol's own suite, twice, with a kill -9 between"
	@echo "make clients         the npm clients that apps use, unmodified"
	@echo "make uploads SIZE=256 one file by every client and protocol, each broken twice"
	@echo "make crash RUNS=200  kill -9 campaign; make crash ONLY=jobs RUNS=1000  the same for LLM jobs, providers and clients"
	@echo "make crash ONLY=blobs RUNS=500  the same for uploads, packing and reclaiming"
	@echo "make crash ONLY=live RUNS=500   the same for outboxes and subscriptions, whose clients are killed, too"
	@echo "make powercut POINTS=5000 [BUG=name]  simulated power cuts"
	@echo "make sim SEED=7 DURATION_S=3600 [BUG=name]  simulated clients, crashes and lost messages"
	@echo "make bench [ONLY=append] figures beside peers and the machine's floor; make bench-deps gets the peers"
	@echo "make fuzz F=sql S=60 search for inputs that break a parser"
	@echo "make lint | format | deps | install | clean"
