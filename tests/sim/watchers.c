// Readers of live queries and a stream, by sessions such as every carrier uses: session_peer.h believes nothing and folds what it is told.
// Their carriers are full now and then, they are cut off and come back with their cursor, they lose the service and find it again.
#include <stdio.h>
#include <stdlib.h>

#include "session_peer.h"
#include "world.h"

#define WATCHERS 3

struct watchers {
    struct app_lab lab; // as far as a peer looks at it: the app
    struct hub hub;
    struct session_peer peers[WATCHERS];
    bool on[WATCHERS];
};

static void on_visible(void *host, struct app *a)
{
    (void)a;
    hub_run(&((struct watchers *)host)->hub);
}

struct watchers *watchers_new(struct app_options *options)
{
    struct watchers *s = calloc(1, sizeof *s);
    if (s == NULL) abort();
    options->host = s;
    options->visible = on_visible;
    for (size_t i = 0; i < WATCHERS; i++)
        session_peer_init(&s->peers[i], &s->lab, &s->hub);
    session_peer_query(&s->peers[0], "cells", "select * from cells");
    session_peer_query(&s->peers[0], "rich", "select balance, by from accounts order by balance desc limit 2");
    session_peer_query(&s->peers[0], "sums", "select count(*) as n, sum(balance) as all, min(balance) as least from accounts");
    session_peer_query(&s->peers[0], "family", "select c.by as child, p.by as parent, a.by as aunt from children c join parents p on p.id = c.parent left join parents a on a.id = c.aunt");
    session_peer_stream(&s->peers[0], "log", "log", 0);
    session_peer_query(&s->peers[0], "spread", "select by, count(*) as n, sum(balance) as sum, max(balance) as most from accounts group by by having count(*) < 4");
    session_peer_query(&s->peers[0], "pairs", "select pair, (select count(*) from slots s where s.by = d.by or s.k = d.pair) as taken from duties d order by pair, by limit 4 offset 1");
    session_peer_query(&s->peers[1], "others", "select by, balance from accounts a where exists (select 1 from entries e where e.by = a.by) or a.id not in (select c.parent from children c)");
    session_peer_query(&s->peers[1], "duty", "select pair from duties where duty = true");
    session_peer_query(&s->peers[1], "slots", "select k, by from slots order by k desc limit 4");
    session_peer_query(&s->peers[1], "queues", "select queue, count(*) as n, max(pos) as last, count(distinct by) as writers from entries group by queue order by queue");
    session_peer_query(&s->peers[1], "busy", "select distinct by from slots where k >= 5");
    session_peer_query(&s->peers[2], "mothers", "select by, (select count(*) from children c where c.parent = parents.id) as children from parents where exists (select 1 from children c where c.aunt = parents.id)");
    session_peer_query(&s->peers[2], "levels", "select hi % 7 as level, count(*) as n, min(lo) as lo from cells group by 1 having count(*) > 1 order by n desc, level limit 3");
    session_peer_query(&s->peers[2], "some", "select n, l from cells where n >= 10 and n < 60 order by n, l");
    session_peer_query(&s->peers[2], "lasts", "select e.queue, e.pos, o.pos as other from entries e join entries o on o.queue <> e.queue and o.pos = e.pos order by e.pos desc, e.queue limit 3");
    session_peer_query(&s->peers[2], "kinds", "select distinct hi > 50000 as high, lo is null as nothing from cells where n > 0 or l in (1, 2, 3)");
    session_peer_query(&s->peers[2], "low", "select pos from entries where queue = 0 and pos < 9");
    return s;
}

void watchers_free(struct watchers *s)
{
    for (size_t i = 0; i < WATCHERS; i++)
        session_peer_free(&s->peers[i]);
    free(s);
}

static void come(struct world *w, struct watchers *s, size_t i)
{
    s->peers[i].room = dice_chance(&w->dice, 50) ? -1 : (int)dice_below(&w->dice, 6);
    s->on[i] = session_peer_start(&s->peers[i], NULL) == 0;
}

static void go(struct world *w, struct watchers *s, size_t i)
{
    if (s->peers[i].to > w->told) w->told = s->peers[i].to;
    if (s->on[i]) session_peer_stop(&s->peers[i]);
    s->on[i] = false;
}

void watchers_leave(struct world *w, struct watchers *s)
{
    for (size_t i = 0; i < WATCHERS; i++)
        go(w, s, i);
    s->lab.app = NULL;
}

// What one has folded is as of some commit, whichever it got to; a look at the state as of then must give the same.
static void check(struct world *w, struct watchers *s, size_t i)
{
    struct session_peer *p = &s->peers[i];
    if (!s->on[i] || p->ended != 0 || !p->live) return;
    if (p->to < rows_horizon(app_rows(w->app))) return; // what it has is right, but nobody can tell any more
    if (p->waiting_parts == 0) session_peer_check(p);
    world_note(w, 500 + i, p->to, p->messages);
}

void watchers_tick(struct world *w, struct watchers *s)
{
    size_t i = dice_below(&w->dice, WATCHERS);
    s->lab.app = w->app;
    for (size_t k = 0; k < WATCHERS; k++)
        if (s->on[k] && s->peers[k].ended != 0) go(w, s, k);
    if (app_txn(w->app) == NULL) return;
    if (!s->on[i]) {
        come(w, s, i);
    } else if (dice_chance(&w->dice, 6)) {
        go(w, s, i);
        if (dice_chance(&w->dice, 60)) come(w, s, i);
    } else if (dice_chance(&w->dice, 50)) {
        session_peer_drain(&s->peers[i], dice_chance(&w->dice, 40) ? -1 : 1 + (int)dice_below(&w->dice, 5));
    }
    hub_run(&s->hub);
    if (dice_chance(&w->dice, 30)) check(w, s, i);
}

// At the end all of them catch up.
void watchers_end(struct world *w, struct watchers *s)
{
    s->lab.app = w->app;
    for (size_t i = 0; i < WATCHERS; i++) {
        if (s->on[i] && s->peers[i].ended != 0) go(w, s, i);
        if (!s->on[i]) come(w, s, i);
        session_peer_drain(&s->peers[i], -1);
        hub_run(&s->hub);
        s->peers[i].to = app_visible(w->app); // it was told nothing of later commits: so they are none of its business
        if (s->peers[i].live) check(w, s, i);
        else world_find(w, "a reader lags", "a subscriber with all the room there is does not come to its live state");
    }
}
