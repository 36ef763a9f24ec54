// A reader behind a subscription session that believes nothing: it checks every message against PROTOCOL.md, "Subscriptions", and folds what
// it is told into its own copy of rows and streams. Its carrier can be full. For tests of service/.
#ifndef SEGUE_SESSION_PEER_H
#define SEGUE_SESSION_PEER_H

#include "app_lab.h"
#include "session.h"

#define PEER_SUBS_MAX 12

struct peer_row {
    char id[160]; // or key
    char *json; // canonical
};

struct peer_sub {
    char name[65];
    char *query; // or a stream:
    char *branch; // that the query reads; NULL: none
    char *path;
    bool is_upload; // or an upload:
    struct uuid upload;
    uint64_t start;
    bool ordered; // the query has an order
    bool keyed;   // its rows are named by keys: its snapshot and the welcome have said so
    bool welcomed, piece; // there was a welcome with it; a piece of its snapshot has come
    // Subscribed to while the session ran, and not live: its own state is as of `at`, and whole after the last piece.
    bool late, begun, whole;
    uint64_t at;
    bool leaving;        // asked to end
    bool joining, ended; // what the range says whose parts are coming
    // What is known.
    struct peer_row *rows;
    size_t row_count, row_cap;
    bool exists, closed; // of an upload: closed, when it is done
    uint64_t offset, first;
    struct buf bytes; // from `first`
};

struct session_peer {
    struct app_lab *lab;
    struct hub *hub;
    struct session *session;
    struct peer_sub subs[PEER_SUBS_MAX];
    size_t sub_count;
    bool loses;  // its carrier says which subscriptions are lost, and the others go on
    int room;    // messages that the carrier takes before it is full; -1: any number
    size_t messages, parts, resets;
    size_t joined, catchups, leaves; // late subscriptions that went live, messages that brought one closer, and those that ended
    char reset[32];     // the last one's reason
    bool welcome, live;
    bool fresh;         // no state: a snapshot comes
    uint64_t to;        // the state is as of this seq
    uint64_t range_from, range_to;
    struct buf waiting; // of a commit in parts: a JSON array of the parts' changes
    size_t waiting_parts;
    char cursor[128];
    int ended; // why; 0: not
    int ends;
};

void session_peer_init(struct session_peer *p, struct app_lab *lab, struct hub *hub);
void session_peer_free(struct session_peer *p);
void session_peer_query(struct session_peer *p, const char *name, const char *sql);
void session_peer_branch(struct session_peer *p, const char *name, const char *branch, const char *sql);
void session_peer_stream(struct session_peer *p, const char *name, const char *path, uint64_t start);
void session_peer_upload(struct session_peer *p, const char *name, struct uuid id);
// Opens a session with the subscriptions; `cursor` NULL: the last one that it was given.
int session_peer_start(struct session_peer *p, const char *cursor);
// Cut off: what is half told is forgotten, the rest is kept for session_peer_start.
void session_peer_stop(struct session_peer *p);
// While it runs: one more (`sql` or `path`), or one less. Names are not used twice.
int session_peer_late(struct session_peer *p, const char *name, const char *sql, const char *path);
int session_peer_late_upload(struct session_peer *p, const char *name, struct uuid id);
void session_peer_leave(struct session_peer *p, const char *name);
// The carrier takes `room` messages more.
void session_peer_drain(struct session_peer *p, int room);
// What was folded is what a fresh look says, as of `to` where history still knows. Ends the test if not.
void session_peer_check(struct session_peer *p);

#endif
