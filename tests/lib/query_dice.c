#include "query_dice.h"

#include <assert.h>

#include "limits.h"

// ---- chance --------------------------------------------------------------------------------------------------------

uint64_t dice(struct query_dice *l, uint64_t sides)
{
    l->chance ^= l->chance << 13;
    l->chance ^= l->chance >> 7;
    l->chance ^= l->chance << 17;
    return (l->chance * 0x9e3779b97f4a7c15u >> 16) % sides;
}

bool one_in(struct query_dice *l, unsigned n)
{
    return dice(l, n) == 0;
}

// ---- values --------------------------------------------------------------------------------------------------------

void dice_put_uuid(struct buf *b, unsigned n)
{
    buf_printf(b, "'00000000-0000-0000-0000-%012x'", n);
}

unsigned dice_row_id(size_t table, size_t row)
{
    return (unsigned)(0x100 * (table + 1) + row);
}

// As SQL that both read. Of DICE_INT and DICE_REAL never more than one token, so that a sign is a constant's own.
void dice_put_value(struct query_dice *l, struct buf *b, enum dice_kind kind)
{
    static const char *const texts[] = {"''", "'a'", "'b'", "'ab'", "'Ba'", "'é'", "'a b'"};
    switch (kind) {
    case DICE_INT: buf_printf(b, "%d", (int)dice(l, 9) - 2); return;
    case DICE_TEXT: buf_put_str(b, texts[dice(l, 7)]); return;
    case DICE_REAL: buf_printf(b, "%.1f", ((int)dice(l, 11) - 4) * 0.5); return;
    case DICE_BOOL: buf_put_str(b, one_in(l, 2) ? "true" : "false"); return;
    case DICE_UUID: dice_put_uuid(b, dice_row_id(dice(l, DICE_TABLES), dice(l, DICE_ROWS))); return;
    case DICE_KINDS: break;
    }
    assert(!"a kind");
}

// ---- queries -------------------------------------------------------------------------------------------------------

struct visible {
    char alias;
    size_t table;
};

struct scope {
    struct visible tables[8];
    size_t n;
};

static void put_expr(struct query_dice *l, const struct scope *s, enum dice_kind kind, unsigned depth);

static bool put_column(struct query_dice *l, const struct scope *s, enum dice_kind kind)
{
    for (int tries = 0; tries < 6; tries++) {
        const struct visible *v = &s->tables[dice(l, s->n)];
        if (kind == DICE_UUID && one_in(l, 2)) {
            buf_printf(&l->sql, "%c.id", v->alias);
            return true;
        }
        size_t c = dice(l, l->tables[v->table].columns);
        if (l->tables[v->table].kinds[c] != kind) continue;
        buf_printf(&l->sql, "%c.c%zu", v->alias, c);
        return true;
    }
    return false;
}

static void put(struct query_dice *l, const char *s)
{
    buf_put_str(&l->sql, s);
}

static void put_operator(struct query_dice *l, const struct scope *s, enum dice_kind kind, const char *op, unsigned depth)
{
    put(l, "(");
    put_expr(l, s, kind, depth);
    put(l, op);
    put_expr(l, s, kind, depth);
    put(l, ")");
}

static struct scope within(struct query_dice *l, const struct scope *s)
{
    struct scope inner = *s;
    inner.tables[inner.n] = (struct visible){.alias = (char)('a' + l->depth++), .table = dice(l, DICE_TABLES)};
    inner.n++;
    return inner;
}

// from t as x where something that concerns the row around it, most of the time
static void put_from_within(struct query_dice *l, const struct scope *inner, unsigned depth)
{
    const struct visible *own = &inner->tables[inner->n - 1];
    struct scope alone = {.tables = {*own}, .n = 1};
    buf_printf(&l->sql, " from t%zu %c where ", own->table, own->alias);
    if (one_in(l, 4)) {
        put_expr(l, &alone, DICE_BOOL, depth);
        return;
    }
    buf_printf(&l->sql, "%c.c%d = ", own->alias, one_in(l, 2) ? 1 : 0);
    enum dice_kind kind = l->sql.p[l->sql.n - 4] == '1' ? DICE_INT : DICE_UUID;
    put_expr(l, inner, kind, 0);
    if (!one_in(l, 2)) return;
    put(l, " and ");
    put_expr(l, inner, DICE_BOOL, depth);
}

