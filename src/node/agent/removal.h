/*
 * Removes what was written to mounts that are gone: folders in ROOT/writable, with all that is in
 * them, however deep. Private to agent/; any thread.
 */
#ifndef NODE_AGENT_REMOVAL_H
#define NODE_AGENT_REMOVAL_H

/* Removes ROOT/writable/LAYER. What cannot be removed is removed at the next start. */
void removal_of_layer(const char *root, const char *layer);
/* Removes all folders of ROOT/writable but these (NULL-terminated). */
void removal_of_others(const char *root, const char *const *layers);

#endif
