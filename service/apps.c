#include "apps.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "blob_care.h"
#include "history_care.h"
#include "err.h"
#include "file.h"
#include "lane.h"
#include "log.h"
#include "pool.h"

#define READERS_PER_TURN 64 // of one app: then its sockets are looked at again, and what came meanwhile goes out with the rest
#define WINDOW_TURNS 16     // of readers, at most, between a landing and the next flight
#define APP_PATH_MAX (OPTION_PATH_MAX + NAME_MAX_BYTES + UUID_TEXT + 32)

struct served {
    struct apps *apps;
    struct app *app;
    struct hub hub;
    struct upload_care uploads;
    struct stream_care care;
    struct blob_care blobs;
    struct history_care history;
    struct pool_job seal_work;
    struct streams_seal *seal; // on the pool
    int seal_err;
    struct lane *disk; // the app's thread; NULL: it needed none yet
    struct lane_job flight;
    unsigned window; // turns in which those come first who waited for the landing
    bool tick_owed;
    struct app_drop *drop; // who waits for its going
};

struct served_list {
    struct served **list;
    size_t n, cap;
};

struct apps {
    struct apps_options options;
    struct served_list here;  // served
    struct served_list going; // no request finds them; some still have users
    struct served_list gone;  // without stores
    atomic_bool stopping; // also read on the pool
    struct lane_job remove_work;
    bool removing, remove_again;
};

// ---- lists ----------------------------------------------------------------------------------------------------------

static int list_reserve(struct served_list *l)
{
    if (l->n < l->cap) return 0;
    size_t cap = l->cap == 0 ? 8 : 2 * l->cap;
    struct served **list = realloc(l->list, cap * sizeof(struct served *));
    if (list == NULL) return ERR_NOMEM;
    l->list = list;
    l->cap = cap;
    return 0;
}

// Room was reserved, where the list is not one that the element comes back to.
static void list_move(struct served_list *from, size_t i, struct served_list *to)
{
    assert(i < from->n && to->n < to->cap);
    to->list[to->n++] = from->list[i];
    memmove(from->list + i, from->list + i + 1, (from->n - i - 1) * sizeof(struct served *));
    from->n--;
}

static struct served *list_find(const struct served_list *l, struct span name, size_t *place)
{
    for (size_t i = 0; i < l->n; i++) {
        if (!span_is(name, app_name(l->list[i]->app))) continue;
        if (place != NULL) *place = i;
        return l->list[i];
    }
    return NULL;
}

static struct served *served_of(const struct apps *as, const struct app *app)
{
    const struct served_list *all[] = {&as->here, &as->going, &as->gone};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++)
        for (size_t i = 0; i < all[k]->n; i++)
            if (all[k]->list[i]->app == app) return all[k]->list[i];
    assert(!"an app of another server");
    return NULL;
}

struct app *apps_at(struct apps *as, size_t i)
{
    return i < as->here.n ? as->here.list[i]->app : NULL;
}

struct app *apps_find(struct apps *as, struct span name)
{
    struct served *s = list_find(&as->here, name, NULL);
    return s != NULL ? s->app : NULL;
}

struct hub *apps_hub(struct apps *as, const struct app *app)
{
    return &served_of(as, app)->hub;
}

struct upload_care *apps_uploads(struct apps *as, const struct app *app)
{
    return &served_of(as, app)->uploads;
}

struct stream_care *apps_care(struct apps *as, const struct app *app)
{
    return &served_of(as, app)->care;
}

// ---- in flight ------------------------------------------------------------------------------------------------------

static struct served *flight_of(struct lane_job *j)
{
    return (struct served *)((char *)j - offsetof(struct served, flight));
}

static void on_fly(struct lane_job *j)
{
    app_flight_run(flight_of(j)->app);
}

static void on_landed(struct lane_job *j)
{
    struct served *s = flight_of(j);
    bool hid = app_in_flight(s->app);
    app_flight_end(s->app);
    if (!hid || app_in_flight(s->app)) return;
    s->window = WINDOW_TURNS;
    s->apps->options.landed(s->apps->options.server, s->app, s->tick_owed);
}

static bool fly(void *host, struct app *app)
{
    struct served *s = host;
    (void)app;
    if (s->disk == NULL && lane_open(&s->disk, s->apps->options.loop, 1) != 0) return false;
    s->flight = (struct lane_job){.run = on_fly, .done = on_landed};
    lane_submit(s->disk, &s->flight);
    return true;
}

