#include "reservations.h"

#include <assert.h>

#include "err.h"

static bool same_client(const struct reservation_client *a, const struct reservation_client *b)
{
    return a->connection == b->connection && uuid_equal(a->replica, b->replica);
}

// A replica is one client wherever it comes from; all others are their connections.
static bool client_of(const struct submission *s, struct reservation_client *out)
{
    *out = (struct reservation_client){.connection = s->connection};
    if (s->name.kind == BATCH_REPLICA) *out = (struct reservation_client){.replica = s->name.replica};
    return s->name.kind == BATCH_REPLICA || s->connection != 0;
}

void reservations_init(struct reservations *rs)
{
    *rs = (struct reservations){.active = 0};
}

static void end(struct reservations *rs, struct reservation *r)
{
    read_set_free(r->reads);
    *r = (struct reservation){.reads = NULL};
    assert(rs->active > 0);
    rs->active--;
}

void reservations_free(struct reservations *rs)
{
    assert(rs->held == NULL);
    for (size_t i = 0; i < RESERVATIONS_MAX; i++)
        if (rs->granted[i].reads != NULL) end(rs, &rs->granted[i]);
}

// ---- counting -------------------------------------------------------------------------------------------------------

// Where this client's conflicts are counted; with `make`, in the place of the one that is there longest if need be. -1: nowhere.
static int place_of(struct reservations *rs, const struct reservation_client *client, bool make)
{
    int oldest = 0;
    for (int i = 0; i < RESERVATION_CLIENTS; i++) {
        if (rs->clients[i].conflicts > 0 && same_client(&rs->clients[i].client, client)) return i;
        if (rs->clients[i].conflicts == 0 || (rs->clients[oldest].conflicts > 0 && rs->clients[i].told_ms < rs->clients[oldest].told_ms)) oldest = i;
    }
    if (!make) return -1;
    rs->clients[oldest].client = *client;
    rs->clients[oldest].conflicts = 0;
    return oldest;
}

static void grant(struct reservations *rs, const struct reservation_client *client, struct read_set **reads, uint64_t now_ms)
{
    for (size_t i = 0; i < RESERVATIONS_MAX; i++) {
        if (rs->granted[i].reads != NULL) continue;
        rs->granted[i] = (struct reservation){.client = *client, .reads = *reads, .until_ms = now_ms + RESERVATION_MS_MAX};
        *reads = NULL;
        rs->active++;
        rs->grants++;
        return;
    }
}

static struct reservation *granted_to(struct reservations *rs, const struct reservation_client *client)
{
    for (size_t i = 0; i < RESERVATIONS_MAX; i++)
        if (rs->granted[i].reads != NULL && same_client(&rs->granted[i].client, client)) return &rs->granted[i];
    return NULL;
}

void reservations_told(struct reservations *rs, const struct submission *s, int err, struct read_set **reads, uint64_t now_ms)
{
    struct reservation_client client;
    if (!client_of(s, &client)) return;
    struct reservation *had = granted_to(rs, &client);
    int place = place_of(rs, &client, err == ERR_CONFLICT);
    if (had != NULL) end(rs, had); // it was for this one try
    if (place < 0) return;
    unsigned conflicts = err == ERR_CONFLICT ? rs->clients[place].conflicts + 1 : 0;
    rs->clients[place].conflicts = conflicts;
    rs->clients[place].told_ms = now_ms;
    if (conflicts >= RESERVATION_CONFLICTS && *reads != NULL) grant(rs, &client, reads, now_ms);
}

// ---- holding --------------------------------------------------------------------------------------------------------

bool reservations_room(const struct reservations *rs, const struct submission *s)
{
    return rs->held_count < RESERVATION_HELD_MAX && rs->held_bytes + s->request.n <= RESERVATION_HELD_BYTES_MAX;
}

bool reservations_may_hold(const struct reservations *rs, const struct submission *s)
{
    return rs->active > 0 && s->held_until_ms == 0 && reservations_room(rs, s);
}

bool reservations_behind(const struct reservations *rs, const struct submission *s)
{
    for (const struct submission *h = rs->held; h != NULL; h = h->next) {
        if (s->connection != 0 && s->connection == h->connection) return true;
        if (s->name.kind == BATCH_REPLICA && h->name.kind == BATCH_REPLICA && uuid_equal(s->name.replica, h->name.replica)) return true;
    }
    return false;
}

const struct read_set *reservations_against(const struct reservations *rs, const struct submission *s, size_t i)
{
    struct reservation_client client;
    const struct reservation *r = &rs->granted[i];
    assert(i < RESERVATIONS_MAX);
    bool own = client_of(s, &client) && same_client(&client, &r->client);
    return own ? NULL : r->reads;
}

void reservations_hold(struct reservations *rs, struct submission *s, uint64_t now_ms)
{
    s->next = NULL;
    s->held_until_ms = now_ms + RESERVATION_MS_MAX;
    if (rs->held == NULL) rs->held = s;
    else rs->held_last->next = s;
    rs->held_last = s;
    rs->held_count++;
    rs->held_bytes += s->request.n;
    rs->holds++;
}

struct submission *reservations_release(struct reservations *rs, uint64_t now_ms, bool all)
{
    struct submission *first = rs->held, **last = &first;
    for (size_t i = 0; i < RESERVATIONS_MAX && rs->active > 0; i++)
        if (rs->granted[i].reads != NULL && (all || now_ms >= rs->granted[i].until_ms)) end(rs, &rs->granted[i]);
    while (rs->held != NULL && (rs->active == 0 || now_ms >= rs->held->held_until_ms)) {
        last = &rs->held->next;
        rs->held_count--;
        rs->held_bytes -= rs->held->request.n;
        rs->held = rs->held->next;
    }
    *last = NULL;
    return first;
}