static void put_select_within(struct query_dice *l, const struct scope *s, enum dice_kind kind, unsigned depth)
{
    struct scope inner = within(l, s);
    if (kind == DICE_BOOL) {
        bool exists = one_in(l, 2);
        put(l, exists ? "exists (select 1" : "(");
        if (!exists) {
            put_expr(l, s, DICE_INT, 0);
            put(l, one_in(l, 3) ? " not in (select " : " in (select ");
            buf_printf(&l->sql, "%c.c1", inner.tables[inner.n - 1].alias);
        }
        put_from_within(l, &inner, depth);
        put(l, exists ? ")" : "))");
        return;
    }
    buf_printf(&l->sql, "(select %s(", kind == DICE_INT && one_in(l, 2) ? "count" : one_in(l, 2) ? "min" : "max");
    if (!put_column(l, &(struct scope){.tables = {inner.tables[inner.n - 1]}, .n = 1}, kind)) dice_put_value(l, &l->sql, kind);
    put(l, ")");
    put_from_within(l, &inner, depth);
    put(l, ")");
}

static void put_condition(struct query_dice *l, const struct scope *s, unsigned depth)
{
    static const char *const comparisons[] = {" = ", " <> ", " < ", " <= ", " > ", " >= "};
    enum dice_kind kind = (enum dice_kind)dice(l, DICE_KINDS);
    switch (dice(l, 12)) {
    case 0:
    case 1:
    case 2: put_operator(l, s, kind, comparisons[dice(l, 6)], depth - 1); return;
    case 3: put_operator(l, s, DICE_BOOL, one_in(l, 2) ? " and " : " or ", depth - 1); return;
    case 4:
        put(l, "(not ");
        put_expr(l, s, DICE_BOOL, depth - 1);
        put(l, ")");
        return;
    case 5:
        put(l, "(");
        put_expr(l, s, kind, depth - 1);
        put(l, one_in(l, 2) ? " is null)" : " is not null)");
        return;
    case 6:
        put(l, "(");
        put_expr(l, s, kind, depth - 1);
        put(l, one_in(l, 3) ? " not in (" : " in (");
        for (unsigned i = 0, n = 1 + (unsigned)dice(l, 4); i < n; i++) {
            if (i > 0) put(l, ", ");
            dice_put_value(l, &l->sql, kind);
        }
        put(l, "))");
        return;
    case 7:
        put(l, "(");
        put_expr(l, s, kind, depth - 1);
        put(l, one_in(l, 3) ? " not between " : " between ");
        dice_put_value(l, &l->sql, kind);
        put(l, " and ");
        dice_put_value(l, &l->sql, kind);
        put(l, ")");
        return;
    case 8:
        put(l, "(");
        put_expr(l, s, DICE_TEXT, depth - 1);
        put(l, one_in(l, 3) ? " not like " : " like ");
        put(l, (const char *const[]){"'a%'", "'%b'", "'_'", "'%'", "'%a%'"}[dice(l, 5)]);
        put(l, ")");
        return;
    case 9: put_operator(l, s, kind, one_in(l, 2) ? " is distinct from " : " is not distinct from ", depth - 1); return;
    case 10:
        put(l, "(");
        put_expr(l, s, DICE_BOOL, depth - 1);
        put(l, (const char *const[]){" is true)", " is not true)", " is false)", " is not false)"}[dice(l, 4)]);
        return;
    default:
        if (l->depth < 20 && s->n < 6) {
            put_select_within(l, s, DICE_BOOL, depth - 1);
            return;
        }
        put_operator(l, s, kind, comparisons[dice(l, 6)], depth - 1);
    }
}

static void put_case(struct query_dice *l, const struct scope *s, enum dice_kind kind, unsigned depth)
{
    put(l, "case when ");
    put_expr(l, s, DICE_BOOL, depth - 1);
    put(l, " then ");
    put_expr(l, s, kind, depth - 1);
    if (!one_in(l, 3)) {
        put(l, " else ");
        put_expr(l, s, kind, depth - 1);
    }
    put(l, " end");
}

