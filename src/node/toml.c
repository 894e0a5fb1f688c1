/* A reader of TOML, from the characters up to the document. */
#include "node/toml.h"

#include <stdint.h>
#include <string.h>
#include "base/buffer.h"

struct reader {
    struct text rest;
    unsigned line;
    unsigned nesting;
    char names[TOML_DEPTH_LIMIT][TOML_NAME_SIZE];
    struct text path[TOML_DEPTH_LIMIT];
    size_t depth;
    struct buffer string; /* the last one that was read */
    void (*visit)(void *context, const struct toml_entry *entry);
    void *context;
};

bool toml_is_at(const struct toml_entry *entry, const char *const *names, size_t count) {
    if (entry->depth != count)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!text_is(entry->path[i], names[i]))
            return false;
    }
    return true;
}

/* ---- characters ---- */

static bool wrong(const struct reader *reader, const char *what, struct error *error) {
    return error_set(error, ERROR_INVALID, "line %u: %s", reader->line, what);
}

/* The next character; -1: the end. */
static int peek(const struct reader *reader) {
    return reader->rest.length ? (unsigned char)*reader->rest.at : -1;
}

static int take(struct reader *reader) {
    int c = peek(reader);
    if (c < 0)
        return c;
    reader->line += c == '\n';
    reader->rest = text_from(reader->rest, 1);
    return c;
}

static bool take_if(struct reader *reader, const char *word) {
    if (!text_starts(reader->rest, word))
        return false;
    for (size_t i = strlen(word); i > 0; i--)
        take(reader);
    return true;
}

static void skip_blanks(struct reader *reader) {
    while (peek(reader) == ' ' || peek(reader) == '\t')
        take(reader);
}

static void skip_comment(struct reader *reader) {
    if (peek(reader) != '#')
        return;
    while (peek(reader) >= 0 && peek(reader) != '\n')
        take(reader);
}

/* Skips lines that say nothing, too. */
static void skip_lines(struct reader *reader) {
    for (;;) {
        skip_blanks(reader);
        skip_comment(reader);
        if (!take_if(reader, "\n") && !take_if(reader, "\r\n"))
            return;
    }
}

/* ---- strings ---- */

static void append_utf8(struct buffer *out, uint32_t c) {
    char bytes[4];
    size_t length = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char first[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = length; i-- > 1; c >>= 6)
        bytes[i] = (char)(0x80 | (c & 0x3f));
    bytes[0] = (char)(first[length] | c);
    buffer_append(out, bytes, length);
}

