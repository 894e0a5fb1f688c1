/*
 * The host of a URL, and what is known about a host by its name: whether it is this machine or one
 * of Google's registries, and which patterns match it. Private to config/.
 */
#ifndef CONFIG_HOSTS_H
#define CONFIG_HOSTS_H

#include <stdbool.h>
#include <stddef.h>
#include "base/text.h"

/* Splits an http or https URL into the host with its port and the path after it. */
bool config_url_split(const char *url, struct text *host, struct text *path);

/* Copies the host of a URL without its port. False: there is none, or it does not fit. */
bool config_url_host(const char *url, char *out, size_t size);

bool config_host_is_loopback(const char *host); /* `host` has no port */
bool config_host_is_google(const char *host); /* Artifact Registry, gcr.io, or a pattern of them */
bool config_host_matches(const char *pattern, const char *host);

#endif