// Every kind has what it can be made of; one that is not to be had of a table is a constant. Of a DICE_UUID that constant is a text, which
// only becomes one right beside a column.
static void put_expr(struct query_dice *l, const struct scope *s, enum dice_kind kind, unsigned depth)
{
    static const char *const signs[] = {" + ", " - ", " * "};
    unsigned what = (unsigned)dice(l, 10);
    if (depth == 0 || what < 3 || kind == DICE_UUID) {
        if (one_in(l, 5) || !put_column(l, s, kind)) dice_put_value(l, &l->sql, kind);
        return;
    }
    if (kind == DICE_BOOL) {
        put_condition(l, s, depth);
    } else if (what == 3) {
        put_case(l, s, kind, depth);
    } else if (what == 4) {
        put(l, "coalesce(");
        put_expr(l, s, kind, depth - 1);
        put(l, ", ");
        put_expr(l, s, kind, depth - 1);
        put(l, ")");
    } else if (what == 5 && l->depth < 20 && s->n < 6) {
        put_select_within(l, s, kind, depth - 1);
    } else if (kind == DICE_TEXT) {
        if (one_in(l, 2)) {
            put_operator(l, s, DICE_TEXT, " || ", depth - 1);
        } else {
            put(l, one_in(l, 2) ? "lower(" : "upper(");
            put_expr(l, s, DICE_TEXT, depth - 1);
            put(l, ")");
        }
    } else if (kind == DICE_INT && one_in(l, 4)) {
        put(l, "length(");
        put_expr(l, s, DICE_TEXT, depth - 1);
        put(l, ")");
    } else if (kind == DICE_INT && one_in(l, 4)) {
        put(l, "(");
        put_expr(l, s, DICE_INT, depth - 1);
        put(l, one_in(l, 2) ? " / nullif(" : " % nullif(");
        put_expr(l, s, DICE_INT, depth - 1);
        put(l, ", 0))");
    } else if (kind == DICE_INT || kind == DICE_REAL) {
        put_operator(l, s, kind, signs[dice(l, 3)], depth - 1);
    } else if (!put_column(l, s, kind)) {
        dice_put_value(l, &l->sql, kind);
    }
}

static struct scope put_from(struct query_dice *l)
{
    struct scope s = {.n = 0};
    size_t n = one_in(l, 2) ? 1 : 1 + dice(l, 3);
    put(l, " from ");
    for (size_t i = 0; i < n; i++) {
        bool left = i > 0 && one_in(l, 3), cross = i > 0 && !left && one_in(l, 5);
        if (i > 0) put(l, left ? " left join " : cross ? " cross join " : " join ");
        s.tables[s.n] = (struct visible){.alias = (char)('a' + l->depth++), .table = dice(l, DICE_TABLES)};
        buf_printf(&l->sql, "t%zu %c", s.tables[s.n].table, s.tables[s.n].alias);
        s.n++;
        if (i == 0 || cross) continue;
        put(l, " on ");
        if (one_in(l, 4)) {
            put_expr(l, &s, DICE_BOOL, 2);
        } else {
            buf_printf(&l->sql, "%c.%s = %c.%s", s.tables[dice(l, i)].alias, one_in(l, 2) ? "c0" : "id", s.tables[i].alias,
                       one_in(l, 2) ? "c0" : "id");
        }
    }
    return s;
}

static void put_order_limit(struct query_dice *l, size_t targets, bool *ordered)
{
    *ordered = !one_in(l, 3);
    if (!*ordered) return;
    for (size_t i = 0; i < targets; i++)
        buf_printf(&l->sql, "%s%zu%s", i == 0 ? " order by " : ", ", i + 1,
                   (const char *const[]){" nulls last", " desc nulls first", " nulls first", " desc nulls last"}[dice(l, 4)]);
    if (!one_in(l, 3)) return;
    buf_printf(&l->sql, " limit %d", (int)dice(l, 12));
    if (one_in(l, 2)) buf_printf(&l->sql, " offset %d", (int)dice(l, 6));
}

static void put_list(struct query_dice *l, const struct scope *s, size_t targets)
{
    for (size_t i = 0; i < targets; i++) {
        if (i > 0) put(l, ", ");
        put_expr(l, s, (enum dice_kind)dice(l, DICE_KINDS), 2);
        buf_printf(&l->sql, " as x%zu", i);
    }
}

static void put_aggregate(struct query_dice *l, const struct scope *s)
{
    static const char *const names[] = {"count(", "sum(", "avg(", "min(", "max(", "count(distinct ", "sum(distinct "};
    size_t which = dice(l, 8);
    if (which == 7) {
        put(l, "count(*)");
        return;
    }
    put(l, names[which]);
    put_expr(l, s, one_in(l, 2) ? DICE_INT : DICE_REAL, 1);
    put(l, ")");
}

