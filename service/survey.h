// What all loops have to tell about themselves, for requests that ask about the whole service: each is asked by a letter. Who asks waits without holding anybody up, and
// for LOOP_ANSWER_MS_MAX at most: a loop that has not answered by then is busy, and is told to be.
#ifndef SEGUE_SURVEY_H
#define SEGUE_SURVEY_H

#include "http.h"
#include "llm.h"
#include "subs_run.h"

struct app_figures {
    char name[NAME_MAX_BYTES + 1];
    unsigned loop;
    bool known; // false: its loop is busy; nothing below is
    enum app_state state;
    uint64_t seq;
    struct app_counts counts; // where they were asked for
};

struct loop_figures {
    unsigned number;
    bool apps;     // it serves apps
    bool answered; // false: nothing below is known
    uint32_t connections;
    uint64_t cpu_us;
    struct conns_counts conns;
    struct llm_counts llm;
    struct subs_counts subs;
};

struct survey {
    const struct loop_figures *loops;
    size_t loop_count;
    const struct app_figures *apps; // of all loops, those of busy ones too
    size_t app_count;
};

// A handler's begin; `counts`: of apps too, which takes longer than the rest. `reply` is called once, now or later, unless the request is done before; what it gets lives until it returns. The handler has survey_done as its
// `done`, and leaves r->data and the request's timer alone.
void survey_ask(struct request *r, bool counts, void (*reply)(struct request *r, const struct survey *survey));
void survey_done(struct request *r);

// "busy", or that of its state.
const char *app_figures_state(const struct app_figures *f);

#endif
