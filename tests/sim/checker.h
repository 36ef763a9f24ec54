// Judges a history: could its transactions have run one after the other, in an order that real time allows? That is strict
// serialisability, found as Elle does (Kingsbury and Alvaro, 2020): what clients saw says who came before whom, and such an order exists just if
// "came before" has no cycle.
//
//      ww  wrote over what another wrote          process   is the same client's next one
//      wr  saw what another wrote                 time      began after another had ended
//      rw  saw what another wrote over
//
// A cycle is named by what it is made of; the weakest name that fits is given, so one cause is not reported under many names.
#ifndef SEGUE_TEST_CHECKER_H
#define SEGUE_TEST_CHECKER_H

#include "history.h"

enum anomaly {
    ANOMALY_DIRTY_WRITE,       // G0: ww alone
    ANOMALY_ABORTED_READ,      // G1a: saw what an aborted one wrote
    ANOMALY_INTERMEDIATE_READ, // G1b: saw what its writer wrote over itself
    ANOMALY_CIRCULAR_READS,    // G1c: ww and wr
    ANOMALY_LOST_UPDATE,       // two saw one value, and both wrote over it
    ANOMALY_READ_SKEW,         // G-single: one rw among them
    ANOMALY_WRITE_SKEW,        // G2: several rw
    ANOMALY_PHANTOM,           // G2 or G-single, and one of the rw is about something that a search did not find
    ANOMALY_REAL_TIME,         // only with process and time
    ANOMALY_TORN_ORDER,        // two reads of one list in which neither is the beginning of the other
    ANOMALY_DOUBLE,            // a value that was written once is there twice
    ANOMALY_GARBAGE,           // a value that nobody wrote
    ANOMALIES,
};

#define FINDING_MAX 600

struct verdict {
    unsigned found[ANOMALIES];            // how many
    char first[ANOMALIES][FINDING_MAX];   // the first of each, in words
};

const char *anomaly_name(enum anomaly a);
void verdict_add(struct verdict *v, enum anomaly a, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
// True: nothing was found. *v need not be initialised.
bool history_check(const struct history *h, struct verdict *v);

#endif
