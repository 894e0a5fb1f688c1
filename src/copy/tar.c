/* Headers of a tar archive: the fields of ustar, and the PAX records in front of them. */
#include "copy/tar.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* POSIX.1-2017, pax, "ustar Interchange Format". */
struct ustar {
    char name[100];
    char mode[8];
    char user[8];
    char group[8];
    char size[12];
    char time[12];
    char checksum[8];
    char type;
    char target[100];
    char magic[6];
    char version[2];
    char user_name[32];
    char group_name[32];
    char major[8];
    char minor[8];
    char prefix[155];
    char unused[12];
};
_Static_assert(sizeof(struct ustar) == TAR_BLOCK, "a header is one block");

size_t tar_padding(uint64_t size) {
    return (size_t)(-size % TAR_BLOCK);
}

/* ---- fields ---- */

/* Whether a field of so many octal digits can hold the number. */
static bool fits(uint64_t number, unsigned digits) {
    return number >> (3 * digits) == 0;
}

/* Writes octal digits and a NUL. A number that does not fit stands in a record; the field is 0. */
static void put_number(char *field, size_t size, uint64_t number) {
    if (!fits(number, (unsigned)size - 1))
        number = 0;
    field[size - 1] = '\0';
    for (size_t at = size - 1; at-- > 0; number >>= 3)
        field[at] = (char)('0' + (number & 7));
}

static void put_text(char *field, size_t size, const char *text, size_t length) {
    memcpy(field, text, length < size ? length : size);
}

static void put_checksum(struct ustar *header) {
    const unsigned char *bytes = (const unsigned char *)header;
    unsigned sum = 0;
    memset(header->checksum, ' ', sizeof header->checksum);
    for (size_t i = 0; i < sizeof *header; i++)
        sum += bytes[i];
    put_number(header->checksum, 7, sum);
}

static void begin_header(struct ustar *header, char type) {
    memset(header, 0, sizeof *header);
    header->type = type;
    memcpy(header->magic, "ustar", 6);
    memcpy(header->version, "00", 2);
    put_number(header->major, sizeof header->major, 0);
    put_number(header->minor, sizeof header->minor, 0);
}

/* ---- records ---- */

/* "LENGTH NAME=VALUE\n"; LENGTH counts itself. */
static void append_record(struct buffer *records, const char *prefix, const char *name,
                          struct text value) {
    const size_t rest = strlen(prefix) + strlen(name) + value.length + 3; /* " =\n" */
    size_t length = rest + 1;
    char digits[24];
    while (rest + (size_t)snprintf(digits, sizeof digits, "%zu", length) != length)
        length = rest + strlen(digits);
    buffer_printf(records, "%s %s%s=", digits, prefix, name);
    buffer_append(records, value.at, value.length);
    buffer_append_string(records, "\n");
}

static void append_number(struct buffer *records, const char *name, uint64_t number) {
    char digits[TEXT_NUMBER_LIMIT];
    append_record(records, "", name, text_of_number(number, digits));
}

/* The time as a decimal number. A timespec before 1970 counts its nanoseconds upwards. */
static void append_time(struct buffer *records, int64_t seconds, uint32_t ns) {
    char text[40];
    const bool is_negative = seconds < 0;
    uint64_t whole = is_negative ? -(uint64_t)seconds : (uint64_t)seconds;
    if (is_negative && ns) {
        whole--;
        ns = 1000000000 - ns;
    }
    int length = snprintf(text, sizeof text, "%s%" PRIu64, is_negative ? "-" : "", whole);
    if (ns) {
        length += snprintf(text + length, sizeof text - (size_t)length, ".%09" PRIu32, ns);
        while (text[length - 1] == '0')
            length--;
    }
    append_record(records, "", "mtime", (struct text){text, (size_t)length});
}

static bool is_ascii(struct text text) {
    for (size_t i = 0; i < text.length; i++)
        if ((unsigned char)text.at[i] >= 0x80)
            return false;
    return true;
}

/* Whether a name needs a record: it is too long, or readers would guess its encoding. */
static bool needs_record(struct text name) {
    return name.length > sizeof((struct ustar *)0)->name || !is_ascii(name);
}