// A list, then the tables: the text is put together in the other order than it is made in.
void dice_make_query(struct query_dice *l, bool *ordered)
{
    struct buf from, grouped;
    size_t targets = 1 + dice(l, 3), groups = 0;
    bool group = one_in(l, 4);
    buf_init(&from, 64 * KIB);
    buf_init(&grouped, 64 * KIB);
    buf_clear(&l->sql);
    l->depth = 0;
    struct scope s = put_from(l);
    if (!one_in(l, 4)) {
        put(l, " where ");
        put_expr(l, &s, DICE_BOOL, 3);
        for (size_t i = dice(l, 3); i-- > 0;) {
            put(l, " and ");
            put_expr(l, &s, DICE_BOOL, 1);
        }
    }
    buf_put_span(&from, buf_span(&l->sql));
    buf_clear(&l->sql);
    bool distinct = !group && one_in(l, 6);
    put(l, distinct ? "select distinct " : "select ");
    if (!group) {
        put_list(l, &s, targets);
    } else {
        groups = dice(l, 3);
        for (size_t i = 0; i < groups; i++) {
            put_expr(l, &s, (enum dice_kind)dice(l, DICE_KINDS), 1);
            buf_printf(&grouped, "%s%zu", i > 0 ? ", " : " group by ", i + 1);
            buf_printf(&l->sql, " as x%zu, ", i);
        }
        targets += groups;
        for (size_t i = groups; i < targets; i++) {
            if (i > groups) put(l, ", ");
            put_aggregate(l, &s);
            buf_printf(&l->sql, " as x%zu", i);
        }
    }
    buf_put_span(&l->sql, buf_span(&from));
    buf_put_span(&l->sql, buf_span(&grouped));
    if (group && one_in(l, 3)) {
        put(l, " having ");
        put_aggregate(l, &s);
        put(l, one_in(l, 2) ? " > 1" : " is not null");
    }
    put_order_limit(l, targets, ordered);
    buf_put_u8(&l->sql, 0);
    assert(l->sql.err == 0);
    buf_free(&from);
    buf_free(&grouped);
}


// ---- queries that are followed -------------------------------------------------------------------------------------

static void put_targets(struct query_dice *l, const struct scope *s)
{
    if (s->n == 1 && one_in(l, 4)) {
        put(l, "*");
        return;
    }
    size_t n = 1 + dice(l, 3);
    for (size_t i = 0; i < n; i++) {
        if (i > 0) put(l, ", ");
        const struct visible *v = &s->tables[dice(l, s->n)];
        if (v->table == 0 && one_in(l, 5)) buf_printf(&l->sql, "%c.body as x%zu", v->alias, i);
        else if (one_in(l, 4)) put_expr(l, s, (enum dice_kind)dice(l, DICE_KINDS), 2), buf_printf(&l->sql, " as x%zu", i);
        else buf_printf(&l->sql, "%c.c%zu as x%zu", v->alias, dice(l, l->tables[v->table].columns), i);
    }
}

// A few values of one column, an array of them, or whether there are any: of the rows of another table that name this one's.
static void put_nested(struct query_dice *l, const struct scope *s)
{
    struct scope inner = within(l, s);
    const struct visible *own = &inner.tables[inner.n - 1], *out = &s->tables[dice(l, s->n)];
    switch (dice(l, 4)) {
    case 0: buf_printf(&l->sql, "array(select %c.c1 from t%zu %c where %c.c0 = %c.id order by %c.c1, %c.id)", own->alias, own->table, own->alias, own->alias, out->alias, own->alias, own->alias); return;
    case 1: buf_printf(&l->sql, "(select count(*) from t%zu %c where %c.c0 = %c.id and %c.c1 > %d)", own->table, own->alias, own->alias, out->alias, own->alias, (int)dice(l, 5)); return;
    case 2: buf_printf(&l->sql, "(select %c.c1 from t%zu %c where %c.id = %c.c0)", own->alias, own->table, own->alias, own->alias, out->alias); return;
    default: buf_printf(&l->sql, "exists (select 1 from t%zu %c where %c.c0 = %c.%s and %c.c1 < %d)", own->table, own->alias, own->alias, out->alias, one_in(l, 2) ? "id" : "c0", own->alias, (int)dice(l, 7));
    }
}

