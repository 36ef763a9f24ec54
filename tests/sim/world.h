// The simulated world: the real engine on a machine of chance (machine.h), clients, and a network between them, in one thread by one
// queue of events. world.c is time, network and clients; server.c the engine's side of it; flight.c what that has in flight; works.c what clients do; watchers.c readers of live queries; care.c
// what the service and its admins do.
//
//   client:  plan ─> ask … ask ─> decide ─> send ─> (no answer: send again, by the same name) ─> fate
//   network: requests and answers are late, lost, doubled, and overtake each other
//   server:  answers questions, takes batches, has turns and ticks; crashes at any write, comes back with what was covered by a barrier
//
// All that happens follows from the seed.
#ifndef SEGUE_TEST_WORLD_H
#define SEGUE_TEST_WORLD_H

#include "app.h"
#include "checker.h"
#include "dice.h"
#include "model.h"

#define WORLD_CLIENTS 6
#define WORKS_MAX 20
#define TASK_ASKS 2   // questions of a task
#define TASK_OPS 6    // operations on cells

struct world;
struct task;
struct watchers;
struct overlay;

// A kind of thing that clients do.
struct work {
    const char *name;
    bool transaction;
    unsigned weight;                                 // how often, beside the others
    void (*plan)(struct world *w, struct task *t);   // the questions, if any
    void (*decide)(struct world *w, struct task *t); // by their answers: the operations, if any
    bool (*may_fail)(int err);                       // a rejection of this kind is to be expected; NULL: none is
};

struct ask {
    char sql[200];
    struct buf rows;  // [{…},…]
    struct buf token; // of what was read
    bool over;        // with what the task has planned to write laid over it
};

// One batch that a client makes, or just a look.
struct task {
    const struct work *work;
    uint32_t number;          // from 1: the value that it writes, wherever it writes one
    uint32_t client, process; // a client that gives up comes back as another process
    uint64_t began, ended;    // moments
    uint32_t a, b;            // what it is about, as its work likes it
    struct ask asks[TASK_ASKS];
    size_t asked, answered;
    uint64_t base; // the seq that its questions were answered at; of a merging batch what its client knew of, or 0: it does not say
    struct history seen;      // one transaction: what it read and means to write
    uint64_t *found;          // of a search: the numbers of the tasks whose rows it found, ended by 0
    bool searched;
    struct buf ops;           // JSON, ended by a comma each
    struct cell_op cells[TASK_OPS];
    size_t cell_count;
    uint64_t stamp;
    uint64_t counter;         // of its process as a replica; 0: it goes by a key
    struct buf json;          // the batch; empty: there is nothing to send
    unsigned tries;
    bool sent, given_up;      // its client is no more: nobody waits for its fate, until the end
    bool over;
    bool has_fate;            // final
    int err;
    uint64_t seq;
};

struct client {
    uint32_t number, process;
    uint64_t counter, stamp;
    int64_t skew_ms;
    bool by_key;
    uint64_t known;           // the greatest seq that it was told of
    struct task *task;
};

struct event {
    uint64_t us, order;
    enum { EVENT_WAKE, EVENT_ASK, EVENT_ANSWER, EVENT_SEND, EVENT_FATE, EVENT_TIMEOUT, EVENT_TURN, EVENT_TICK, EVENT_CRASH, EVENT_RESTART, EVENT_WALL, EVENT_FAULT, EVENT_HORIZON, EVENT_SCHEMA, EVENT_BRANCH, EVENT_FLIGHT } kind;
    uint32_t client;
    struct task *task;
    size_t n;       // of an ask: which; of a timeout: which try; of the server's: which life; of a flight: which
    int err;        // of a fate
    bool journaled;
    uint64_t seq;
};

struct finding {
    char kind[64];
    char text[FINDING_MAX];
};

