// The machine under a simulation: a clock that goes only when it is told to, randomness from the seed, and a disk that forgets what
// no barrier covered. One in a process.
//
// machine.c defines clock_gettime and getrandom for the whole program, as tests/lib/disk.c does the calls for files; until machine_boot they are
// the real ones. So the engine runs as it is, and nothing that it does can differ between two runs of one seed.
#ifndef SEGUE_TEST_MACHINE_H
#define SEGUE_TEST_MACHINE_H

#include "dice.h"

// Once: the clock stands at its beginning, the disk (in a temporary folder of its own) is empty and recorded.
void machine_boot(uint64_t seed);
// Gives the folder back.
void machine_end(void);

// Microseconds since it was booted.
uint64_t machine_us(void);
void machine_go_to(uint64_t us); // never back
// Sets the wall clock, which the other one knows nothing of, forward or back by so much.
void machine_set_wall(int64_t ms);

// Where files are kept. Another one after each crash.
const char *machine_folder(void);

// What the program does next may be cut off anywhere: remembers this moment.
void machine_mark(void);
// The power goes off now or, with `since_mark`, at some moment since the last mark. Nothing is recorded any more; the program lets go of its files next.
void machine_cut(void);
// What is found when it is back, in a new folder: what was covered by barriers, and of the rest whatever the dice say.
void machine_restore(struct dice *d, bool since_mark);

// Seconds of the real clock: for whoever starts simulations, not for what is in them.
double machine_real_s(void);

#endif
