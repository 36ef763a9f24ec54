#include "world.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "checksum.h"
#include "disk.h"
#include "err.h"
#include "hlc.h"
#include "file.h"
#include "machine.h"

#define LATE_US_MAX 20000     // of a message
#define TIMEOUT_US 150000     // before a client asks again
#define TASKS 220             // of one world, about
#define EVENTS_MAX 400000     // a world that does not come to an end is a finding

// ---- notes -------------------------------------------------------------------------------------------------------------

void world_find(struct world *w, const char *kind, const char *fmt, ...)
{
    va_list args;
    for (size_t i = 0; i < w->finding_count; i++)
        if (strcmp(w->findings[i].kind, kind) == 0) return; // the first of each kind says enough
    if (w->finding_count == sizeof w->findings / sizeof *w->findings) return;
    struct finding *f = &w->findings[w->finding_count++];
    snprintf(f->kind, sizeof f->kind, "%s", kind);
    va_start(args, fmt);
    vsnprintf(f->text, sizeof f->text, fmt, args);
    va_end(args);
}

void world_note(struct world *w, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t all[4] = {w->trace, a, b, c};
    w->trace = checksum64(SPAN(all, sizeof all), machine_us());
}

// ---- events ------------------------------------------------------------------------------------------------------------

static bool before(const struct event *a, const struct event *b)
{
    return a->us != b->us ? a->us < b->us : a->order < b->order;
}

static void swap(struct event *a, struct event *b)
{
    struct event kept = *a;
    *a = *b;
    *b = kept;
}

void world_event(struct world *w, uint64_t in_us, struct event e)
{
    if (w->event_count == w->event_cap) {
        w->event_cap = w->event_cap == 0 ? 256 : 2 * w->event_cap;
        w->events = reallocarray(w->events, w->event_cap, sizeof *w->events);
        if (w->events == NULL) abort();
    }
    e.us = machine_us() + in_us;
    e.order = w->order++;
    size_t i = w->event_count++;
    w->events[i] = e;
    for (; i > 0 && before(&w->events[i], &w->events[(i - 1) / 2]); i = (i - 1) / 2)
        swap(&w->events[i], &w->events[(i - 1) / 2]);
}

static struct event next_event(struct world *w)
{
    struct event first = w->events[0];
    w->events[0] = w->events[--w->event_count];
    for (size_t i = 0, child; (child = 2 * i + 1) < w->event_count; i = child) {
        if (child + 1 < w->event_count && before(&w->events[child + 1], &w->events[child])) child++;
        if (!before(&w->events[child], &w->events[i])) break;
        swap(&w->events[child], &w->events[i]);
    }
    return first;
}

// A message on its way: late, and perhaps lost, or there twice.
static void message(struct world *w, struct event e)
{
    bool lost = !w->ending && dice_chance(&w->dice, 4), twice = dice_chance(&w->dice, 5);
    w->lost += lost;
    if (!lost) world_event(w, 50 + dice_below(&w->dice, dice_chance(&w->dice, 10) ? LATE_US_MAX : 1000), e);
    if (twice) world_event(w, 50 + dice_below(&w->dice, 20 * LATE_US_MAX), e); // long after, sometimes
}

// ---- clients -----------------------------------------------------------------------------------------------------------

static void come_back_as_another(struct world *w, struct client *c)
{
    c->process = ++w->processes;
    c->counter = 0;
    c->by_key = dice_chance(&w->dice, 30);
    c->skew_ms = (int64_t)dice_below(&w->dice, 8000) - 4000;
}

static void wake_soon(struct world *w, struct client *c)
{
    world_event(w, dice_below(&w->dice, dice_chance(&w->dice, 80) ? 2000 : 40000), (struct event){.kind = EVENT_WAKE, .client = c->number});
}

static void task_over(struct world *w, struct task *t)
{
    struct client *c = &w->clients[t->client];
    t->over = true;
    t->ended = ++w->moment;
    if (c->task != t) return;
    c->task = NULL;
    wake_soon(w, c);
}

