// Random schemas that grow at random: what is taken and what is refused against a model that knows which step it took, and after every
// publication that places, numbers and text are what they must be.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "err.h"
#include "schema.h"
#include "sql.h"

enum { TABLES = 4, COLUMNS = 12, LABELS = 6, INDEXES = 5, CHECKS = 4, STEPS = 14, ROUNDS = 500 };

// ---- the model: a schema as what was said of it --------------------------------------------------------------------

struct m_column {
    int type; // of types[]
    int merge; // of its merges
    bool not_null, has_default;
    int def;
    int ref; // the table's place + 1; 0: none
};

struct m_index {
    int no; // part of its name
    int column, other;
    bool unique, desc, partial;
};

struct m_table {
    struct m_column columns[COLUMNS];
    int column_count;
    struct m_index indexes[INDEXES];
    int index_count;
    int checks[CHECKS]; // part of the name, and the bound
    int check_count;
};

struct model {
    struct m_table tables[TABLES];
    int table_count;
    int labels[LABELS];
    int label_count;
    int named; // indexes and checks so far
};

static const struct {
    const char *sql, *defaults[2];
    const char *merges[4];
} types[] = {
    {"text", {"'a''b'", "''"}, {"", " options (merge 'max')", " options (merge 'min')", ""}},
    {"integer", {"-7", "0"}, {"", " options (merge 'max')", " options (merge 'lww')", ""}},
    {"counter", {"5", "0"}, {"", "", " options (merge 'counter')", ""}},
    {"mood", {"'l0'", "'l0'::mood"}, {"", " options (merge 'max')", "", ""}},
    {"text[]", {"'{}'", "'{a,\"b c\"}'"}, {"", " options (merge 'set')", "", ""}},
    {"bytea", {"'\\x00ff'", "'\\x'"}, {"", "", "", ""}},
    {"double precision", {"1.5", "-1e300"}, {"", "", "", ""}},
    {"boolean", {"true", "false"}, {"", "", "", ""}},
    {"timestamptz", {"now()", "'2026-01-01T00:00:00Z'"}, {"", "", "", ""}},
    {"uuid", {"'01890000-0000-7000-8000-000000000000'", "'01890000-0000-7000-8000-000000000001'"}, {"", "", "", ""}},
};
enum { TYPES = sizeof types / sizeof *types, COUNTER = 2, MOOD = 3, UUID = 9 };

static unsigned short chance[3];

static int below(int n)
{
    return (int)(nrand48(chance) % n);
}

// ---- as text, in any order -----------------------------------------------------------------------------------------

static void put_column(struct buf *out, int place, const struct m_column *c)
{
    bool first = below(2);
    buf_printf(out, "c%d %s%s", place, types[c->type].sql, types[c->type].merges[c->merge]);
    if (c->not_null && first) buf_put_str(out, " not null");
    if (c->has_default) buf_printf(out, " default %s", types[c->type].defaults[c->def]);
    if (c->not_null && !first) buf_put_str(out, " not null");
    if (c->ref) buf_printf(out, " references t%d on delete cascade", c->ref - 1);
}

static void put_table(struct buf *out, const struct m_table *t, int place)
{
    int turn = t->column_count ? below(t->column_count) : 0;
    buf_printf(out, "create table t%d (id uuid primary key", place);
    for (int i = 0; i < t->check_count; i++)
        buf_printf(out, ", constraint k%d check (id is null or %d < %d)", t->checks[i], i, t->checks[i] + 100);
    for (int i = 0; i < t->column_count; i++) {
        int k = (i + turn) % t->column_count;
        buf_put_str(out, ", ");
        put_column(out, k, &t->columns[k]);
    }
    buf_put_str(out, ");\n");
    for (int i = 0; i < t->index_count; i++) {
        const struct m_index *x = &t->indexes[i];
        buf_printf(out, "create %sindex x%d on t%d (c%d%s", x->unique ? "unique " : "", x->no, place, x->column, x->desc ? " desc" : "");
        if (x->other != x->column) buf_printf(out, ", c%d", x->other);
        buf_printf(out, ")%s;\n", x->partial ? " where id is not null" : "");
    }
}