static bool read_code_point(struct reader *reader, unsigned digits, struct error *error) {
    uint32_t value = 0;
    for (; digits > 0; digits--) {
        int c = peek(reader), lower = c | 0x20;
        bool is_digit = c >= '0' && c <= '9';
        if (!is_digit && !(lower >= 'a' && lower <= 'f'))
            return wrong(reader, "an escape in a string needs more hexadecimal digits", error);
        value = value * 16 + (uint32_t)(is_digit ? c - '0' : lower - 'a' + 10);
        take(reader);
    }
    if (value == 0 || value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
        return wrong(reader, "an escape in a string is no character", error);
    append_utf8(&reader->string, value);
    return true;
}

/* What follows a backslash. In a string of several lines, one at the end of a line joins lines. */
static bool read_escape(struct reader *reader, bool multiline, struct error *error) {
    static const char letters[] = "btnfre\"\\", meanings[] = "\b\t\n\f\r\033\"\\";
    int c = peek(reader);
    const char *letter = c > 0 ? strchr(letters, c) : NULL;
    if (letter) {
        take(reader);
        buffer_append(&reader->string, &meanings[letter - letters], 1);
        return true;
    }
    if (c == 'x' || c == 'u' || c == 'U') {
        take(reader);
        return read_code_point(reader, c == 'x' ? 2 : c == 'u' ? 4 : 8, error);
    }
    if (!multiline || !(c == ' ' || c == '\t' || c == '\r' || c == '\n'))
        return wrong(reader, "a string has an unknown escape", error);
    while (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
        take(reader);
        c = peek(reader);
    }
    return true;
}

/* Reads the string that begins here. `quote` is " or ', `end` what ends it. */
static bool read_rest_of_string(struct reader *reader, char quote, const char *end,
                                struct error *error) {
    bool multiline = end[1] != '\0';
    if (multiline && !take_if(reader, "\n"))
        take_if(reader, "\r\n");
    while (!take_if(reader, end)) {
        int c = peek(reader);
        if (c < 0 || (c == '\n' && !multiline))
            return wrong(reader, "a string has no end", error);
        take(reader);
        if (c == '\\' && quote == '"') {
            if (!read_escape(reader, multiline, error))
                return false;
            continue;
        }
        buffer_append(&reader->string, &(char){(char)c}, 1);
    }
    /* Up to two quotes before the end are part of the text. */
    while (multiline && peek(reader) == quote) {
        take(reader);
        buffer_append(&reader->string, &quote, 1);
    }
    return !reader->string.failed || error_set(error, ERROR_MEMORY, "out of memory");
}

static bool read_string(struct reader *reader, struct error *error) {
    static const char *const basic[] = {"\"", "\"\"\""}, *const literal[] = {"'", "'''"};
    char quote = (char)peek(reader);
    const char *const *ends = quote == '"' ? basic : literal;
    bool multiline = text_starts(reader->rest, ends[1]);
    buffer_clear(&reader->string);
    take_if(reader, ends[multiline]);
    return read_rest_of_string(reader, quote, ends[multiline], error);
}

/* ---- keys ---- */

static bool is_bare(int c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c >= 0x80;
}

static bool push_name(struct reader *reader, struct text name, struct error *error) {
    if (reader->depth == TOML_DEPTH_LIMIT || name.length >= TOML_NAME_SIZE)
        return wrong(reader, "a key is too long", error);
    char *copy = reader->names[reader->depth];
    if (name.length)
        memcpy(copy, name.at, name.length);
    reader->path[reader->depth++] = (struct text){copy, name.length};
    return true;
}

/* Reads `a."b c".d`, and adds its parts to the path. */
static bool read_key(struct reader *reader, struct error *error) {
    do {
        skip_blanks(reader);
        struct text name = {reader->rest.at, 0};
        if (peek(reader) == '"' || peek(reader) == '\'') {
            if (!read_string(reader, error))
                return false;
            name = (struct text){reader->string.bytes, reader->string.length};
        } else {
            for (; is_bare(peek(reader)); name.length++)
                take(reader);
            if (!name.length)
                return wrong(reader, "there is no key where one must be", error);
        }
        if (!push_name(reader, name, error))
            return false;
        skip_blanks(reader);
    } while (take_if(reader, "."));
    return true;
}

/* ---- values ---- */

static void hand_out(const struct reader *reader, bool is_string, struct text value) {
    const struct toml_entry entry = {
        .path = reader->path,
        .depth = reader->depth,
        .is_string = is_string,
        .value = value,
    };
    reader->visit(reader->context, &entry);
}

static bool read_value(struct reader *reader, struct error *error);

static bool read_array(struct reader *reader, struct error *error) {
    take(reader);
    for (;;) {
        skip_lines(reader);
        if (take_if(reader, "]"))
            return true;
        if (!read_value(reader, error))
            return false;
        skip_lines(reader);
        if (!take_if(reader, ",") && peek(reader) != ']')
            return wrong(reader, "an array has no end", error);
    }
}

static bool read_pair(struct reader *reader, struct error *error) {
    size_t depth = reader->depth;
    if (!read_key(reader, error))
        return false;
    if (!take_if(reader, "="))
        return wrong(reader, "a key has no value", error);
    skip_blanks(reader);
    if (!read_value(reader, error))
        return false;
    reader->depth = depth;
    return true;
}

static bool read_inline_table(struct reader *reader, struct error *error) {
    take(reader);
    for (;;) {
        skip_lines(reader);
        if (take_if(reader, "}"))
            return true;
        if (!read_pair(reader, error))
            return false;
        skip_lines(reader);
        if (!take_if(reader, ",") && peek(reader) != '}')
            return wrong(reader, "an inline table has no end", error);
    }
}

/* A number, a date, true or false. */
static bool read_word(struct reader *reader, struct error *error) {
    struct text word = {reader->rest.at, 0};
    for (int c; (c = peek(reader)) >= 0 && !strchr("\n\r#,]}\"'={[", c); word.length++)
        take(reader);
    word = text_trim(word);
    if (!word.length)
        return wrong(reader, "a key has no value", error);
    hand_out(reader, false, word);
    return true;
}

static bool read_value(struct reader *reader, struct error *error) {
    int c = peek(reader);
    if (c == '"' || c == '\'') {
        if (!read_string(reader, error))
            return false;
        hand_out(reader, true, (struct text){reader->string.bytes, reader->string.length});
        return true;
    }
    if (c != '[' && c != '{')
        return read_word(reader, error);
    if (reader->nesting == TOML_NESTING_LIMIT)
        return wrong(reader, "too many arrays or tables are in each other", error);
    reader->nesting++;
    bool ok = c == '[' ? read_array(reader, error) : read_inline_table(reader, error);
    reader->nesting--;
    return ok;
}

/* ---- the document ---- */

/* The name of a table, "[a.b]" or "[[a.b]]", which becomes the path. */
static bool read_header(struct reader *reader, struct error *error) {
    bool is_list = take_if(reader, "[[");
    if (!is_list)
        take(reader);
    reader->depth = 0;
    if (!read_key(reader, error))
        return false;
    return take_if(reader, is_list ? "]]" : "]") ||
           wrong(reader, "the name of a table has no end", error);
}

static bool read_document(struct reader *reader, struct error *error) {
    take_if(reader, "\xef\xbb\xbf");
    for (;;) {
        skip_lines(reader);
        if (peek(reader) < 0)
            return true;
        bool ok = peek(reader) == '[' ? read_header(reader, error) : read_pair(reader, error);
        if (!ok)
            return false;
        skip_blanks(reader);
        skip_comment(reader);
        if (peek(reader) >= 0 && peek(reader) != '\n' && !text_starts(reader->rest, "\r\n"))
            return wrong(reader, "something follows a value", error);
    }
}

bool toml_read(struct text document, void (*visit)(void *context, const struct toml_entry *entry),
               void *context, struct error *error) {
    struct reader reader = {
        .rest = document,
        .line = 1,
        .visit = visit,
        .context = context,
    };
    bool ok = read_document(&reader, error);
    buffer_finish(&reader.string);
    return ok;
}
