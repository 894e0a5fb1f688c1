/*
 * The section `storage` of the CNCF registry: a folder, or a bucket by the drivers s3 and gcs
 * (registry/storage/driver/s3-aws/s3.go, gcs/gcs.go). tarn uses the same keys of objects below the
 * same rootdirectory, so what a former cache has kept there is found.
 */
#include "config/distribution_storage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "bucket/settings.h"
#include "config/map.h"

#define DEFAULT_ROOT "/var/lib/registry" /* registry/storage/driver/filesystem/driver.go */

/* One driver while it is translated. */
struct driver {
    struct translation *translation;
    const char *name; /* "storage.s3" */
};

static const struct yaml_node *find(const struct driver *driver, const char *key) {
    char path[KEY_PATH_SIZE];
    config_path_join(driver->name, key, path);
    return translation_find(driver->translation, path);
}

static void pass(const struct driver *driver, const char *key) {
    char path[KEY_PATH_SIZE];
    config_path_join(driver->name, key, path);
    translation_pass(driver->translation, path);
}

static bool read_boolean(const struct driver *driver, const char *key, bool *out) {
    char path[KEY_PATH_SIZE];
    config_path_join(driver->name, key, path);
    return translation_read_boolean(driver->translation, path, out);
}

static void put(const struct driver *driver, const char *own, const struct yaml_node *from,
                const char *value) {
    translation_put(driver->translation, driver->translation->own, own, from, value);
}

static void refuse(const struct driver *driver, const struct yaml_node *node, const char *key,
                   const char *why) {
    char path[KEY_PATH_SIZE];
    config_path_join(driver->name, key, path);
    translation_add_problem(driver->translation, node, path, why);
}

static void ignore(const struct driver *driver, const char *key, const char *why) {
    char path[KEY_PATH_SIZE];
    config_path_join(driver->name, key, path);
    translation_warn_ignored(driver->translation, find(driver, key), path, why);
}

/* ---- both drivers ---- */

/* `bucket` and `rootdirectory` as one url. */
static void translate_url(const struct driver *driver, const struct yaml_node *section,
                          const char *scheme) {
    const struct yaml_node *name = find(driver, "bucket"), *root = find(driver, "rootdirectory");
    struct bucket_address address;
    struct error error = {0};
    if (!name) {
        refuse(driver, section, "bucket", "is missing; it names the bucket");
        return;
    }
    cleanup_buffer struct buffer url = {0};
    if (!buffer_printf(&url, "%s://%s", scheme, name->text)) {
        driver->translation->reader->no_memory = true;
        return;
    }
    if (!bucket_address_parse(url.bytes, &address, &error) || *address.prefix) {
        refuse(driver, name, "bucket", error.kind ? error.text : "is no name of a bucket");
        return;
    }
    struct text rest = text_of(root ? root->text : "");
    while (rest.length && *rest.at == '/')
        rest = text_from(rest, 1);
    while (rest.length && rest.at[rest.length - 1] == '/')
        rest.length--;
    if (rest.length && !buffer_printf(&url, "/%.*s", TEXT_PRINT(rest)))
        driver->translation->reader->no_memory = true;
    else if (!bucket_address_parse(url.bytes, &address, &error))
        refuse(driver, root, "rootdirectory", error.text);
    else
        put(driver, "bucket.url", name, url.bytes);
}

/* ---- s3 ---- */

/* An endpoint may lack its scheme, which `secure` then decides (AddScheme() of aws-sdk-go). */
static void translate_endpoint(const struct driver *driver) {
    const struct yaml_node *endpoint = find(driver, "regionendpoint"),
                           *region = find(driver, "region"), *from = find(driver, "secure");
    bool secure = true, path_style;
    read_boolean(driver, "secure", &secure);
    cleanup_buffer struct buffer url = {0};
    if (endpoint && !strstr(endpoint->text, "://"))
        buffer_printf(&url, "%s://%s", secure ? "https" : "http", endpoint->text);
    else if (endpoint)
        buffer_append_string(&url, endpoint->text);
    else if (!secure && !region)
        refuse(driver, from, "secure", "http needs an endpoint; set region or regionendpoint");
    else if (!secure)
        buffer_printf(&url, "http://s3.%s.amazonaws.com", region->text);
    while (url.length && url.bytes[url.length - 1] == '/')
        url.bytes[--url.length] = '\0';
    if (url.failed)
        driver->translation->reader->no_memory = true;
    else if (url.length)
        put(driver, "bucket.endpoint", endpoint ? endpoint : from, url.bytes);
    pass(driver, "region");
    if (read_boolean(driver, "forcepathstyle", &path_style))
        put(driver, "bucket.path_style", find(driver, "forcepathstyle"),
            path_style ? "true" : "false");
}

