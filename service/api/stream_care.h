// Looks after the streams of one app that expire: what is read lives longer, what nobody wants is deleted.
//
//      a read ─> noted in memory ─> (soon, or before the next write to a stream) one BATCH_TOUCH for all that was noted
//      a tick ─> followed streams are noted before they would expire, those past their deadline go by BATCH_EXPIRE
//
// So reading writes nothing by itself. A kill loses the notes of the last moments: a stream may then end that much earlier than it should.
// A stream past its deadline is taken for absent at once (stream_care_past), whether it is deleted already or not.
#ifndef SEGUE_STREAM_CARE_H
#define SEGUE_STREAM_CARE_H

#include "app.h"

struct care_flush;

#define CARE_NOTES_MAX 256   // that wait for their batch
#define CARE_FLUSHES_MAX 64  // batches under way; beyond, reads are no longer noted

struct care_note {
    uint64_t number, access_ms;
};

struct stream_care {
    struct app *app;
    struct care_note notes[CARE_NOTES_MAX];
    size_t count;
    struct care_flush *flushes; // not answered yet, newest first
    size_t flush_count;
    struct stream_due ahead; // where the look at those that expire soon stands
    bool expiring;           // a BATCH_EXPIRE is under way
    bool more;               // the last tick left something
};

void stream_care_init(struct stream_care *c, struct app *a);

// The stream was read just now. Nothing for one without a TTL.
void stream_care_note(struct stream_care *c, const struct stream_info *info, uint64_t now_ms);
// Submits what was noted: before any batch that writes to streams, so that it is judged by all reads before it.
void stream_care_flush(struct stream_care *c);
// Has its deadline come, all notes considered?
bool stream_care_past(const struct stream_care *c, const struct stream_info *info, uint64_t now_ms);
// Call with the app's own tick. Does a bounded share of what is due …
void stream_care_tick(struct stream_care *c, uint64_t now_ms);
// … and wants the next one soon, if there is more.
bool stream_care_busy(const struct stream_care *c);

#endif
