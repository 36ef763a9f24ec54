// Which addresses a webhook may have. Judged when a subscription is made, for what can be seen in the text; what a name resolves to is
// judged whenever it is called (reach.h).
#ifndef SEGUE_WEBHOOK_URL_H
#define SEGUE_WEBHOOK_URL_H

#include "problem.h"
#include "span.h"

// https, of a public address or a name; with `dev` also http and https of this machine: localhost and 127.0.0.0/8. No user, no
// fragment. ERR_WEBHOOK_URL_REJECTED.
int webhook_url_check(struct span url, bool dev, struct problem *p);

#endif
