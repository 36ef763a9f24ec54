// One loop and its thread: its connections, its apps, and what works for these. daemon.h has them all.
//
// A loop of apps touches no other loop's apps, connections or engines; what one has for another is a letter (mailbox.h). All of them share what was made before
// them and does not change (options, keys), and the directory. Thread of everything here: the loop's, unless it says otherwise.
#ifndef SEGUE_SERVER_H
#define SEGUE_SERVER_H

#include <uv.h>

#include "app.h"
#include "auth.h"
#include "conns.h"
#include "directory.h"
#include "holds.h"
#include "hub.h"
#include "mailbox.h"
#include "options.h"
#include "stream_care.h"
#include "upload_care.h"

struct apps;
struct blob_signer;
struct calls;
struct lane;
struct llm;
struct server;
struct subs_run;
struct webhook_signer;

// What all loops share. It outlives them.
struct server_shared {
    const struct options *options;
    const struct auth *auth;
    const struct blob_signer *signer;
    const struct webhook_signer *webhooks;
    struct directory *directory;
    struct server *servers[LOOPS_MAX + 1]; // those with apps first; set before any of them listens
    unsigned loops;                        // with apps
    unsigned count;                        // servers: one more where accepting is a loop's only work
    atomic_uint connections;
    uint64_t started_us;
};

// `apps`: it has those that the directory enters for its number; else it has none. On success and after a failure the caller owns *out.
int server_open(struct server **out, struct server_shared *shared, unsigned number, bool apps, struct problem *p);
int server_listen(struct server *s, struct problem *p); // as conns_listen
uint16_t server_port(const struct server *s);
// Turns the loop until server_stop's work is done; of a server that could not be opened, until what it had is given back.
void server_run(struct server *s);
// Takes no new connection and no new request; users of the apps are asked to go; what is left after STOP_MS_MAX is cut. From any thread, once, while it runs.
void server_stop(struct server *s);
// Behind server_run, on the same thread: databases commit and sync.
void server_close(struct server *s);
// No other loop is left. Any thread; NULL is fine.
void server_free(struct server *s);

// ---- what handlers and engines ask ------------------------------------------------------------------------------------------

uv_loop_t *server_loop(struct server *s);
const struct auth *server_auth(const struct server *s);
struct conns *server_conns(struct server *s);
// Where calls outwards are made.
struct calls *server_calls(struct server *s);
struct llm *server_llm(struct server *s);
struct subs_run *server_subs(struct server *s);
// Where blobs are read, and where long work is done (pool.h).
struct lane *server_lane(struct server *s);
struct lane *server_pool(struct server *s);
// What signs links of blobs, and webhooks.
const struct blob_signer *server_signer(const struct server *s);
const struct webhook_signer *server_webhooks(const struct server *s);
bool server_dev(const struct server *s);
// The address under which clients see the service, without a slash at its end; empty: what they say themselves.
const char *server_public_url(const struct server *s);
const char *server_allow_origin(const struct server *s);
int64_t server_long_poll_ms(const struct server *s);
uint64_t server_sse_ms(const struct server *s);
int64_t server_heartbeat_ms(const struct server *s);
uint64_t server_uptime_ms(const struct server *s);

// ---- its apps ----------------------------------------------------------------------------------------------------------------

// All of them, those that go included; NULL: this loop has none.
struct apps *server_apps(struct server *s);
// The app of this name, or NULL.
struct app *server_app(struct server *s, struct span name);
// Apps in the order of their opening; NULL past the last.
struct app *server_app_at(struct server *s, size_t i);
// Where readers of this app wait to be run.
struct hub *server_hub(struct server *s, struct app *app);

// Who looks after this app's expiring streams.
struct stream_care *server_care(struct server *s, struct app *app);

// Who works on which upload of this app.
struct holds *server_holds(struct server *s, struct app *app);
// Who looks after this app's uploads.
struct upload_care *server_uploads(struct server *s, struct app *app);

// ---- the other loops ---------------------------------------------------------------------------------------------------------

unsigned server_number(const struct server *s);
// How many have apps: memory that all connections share is shared out among them.
unsigned server_loops(const struct server *s);
// Loops by their number, those with apps first; NULL past the last.
struct server *server_at(struct server *s, unsigned number);
struct directory *server_directory(struct server *s);
// Any thread: what is sent there is read by that loop.
struct mailbox *server_mailbox(struct server *s);
// Where a new app of this name belongs, or one that is there.
struct server *server_place(struct server *s, struct span name);
// Processor time of the loop's own thread so far.
uint64_t server_cpu_us(void);

#endif