static void put_name(struct task *t)
{
    if (t->counter > 0) buf_printf(&t->json, "{\"replica\":\"00000000-0000-7000-8000-%012x\",\"counter\":%llu,", t->process, (unsigned long long)t->counter);
    else buf_printf(&t->json, "{\"key\":\"task %u\",", t->number);
}

// The batch as it is sent, however often.
static void write_batch(struct world *w, struct task *t)
{
    struct client *c = &w->clients[t->client];
    if (!c->by_key) t->counter = ++c->counter;
    put_name(t);
    if (t->work->transaction) {
        buf_printf(&t->json, "\"mode\":\"transaction\",\"base\":%llu,\"reads\":[", (unsigned long long)t->base);
        for (size_t i = 0; i < t->asked; i++)
            buf_printf(&t->json, "%s\"%.*s\"", i == 0 ? "" : ",", SPAN_FMT(buf_span(&t->asks[i].token)));
        buf_put_str(&t->json, "],");
    } else {
        int64_t ms = (int64_t)clock_wall_ms() + c->skew_ms;
        uint64_t stamp = hlc_stamp((uint64_t)ms, 0);
        t->stamp = c->stamp = stamp > c->stamp ? stamp : c->stamp + dice_below(&w->dice, 2); // of one writer, equal ones too
        t->base = dice_chance(&w->dice, 30) ? 0 : dice_chance(&w->dice, 30) ? c->known / 2 : c->known;
        buf_printf(&t->json, "\"stamp\":\"%llu\",", (unsigned long long)t->stamp);
        if (t->base > 0) buf_printf(&t->json, "\"base\":%llu,", (unsigned long long)t->base);
    }
    if (t->ops.n > 0) buf_truncate(&t->ops, t->ops.n - 1);
    buf_printf(&t->json, "\"ops\":[%.*s]}", SPAN_FMT(buf_span(&t->ops)));
    if (t->json.err != 0 || t->ops.err != 0) abort();
}

static void send_batch(struct world *w, struct task *t)
{
    t->sent = true;
    t->tries++;
    message(w, (struct event){.kind = EVENT_SEND, .task = t});
    world_event(w, TIMEOUT_US + dice_below(&w->dice, TIMEOUT_US), (struct event){.kind = EVENT_TIMEOUT, .task = t, .n = t->tries});
}

static void ask_next(struct world *w, struct task *t)
{
    if (t->answered < t->asked) {
        message(w, (struct event){.kind = EVENT_ASK, .task = t, .n = t->answered});
        world_event(w, TIMEOUT_US, (struct event){.kind = EVENT_TIMEOUT, .task = t, .n = 0});
        return;
    }
    t->work->decide(w, t);
    bool looks = t->work->transaction && t->ops.n == 0;
    // Who only looked has nothing to send: what it saw was there, all at once. Some send it all the same.
    if (t->ops.n > 0 || (looks && dice_chance(&w->dice, 50))) {
        write_batch(w, t);
        send_batch(w, t);
        return;
    }
    if (looks) t->has_fate = true, t->seq = t->base;
    task_over(w, t);
}

static struct task *task_new(struct world *w, struct client *c)
{
    struct task *t = calloc(1, sizeof *t);
    if (t == NULL) abort();
    if (w->task_count == w->task_cap) {
        w->task_cap = w->task_cap == 0 ? 256 : 2 * w->task_cap;
        w->tasks = reallocarray(w->tasks, w->task_cap, sizeof *w->tasks);
        if (w->tasks == NULL) abort();
    }
    w->tasks[w->task_count++] = t;
    *t = (struct task){.number = (uint32_t)w->task_count, .client = c->number, .process = c->process, .began = ++w->moment};
    buf_init(&t->ops, BATCH_BYTES_MAX);
    buf_init(&t->json, BATCH_BYTES_MAX);
    for (size_t i = 0; i < TASK_ASKS; i++)
        buf_init(&t->asks[i].rows, 16 * MIB), buf_init(&t->asks[i].token, 4 * MIB);
    history_txn(&t->seen, t->process, TXN_UNKNOWN, 0, 0);
    return t;
}

