// The daemon: one loop, its connections, its apps.
#ifndef SEGUE_SERVER_H
#define SEGUE_SERVER_H

#include <uv.h>

#include "app.h"
#include "auth.h"
#include "conns.h"
#include "holds.h"
#include "hub.h"
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

// Opens the data folder, says "listening on http://HOST:PORT" on standard output, serves until SIGTERM or SIGINT, and leaves everything synced. 0: stopped in
// order; ERR_EXISTS: another daemon has the folder or the port; else what kept it from starting, with its sentence in `p`.
int server_run(const struct options *options, struct problem *p);

uv_loop_t *server_loop(struct server *s);
const struct auth *server_auth(const struct server *s);
struct conns *server_conns(struct server *s);
// Where calls outwards are made.
struct calls *server_calls(struct server *s);
struct llm *server_llm(struct server *s);
struct subs_run *server_subs(struct server *s);
// Where blobs are read.
struct lane *server_lane(struct server *s);
// What signs links of blobs.
const struct blob_signer *server_signer(const struct server *s);
bool server_dev(const struct server *s);
// The address under which clients see the service, without a slash at its end; empty: what they say themselves.
const char *server_public_url(const struct server *s);
const char *server_allow_origin(const struct server *s);
int64_t server_long_poll_ms(const struct server *s);
uint64_t server_sse_ms(const struct server *s);
int64_t server_heartbeat_ms(const struct server *s);
uint64_t server_uptime_ms(const struct server *s);

// All of them, those that go included.
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

#endif
