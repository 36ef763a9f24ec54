// What an app in a test flies (app.h, "in flight"): done by a real thread while the test waits; or held, so that a test can look at what is between.
#ifndef SEGUE_TEST_FLIGHTS_H
#define SEGUE_TEST_FLIGHTS_H

#include "app.h"

// Everything is flown by a thread of this process's, and has landed when the call that began it returns.
void flights_thread(struct app_options *o);

// Everything is flown, and nothing has begun, until the test calls app_flight_run and app_flight_end.
void flights_hold(struct app_options *o);

#endif