static void put_usual_where(struct query_dice *l, const struct scope *s)
{
    const struct visible *v = &s->tables[dice(l, s->n)];
    put(l, " where ");
    switch (dice(l, 6)) {
    case 0: buf_printf(&l->sql, "%c.c1 = %d", v->alias, (int)dice(l, 6)); break;
    case 1: buf_printf(&l->sql, "%c.c1 > %d", v->alias, (int)dice(l, 5) - 1); break;
    case 2: buf_printf(&l->sql, "(%c.c1 in (0, 3, %d) or %c.c1 is null)", v->alias, (int)dice(l, 6), v->alias); break;
    case 3:
        if (one_in(l, 2)) put(l, "not ");
        buf_printf(&l->sql, "exists (select 1 from t%zu e where e.c0 = %c.id)", dice(l, DICE_TABLES), v->alias);
        break;
    case 4: buf_printf(&l->sql, "%c.c1 %sin (select e.c1 from t%zu e where e.c1 > %d)", v->alias, one_in(l, 3) ? "not " : "", dice(l, DICE_TABLES), (int)dice(l, 4)); break;
    default: put_expr(l, s, DICE_BOOL, 2);
    }
    if (!one_in(l, 3)) return;
    put(l, one_in(l, 2) ? " and " : " or ");
    put_expr(l, s, DICE_BOOL, 1);
}

static struct scope put_usual_from(struct query_dice *l, size_t n)
{
    struct scope s = {.n = 0};
    put(l, " from ");
    for (size_t i = 0; i < n; i++) {
        if (i > 0) put(l, one_in(l, 3) ? " left join " : " join ");
        s.tables[s.n] = (struct visible){.alias = (char)('w' + i), .table = dice(l, DICE_TABLES)};
        buf_printf(&l->sql, "t%zu %c", s.tables[s.n].table, s.tables[s.n].alias);
        if (i > 0) buf_printf(&l->sql, one_in(l, 2) ? " on %c.c0 = %c.id" : " on %c.id = %c.c0", s.tables[dice(l, i)].alias, s.tables[i].alias);
        s.n++;
        if (i == 0 || !one_in(l, 4)) continue;
        put(l, " and ");
        put_expr(l, &s, DICE_BOOL, 1);
    }
    return s;
}

static void put_some_order(struct query_dice *l, const struct scope *s, bool *ordered, bool *total)
{
    *ordered = one_in(l, 2);
    *total = true;
    for (size_t i = 0, n = 1 + dice(l, 2); *ordered && i < n; i++) {
        const struct visible *v = &s->tables[dice(l, s->n)];
        buf_printf(&l->sql, "%s%c.c%zu%s", i == 0 ? " order by " : ", ", v->alias, dice(l, l->tables[v->table].columns), (const char *const[]){"", " desc", " nulls first", " desc nulls last"}[dice(l, 4)]);
    }
    if (!one_in(l, 3)) return;
    *total = s->n == 1; // rows of one table come by id
    buf_printf(&l->sql, " limit %d", (int)dice(l, 8));
    if (one_in(l, 3)) buf_printf(&l->sql, " offset %d", (int)dice(l, 5));
}

static void put_usual_rows(struct query_dice *l, bool *ordered, bool *total)
{
    struct buf from;
    size_t tables = one_in(l, 2) ? 1 : 2 + dice(l, 2);
    buf_init(&from, 64 * KIB);
    struct scope s = put_usual_from(l, tables);
    if (!one_in(l, 3)) put_usual_where(l, &s);
    buf_put_span(&from, buf_span(&l->sql));
    buf_clear(&l->sql);
    put(l, "select ");
    put_targets(l, &s);
    if (one_in(l, 3)) put(l, ", "), put_nested(l, &s), put(l, " as y");
    buf_put_span(&l->sql, buf_span(&from));
    put_some_order(l, &s, ordered, total);
    buf_free(&from);
}

// Order and limit of a grouped or distinct list of `n` columns, by some of them.
static void put_list_order(struct query_dice *l, size_t n, bool *ordered, bool *total)
{
    size_t by = dice(l, n + 1);
    *ordered = by > 0;
    for (size_t i = 0; i < by; i++)
        buf_printf(&l->sql, "%s%zu%s", i == 0 ? " order by " : ", ", n - i, one_in(l, 2) ? " desc" : "");
    if (!one_in(l, 3)) return;
    *total = by == n;
    buf_printf(&l->sql, " limit %d", (int)dice(l, 6));
    if (one_in(l, 3)) buf_printf(&l->sql, " offset %d", (int)dice(l, 3));
}

// By what is not shown.
static void put_hidden_order(struct query_dice *l, bool *ordered, bool *total)
{
    put(l, one_in(l, 2) ? " order by count(*) desc" : " order by max(w.c1), sum(w.c1) desc");
    *ordered = true;
    *total = !one_in(l, 3);
    if (!*total) buf_printf(&l->sql, " limit %d", 1 + (int)dice(l, 4));
}

