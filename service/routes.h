// Which path is whose: the one table of all paths and methods, and the doors in front of them.
#ifndef SEGUE_ROUTES_H
#define SEGUE_ROUTES_H

#include "http.h"

// Finds the handler, identifies who asks, and asks whether they may. Sets r->handler, r->app, r->path, r->identity, or replies.
void routes_dispatch(struct request *r);
// The app that a raw path names, by which a request's loop is found; empty: none.
struct span routes_app(struct span path);

#endif