static void translate_key(const struct driver *driver) {
    const struct yaml_node *id = find(driver, "accesskey"), *secret = find(driver, "secretkey");
    const char *why = "the one is of no use without the other";
    if (id && secret) {
        pass(driver, "accesskey");
        pass(driver, "secretkey");
    } else if (id) {
        ignore(driver, "accesskey", why);
    } else if (secret) {
        ignore(driver, "secretkey", why);
    }
}

static void translate_encryption(const struct driver *driver) {
    const struct yaml_node *key = find(driver, "keyid"), *class = find(driver, "storageclass");
    bool encrypt = false;
    if (read_boolean(driver, "encrypt", &encrypt) && encrypt)
        put(driver, "bucket.encryption", find(driver, "encrypt"), key ? "aws:kms" : "AES256");
    if (key && encrypt)
        pass(driver, "keyid");
    else if (key)
        ignore(driver, "keyid", "encrypt is not true");
    if (class && strcasecmp(class->text, "NONE") != 0) /* s3.go: noStorageClass */
        pass(driver, "storageclass");
}

static void translate_s3(const struct driver *driver, const struct yaml_node *section) {
    bool given;
    translate_url(driver, section, "s3");
    translate_endpoint(driver);
    translate_key(driver);
    translate_encryption(driver);
    pass(driver, "chunksize");
    if (read_boolean(driver, "skipverify", &given) && given)
        refuse(driver, find(driver, "skipverify"), "skipverify",
               "tarn checks certificates; put the authority of the endpoint into a file, and name "
               "it in bucket.ca of a configuration of tarn's own, or in --bucket-ca");
    if (read_boolean(driver, "v4auth", &given) && !given)
        refuse(driver, find(driver, "v4auth"), "v4auth",
               "tarn signs by version 4 only; remove the key");
}

/* ---- gcs ---- */

/* Google's driver allows any multiple of 256 KiB; a part of a multipart upload has 5 MiB. */
static bool is_small_chunk(const struct yaml_node *size) {
    char *end;
    if (!size || strspn(size->text, "0123456789") != strlen(size->text))
        return false;
    const unsigned long long bytes = strtoull(size->text, &end, 10);
    return bytes > 0 && bytes < BUCKET_PART_SIZE_LEAST;
}

static void translate_gcs(const struct driver *driver, const struct yaml_node *section) {
    translate_url(driver, section, "gs");
    pass(driver, "keyfile");
    if (is_small_chunk(find(driver, "chunksize")))
        ignore(driver, "chunksize", "a part of an upload has 5 MiB at least");
    else
        pass(driver, "chunksize");
}

/* ---- all of it ---- */

void distribution_translate_storage(struct translation *translation) {
    static const struct {
        const char *name;
        void (*translate)(const struct driver *driver, const struct yaml_node *section);
    } drivers[] = {{"storage.s3", translate_s3},
                   {"storage.s3aws", translate_s3},
                   {"storage.gcs", translate_gcs}};
    const struct yaml_node *filesystem = translation_find(translation, "storage.filesystem"),
                           *chosen = NULL;
    translation_pass(translation, "storage.filesystem.rootdirectory");
    if (filesystem && !translation_find(translation, "storage.filesystem.rootdirectory"))
        translation_put(translation, translation->own, "root", filesystem, DEFAULT_ROOT);
    for (size_t i = 0; i < sizeof drivers / sizeof *drivers; i++) {
        const struct yaml_node *section = translation_find(translation, drivers[i].name);
        if (section && chosen)
            translation_add_problem(translation, section, drivers[i].name,
                                    "there is another bucket; keep one of them");
        else if (section)
            drivers[i].translate(&(struct driver){translation, drivers[i].name}, section);
        chosen = section ? section : chosen;
    }
}