static void task_free(struct task *t)
{
    for (size_t i = 0; i < TASK_ASKS; i++)
        buf_free(&t->asks[i].rows), buf_free(&t->asks[i].token);
    history_free(&t->seen);
    buf_free(&t->ops);
    buf_free(&t->json);
    free(t->found);
    free(t);
}

static void on_wake(struct world *w, struct client *c)
{
    if (c->task != NULL || w->ending) return;
    c->task = task_new(w, c);
    c->task->work = works_choose(w);
    c->task->work->plan(w, c->task);
    ask_next(w, c->task);
}

static void on_answer(struct world *w, struct task *t, size_t n)
{
    if (t->over || t->answered != n) return; // it is there a second time
    t->answered++;
    ask_next(w, t);
}

// One fate, whoever asks, and however often.
static void hear_fate(struct world *w, struct task *t, const struct event *e)
{
    if (!t->has_fate) {
        t->has_fate = true;
        t->err = e->err;
        w->conflicts += e->err == ERR_CONFLICT;
        t->seq = e->seq;
        if (e->err != 0 && e->err != ERR_TOO_OLD && (t->work->may_fail == NULL || !t->work->may_fail(e->err)))
            world_find(w, "refused", "task %u (%s) was refused: %s", t->number, t->work->name, err_wire(e->err));
        return;
    }
    w->again++;
    if (e->err == 0 && t->err == 0 && e->seq != t->seq)
        world_find(w, "applied twice", "task %u (%s) was accepted as commit %llu, and again as commit %llu", t->number, t->work->name, (unsigned long long)t->seq, (unsigned long long)e->seq);
    else if (e->err != t->err)
        world_find(w, "two fates", "task %u (%s) was told %s, and later %s", t->number, t->work->name, err_wire(t->err), err_wire(e->err));
}

static void on_fate(struct world *w, struct task *t, const struct event *e)
{
    struct client *c = &w->clients[t->client];
    if (e->err == ERR_NAME_REUSED || e->err == ERR_FATE_EXPIRED || e->err == ERR_REPLICA_BOUND)
        world_find(w, "fate lost", "task %u (%s): %s", t->number, t->work->name, err_wire(e->err));
    if (!e->journaled) return; // it is tried again
    hear_fate(w, t, e);
    if (e->err == 0 && e->seq > c->known) c->known = e->seq;
    if (!t->over) task_over(w, t);
}

static void on_timeout(struct world *w, struct task *t, size_t try)
{
    struct client *c = &w->clients[t->client];
    if (t->over || try != t->tries) return;
    if (!t->sent) {
        task_over(w, t); // its questions are not answered: it lets it be
        return;
    }
    w->retries++;
    if (w->ending || !dice_chance(&w->dice, 8)) {
        send_batch(w, t);
        return;
    }
    t->given_up = true;
    t->over = true;
    c->task = NULL;
    come_back_as_another(w, c);
    wake_soon(w, c);
}

// ---- the whole ---------------------------------------------------------------------------------------------------------

// What looks at the state waits while it is in flight.
static bool looks(const struct event *e)
{
    return e->kind == EVENT_ASK || e->kind == EVENT_SCHEMA || e->kind == EVENT_BRANCH || e->kind == EVENT_HORIZON;
}

