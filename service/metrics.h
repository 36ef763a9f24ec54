// What the daemon counts, as Prometheus' text format.
#ifndef SEGUE_METRICS_H
#define SEGUE_METRICS_H

#include "buf.h"

struct survey;

void metrics_write(struct buf *out, const struct survey *survey, uint64_t uptime_ms);

#endif
