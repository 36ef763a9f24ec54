#include "bug.h"

#ifdef SEGUE_BUGS

#include <stdlib.h>
#include <string.h>

bool bug(const char *name)
{
    const char *planted = getenv("SEGUE_BUG");
    return planted != NULL && strcmp(planted, name) == 0;
}

#endif
