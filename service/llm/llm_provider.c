// Providers as they are configured, and calls to them.
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "err.h"
#include "file.h"
#include "llm_impl.h"

#define KEY_MAX (4 * KIB)
#define FAREWELL_MS 10000
#define URL_MAX 4096

// ---- keys -----------------------------------------------------------------------------------------------------------

static int check_key(const struct option_provider *o, struct span key, struct problem *p)
{
    for (size_t i = 0; i < key.n; i++)
        if (key.p[i] <= ' ' || key.p[i] > '~') return problem_set(p, ERR_USAGE, -1, "the provider %s: %s is not a key", o->name, o->key_env);
    return key.n > 0 ? 0 : problem_set(p, ERR_USAGE, -1, "the provider %s: the key in %s is empty", o->name, o->key_env);
}

// A name with a slash is a file, whose white space at the end is not the key's.
static int load_key(struct llm_provider *provider, const struct option_provider *o, struct problem *p)
{
    struct buf file;
    const char *value = NULL;
    int err = 0;
    buf_init(&file, KEY_MAX);
    if (strchr(o->key_env, '/') != NULL) {
        err = file_slurp(&file, o->key_env);
        while (file.n > 0 && file.p[file.n - 1] <= ' ')
            file.n--;
        buf_put_u8(&file, 0);
        if (err != 0 || file.err != 0)
            err = problem_set(p, ERR_USAGE, -1, "the provider %s needs its key: the file %s cannot be read", o->name, o->key_env);
        else
            value = (const char *)file.p;
    } else if (o->key_env[0] != '\0') {
        value = getenv(o->key_env);
        if (value == NULL) err = problem_set(p, ERR_USAGE, -1, "the provider %s needs its key in the environment: %s is not set", o->name, o->key_env);
    }
    if (err == 0 && value != NULL) err = check_key(o, SPAN_STR(value), p);
    if (err == 0 && value != NULL && (provider->key = strdup(value)) == NULL) err = problem_set(p, ERR_NOMEM, -1, "no memory");
    if (file.p != NULL) explicit_bzero(file.p, file.cap);
    buf_free(&file);
    return err;
}

int llm_provider_add(struct llm *l, const struct option_provider *o, struct problem *p)
{
    struct llm_provider *provider = &l->providers[l->provider_count];
    size_t n = strlen(o->url);
    while (n > 0 && o->url[n - 1] == '/')
        n--;
    l->provider_count++;
    provider->base = strndup(o->url, n);
    if (provider->base == NULL) return problem_set(p, ERR_NOMEM, -1, "no memory");
    memcpy(provider->name, o->name, strlen(o->name) + 1);
    provider->api = o->api;
    return load_key(provider, o, p);
}

void llm_providers_free(struct llm *l)
{
    for (size_t i = 0; i < l->provider_count; i++) {
        if (l->providers[i].key != NULL) explicit_bzero(l->providers[i].key, strlen(l->providers[i].key));
        free(l->providers[i].key);
        free(l->providers[i].base);
    }
}

const struct llm_provider *llm_provider_find(const struct llm *l, struct span name)
{
    for (size_t i = 0; i < l->provider_count; i++)
        if (name.n == 0 || span_is(name, l->providers[i].name)) return &l->providers[i];
    return NULL;
}

const char *llm_provider(const struct llm *l, struct span name, enum llm_api *api)
{
    const struct llm_provider *provider = llm_provider_find(l, name);
    if (provider != NULL && api != NULL) *api = provider->api;
    return provider != NULL ? provider->name : NULL;
}

#define KEY_HIDDEN_MIN 8 // shorter ones are words

// A provider that repeats what it was asked with must not put its key into a stream, a row or an answer.
void llm_key_hide(const struct llm_provider *provider, uint8_t *text, size_t n)
{
    size_t key = provider != NULL && provider->key != NULL ? strlen(provider->key) : 0;
    if (key < KEY_HIDDEN_MIN) return;
    for (uint8_t *at; n >= key && (at = memmem(text, n, provider->key, key)) != NULL;) {
        memset(at, '*', key);
        n -= (size_t)(at - text) + key;
        text = at + key;
    }
}

