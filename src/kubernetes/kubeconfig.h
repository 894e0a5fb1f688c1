/*
 * Kubeconfig files: which cluster is meant, how it is trusted, and as whom it is asked.
 *
 * The rules are those of client-go (tools/clientcmd): of several files the first that mentions a
 * name decides, the first `current-context` counts, and a relative path belongs to the folder of
 * its file. Only the current context, its cluster and its user are checked. Pure; any thread.
 */
#ifndef KUBERNETES_KUBECONFIG_H
#define KUBERNETES_KUBECONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include "base/error.h"
#include "base/text.h"

/* A program that prints a credential (client.authentication.k8s.io). */
struct kubeconfig_exec {
    char *command;           /* NULL: there is none */
    char **arguments;        /* `command` first; NULL-terminated */
    char **variables;        /* "NAME=VALUE"; NULL-terminated */
    char *version;           /* "client.authentication.k8s.io/v1" or …/v1beta1 */
    char *hint;              /* how to install it; may be NULL */
    bool wants_cluster;      /* provideClusterInfo */
    json_t *cluster_options; /* the cluster's extension for such programs; may be NULL */
};

/* A cluster and a user. All members are owned; each may be NULL. Data are PEM, decoded. */
struct kubeconfig {
    char *context, *user, *namespace;
    char *server; /* https, or http to this machine; without a slash at the end */
    char *authority_file, *authority_data;
    char *server_name; /* tls-server-name */
    bool insecure;
    char *proxy;
    char *token, *token_file;
    char *certificate_file, *certificate_data;
    char *key_file, *key_data;
    char *username, *password;
    struct kubeconfig_exec exec;
};
void kubeconfig_wipe(struct kubeconfig *config); /* wipes, frees, zeroes; safe on zeroed */

#define cleanup_kubeconfig __attribute__((cleanup(kubeconfig_wipe)))

struct kubeconfig_file {
    const char *path; /* absolute, or relative to the working folder */
    struct text bytes;
};

/* Reads the current context of the files. False: ERROR_INVALID with file and line, or ERROR_MEMORY.
 * No value of a file enters the error. */
bool kubeconfig_read(const struct kubeconfig_file *files, size_t count, struct kubeconfig *out,
                     struct error *error);

/* Whether a server may be asked: an https URL, or an http URL of this machine, without a query. */
bool kubeconfig_check_server(const char *server, struct error *error);

#endif
