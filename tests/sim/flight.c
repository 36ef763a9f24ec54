// What the app has in flight (app.h): begun, done by a thread that is none, and landed, each at a moment of the world's; between them everything may happen.
#include <assert.h>

#include "app_internal.h" // to let its disk turn slow, and quick again
#include "disk.h"
#include "err.h"
#include "world.h"

#define RUN_US_MAX 3000      // until the thread comes to it
#define LAND_US_MAX 3000     // from there to the landing,
#define LAND_LATE_US 200000  // now and then

static struct world *world; // there is one in a process

static bool fly(void *host, struct app *a)
{
    struct world *w = world;
    (void)host;
    assert(a == w->app || w->app == NULL); // NULL: it is being opened
    w->flown++;
    world_event(w, dice_below(&w->dice, RUN_US_MAX), (struct event){.kind = EVENT_FLIGHT, .n = ++w->flight});
    return true;
}

static void run(struct world *w)
{
    if (!w->app->flight.ran) app_flight_run(w->app);
}

static void land(void *host, struct app *a)
{
    (void)host;
    world->flight++; // nobody comes for it any more
    if (!a->flight.ran) app_flight_run(a);
    app_flight_end(a);
}

void flight_options(struct world *w)
{
    static const enum app_barrier ways[] = {APP_BARRIER_LOOP, APP_BARRIER_THREAD, APP_BARRIER_THREAD};
    world = w;
    w->options.barrier = ways[dice_below(&w->dice, 3)];
    w->turns_slow = w->options.barrier == APP_BARRIER_THREAD && dice_chance(&w->dice, 50);
    w->options.fly = fly;
    w->options.land = land;
}

void flight_step(struct world *w, size_t n)
{
    if (w->app == NULL || n != w->flight) return;
    if (!w->app->flight.ran) {
        run(w);
        world_note(w, 600, (uint64_t)w->app->flight.task, (uint64_t)w->app->flight.err);
        world_event(w, dice_below(&w->dice, dice_chance(&w->dice, 5) ? LAND_LATE_US : LAND_US_MAX), (struct event){.kind = EVENT_FLIGHT, .n = n});
        return;
    }
    app_flight_end(w->app);
    world_note(w, 601, app_visible(w->app), n);
    server_landed(w);
}

void flight_tick(struct world *w)
{
    if (w->turns_slow && w->app->flight.task == FLIGHT_NONE && dice_chance(&w->dice, 4)) w->app->slow = !w->app->slow;
}

// The power goes off while it is under way: before the thread came to it, while it writes, or before anybody heard.
void flight_crash(struct world *w)
{
    if (w->app->flight.task != FLIGHT_NONE && dice_chance(&w->dice, 60)) run(w);
}
