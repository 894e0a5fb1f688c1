/* What the tests of a node's files have in common: the folder that stands for the node. */
#ifndef TESTS_NODE_BENCH_H
#define TESTS_NODE_BENCH_H

extern char node[64];

/* Makes the node's folder, and deletes it with all that is in it. 0: it is done. */
int node_make(void);
int node_delete(void);

/* Writes the file at `path` below the node's folder, with the folders on its way; `text` NULL: the
 * folders alone. */
void put(const char *path, const char *text);

#endif
