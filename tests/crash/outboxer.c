// A program with an outbox, to be killed: puts what it is told, sends on another thread, and tells all that it knows. One line for each thing, both ways:
//
//   < put TAG BATCH        > kept TAG ID
//   < seen ID              > forgot ID
//   < look                 > waiting TAG ID, fate TAG ID REPLICA:COUNTER ANSWER, for all there are, then: ready
//                          > fate TAG ID REPLICA:COUNTER ANSWER, as they come
//
// The folder is its argument, the service SEGUE_URL. Ends with status 1 and a word on standard error where a call fails that must not.
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "segue.h"

#define LINE_MAX_BYTES (1 << 20)

static pthread_mutex_t output = PTHREAD_MUTEX_INITIALIZER;
static const char *folder;

static void die(const struct segue *s, const char *what)
{
    fprintf(stderr, "%s: %s: %s\n", what, s != NULL ? segue_error(s)->code : "-", s != NULL ? segue_error(s)->detail : "-");
    exit(1);
}

static struct segue_outbox *begin(struct segue **s)
{
    struct segue_outbox *o;
    // It goes on trying for as long as anybody lets it.
    *s = segue_new(&(struct segue_options){.url = getenv("SEGUE_URL"), .retry_s = 1e6});
    if (*s == NULL || segue_outbox_open(*s, &(struct segue_outbox_options){.path = folder}, &o) != SEGUE_OK) die(*s, "open");
    return o;
}

static void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    pthread_mutex_lock(&output);
    vprintf(fmt, ap);
    fflush(stdout);
    pthread_mutex_unlock(&output);
    va_end(ap);
}

static int tell(void *ctx, const struct segue_outbox_entry *e)
{
    (void)ctx;
    say("fate %s %llu %s:%llu %.*s\n", e->tag, (unsigned long long)e->id, e->replica, (unsigned long long)e->counter, (int)e->n, e->json);
    return 0;
}

static void *send_on(void *ctx)
{
    struct segue *s;
    struct segue_outbox *o = begin(&s);
    (void)ctx;
    for (;;) {
        if (segue_outbox_send(o, &(struct segue_outbox_send_options){.on_fate = tell}) != SEGUE_OK) die(s, "send");
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    return NULL;
}

static void look(struct segue *s, struct segue_outbox *o)
{
    struct segue_outbox_entry e;
    uint64_t after = 0;
    for (;; after = e.id) {
        if (segue_outbox_waiting(o, after, &e) != SEGUE_OK) die(s, "waiting");
        if (e.id == 0) break;
        say("waiting %s %llu\n", e.tag, (unsigned long long)e.id);
    }
    // Behind those that wait: what is settled meanwhile is met here.
    for (after = 0;; after = e.id) {
        if (segue_outbox_fate(o, after, &e) != SEGUE_OK) die(s, "fate");
        if (e.id == 0) break;
        tell(NULL, &e);
    }
    say("ready\n");
}

static void put(struct segue *s, struct segue_outbox *o, char *line)
{
    uint64_t id;
    char *batch = strchr(line, ' ');
    if (batch == NULL) die(NULL, "a put without a batch");
    *batch++ = 0;
    if (segue_outbox_put(o, &(struct segue_outbox_batch){.json = batch, .n = strlen(batch), .tag = line}, &id) != SEGUE_OK) die(s, "put");
    say("kept %s %llu\n", line, (unsigned long long)id);
}

int main(int argc, char **argv)
{
    static char line[LINE_MAX_BYTES];
    pthread_t sender;
    struct segue *s;
    if (argc != 2) return 2;
    folder = argv[1];
    struct segue_outbox *o = begin(&s);
    if (pthread_create(&sender, NULL, send_on, NULL) != 0) return 1;
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, "put ", 4) == 0) put(s, o, line + 4);
        else if (strcmp(line, "look") == 0) look(s, o);
        else if (strncmp(line, "seen ", 5) == 0 && segue_outbox_seen(o, strtoull(line + 5, NULL, 10)) == SEGUE_OK) say("forgot %s\n", line + 5);
        else die(s, line);
    }
    exit(0); // the other thread may be anywhere
}