static void land(void *host, struct app *app)
{
    (void)app;
    lane_wait(((struct served *)host)->disk);
}

// Nothing of it flies any more.
static void ground(struct served *s)
{
    app_home(s->app);
    lane_close(s->disk);
    s->disk = NULL;
}

// ---- opening --------------------------------------------------------------------------------------------------------

static void on_visible(void *host, struct app *app)
{
    struct served *s = host;
    s->apps->options.visible(s->apps->options.server, app, &s->hub);
}

// Names are folders: lower-case letters, digits, '-' and '_', a letter or digit first.
static bool name_valid(struct span name)
{
    if (name.n == 0 || name.n > NAME_MAX_BYTES || name.p[0] == '-' || name.p[0] == '_') return false;
    for (size_t i = 0; i < name.n; i++) {
        uint8_t c = name.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_')) return false;
    }
    return true;
}

static void app_path(const struct apps *as, const char *name, char out[APP_PATH_MAX])
{
    snprintf(out, APP_PATH_MAX, "%s/apps/%s", as->options.options->data, name);
}

static int open_app(struct apps *as, struct served *s, const char *name, struct problem *p)
{
    const struct options *o = as->options.options;
    char path[APP_PATH_MAX];
    app_path(as, name, path);
    struct app_options options = {.name = name,
                                  .path = path,
                                  .db_map_bytes = o->db_map_bytes,
                                  .journal_segment_bytes = o->journal_segment_bytes,
                                  .journal_keep_all = o->journal_keep_all,
                                  .seal_quiet_ms = o->seal_quiet_ms,
                                  .stream_segment_bytes = o->stream_segment_bytes,
                                  .blob_rebuild = o->blob_rebuild,
                                  .blob_pack_bytes = o->blob_pack_bytes,
                                  .host = s,
                                  .visible = on_visible,
                                  .barrier = o->barrier,
                                  .fly = fly,
                                  .land = land};
    return app_open(&s->app, &options, p);
}

static int add(struct apps *as, const char *name, struct problem *p)
{
    const struct options *o = as->options.options;
    struct served *s = calloc(1, sizeof *s);
    int err = s == NULL ? ERR_NOMEM : list_reserve(&as->here);
    if (err == 0) s->apps = as;
    if (err == 0) err = open_app(as, s, name, p);
    if (err < 0) {
        free(s);
        return problem_set(p, err, -1, "the app %s cannot be opened: %s", name, err_text(err));
    }
    stream_care_init(&s->care, s->app);
    struct blobs_pace pace = {.compact_bytes_s = o->blob_compact_bytes, .scrub_bytes_s = o->blob_scrub_bytes};
    history_care_init(&s->history, s->app, o->history_ms, o->history_commits);
    blob_care_init(&s->blobs, as->options.pool, s->app, o->blob_grace_ms, &pace);
    upload_care_init(&s->uploads, as->options.server, s->app, o->upload_ttl_ms);
    as->here.list[as->here.n++] = s;
    log_info("server", "app opened", LF_STR("app", name), LF_UINT("seq", app_visible(s->app)));
    return 0;
}

// Loops get apps by turns, in the order of their names: what each has to do is not known yet.
static int spread(struct directory *directory, struct dirent **found, int n, unsigned loops, struct problem *p)
{
    unsigned turn = 0;
    int err = directory_enter(directory, SPAN_LIT("default"), turn++ % loops);
    for (int i = 0; i < n && err == 0; i++) {
        struct span name = SPAN_STR(found[i]->d_name);
        if (found[i]->d_type != DT_DIR || !name_valid(name) || span_is(name, "default")) continue;
        err = directory_enter(directory, name, turn++ % loops);
    }
    if (err == 0) return 0;
    return problem_set(p, err, -1, "%s", err == ERR_TOO_MANY ? "there are more apps than a service may have" : err_text(err));
}

int apps_spread(const struct options *options, struct directory *directory, unsigned loops, struct problem *p)
{
    char path[APP_PATH_MAX];
    snprintf(path, sizeof path, "%s/apps", options->data);
    struct dirent **found = NULL;
    int n = scandir(path, &found, NULL, alphasort);
    if (n < 0 && errno != ENOENT) return problem_set(p, ERR_IO, -1, "%.150s cannot be read", path);
    int err = spread(directory, found, n, loops, p);
    for (int i = 0; i < n; i++)
        free(found[i]);
    free(found);
    return err;
}

