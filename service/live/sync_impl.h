// The inside of sync, for sync.c and sync_messages.c. Nobody else includes this.
#ifndef SEGUE_SYNC_IMPL_H
#define SEGUE_SYNC_IMPL_H

#include "json_write.h"
#include "session.h"
#include "sync.h"

#define SYNC_PARAMS_BYTES (256 * KIB) // of the values of a query's parameters

struct sync_query;
struct sync_tx;

struct sync {
    struct sync_options options;
    const struct sync_carrier *ops;
    void *carrier;
    struct app_user user;
    struct session *session; // from hello on
    struct hub_item acks;    // an acknowledgement is due
    // Submissions on their way; held ones are not taken by the app yet, which has too many.
    size_t calls, bytes;
    struct call *held, *held_last;
    // Appends by their number: given out, still on their way, settled with all before them, and told of.
    uint64_t appends, appends_open, settled, told;
    // Transactions begun here, and the query whose rows are on their way: nothing more is read until they are.
    struct sync_tx *txs;
    size_t tx_count;
    uint64_t tx_last;
    struct sync_query *query;
    struct hub_item more; // it goes on in the next turn
    bool full;   // the carrier
    bool ending; // with:
    enum ws_code code;
    char reason[64];
    struct problem problem; // err 0: no message
    bool over, closed;
};

struct jr;

// A submission. Outlives the connection if that goes first.
struct call {
    struct submission submission; // first; its next is this connection's while it is held
    struct sync *sync;
    struct buf encoded;
    size_t ops;
    uint64_t append;           // its number; 0: a batch
    char tag[WS_TAG_MAX + 1];  // what its sender called it, as JSON; empty: nothing
};

extern const struct session_carrier sync_session_carrier;

// sync_messages.c, for sync_tx.c: a call, or NULL and the connection ends; a message's tag; its members; the values of "params", which point into the
// tree and into `scratch`, reserved at once.
struct call *sync_call_new(struct sync *s);
int sync_get_tag(const struct jr *message, char tag[WS_TAG_MAX + 1], struct problem *p);
int sync_check_members(const struct jr *object, const char *const *known, struct problem *p);
int sync_get_params(const struct jr *list, struct buf *scratch, struct row_value params[QUERY_PARAMS_MAX], size_t *count, struct problem *p);

// sync_tx.c: messages, in the words of PROTOCOL.md.
void sync_take_begin(struct sync *s, const struct jr *message, struct span text);
void sync_take_query(struct sync *s, const struct jr *message, struct span text);
void sync_take_write(struct sync *s, const struct jr *message, struct span text);
void sync_take_commit(struct sync *s, const struct jr *message, struct span text);
void sync_take_abort(struct sync *s, const struct jr *message, struct span text);
// sync_schema.c
void sync_take_publish(struct sync *s, const struct jr *message, struct span text);
void sync_take_schema(struct sync *s, const struct jr *message, struct span text);
void sync_take_schemas(struct sync *s, const struct jr *message, struct span text);
// sync_branch.c
void sync_take_branch(struct sync *s, const struct jr *message, struct span text);
void sync_take_branches(struct sync *s, const struct jr *message, struct span text);
// Its next turn has come.
void sync_query_turn(struct hub_item *item);
// The carrier has room for more rows. False: no query was under way.
bool sync_query_go_on(struct sync *s);
// Lets go of everything of the app's.
void sync_tx_close(struct sync *s);

// Begins a message of this type; its end is jw_end and sync_say, which frees the buffer.
void sync_message_begin(struct buf *b, struct jw *w, const char *type);
void sync_say(struct sync *s, struct buf *message);
// About nothing in particular (`key` NULL), or about what `key` names: `value` is JSON.
void sync_say_name_error(struct sync *s, struct span name, const struct problem *p); // of the subscription of this name
void sync_say_error(struct sync *s, const char *key, struct span value, const struct problem *p);
// An end with an error of the service's.
void sync_end_with(struct sync *s, int err);

// Takes the call over: sends it on its way, or keeps it until the app takes it.
void sync_submit(struct sync *s, struct call *call);
// Tells a fate, or an error that is none, under the call's tag.
void sync_say_fate(struct sync *s, const struct call *call, const struct fate *f);
// Answers a call that goes no further with an error that is no fate, and frees it.
void sync_call_fail(struct sync *s, struct call *call, int err, struct problem *p);
void sync_call_free(struct call *call);

#endif
