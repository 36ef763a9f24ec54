#include "survey.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "apps.h"
#include "err.h"

struct question {
    struct letter letter; // first
    struct asking *asking;
    struct server *to;
    unsigned number;
    bool has_apps;
    bool back; // the asker's: below is the answer, which until then is the other's
    struct loop_figures loop;
    struct app_figures *apps;
    size_t app_count;
};

// Lives until the request is done and the last letter has come back, or could not.
struct asking {
    atomic_uint refs;
    struct server *from;
    struct request *r; // NULL: nobody waits any more
    void (*reply)(struct request *r, const struct survey *survey);
    unsigned waiting, count;
    bool counts; // are asked for
    bool told;
    struct question questions[LOOPS_MAX + 1];
};

static void asking_unref(struct asking *a)
{
    if (atomic_fetch_sub(&a->refs, 1) > 1) return;
    for (unsigned i = 0; i < a->count; i++)
        free(a->questions[i].apps);
    free(a);
}

// ---- the loop that is asked -----------------------------------------------------------------------------------------------

static void app_look(struct app_figures *f, const struct question *q, struct app *app)
{
    *f = (struct app_figures){.loop = q->number, .known = true, .state = app_state(app), .seq = app_visible(app)};
    if (q->asking->counts) f->counts = app_counts(app);
    snprintf(f->name, sizeof f->name, "%s", app_name(app));
}

static void apps_look(struct question *q, struct server *s)
{
    size_t n = 0;
    while (server_app_at(s, n) != NULL)
        n++;
    q->apps = calloc(n, sizeof *q->apps);
    for (q->app_count = 0; q->apps != NULL && q->app_count < n; q->app_count++)
        app_look(&q->apps[q->app_count], q, server_app_at(s, q->app_count));
    q->loop.answered = q->apps != NULL || n == 0;
    q->loop.llm = llm_counts(server_llm(s));
    q->loop.subs = subs_run_counts(server_subs(s));
}

static void look(struct question *q, struct server *s)
{
    q->loop = (struct loop_figures){.number = q->number, .apps = q->has_apps, .answered = true};
    q->loop.connections = conns_count(server_conns(s));
    q->loop.conns = *conns_counts(server_conns(s));
    q->loop.cpu_us = server_cpu_us();
    if (q->has_apps) apps_look(q, s);
}

static void on_answer(struct letter *l);

static void on_question(struct letter *l)
{
    struct question *q = (struct question *)l;
    look(q, q->to);
    l->read = on_answer;
    if (!mailbox_send(server_mailbox(q->asking->from), l)) asking_unref(q->asking); // who asked has ended
}

// ---- the loop that asks ---------------------------------------------------------------------------------------------------

// Apps of a loop that has not answered: all that is known of them is where they are.
static size_t busy_apps(struct directory *d, unsigned loop, struct app_figures *out, size_t room)
{
    size_t n = 0, at = 0;
    while (n < room && directory_next(d, loop, &at, out[n].name))
        out[n++].loop = loop;
    return n;
}

static size_t put_apps(const struct question *q, const struct loop_figures *loop, struct app_figures *out, size_t room)
{
    if (!loop->answered) return loop->apps ? busy_apps(server_directory(q->asking->from), q->number, out, room) : 0;
    size_t n = q->app_count < room ? q->app_count : room;
    if (n > 0) memcpy(out, q->apps, n * sizeof *out);
    return n;
}

static void tell(struct asking *a)
{
    struct loop_figures loops[LOOPS_MAX + 1];
    struct app_figures *apps = calloc(APPS_MAX, sizeof *apps);
    size_t n = 0;
    a->told = true;
    request_timer(a->r, -1, NULL);
    for (unsigned i = 0; i < a->count && apps != NULL; i++) {
        const struct question *q = &a->questions[i];
        loops[i] = q->back ? q->loop : (struct loop_figures){.number = q->number, .apps = q->has_apps};
        n += put_apps(q, &loops[i], apps + n, APPS_MAX - n);
    }
    if (apps == NULL) reply_error(a->r, ERR_NOMEM);
    else a->reply(a->r, &(struct survey){.loops = loops, .loop_count = a->count, .apps = apps, .app_count = n});
    free(apps);
}

static void on_late(struct request *r)
{
    tell(r->data);
}

static void on_answer(struct letter *l)
{
    struct question *q = (struct question *)l;
    struct asking *a = q->asking;
    q->back = true;
    a->waiting--;
    if (a->waiting == 0 && a->r != NULL && !a->told) tell(a);
    asking_unref(a);
}

// Each loop but the one that asks, which is looked at here and now.
static void ask(struct question *q)
{
    struct asking *a = q->asking;
    if (q->to == a->from) {
        look(q, q->to);
        q->back = true;
        return;
    }
    q->letter.read = on_question;
    atomic_fetch_add(&a->refs, 1);
    a->waiting++;
    if (mailbox_send(server_mailbox(q->to), &q->letter)) return;
    a->waiting--; // it ends: no answer comes
    asking_unref(a);
}

void survey_ask(struct request *r, bool counts, void (*reply)(struct request *r, const struct survey *survey))
{
    struct asking *a = calloc(1, sizeof *a);
    if (a == NULL) {
        reply_error(r, ERR_NOMEM);
        return;
    }
    *a = (struct asking){.refs = 1, .from = r->server, .r = r, .counts = counts, .reply = reply};
    r->data = a;
    struct server *to;
    while ((to = server_at(r->server, a->count)) != NULL) {
        a->questions[a->count] = (struct question){.asking = a, .to = to, .number = a->count, .has_apps = a->count < server_loops(r->server)};
        ask(&a->questions[a->count++]);
    }
    if (a->waiting == 0) tell(a);
    else request_timer(r, LOOP_ANSWER_MS_MAX, on_late);
}

void survey_done(struct request *r)
{
    struct asking *a = r->data;
    if (a == NULL) return;
    a->r = NULL;
    asking_unref(a);
}

const char *app_figures_state(const struct app_figures *f)
{
    return f->known ? app_state_name(f->state) : "busy";
}
