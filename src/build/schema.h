/*
 * A Cloud Build file (cloudbuild.yaml or .json) as the Build message of the API (Cloud Build REST
 * reference, projects.builds), with each unknown key and each wrong value told by its place.
 *
 * Keys may be written in camelCase or snake_case. `source` and what the service itself fills in are
 * refused. A string may be written as any scalar. JSON is read as the YAML that it is.
 *
 * Pure; any thread.
 */
#ifndef BUILD_SCHEMA_H
#define BUILD_SCHEMA_H

#include <jansson.h>
#include "base/error.h"
#include "base/text.h"

/* The message; the caller's to json_decref(). NULL: ERROR_INVALID, "FILE:LINE:COLUMN: KEY: …", or
 * ERROR_MEMORY. `name` is the file's, for the error. */
json_t *schema_read(struct text bytes, const char *name, struct error *error);

#endif
