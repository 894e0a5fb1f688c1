/*
 * Where AWS's services of credentials are asked. Private to auth/aws/. Pure.
 *
 * What is sent there, and what comes back, is worth stealing. So plain http is for this machine
 * only, and for the addresses of the metadata services, which no router leads elsewhere.
 */
#ifndef AUTH_AWS_ENDPOINT_H
#define AUTH_AWS_ENDPOINT_H

#include <stdbool.h>
#include "base/error.h"
#include "client/origin.h"

enum { AWS_BASE_SIZE = 320 };

/* Reads the URL of an endpoint that `name` gives ("AWS_ENDPOINT_URL_STS"). `hosts`: which may be
 * asked by http beside this machine; NULL-terminated. *is_local: it is one of them, or this
 * machine, and is asked without a proxy. False: ERROR_INVALID, which names `name`. */
bool aws_endpoint_read(const char *url, const char *name, const char *const *hosts,
                       struct origin *origin, bool *is_local, struct error *error);

/* The same for a URL without path, query and fragment; `base` gets it without a final slash. */
bool aws_endpoint_base(const char *url, const char *name, const char *const *hosts,
                       char base[static AWS_BASE_SIZE], bool *is_local, struct error *error);

#endif