static int open_entered(struct apps *as, struct problem *p)
{
    char name[NAME_MAX_BYTES + 1];
    size_t at = 0;
    int err = 0;
    while (err == 0 && directory_next(as->options.directory, as->options.number, &at, name))
        err = add(as, name, p);
    return err;
}

// ---- removing what dropped apps were --------------------------------------------------------------------------------

static void dropped_path(const struct apps *as, char out[APP_PATH_MAX])
{
    snprintf(out, APP_PATH_MAX, "%s/dropped", as->options.options->data);
}

static struct apps *apps_of(struct lane_job *work)
{
    return (struct apps *)((char *)work - offsetof(struct apps, remove_work));
}

// Whatever lies there is nobody's. What cannot be removed is tried again at the next start.
static void on_remove(struct lane_job *work)
{
    const struct apps *as = apps_of(work);
    char path[APP_PATH_MAX];
    dropped_path(as, path);
    int err = dir_clear(path, &as->stopping);
    if (err < 0 && err != ERR_NOT_FOUND && err != ERR_CANCELED) log_warn("server", "what dropped apps have left cannot be removed", LF_ERR(err));
}

static void remove_begin(struct apps *as);

static void on_removed(struct lane_job *work)
{
    struct apps *as = apps_of(work);
    as->removing = false;
    if (as->remove_again) remove_begin(as);
}

static void remove_begin(struct apps *as)
{
    as->remove_again = as->removing;
    if (as->removing || as->stopping) return;
    as->removing = true;
    as->remove_work = (struct lane_job){.run = on_remove, .done = on_removed};
    lane_submit(as->options.pool, &as->remove_work);
}

int apps_open(struct apps **out, const struct apps_options *options, struct problem *p)
{
    struct apps *as = calloc(1, sizeof *as);
    if (as == NULL) return problem_set(p, ERR_NOMEM, -1, "no memory");
    as->options = *options;
    *out = as;
    int err = open_entered(as, p);
    if (err == 0 && options->number == 0) remove_begin(as); // what was left by a kill
    return err;
}

static void close_list(struct served_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        struct served *s = l->list[i];
        assert(s->seal == NULL);
        app_close(s->app);
        upload_care_free(&s->uploads);
        free(s);
    }
    free(l->list);
}

void apps_close(struct apps *as)
{
    if (as == NULL) return;
    assert(!as->removing);
    close_list(&as->here);
    close_list(&as->going);
    close_list(&as->gone);
    free(as);
}

// ---- making ---------------------------------------------------------------------------------------------------------

int apps_name_check(struct span name, struct problem *p)
{
    if (name_valid(name)) return 0;
    return problem_set(p, ERR_BAD_PARAMETER, -1, "an app's name has 1 to %d of a-z 0-9 - _, a letter or digit first", NAME_MAX_BYTES);
}

int apps_create(struct apps *as, struct span name, bool *created, struct problem *p)
{
    char text[NAME_MAX_BYTES + 1] = "";
    int err = apps_name_check(name, p);
    if (err != 0) return err;
    *created = false;
    if (apps_find(as, name) != NULL) return 0;
    if (as->stopping) return ERR_SHUTTING_DOWN;
    if (list_find(&as->going, name, NULL) != NULL) return problem_set(p, ERR_BUSY, -1, "an app of this name is being dropped");
    err = directory_enter(as->options.directory, name, as->options.number);
    if (err == ERR_BUSY) return problem_set(p, err, -1, "another request makes an app of this name");
    if (err != 0) return problem_set(p, err, -1, "a service has at most %d apps", APPS_MAX);
    memcpy(text, name.p, name.n);
    err = add(as, text, p);
    *created = err == 0;
    if (err != 0) directory_leave(as->options.directory, name);
    return err;
}

// ---- dropping -------------------------------------------------------------------------------------------------------

