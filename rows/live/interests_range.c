#include "interests_range.h"

#include <assert.h>
#include <stddef.h>

static bool before(const struct range *a, const struct range *b)
{
    return a->low != b->low ? a->low < b->low : (uintptr_t)a < (uintptr_t)b;
}

static void renew(struct range *n)
{
    n->greatest = n->high;
    if (n->left && n->left->greatest > n->greatest) n->greatest = n->left->greatest;
    if (n->right && n->right->greatest > n->greatest) n->greatest = n->right->greatest;
}

// Into those before `n` and those behind it. As deep as the tree is: some four times the logarithm of its size, but for a chance too small to meet.
static void split(struct range *t, const struct range *n, struct range **left, struct range **right)
{
    if (!t) {
        *left = *right = NULL;
        return;
    }
    if (before(t, n)) {
        split(t->right, n, &t->right, right);
        *left = t;
    } else {
        split(t->left, n, left, &t->left);
        *right = t;
    }
    renew(t);
}

// All of `left` stand before all of `right`.
static struct range *join(struct range *left, struct range *right)
{
    if (!left) return right;
    if (!right) return left;
    struct range *top = left->weight >= right->weight ? left : right;
    if (top == left) left->right = join(left->right, right);
    else right->left = join(left, right->left);
    renew(top);
    return top;
}

void range_insert(struct range **root, struct range *n, uint64_t weight)
{
    n->weight = weight;
    while (*root && (*root)->weight >= weight) {
        if (n->high > (*root)->greatest) (*root)->greatest = n->high;
        root = before(n, *root) ? &(*root)->left : &(*root)->right;
    }
    split(*root, n, &n->left, &n->right);
    renew(n);
    *root = n;
}

static void remove_from(struct range **at, struct range *n)
{
    struct range *t = *at;
    assert(t);
    if (t == n) {
        *at = join(n->left, n->right);
        return;
    }
    remove_from(before(n, t) ? &t->left : &t->right, n);
    renew(t);
}

void range_remove(struct range **root, struct range *n)
{
    remove_from(root, n);
    n->left = n->right = NULL;
}

void range_find(struct range *t, range_point point, void (*found)(void *ctx, struct range *n), void *ctx)
{
    for (; t && t->greatest >= point; t = t->right) {
        range_find(t->left, point, found, ctx);
        if (t->low > point) return; // as all behind it
        if (t->high >= point) found(ctx, t);
    }
}