static void append_records(struct buffer *records, const struct tar_entry *entry, struct text path,
                           struct text target) {
    /* It says how the records behind it are read, so it comes first. */
    if (!text_is_utf8(path) || !text_is_utf8(target))
        append_record(records, "", "hdrcharset", text_of("BINARY"));
    for (size_t i = 0; i < entry->attribute_count; i++)
        append_record(records, "SCHILY.xattr.", entry->attributes[i].name,
                      entry->attributes[i].value);
    if (!fits(entry->group, 7))
        append_number(records, "gid", entry->group);
    if (needs_record(target))
        append_record(records, "", "linkpath", target);
    if (entry->time < 0 || !fits((uint64_t)entry->time, 11) || entry->time_ns)
        append_time(records, entry->time, entry->time_ns);
    if (needs_record(path))
        append_record(records, "", "path", path);
    if (!fits(entry->size, 11))
        append_number(records, "size", entry->size);
    if (!fits(entry->user, 7))
        append_number(records, "uid", entry->user);
}

/* The header of the records, the records, and their padding. */
static void append_extended_header(struct buffer *out, const struct buffer *records) {
    static const char zero[TAR_BLOCK];
    struct ustar header;
    begin_header(&header, 'x');
    put_text(header.name, sizeof header.name, "PaxHeaders", strlen("PaxHeaders"));
    put_number(header.mode, sizeof header.mode, 0644);
    put_number(header.user, sizeof header.user, 0);
    put_number(header.group, sizeof header.group, 0);
    put_number(header.size, sizeof header.size, records->length);
    put_number(header.time, sizeof header.time, 0);
    put_checksum(&header);
    buffer_append(out, &header, sizeof header);
    buffer_append(out, records->bytes, records->length);
    buffer_append(out, zero, tar_padding(records->length));
}

/* ---- the header ---- */

static void append_plain_header(struct buffer *out, const struct tar_entry *entry, struct text path,
                                struct text target) {
    struct ustar header;
    begin_header(&header, (char)entry->type);
    put_text(header.name, sizeof header.name, path.at, path.length);
    put_number(header.mode, sizeof header.mode, entry->mode & 07777);
    put_number(header.user, sizeof header.user, entry->user);
    put_number(header.group, sizeof header.group, entry->group);
    put_number(header.size, sizeof header.size, entry->size);
    put_number(header.time, sizeof header.time, entry->time < 0 ? 0 : (uint64_t)entry->time);
    put_text(header.target, sizeof header.target, target.at, target.length);
    put_number(header.major, sizeof header.major, entry->major);
    put_number(header.minor, sizeof header.minor, entry->minor);
    put_checksum(&header);
    buffer_append(out, &header, sizeof header);
}

static bool check(const struct tar_entry *entry, struct error *error) {
    for (size_t i = 0; i < entry->attribute_count; i++)
        if (strchr(entry->attributes[i].name, '='))
            return error_set(error, ERROR_UNSUPPORTED,
                             "the name of its extended attribute \"%s\" has a '=', which a tar "
                             "archive cannot hold",
                             entry->attributes[i].name);
    if (!fits(entry->major, 7) || !fits(entry->minor, 7))
        return error_set(error, ERROR_UNSUPPORTED,
                         "its device number is too large for a tar archive");
    return true;
}

bool tar_append_header(struct buffer *out, const struct tar_entry *entry, struct error *error) {
    cleanup_buffer struct buffer path = {0}, records = {0};
    const struct text target = text_of(entry->target ? entry->target : "");
    if (!check(entry, error))
        return false;
    buffer_append_string(&path, entry->path);
    if (entry->type == TAR_FOLDER)
        buffer_append_string(&path, "/");
    if (!path.failed)
        append_records(&records, entry, (struct text){path.bytes, path.length}, target);
    if (path.failed || records.failed)
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (records.length > TAR_RECORDS_LIMIT)
        return error_set(error, ERROR_UNSUPPORTED,
                         "its extended attributes have more than 1 MiB together");
    if (records.length)
        append_extended_header(out, &records);
    append_plain_header(out, entry, (struct text){path.bytes, path.length}, target);
    return !out->failed || error_set(error, ERROR_MEMORY, "out of memory");
}
