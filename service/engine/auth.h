// Who asks, and the one question that guards every door.
#ifndef SEGUE_AUTH_H
#define SEGUE_AUTH_H

#include "problem.h"
#include "span.h"

struct auth;

enum identity_kind { IDENTITY_NOBODY, IDENTITY_ANONYMOUS_DEV, IDENTITY_ADMIN };

// Goes into journal entries as one byte and a name; the name is for authorship.
struct identity {
    enum identity_kind kind;
    char name[64]; // "admin", "dev"; empty for nobody
};

enum verb { MAY_READ_APP, MAY_WRITE_BATCH, MAY_PUBLISH_SCHEMA, MAY_QUERY, MAY_SUBSCRIBE, MAY_READ_STREAM, MAY_READ_BLOB, MAY_UPLOAD, MAY_READ_METRICS, MAY_CALL_LLM, MAY_CONTROL_SUBSCRIPTIONS, MAY_CLAIM_WAKES, MAY_CARE_FOR_BLOBS, MAY_MANAGE_APPS };

// The identity as the journal keeps it: by its kind alone.
struct identity identity_of(enum identity_kind kind);

struct auth_options {
    bool dev;         // everybody may do everything
    const char *path; // the data folder: the admin key is in <path>/admin.key, mode 0600, made at first start
};

int auth_open(struct auth **out, const struct auth_options *options);
void auth_close(struct auth *a); // NULL is fine

// Who bears this Authorization field ("Bearer <key>"; empty: nobody said). A wrong key is ERR_UNAUTHENTICATED.
int auth_identify(const struct auth *a, struct span authorization, struct identity *out);

// May this identity do that to this object (a path, a table; empty where the whole app is meant)? 0, ERR_UNAUTHENTICATED for nobody, ERR_FORBIDDEN.
int may(const struct auth *a, const struct identity *who, enum verb verb, struct span app, struct span object);

#endif
