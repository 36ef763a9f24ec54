// What the daemon counts, as Prometheus' text format.
#ifndef SEGUE_METRICS_H
#define SEGUE_METRICS_H

#include "buf.h"

struct server;

void metrics_write(struct buf *out, struct server *s);

#endif
