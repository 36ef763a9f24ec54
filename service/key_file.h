// A secret of the service in a file of its own: one line of 64 hexadecimal digits, mode 0600, made when it is missing.
#ifndef SEGUE_KEY_FILE_H
#define SEGUE_KEY_FILE_H

#include "problem.h"

#include <stdint.h>

#define KEY_FILE_BYTES 32

// The key in <folder>/<name>; `what` says in a log what it is for ("signs webhooks"). ERR_USAGE: the file is there and is something else; ERR_IO, ERR_NO_SPACE, ERR_NOMEM.
int key_file_load(const char *folder, const char *name, const char *what, uint8_t key[KEY_FILE_BYTES], struct problem *p);

#endif