static void put_model(struct buf *out, const struct model *m)
{
    int turn = m->table_count ? below(m->table_count) : 0;
    buf_clear(out);
    for (int i = 0; i < m->table_count; i++)
        put_table(out, &m->tables[(i + turn) % m->table_count], (i + turn) % m->table_count);
    buf_put_str(out, "create type mood as enum (");
    for (int i = 0; i < m->label_count; i++)
        buf_printf(out, "%s'l%d'", i ? ", " : "", m->labels[i]);
    buf_put_str(out, ");\n");
}

// ---- steps ---------------------------------------------------------------------------------------------------------

static struct m_table *some_table(struct model *m)
{
    return m->table_count ? &m->tables[below(m->table_count)] : NULL;
}

static bool add_column(struct model *m, struct m_table *t, bool fits)
{
    if (!t || t->column_count == COLUMNS) return false;
    struct m_column c = {.type = below(TYPES), .merge = below(4), .not_null = below(2), .has_default = below(2), .def = below(2)};
    if (!c.has_default) c.not_null = false;
    if (c.type == UUID && !c.has_default && below(2)) c.ref = 1 + below(m->table_count);
    if (!fits) {
        c.not_null = true;
        c.has_default = false;
        while (c.type == COUNTER) // which is never null and always has a default
            c.type = below(TYPES);
    }
    t->columns[t->column_count++] = c;
    return true;
}

static bool add_index(struct model *m, struct m_table *t)
{
    if (!t || t->index_count == INDEXES || t->column_count == 0) return false;
    t->indexes[t->index_count++] = (struct m_index){.no = m->named++,
                                                    .column = below(t->column_count),
                                                    .other = below(t->column_count),
                                                    .unique = below(2),
                                                    .desc = below(2),
                                                    .partial = below(3) == 0};
    return true;
}

// A step that a schema may take; false: there is no room for it.
static bool grow(struct model *m)
{
    struct m_table *t = some_table(m);
    switch (below(8)) {
    case 0:
        if (m->table_count == TABLES) return false;
        m->tables[m->table_count++] = (struct m_table){.column_count = 0};
        return true;
    case 1:
    case 2: return add_column(m, t, true);
    case 3:
        if (m->label_count == LABELS) return false;
        m->labels[m->label_count] = m->label_count;
        m->label_count++;
        return true;
    case 4: return add_index(m, t);
    case 5:
        if (!t || t->index_count == 0) return false;
        t->indexes[below(t->index_count)] = t->indexes[t->index_count - 1];
        t->index_count--;
        return true;
    case 6:
        if (!t || t->check_count == CHECKS) return false;
        t->checks[t->check_count++] = m->named++;
        return true;
    default:
        if (!t || t->check_count == 0) return false;
        t->checks[below(t->check_count)] = t->checks[t->check_count - 1];
        t->check_count--;
        return true;
    }
}

// What makes a column another one; false: this does not change it.
static bool spoil_column(struct m_column *c)
{
    int was = c->merge;
    switch (below(4)) {
    case 0:
        if (c->type == COUNTER) return false;
        c->type = c->type == 5 ? 6 : 5;
        c->merge = c->def = c->ref = 0;
        return true;
    case 1:
        if (c->type == COUNTER) return false;
        c->not_null = !c->not_null;
        return true;
    case 2:
        if (c->ref || (c->type == COUNTER && (!c->has_default || c->def == 1)) || (c->type == MOOD && c->has_default)) return false;
        if (c->has_default) c->def = !c->def;
        c->has_default = true;
        return true;
    default:
        c->merge = below(4);
        return strcmp(types[c->type].merges[was], types[c->type].merges[c->merge]) != 0 && c->type != COUNTER &&
               !strstr(types[c->type].merges[was], "lww") && !strstr(types[c->type].merges[c->merge], "lww");
    }
}

// A step that no schema may take.
static bool spoil(struct model *m)
{
    struct m_table *t = some_table(m);
    switch (below(5)) {
    case 0:
        if (!t) return false;
        m->table_count--; // indexes and references of others may go with it: it is refused for one of these
        return true;
    case 1:
        if (m->label_count < 2) return false;
        m->label_count--;
        return true;
    case 2: {
        if (m->label_count < 2) return false;
        int last = m->labels[m->label_count - 1];
        m->labels[m->label_count - 1] = m->labels[m->label_count - 2];
        m->labels[m->label_count - 2] = last;
        return true;
    }
    case 3: return t && t->column_count > 0 && spoil_column(&t->columns[below(t->column_count)]);
    default: return add_column(m, t, false);
    }
}

