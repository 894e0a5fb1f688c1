/* Docker's config.json: looking a host up, and reading its entries and what helpers print. */
#include "auth/docker_config.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "base/base64.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/text.h"

/* Docker Hub's names. The first is the one by which Docker stores its entry. */
static const char *const hub_names[] = {DOCKER_HUB_KEY, "index.docker.io", "docker.io",
                                        "registry-1.docker.io", "registry.hub.docker.com"};
enum { HUB_NAMES = sizeof hub_names / sizeof *hub_names };

bool docker_config_is_hub(const char *host) {
    for (size_t i = 1; i < HUB_NAMES; i++) {
        if (strcasecmp(host, hub_names[i]) == 0)
            return true;
    }
    return false;
}

bool docker_config_is_helper_name(const char *name) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789-_.";
    size_t length = strlen(name);
    return length > 0 && length < DOCKER_HELPER_NAME_SIZE && strspn(name, allowed) == length;
}

void docker_config_entry_finish(struct docker_config_entry *entry) {
    credential_wipe(&entry->credential);
    *entry = (struct docker_config_entry){0};
}

/* A key of `auths` without scheme and path, which is how Docker compares it. */
static struct text key_host(const char *key) {
    struct text rest, text = text_of(key);
    if (text_starts(text, "https://"))
        text = text_from(text, 8);
    else if (text_starts(text, "http://"))
        text = text_from(text, 7);
    return text_cut(text, '/', &rest);
}

/* The namespace that a key is for ("org" in "quay.io/org"); empty: the key is for a whole host, as
 * an old "HOST/v1/" and every URL are. */
static struct text key_namespace(const char *key) {
    struct text path;
    text_cut(text_of(key), '/', &path);
    while (path.at && text_ends(path, "/"))
        path.length--;
    bool whole = !path.at || strstr(key, "://") || text_is(path, "v1") || text_is(path, "v2");
    return whole ? (struct text){key, 0} : path;
}

/* The member for `host`: its own key first, then one that differs in scheme, path or case. */
static json_t *find_member(json_t *object, const char *host, bool loosely) {
    json_t *value, *found = json_object_get(object, host);
    const char *key;
    if (found || !loosely)
        return found;
    json_object_foreach (object, key, value) {
        if (text_is_nocase(key_host(key), host) && key_namespace(key).length == 0)
            return value;
    }
    return NULL;
}

static json_t *find_host(json_t *object, const char *host, bool loosely) {
    if (!docker_config_is_hub(host))
        return find_member(object, host, loosely);
    for (size_t i = 0; i < HUB_NAMES; i++) {
        json_t *found = find_member(object, hub_names[i], loosely);
        if (found)
            return found;
    }
    return NULL;
}

static bool take_helper(const json_t *name, const char *member, struct docker_config_entry *out,
                        struct error *error) {
    if (!json_is_string(name) || json_string_length(name) != strlen(json_string_value(name)))
        return error_set(error, ERROR_INVALID, "%s is not the name of a helper", member);
    const char *value = json_string_value(name);
    if (*value == '\0')
        return true;
    if (!docker_config_is_helper_name(value))
        return error_set(error, ERROR_INVALID, "%s: \"%.80s\" cannot be the name of a helper",
                         member, value);
    memcpy(out->helper, value, strlen(value) + 1);
    return true;
}

static bool set_identity(const char *token, struct credential *out, struct error *error) {
    out->kind = CREDENTIAL_IDENTITY_TOKEN;
    out->secret = strdup(token);
    return out->secret || error_set(error, ERROR_MEMORY, "out of memory");
}

static bool set_basic(struct text user, struct text password, struct credential *out,
                      struct error *error) {
    out->kind = CREDENTIAL_BASIC;
    out->username = text_dup(user);
    out->secret = text_dup(password);
    return (out->username && out->secret) || error_set(error, ERROR_MEMORY, "out of memory");
}

/* base64("user:password"). NUL bytes at the end do not belong to the password: some writers add
 * them as padding. */
static bool decode_auth(const char *auth, struct credential *out, struct error *error) {
    size_t length = 0;
    char *plain = base64_decode(text_trim(text_of(auth)), &length);
    if (!plain)
        return error_set(error, ERROR_INVALID, "its \"auth\" is not base64");
    struct text password, user = text_cut((struct text){plain, length}, ':', &password);
    while (password.length && password.at[password.length - 1] == '\0')
        password.length--;
    bool sound = password.at && !memchr(plain, '\0', user.length) &&
                 !memchr(password.at, '\0', password.length);
    bool ok = sound ? set_basic(user, password, out, error)
                    : error_set(error, ERROR_INVALID, "its \"auth\" holds no \"user:password\"");
    explicit_bzero(plain, length);
    free(plain);
    return ok;
}