static void happen(struct world *w, const struct event *e)
{
    world_note(w, (uint64_t)e->kind, e->task == NULL ? e->client : e->task->number, e->seq);
    if (looks(e) && w->app != NULL && app_in_flight(w->app)) {
        world_event(w, 100 + dice_below(&w->dice, 500), *e);
        return;
    }
    switch (e->kind) {
    case EVENT_FLIGHT: flight_step(w, e->n); break;
    case EVENT_WAKE: on_wake(w, &w->clients[e->client]); break;
    case EVENT_ASK: server_ask(w, e->task, e->n); break;
    case EVENT_ANSWER: on_answer(w, e->task, e->n); break;
    case EVENT_SEND: server_send(w, e->task); break;
    case EVENT_FATE: on_fate(w, e->task, e); break;
    case EVENT_TIMEOUT: on_timeout(w, e->task, e->n); break;
    case EVENT_TURN: server_turn(w); break;
    case EVENT_TICK: if (e->n == w->life) server_tick(w); break;
    case EVENT_CRASH: if (!w->ending) server_crash(w); break;
    case EVENT_RESTART: server_restart(w); break;
    case EVENT_SCHEMA: care_schema(w); break;
    case EVENT_BRANCH: care_branch(w); break;
    case EVENT_HORIZON: care_horizon(w); break;
    case EVENT_FAULT: if (!w->ending) server_fault(w); break;
    case EVENT_WALL:
        machine_set_wall((int64_t)dice_below(&w->dice, 20000) - 10000);
        world_event(w, 500000 + dice_below(&w->dice, 2000000), *e);
        break;
    }
}

static bool all_over(const struct world *w)
{
    for (size_t i = 0; i < w->task_count; i++)
        if (!w->tasks[i]->over) return false;
    return w->app != NULL && app_state(w->app) == APP_READY;
}

static bool run_until_over(struct world *w)
{
    for (unsigned n = 0; n < EVENTS_MAX && w->event_count > 0; n++) {
        if (w->finding_count > 0 || (w->ending && all_over(w))) return true;
        struct event e = next_event(w);
        machine_go_to(e.us);
        happen(w, &e);
        if (!w->ending && w->task_count >= w->task_max) w->ending = true, disk_fail_clear();
    }
    return false;
}

// The batches of those who are no more, and once more all others: each has one fate, and those that had none yet get it.
static void ask_all_again(struct world *w)
{
    for (size_t i = 0; i < w->task_count; i++) {
        struct task *t = w->tasks[i];
        if (!t->sent) continue;
        t->over = false;
        send_batch(w, t);
    }
}

void world_run(struct world *w, uint64_t seed)
{
    *w = (struct world){.dice = {seed * 0x2545f4914f6cdd1du + 1}, .seed = seed};
    w->task_max = TASKS / 2 + dice_below(&w->dice, TASKS);
    works_mix(w);
    machine_boot(seed);
    server_start(w);
    for (uint32_t i = 0; i < WORLD_CLIENTS; i++) {
        w->clients[i].number = i;
        come_back_as_another(w, &w->clients[i]);
        wake_soon(w, &w->clients[i]);
    }
    world_event(w, dice_below(&w->dice, 1000000), (struct event){.kind = EVENT_WALL});
    world_event(w, dice_below(&w->dice, 300000), (struct event){.kind = EVENT_CRASH});
    world_event(w, dice_below(&w->dice, 1500000), (struct event){.kind = EVENT_FAULT});
    if (dice_chance(&w->dice, 40)) world_event(w, dice_below(&w->dice, 300000), (struct event){.kind = EVENT_BRANCH});
    if (dice_chance(&w->dice, 40)) world_event(w, dice_below(&w->dice, 600000), (struct event){.kind = EVENT_SCHEMA});
    if (dice_chance(&w->dice, 50)) world_event(w, dice_below(&w->dice, 1000000), (struct event){.kind = EVENT_HORIZON});
    bool ended = run_until_over(w);
    if (ended && w->finding_count == 0) {
        ask_all_again(w);
        ended = run_until_over(w);
    }
    if (!ended) world_find(w, "no end", "after %zu tasks nothing comes to an end", w->task_count);
    if (w->app != NULL) app_land(w->app);
    if (ended && w->finding_count == 0) watchers_end(w, w->watchers);
    works_judge(w);
    if (w->finding_count == 0) server_check_journal(w);
    else server_stop(w);
    watchers_free(w->watchers);
    machine_end();
}

void world_free(struct world *w)
{
    for (size_t i = 0; i < w->task_count; i++)
        task_free(w->tasks[i]);
    free(w->tasks);
    free(w->events);
}
