// Temporary folders for tests.
#ifndef SEGUE_TMP_H
#define SEGUE_TMP_H

// Makes an empty folder under $TMPDIR, or /tmp. Ends the program if it cannot. Free it by tmp_remove.
char *tmp_make(void);

// Removes the folder and all in it, and frees the path.
void tmp_remove(char *path);

// "<folder>/<name>"; the caller frees it.
char *tmp_path(const char *folder, const char *name);

#endif