static bool take_auth(const json_t *entry, struct credential *out, struct error *error) {
    if (!json_is_object(entry))
        return error_set(error, ERROR_INVALID, "it is no object");
    const char *identity = json_member_text(entry, "identitytoken"),
               *auth = json_member_text(entry, "auth");
    if (*identity)
        return set_identity(identity, out, error);
    if (*auth)
        return decode_auth(auth, out, error);
    const char *user = json_member_text(entry, "username"),
               *password = json_member_text(entry, "password");
    if (*user || *password)
        return set_basic(text_of(user), text_of(password), out, error);
    return true; /* {}: by this Docker marks that a helper holds the credential */
}

static bool is_object_or_absent(const json_t *root, const char *name, struct error *error) {
    const json_t *member = json_object_get(root, name);
    return !member || json_is_null(member) || json_is_object(member) ||
           error_set(error, ERROR_INVALID, "\"%s\" is no object", name);
}

/* Whether a key is for the host, or for a part of it. */
static bool is_key_of(const char *key, const char *host) {
    char name[256];
    if (!docker_config_is_hub(host))
        return text_is_nocase(key_host(key), host);
    return text_copy(key_host(key), name, sizeof name) && docker_config_is_hub(name);
}

static void add_namespace(const char *key, const json_t *entry, struct credential_namespaces *out) {
    struct credential credential = {0};
    struct error problem = {0};
    if (!take_auth(entry, &credential, &problem))
        error_wrap(&problem, "entry of %.200s in \"auths\"", key);
    if (credential.kind != CREDENTIAL_ANONYMOUS)
        snprintf(credential.from, sizeof credential.from, "docker config, %.120s", key);
    /* `{}` says that a helper holds the credential, and helpers are asked for whole hosts. */
    if (credential.kind != CREDENTIAL_ANONYMOUS || problem.kind != ERROR_NONE)
        credential_namespaces_add(out, key_namespace(key), &credential, &problem);
    credential_wipe(&credential);
}

void docker_config_find_namespaces(const void *bytes, size_t length, const char *host,
                                   struct credential_namespaces *out) {
    cleanup_json json_t *root = bounded_json_load(bytes, length, NULL);
    if (!json_is_object(root) || find_host(json_object_get(root, "credHelpers"), host, false))
        return;
    json_t *value, *auths = json_object_get(root, "auths");
    const char *key;
    json_object_foreach (auths, key, value) {
        if (key_namespace(key).length && is_key_of(key, host))
            add_namespace(key, value, out);
    }
}

bool docker_config_find(const void *bytes, size_t length, const char *host,
                        struct docker_config_entry *out, struct error *error) {
    *out = (struct docker_config_entry){0};
    cleanup_json json_t *root = bounded_json_load(bytes, length, error);
    if (!root)
        return false;
    if (!json_is_object(root))
        return error_set(error, ERROR_INVALID, "it is no JSON object");
    if (!is_object_or_absent(root, "credHelpers", error) ||
        !is_object_or_absent(root, "auths", error))
        return false;
    json_t *helper = find_host(json_object_get(root, "credHelpers"), host, false);
    json_t *store = json_object_get(root, "credsStore");
    if (helper && !take_helper(helper, "credHelpers", out, error))
        return false;
    out->helper_decides = out->helper[0] != '\0';
    if (out->helper_decides)
        return true;
    if (store && !take_helper(store, "credsStore", out, error))
        return false;
    json_t *entry = find_host(json_object_get(root, "auths"), host, true);
    if (entry && !take_auth(entry, &out->credential, error))
        return error_wrap(error, "entry of %s in \"auths\"", host);
    return true;
}

bool docker_config_has_helpers(const void *bytes, size_t length) {
    cleanup_json json_t *root = bounded_json_load(bytes, length, NULL);
    if (!json_is_object(root))
        return true;
    const json_t *helpers = json_object_get(root, "credHelpers");
    return *json_member_text(root, "credsStore") ||
           (json_is_object(helpers) && json_object_size(helpers));
}

bool docker_config_read_helper(const void *bytes, size_t length, struct credential *out,
                               struct error *error) {
    struct error why;
    cleanup_json json_t *root = bounded_json_load(bytes, length, &why);
    if (!root || !json_is_object(root)) /* without jansson's text, which might quote the secret */
        return error_set(error, ERROR_INVALID, "its output is no JSON object");
    /* Upper and lower case are the same here, as for Docker's JSON reader. */
    const char *key, *user = NULL, *secret = NULL;
    json_t *value;
    json_object_foreach (root, key, value) {
        if (strcasecmp(key, "Username") == 0)
            user = json_string_value(value);
        else if (strcasecmp(key, "Secret") == 0)
            secret = json_string_value(value);
    }
    if (!user || !secret)
        return error_set(error, ERROR_INVALID, "its output has no \"Username\" and \"Secret\"");
    if (strcmp(user, "<token>") == 0)
        return set_identity(secret, out, error);
    if (*user == '\0' && *secret == '\0')
        return true;
    return set_basic(text_of(user), text_of(secret), out, error);
}
