// The requests of a resumable upload (tus; PROTOCOL.md, section 10) that those who move it forward by bytes and by chunks share.
#ifndef SEGUE_C_TUS_H
#define SEGUE_C_TUS_H

#include "client.h"
#include "source.h"
#include "uuid.h"

#define TUS "Tus-Resumable: 1.0.0"

struct tus {
    char id[UUID_TEXT + 1]; // empty: none yet
    uint64_t offset;        // that the service has
};

// All give what a call gives.
int tus_create(struct segue *s, const struct segue_put_options *what, const struct source *source, struct tus *t);
// Where it is. One that is gone, or is of another content, loses its id.
int tus_locate(struct segue *s, const struct source *source, struct tus *t);
// Deletes it, whatever the service says to that: nobody is to go on with it.
void tus_drop(struct segue *s, struct tus *t);

void tus_path(const struct tus *t, char path[64]);
// The number in the last answer's Upload-Offset; false where there is none.
bool tus_take_offset(const struct segue *s, struct tus *t);
int tus_malformed(struct segue *s); // the last answer
// How a call ends whose upload has all of its bytes: SEGUE_OK where the last answer names this blob.
int tus_end(struct segue *s, const struct source *source, struct tus *t, const char hex[SHA256_HEX]);

#endif