static void put_usual_groups(struct query_dice *l, bool *ordered, bool *total)
{
    static const char *const names[] = {"count(*)", "count(%c.c%zu)", "sum(%c.c1)", "avg(%c.c1)", "min(%c.c%zu)", "max(%c.c%zu)", "count(distinct %c.c%zu)", "sum(distinct %c.c1)"};
    struct buf from;
    size_t groups = dice(l, 3), aggregates = 1 + dice(l, 3);
    bool nested = groups > 0 && one_in(l, 3); // selects within speak of what is grouped by first
    buf_init(&from, 64 * KIB);
    struct scope s = put_usual_from(l, one_in(l, 3) ? 2 : 1);
    if (one_in(l, 2)) put_usual_where(l, &s);
    buf_put_span(&from, buf_span(&l->sql));
    buf_clear(&l->sql);
    put(l, "select ");
    for (size_t i = 0; i < groups; i++) {
        const struct visible *v = &s.tables[dice(l, s.n)];
        buf_printf(&from, "%s%zu", i > 0 ? ", " : " group by ", i + 1);
        if (nested && i == 0) put(l, "w.c0 as x0, ");
        else buf_printf(&l->sql, "%c.c%zu as x%zu, ", v->alias, dice(l, l->tables[v->table].columns), i);
    }
    for (size_t i = 0; i < aggregates; i++) {
        const struct visible *v = &s.tables[dice(l, s.n)];
        size_t which = dice(l, 8), column = dice(l, l->tables[v->table].columns);
        if ((which == 4 || which == 5) && l->tables[v->table].kinds[column] == DICE_BOOL) column = 1;
        if (i > 0) put(l, ", ");
        buf_printf(&l->sql, names[which], v->alias, column);
        buf_printf(&l->sql, " as x%zu", groups + i);
    }
    bool shows_nested = nested ? one_in(l, 2) : one_in(l, 6);
    if (shows_nested) buf_printf(&l->sql, ", (select count(*) from t%zu v where %s) as x%zu", dice(l, DICE_TABLES), nested ? "v.c0 = w.c0" : "v.c1 > 2", groups + aggregates);
    buf_put_span(&l->sql, buf_span(&from));
    if (nested && one_in(l, 2)) buf_printf(&l->sql, " having %sexists (select 1 from t%zu v where v.id = w.c0 and v.c1 <> 3)", one_in(l, 2) ? "not " : "", dice(l, DICE_TABLES));
    else if (groups > 0 && one_in(l, 3)) put(l, one_in(l, 2) ? " having count(*) > 1" : " having min(w.c1) < 3");
    if (groups > 0 && one_in(l, 4)) put_hidden_order(l, ordered, total);
    else put_list_order(l, groups + aggregates + shows_nested, ordered, total);
    buf_free(&from);
}

static void put_usual_distinct(struct query_dice *l, bool *ordered, bool *total)
{
    struct buf from;
    size_t n = 1 + dice(l, 2);
    buf_init(&from, 64 * KIB);
    struct scope s = put_usual_from(l, one_in(l, 3) ? 2 : 1);
    if (one_in(l, 2)) put_usual_where(l, &s);
    buf_put_span(&from, buf_span(&l->sql));
    buf_clear(&l->sql);
    put(l, "select distinct ");
    for (size_t i = 0; i < n; i++) {
        const struct visible *v = &s.tables[dice(l, s.n)];
        buf_printf(&l->sql, "%s%c.c%zu as x%zu", i > 0 ? ", " : "", v->alias, dice(l, l->tables[v->table].columns), i);
    }
    buf_put_span(&l->sql, buf_span(&from));
    put_list_order(l, n, ordered, total);
    buf_free(&from);
}

void dice_make_live_query(struct query_dice *l, bool *ordered, bool *total)
{
    uint64_t shape = dice(l, 10);
    *total = true;
    if (shape < 4) {
        dice_make_query(l, ordered);
        return;
    }
    buf_clear(&l->sql);
    l->depth = 0;
    if (shape < 7) put_usual_rows(l, ordered, total);
    else if (shape < 9) put_usual_groups(l, ordered, total);
    else put_usual_distinct(l, ordered, total);
    buf_put_u8(&l->sql, 0);
    assert(l->sql.err == 0);
}