int apps_drop(struct apps *as, struct span name, struct app_drop *d, struct problem *p)
{
    size_t place = 0;
    struct served *s = list_find(&as->here, name, &place);
    if (s == NULL) return list_find(&as->going, name, NULL) != NULL ? problem_set(p, ERR_BUSY, -1, "it is being dropped") : ERR_NO_SUCH_APP;
    if (span_is(name, "default")) return problem_set(p, ERR_FORBIDDEN, -1, "the app default is always there");
    if (as->stopping) return ERR_SHUTTING_DOWN;
    int err = list_reserve(&as->going);
    if (err != 0) return err;
    if (directory_drop(as->options.directory) != 0) return problem_set(p, ERR_TOO_MANY, -1, "%d apps were dropped since the start: start the service again", APPS_DROPPED_MAX);
    d->next = NULL;
    d->place = &s->drop;
    s->drop = d;
    list_move(&as->here, place, &as->going);
    log_info("server", "app is being dropped", LF_STR("app", app_name(s->app)), LF_UINT("seq", app_visible(s->app)));
    app_discard(s->app);
    return 0;
}

void app_drop_remove(struct app_drop *d)
{
    if (d->place == NULL) return;
    *d->place = NULL;
    d->place = NULL;
}

static void tell(struct served *s, int err)
{
    struct app_drop *d = s->drop;
    if (d == NULL) return;
    app_drop_remove(d);
    d->done(d, err);
}

// From here on it is gone, whatever happens.
static int move_away(const struct apps *as, const struct served *s)
{
    char from[APP_PATH_MAX], folder[APP_PATH_MAX], to[2 * APP_PATH_MAX], id[UUID_TEXT];
    uuid_format(uuid_new(), id);
    app_path(as, app_name(s->app), from);
    dropped_path(as, folder);
    int err = dir_make(folder);
    snprintf(to, sizeof to, "%s/%s-%.*s", folder, app_name(s->app), UUID_TEXT, id);
    if (err == 0 && rename(from, to) != 0) err = err_from_errno(errno);
    snprintf(from, sizeof from, "%s/apps", as->options.options->data);
    if (err == 0) err = dir_sync(from);
    if (err == 0) err = dir_sync(folder);
    return err;
}

// Its folder is still there, so it is served again, as another app of this name would be.
static void bring_back(struct apps *as, struct served *s)
{
    struct problem p = PROBLEM_NONE;
    if (add(as, app_name(s->app), &p) == 0) return;
    directory_leave(as->options.directory, SPAN_STR(app_name(s->app)));
    log_error("server", "an app that could not be dropped cannot be opened either", LF_STR("app", app_name(s->app)), LF_STR("problem", problem_text(&p)));
}

static bool is_quiet(const struct served *s)
{
    return app_discarded(s->app) && s->seal == NULL && s->hub.first == NULL && upload_care_quiet(&s->uploads);
}

static void going_tick(struct apps *as, size_t i)
{
    struct served *s = as->going.list[i];
    app_tick(s->app);
    if (!is_quiet(s) || list_reserve(&as->gone) != 0) return;
    ground(s);
    list_move(&as->going, i, &as->gone);
    int err = move_away(as, s);
    if (err == 0) {
        log_info("server", "app dropped", LF_STR("app", app_name(s->app)));
        directory_leave(as->options.directory, SPAN_STR(app_name(s->app)));
        remove_begin(as);
    } else {
        log_error("server", "an app's folder cannot be moved away", LF_STR("app", app_name(s->app)), LF_ERR(err));
        bring_back(as, s);
    }
    tell(s, err);
}

// ---- the turn -------------------------------------------------------------------------------------------------------

static void served_tick(struct served *s);

static void readers_run(struct served *s, void (*flush)(void *ctx), void *ctx)
{
    if (s->hub.first == NULL) return;
    flush(ctx); // answers go before what they have woken
    hub_run_some(&s->hub, READERS_PER_TURN);
}

// Whoever waited for the landing comes before the next flight: requests that were held, readers, the tick. True: they are not through.
static bool window_turn(struct served *s, void (*flush)(void *ctx), void *ctx)
{
    if (s->window == 0) return false;
    flush(ctx);
    readers_run(s, flush, ctx);
    s->window = s->hub.first != NULL ? s->window - 1 : 0;
    if (s->window > 0) return true;
    if (s->tick_owed) served_tick(s);
    return false;
}

static void served_turn(struct served *s, void (*flush)(void *ctx), void *ctx)
{
    upload_care_turn(&s->uploads); // its barrier is on its way beside that of the journal
    if (app_in_flight(s->app) || window_turn(s, flush, ctx)) return;
    if (app_pending(s->app)) app_turn(s->app);
    if (!app_in_flight(s->app)) readers_run(s, flush, ctx);
}

