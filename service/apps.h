// The apps of one loop: opened at the start, made and dropped while others are served, ticked and turned.
//
//      <data>/apps/<name>/      an app; what is in here when the service starts is spread over the loops (apps_spread) and opened
//      <data>/dropped/…         what dropped apps were; removed as soon as may be, also after a kill
//
//      create:  entered in the directory ─> folder ─> journal ─> database ─> served
//      drop:    no request finds it any more ─> its users are told (ERR_NO_SUCH_APP) and let go ─> its stores are closed
//               ─> its folder is renamed to dropped/…: from here on it is gone ─> out of the directory ─> answered ─> the files are removed on the pool
//
// A kill before the renaming leaves the app as it was: nobody was told that it is gone. What an app's own memory was, a little, stays until
// the service ends: a request that began before the drop may still hold on to it, and finds it without stores.
// Thread: the loop's.
#ifndef SEGUE_APPS_H
#define SEGUE_APPS_H

#include "directory.h"
#include "server.h"

struct apps;

struct apps_options {
    struct server *server;
    unsigned number; // of the loop
    struct directory *directory;
    const struct options *options;
    uv_loop_t *loop;
    struct lane *pool;
    void (*visible)(struct server *s, struct app *app, struct hub *hub); // as app_options.visible
    // What was in flight of this app has landed, and what waited in the engine has gone on: now the rest. `ticked`: the service's tick found it in flight.
    void (*landed)(struct server *s, struct app *app, bool ticked);
};

// Enters `default` and every folder that could be an app's, by turns in all loops. Before there are any.
int apps_spread(const struct options *options, struct directory *directory, unsigned loops, struct problem *p);
// Opens what is entered for this loop. On success and after a failure the caller owns *out.
int apps_open(struct apps **out, const struct apps_options *options, struct problem *p);
// The loop has run empty. NULL is fine.
void apps_close(struct apps *as);

struct app *apps_at(struct apps *as, size_t i);
struct app *apps_find(struct apps *as, struct span name);
// ERR_BAD_PARAMETER, with the rule: that is no name of an app.
int apps_name_check(struct span name, struct problem *p);

// What belongs to an app, also to one that is being dropped or was.
struct hub *apps_hub(struct apps *as, const struct app *app);
struct upload_care *apps_uploads(struct apps *as, const struct app *app);
struct stream_care *apps_care(struct apps *as, const struct app *app);

// Makes an app on this loop; *created is false where it was there. ERR_BAD_PARAMETER: that is no name; ERR_TOO_MANY; ERR_BUSY: one of this name is being
// dropped, or another loop has it; ERR_SHUTTING_DOWN; or what kept it from being opened.
int apps_create(struct apps *as, struct span name, bool *created, struct problem *p);

// Drops an app; `done` is called later, once, with 0 or why its folder is still there (then the app is, too).
struct app_drop {
    struct app_drop *next, **place;
    void (*done)(struct app_drop *d, int err);
};
// ERR_NO_SUCH_APP; ERR_BUSY: it is being dropped already; ERR_FORBIDDEN: `default`, which every start makes; ERR_TOO_MANY: drops since the start.
int apps_drop(struct apps *as, struct span name, struct app_drop *d, struct problem *p);
void app_drop_remove(struct app_drop *d); // the app is dropped all the same; not waiting: fine

// ---- the loop's ----------------------------------------------------------------------------------------------------

// Decides what waits, and runs readers; `flush` before the readers of each app.
void apps_turn(struct apps *as, void (*flush)(void *ctx), void *ctx);
void apps_tick(struct apps *as);
bool apps_pending(const struct apps *as); // a turn is due now
bool apps_busy(const struct apps *as);    // a tick is due soon
// The service stops: nothing is made or begun any more, users are asked to go.
void apps_stop(struct apps *as);
// Nothing of any app is in flight from here on. Before the loop runs empty.
void apps_ground(struct apps *as);
// The same, and what is still waiting is decided: nothing comes after.
void apps_finish(struct apps *as);

#endif
