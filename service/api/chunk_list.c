#include "chunk_list.h"

#include "err.h"
#include "json_read.h"

static int hash_of(const struct jr *text, struct sha256 *out)
{
    return jr_type(text) == JR_STRING && hex_parse(out->b, SHA256_BYTES, jr_str(text)) == 0 ? 0 : ERR_BAD_VALUE;
}

// All but the last have at least the least length: so the number of chunks, and what is kept of each, is bounded by the size.
static int add_chunk(struct chunk_list *out, const struct jr *pair, bool last, uint64_t *sum)
{
    struct sha256 sha;
    int64_t length = jr_type(jr_at(pair, 1)) == JR_INT ? jr_int(jr_at(pair, 1), 0) : 0;
    if (jr_count(pair) != 2 || hash_of(jr_at(pair, 0), &sha) != 0) return ERR_BAD_VALUE;
    if (length < (last ? 1 : (int64_t)BLOB_CHUNK_MIN) || length > (int64_t)BLOB_CHUNK_MAX) return ERR_BAD_VALUE;
    buf_put(&out->chunks, sha.b, SHA256_BYTES);
    buf_put_u32(&out->chunks, (uint32_t)length);
    *sum += (uint64_t)length;
    return out->chunks.err;
}

static int read_list(struct chunk_list *out, const struct jr *root, struct problem *p)
{
    const struct jr *chunks = jr_get(root, "chunks"), *size = jr_get(root, "size"), *type = jr_get(root, "type");
    uint64_t sum = 0;
    if (jr_type(chunks) != JR_ARRAY || jr_type(size) != JR_INT) return problem_set(p, ERR_BAD_VALUE, -1, "size and chunks are needed");
    if (jr_int(size, -1) < 0 || (uint64_t)jr_int(size, -1) > BLOB_BYTES_MAX)
        return problem_set(p, ERR_TOO_LARGE, -1, "a blob may have %llu bytes", (unsigned long long)BLOB_BYTES_MAX);
    if (jr_str(type).n > STREAM_TYPE_MAX) return problem_set(p, ERR_BAD_VALUE, -1, "a content type has at most %d bytes", STREAM_TYPE_MAX);
    if (jr_str(type).n > 0) memcpy(out->type, jr_str(type).p, jr_str(type).n);
    out->type[jr_str(type).n] = 0;
    out->size = (uint64_t)jr_int(size, -1);
    for (size_t i = 0; i < jr_count(chunks); i++) {
        int err = add_chunk(out, jr_at(chunks, i), i + 1 == jr_count(chunks), &sum);
        if (err != 0) return problem_set(p, err, -1, "chunk %zu is not a hash and a length of %u to %u bytes, the last one's from 1 on", i, BLOB_CHUNK_MIN, BLOB_CHUNK_MAX);
    }
    return sum == out->size ? 0 : problem_set(p, ERR_BAD_VALUE, -1, "the chunks have %llu bytes together", (unsigned long long)sum);
}

#define PAIR_BYTES_MIN (SHA256_HEX + 7) // ["…",n],
#define MARKS_ELSEWHERE 1024            // in what is no chunk

// A list of many megabytes that has nothing but commas would be a tree of a gigabyte: a chunk has three of these marks, and is not short.
static bool is_sparse(struct span text)
{
    size_t marks = 0;
    for (size_t i = 0; i < text.n; i++)
        marks += text.p[i] == ',' || text.p[i] == '[' || text.p[i] == '{';
    return marks <= text.n / PAIR_BYTES_MIN * 3 + MARKS_ELSEWHERE;
}

int chunk_list_parse(struct chunk_list *out, struct span text, struct problem *p)
{
    struct jr_tree *tree;
    if (!is_sparse(text)) return problem_set(p, ERR_BAD_VALUE, -1, "the list has more values than the chunks of its length would have");
    int err = jr_parse(&tree, text, p);
    if (err != 0) return err;
    err = read_list(out, jr_root(tree), p);
    jr_free(tree);
    return err;
}

static int read_names(struct buf *out, const struct jr *root, struct problem *p)
{
    const struct jr *chunks = jr_get(root, "chunks");
    if (jr_type(chunks) != JR_ARRAY) return problem_set(p, ERR_BAD_VALUE, -1, "chunks are needed");
    if (jr_count(chunks) > CHUNKS_ASK_MAX) return problem_set(p, ERR_TOO_LARGE, -1, "at most %d are asked about at once", CHUNKS_ASK_MAX);
    for (size_t i = 0; i < jr_count(chunks); i++) {
        struct sha256 sha;
        if (hash_of(jr_at(chunks, i), &sha) != 0) return problem_set(p, ERR_BAD_VALUE, -1, "chunk %zu is no SHA-256 in hexadecimal", i);
        buf_put(out, sha.b, SHA256_BYTES);
    }
    return out->err;
}

int chunk_names_parse(struct buf *out, struct span text, struct problem *p)
{
    struct jr_tree *tree;
    int err = jr_parse(&tree, text, p);
    if (err != 0) return err;
    err = read_names(out, jr_root(tree), p);
    jr_free(tree);
    return err;
}