struct world {
    struct dice dice;
    uint64_t seed;
    struct event *events; // a heap
    size_t event_count, event_cap;
    uint64_t order, moment;
    struct client clients[WORLD_CLIENTS];
    struct task **tasks;
    size_t task_count, task_cap, task_max;
    bool ending;          // nothing is lost any more, and nobody begins anything
    uint32_t processes;
    unsigned weights[WORKS_MAX]; // of the works in this world: each has its own mixture
    uint32_t slot_group;  // where the next rows of table slots go
    // The server.
    struct app *app;      // NULL: down
    struct app_options options;
    struct watchers *watchers;
    bool cut;             // what is said now is heard by nobody
    bool turn_due;
    size_t life;
    size_t flight;        // the last that is under way
    bool turns_slow;      // its disk is slow and quick in turn
    uint64_t told;        // the greatest seq that anybody was told of
    uint64_t crashes, flown, faults, horizons, branches, conflicts, retries, again, lost;
    // What was found.
    struct finding findings[16];
    size_t finding_count;
    uint64_t trace;       // a checksum of all that happened: equal for equal seeds
};

// One world from its beginning to its end, in a process of its own. *w need not be initialised; free it with world_free.
void world_run(struct world *w, uint64_t seed);
void world_free(struct world *w);
void world_find(struct world *w, const char *kind, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
// Takes what has happened into the trace.
void world_note(struct world *w, uint64_t a, uint64_t b, uint64_t c);
void world_event(struct world *w, uint64_t in_us, struct event e);

// server.c ---------------------------------------------------------------------------------------------------------------

void server_start(struct world *w); // for the first time, with a schema and rows
void server_stop(struct world *w);  // in peace
void server_ask(struct world *w, struct task *t, size_t n);
void server_send(struct world *w, struct task *t);
void server_turn(struct world *w);
void server_tick(struct world *w);
void server_crash(struct world *w);
void server_restart(struct world *w);
void server_fault(struct world *w); // one of the next writes, or barriers, fails
void server_own(struct world *w, const struct batch_op *op); // a batch of the service's own, of which no client knows
int server_read_over(struct world *w, const char *sql, uint64_t at, const struct overlay *overlay, struct buf *rows);
void server_log(struct world *w, struct buf *out); // what stands in the stream `log`
// A question without a network.
void server_read(struct world *w, const char *sql, uint64_t at, struct buf *rows);
// The journal that is left, decided again in an empty folder, comes to the same state. The server is stopped behind this.
void server_check_journal(struct world *w);

void server_landed(struct world *w); // what was in flight is not any more

// flight.c ---------------------------------------------------------------------------------------------------------------

void flight_options(struct world *w); // where this world's app waits for its disk
void flight_step(struct world *w, size_t n);
void flight_tick(struct world *w);
void flight_crash(struct world *w);

// care.c -----------------------------------------------------------------------------------------------------------------

void care_horizon(struct world *w); // history is forgotten up to some commits ago
void care_schema(struct world *w);  // indexes come and go
void care_branch(struct world *w);  // a branch comes, is written to, looked at, merged, or goes
bool care_may_fail(int err);        // 0, or what is to be expected of such batches

// watchers.c -------------------------------------------------------------------------------------------------------------

struct watchers *watchers_new(struct app_options *options); // to be woken by the app of these options
void watchers_free(struct watchers *s);
void watchers_tick(struct world *w, struct watchers *s); // one of them comes, goes, makes room, or looks
void watchers_leave(struct world *w, struct watchers *s); // all at once: the app is going to be closed
void watchers_end(struct world *w, struct watchers *s);  // all catch up, and are compared

// works.c ----------------------------------------------------------------------------------------------------------------

extern const char works_schema[];
#define WORKS_INDEXES 4
extern const char *const works_indexes[WORKS_INDEXES]; // that may be there, or not
void works_rows(struct buf *ops); // the rows that there are from the beginning, as operations
void works_branch_ops(struct world *w, struct buf *json); // a batch that may be merged at any time
void works_mix(struct world *w);
const struct work *works_choose(struct world *w);
// Judges all that happened, when everything has its fate and the server stands still.
void works_judge(struct world *w);

#endif
