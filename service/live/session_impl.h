// The inside of a session, for session.c (its life, its subscriptions, the pump) and session_pack.c (its messages). Nobody else includes this.
#ifndef SEGUE_SESSION_IMPL_H
#define SEGUE_SESSION_IMPL_H

#include <assert.h>

#include "err.h"
#include "message.h"
#include "result_feed.h"
#include "session.h"

#define NAME_MAX_SUB MESSAGE_NAME_MAX
#define CURSOR_MAX MESSAGE_CURSOR_MAX

//   APART ─> SNAPSHOT ──last piece──> BEHIND ──what came meanwhile is little──> READY ──the range that names it in `live`──> LIVE
//     │                                │  ^                                       ^
//     │                                └──┘ a piece of catching up                │
//     └── with a cursor ──────────────────────────────────────────────────────────┘
enum sub_state {
    SUB_APART,    // reads no feed
    SUB_SNAPSHOT, // pieces of the state as of `at` are to be sent
    SUB_BEHIND,   // the client has it as of `at`, and the others may be far ahead
    SUB_READY,    // joins with the next range that reaches `at`
    SUB_LIVE,     // the client has it as of the session's `sent`
};

// A line of subscriptions, each in one at most. A commit costs a connection what is in line, however many subscriptions it has.
struct sub_list {
    struct subscription *first, *last;
};

struct subscription {
    struct session *session;
    struct sub_list *in; // NULL: live, and nothing of it has changed
    struct subscription *next, *prev;
    char name[NAME_MAX_SUB + 1];
    uint64_t name_hash;
    uint64_t hash;       // of all that was asked, for cursors
    struct query *query; // or a stream:
    struct span path;    // owned; of a query the branch that it reads, if it does
    uint64_t branch_no;  // of which name there may be another one later
    struct live_preview *preview; // over which it is read; its operations lie behind it
    struct result_follow *follows; // streams of the result that come with it; their columns' names lie behind the last
    size_t follow_count;
    uint64_t offset;     // where a fresh reader begins
    bool is_upload;      // or an upload:
    struct uuid upload;
    struct feed_sub *feed;
    enum sub_state state;
    uint64_t at;
    bool begun;   // a piece of its snapshot was sent
    bool awaited; // nothing goes live before it is ready: it was there when the session began
    bool joining; // goes live with the range being read
    int lost;     // why its feed cannot go on, where that ends this subscription alone
    bool unread;  // nothing was read in ranges yet: whether its feed was touched says nothing
};

enum session_state { SESSION_NEW, SESSION_SNAPSHOT, SESSION_LIVE, SESSION_OVER };

// One message waiting for the carrier.
struct part {
    struct part *next;
    struct message *message;
};

struct session {
    struct app *app;
    struct hub *hub;
    struct hub_item woken;
    const struct session_carrier *ops;
    void *carrier;
    struct app_user user;
    enum session_state state;
    struct subscription **subs;
    size_t count, cap;
    struct sub_list aside;   // SNAPSHOT and BEHIND, in the order in which they are looked after
    struct sub_list touched; // READY, and those that are LIVE and may have changed behind `sent`
    uint64_t live_hash;      // the sum of those that are LIVE
    struct buf ended; // names to be told as ended, as the inside of a JSON array
    // What the client has is the state as of `sent`; the last range that it was told of ended at `told`, and nothing of its feeds changed between.
    uint64_t sent, told;
    // The range being sent: its elements, packed into parts that go out as the carrier takes them.
    struct part *parts, *parts_last;
    bool beside_next; // a piece of a snapshot has its turn before the next range
    bool full;        // the carrier said so
    size_t made;      // bytes of messages made since its turn began
    bool pumping;
};

// session_pack.c --------------------------------------------------------------------------------------------------------
// Each puts messages in line behind what waits in `parts`.

int session_put_welcome(struct session *s);
int session_put_reset(struct session *s, const char *reason);
// The next piece of the snapshot as of sub->at; *done: the last.
int session_put_snapshot(struct session *s, struct subscription *sub, bool *done);
// What leads one subscription from sub->at to `to`, outside of the ranges.
int session_put_catchup(struct session *s, struct subscription *sub, uint64_t to);
// The range (s->sent, to] of all that are live, with what brings those that join up to it. Nothing where there is nothing to tell: *told is then false.
int session_put_range(struct session *s, uint64_t to, bool *told);
// What is in line goes away unsent.
void session_drop_parts(struct session *s);

// Does it read rows that lie over the store: a branch, a preview?
static inline bool sub_is_laid(const struct subscription *sub)
{
    return sub->branch_no != 0 || sub->preview != NULL;
}

// What a call of its feed gave back. What is the matter with this one's result is the end of it and of nothing else: it cannot be evaluated, it has outgrown
// a bound, its branch is gone. (Where it has to begin anew, all of the session does.)
static inline int sub_note(struct subscription *sub, int err)
{
    bool result = err == ERR_BAD_VALUE || err == ERR_QUERY_TOO_EXPENSIVE || err == ERR_RESULT_TOO_LARGE || err == ERR_TOO_MANY;
    bool laid = sub_is_laid(sub) && err != ERR_TOO_OLD && err != ERR_NOMEM && err != ERR_CORRUPT;
    if (err != 0 && sub->query != NULL && (result || laid)) sub->lost = err;
    return err;
}

// Does the range after `sent` concern it? Only asked of those in `touched`.
static inline bool sub_touched(const struct session *s, const struct subscription *sub)
{
    assert(sub->in == &s->touched);
    return sub->state == SUB_READY || (sub->state == SUB_LIVE && (sub->unread || sub->feed->changed > s->sent));
}

#endif