// ---- what must hold ------------------------------------------------------------------------------------------------

static int build(struct schema **out, struct span sql, const struct schema *before, struct problem *p)
{
    struct ast_schema *ast;
    *p = PROBLEM_NONE;
    int err = sql_parse_schema(sql, &ast, p);
    if (err) return err;
    err = schema_build(out, ast, before, 1700000000000, p);
    sql_schema_free(ast);
    return err;
}

static void expect_same_text(const struct schema *s, const struct schema *before)
{
    struct schema *again;
    struct problem p;
    struct buf text;
    buf_init(&text, MIB);
    schema_sql(s, &text);
    int err = build(&again, buf_span(&text), before, &p);
    if (err) fail_msg("%.*s\n%s", SPAN_FMT(buf_span(&text)), problem_text(&p));
    assert_true(sha256_equal(&again->hash, &s->hash));
    schema_unref(again);
    buf_free(&text);
}

static void expect_same_bytes(const struct schema *s, const struct schema *before)
{
    struct schema *again;
    struct buf a, b;
    buf_init(&a, MIB);
    buf_init(&b, MIB);
    schema_encode(s, &a);
    assert_int_equal(schema_decode(&again, buf_span(&a)), 0);
    schema_encode(again, &b);
    assert_true(span_equal(buf_span(&a), buf_span(&b)));
    assert_true(sha256_equal(&again->hash, &s->hash));
    assert_true(schema_extends(again, before));
    schema_unref(again);
    buf_free(&a);
    buf_free(&b);
}

static void expect_places_kept(const struct schema *s, const struct schema *before)
{
    for (size_t i = 0; i < before->table_count; i++) {
        const struct table *t = &s->tables[i], *old = &before->tables[i];
        assert_true(span_equal(t->name, old->name));
        for (size_t k = 0; k < t->column_count; k++) {
            const struct column *c = &t->columns[k];
            assert_int_equal(c->born, k < old->column_count ? old->columns[k].born : s->version);
            if (k < old->column_count) assert_true(span_equal(c->name, old->columns[k].name));
        }
        for (size_t k = 0; k < t->index_count; k++) {
            const struct index *ix = &t->indexes[k], *was = table_index_no(old, ix->no);
            assert_true(was ? index_same(ix, was) : ix->no > old->index_last);
        }
    }
}

static void publish(const struct model *m, struct schema **s, bool fits, int round)
{
    struct schema *next;
    struct problem p;
    struct buf sql;
    buf_init(&sql, MIB);
    put_model(&sql, m);
    int err = build(&next, buf_span(&sql), *s, &p);
    bool expected = fits ? err == 0 : err == ERR_SCHEMA_NOT_ADDITIVE || err == ERR_BAD_SCHEMA || err == ERR_BAD_VALUE;
    if (!expected) fail_msg("round %d: %s: %s\n%.*s", round, err_wire(err), problem_text(&p), SPAN_FMT(buf_span(&sql)));
    buf_free(&sql);
    if (err) return;
    expect_same_text(next, *s);
    expect_same_bytes(next, *s);
    expect_places_kept(next, *s);
    schema_unref(*s);
    *s = next;
}

static void a_schema_grows_by_what_may_come_alone(void **state)
{
    size_t taken = 0, refused = 0;
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        struct model m = {.label_count = 1};
        struct schema *s = schema_empty();
        memcpy(chance, (unsigned short[3]){0x330e, (unsigned short)round, 0}, sizeof chance);
        for (int step = 0; step < STEPS; step++) {
            struct model was = m;
            bool fits = below(4) > 0;
            if (!(fits ? grow(&m) : s->version > 0 && spoil(&m))) {
                m = was;
                continue;
            }
            publish(&m, &s, fits, round);
            if (!fits) m = was;
            *(fits ? &taken : &refused) += 1;
        }
        schema_unref(s);
    }
    print_message("%zu taken, %zu refused\n", taken, refused);
    assert_true(taken > 2000 && refused > 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_schema_grows_by_what_may_come_alone)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