void apps_turn(struct apps *as, void (*flush)(void *ctx), void *ctx)
{
    for (size_t i = 0; i < as->here.n; i++)
        served_turn(as->here.list[i], flush, ctx);
    for (size_t i = 0; i < as->going.n; i++) {
        struct served *s = as->going.list[i];
        upload_care_turn(&s->uploads);
        if (!app_in_flight(s->app)) hub_run(&s->hub);
    }
}

// While it is in flight nothing of it is due but the barriers of uploads.
static bool is_pending(const struct served *s)
{
    if (upload_care_pending(&s->uploads)) return true;
    return !app_in_flight(s->app) && (app_pending(s->app) || s->hub.first != NULL || s->window > 0);
}

bool apps_pending(const struct apps *as)
{
    bool pending = false;
    for (size_t i = 0; i < as->here.n; i++)
        pending |= is_pending(as->here.list[i]);
    for (size_t i = 0; i < as->going.n; i++)
        pending |= upload_care_pending(&as->going.list[i]->uploads) || (!app_in_flight(as->going.list[i]->app) && as->going.list[i]->hub.first != NULL);
    return pending;
}

bool apps_busy(const struct apps *as)
{
    bool busy = as->going.n > 0;
    for (size_t i = 0; i < as->here.n && !busy; i++) {
        const struct served *s = as->here.list[i];
        busy = app_busy(s->app) || stream_care_busy(&s->care) || blob_care_busy(&s->blobs) || history_care_busy(&s->history);
    }
    return busy;
}

// ---- the tick, and work on the pool ---------------------------------------------------------------------------------

static void on_seal_work(struct pool_job *work)
{
    struct served *s = work->data;
    s->seal_err = streams_seal_write(s->seal);
}

static void on_seal_done(struct pool_job *work)
{
    struct served *s = work->data;
    struct streams_seal *seal = s->seal;
    s->seal = NULL;
    app_seal_end(s->app, seal, s->seal_err);
}

static void seal_begin(struct served *s)
{
    if (s->seal != NULL || s->apps->stopping) return;
    s->seal = app_seal_begin(s->app);
    if (s->seal == NULL) return;
    s->seal_work.data = s;
    pool_submit(&s->seal_work, s->apps->options.pool, s->app, on_seal_work, on_seal_done);
}

static void care_tick(struct served *s)
{
    uint64_t now_ms = clock_wall_ms();
    if (s->apps->stopping || app_in_flight(s->app)) return;
    stream_care_tick(&s->care, now_ms);
    blob_care_tick(&s->blobs, now_ms);
    history_care_tick(&s->history, now_ms);
    upload_care_tick(&s->uploads, now_ms);
    seal_begin(s);
}

// Those who care come first: what the app has to do for its disk may fly.
static void served_tick(struct served *s)
{
    s->tick_owed = app_in_flight(s->app);
    if (s->tick_owed) return;
    if (s->apps->stopping) app_dismiss(s->app); // whose request was held came behind the others
    care_tick(s);
    app_tick(s->app);
}

void apps_tick(struct apps *as)
{
    for (size_t i = 0; i < as->here.n; i++)
        served_tick(as->here.list[i]);
    for (size_t i = as->going.n; i > 0; i--)
        going_tick(as, i - 1);
}

void apps_stop(struct apps *as)
{
    as->stopping = true;
    for (size_t i = 0; i < as->here.n; i++)
        app_dismiss(as->here.list[i]->app);
}

void apps_ground(struct apps *as)
{
    if (as == NULL) return;
    for (size_t i = 0; i < as->here.n; i++)
        ground(as->here.list[i]);
    for (size_t i = 0; i < as->going.n; i++)
        ground(as->going.list[i]);
}

void apps_finish(struct apps *as)
{
    apps_ground(as);
    for (size_t i = 0; i < as->here.n; i++) {
        struct served *s = as->here.list[i];
        app_dismiss(s->app); // also who came behind the last tick: what they have on the pool is not submitted any more
        stream_care_flush(&s->care); // a stop in order loses no read
        upload_care_last(&s->uploads);
        while (app_pending(s->app) && app_state(s->app) == APP_READY)
            app_turn(s->app);
    }
    for (size_t i = 0; i < as->going.n; i++) {
        upload_care_last(&as->going.list[i]->uploads);
        tell(as->going.list[i], ERR_SHUTTING_DOWN);
    }
}