void llm_hide_key(const struct llm *l, struct span provider, struct buf *text)
{
    llm_key_hide(llm_provider_find(l, provider), text->p, text->n);
}

// ---- calls ----------------------------------------------------------------------------------------------------------

// One of the caller's own stands for ours.
static bool is_given(const struct call_options *options, const char *name)
{
    for (size_t i = 0; i < options->header_count; i++)
        if (strncasecmp(options->headers[i], name, strlen(name)) == 0) return true;
    return false;
}

int llm_provider_call(struct call **out, struct llm *l, const struct llm_provider *provider, const char *path, enum llm_api api,
                      struct call_options *options)
{
    struct buf key;
    char url[URL_MAX];
    const char *headers[5 + LLM_MORE_HEADERS_MAX] = {"User-Agent: segued"};
    size_t n = 1;
    assert(options->header_count <= LLM_MORE_HEADERS_MAX);
    if (snprintf(url, sizeof url, "%s%s", provider->base, path) >= (int)sizeof url) return ERR_TOO_LARGE;
    buf_init(&key, 2 * KEY_MAX);
    if (!is_given(options, "accept:")) headers[n++] = "Accept: text/event-stream";
    if (options->body.n > 0) headers[n++] = "Content-Type: application/json";
    if (api == LLM_MESSAGES && !is_given(options, "anthropic-version:")) headers[n++] = "anthropic-version: 2023-06-01";
    if (provider->key != NULL) {
        buf_printf(&key, api == LLM_MESSAGES ? "x-api-key: %s" : "Authorization: Bearer %s", provider->key);
        buf_put_u8(&key, 0);
        headers[n++] = (const char *)key.p;
    }
    for (size_t i = 0; i < options->header_count; i++)
        headers[n++] = options->headers[i];
    options->url = url;
    options->headers = headers;
    options->header_count = n;
    int err = key.err == 0 ? call_new(out, server_calls(l->server), options) : key.err;
    if (key.p != NULL) explicit_bzero(key.p, key.n);
    buf_free(&key);
    return err;
}

int llm_call(struct call **out, struct llm *l, struct span name, const char *path, struct call_options *options)
{
    const struct llm_provider *provider = llm_provider_find(l, name);
    if (provider == NULL) return ERR_NO_SUCH_PROVIDER;
    options->times = l->times;
    return llm_provider_call(out, l, provider, path, provider->api, options);
}

static void farewell_free(struct llm_farewell *f)
{
    struct llm_farewell **place = &f->llm->farewells;
    while (*place != f)
        place = &(*place)->next;
    *place = f->next;
    if (f->job != NULL) f->job->farewell = NULL;
    call_free(f->call);
    free(f);
}

static void farewell_ended(void *ctx, const struct call_end *end)
{
    struct llm_farewell *f = ctx;
    struct llm_job *j = f->job;
    (void)end;
    farewell_free(f);
    if (j != NULL) llm_job_tick(j);
}

void llm_farewell(struct llm_job *j)
{
    const char *id = llm_parser_reply(j->parser)->id;
    struct llm_farewell *f = calloc(1, sizeof *f);
    char path[LLM_WORD_MAX + 40];
    if (f == NULL) return;
    snprintf(path, sizeof path, "/responses/%s/cancel", id);
    f->llm = j->llm;
    f->job = j;
    j->farewell = f;
    f->next = j->llm->farewells;
    j->llm->farewells = f;
    struct call_options options = {.method = "POST",
                                   .times = {j->llm->times.connect_ms, FAREWELL_MS, FAREWELL_MS, 2 * FAREWELL_MS},
                                   .ctx = f,
                                   .ended = farewell_ended};
    if (llm_provider_call(&f->call, j->llm, j->provider, path, LLM_RESPONSES, &options) != 0 || call_start(f->call) != 0) farewell_free(f);
}

void llm_farewells_free(struct llm *l)
{
    while (l->farewells != NULL)
        farewell_free(l->farewells);
}
