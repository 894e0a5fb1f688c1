/* Reads WWW-Authenticate. */
#include "client/challenge.h"

/* The text that is still to be read. */
struct reader {
    struct text left;
};

static void skip(struct reader *reader, size_t bytes) {
    reader->left = text_from(reader->left, bytes);
}

static bool at(const struct reader *reader, char c) {
    return reader->left.length && *reader->left.at == c;
}

static void skip_blanks(struct reader *reader) {
    while (at(reader, ' ') || at(reader, '\t'))
        skip(reader, 1);
}

static bool is_token_byte(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c));
}

static struct text read_token(struct reader *reader) {
    size_t length = 0;
    while (length < reader->left.length && is_token_byte(reader->left.at[length]))
        length++;
    struct text token = {reader->left.at, length};
    skip(reader, length);
    return token;
}

/* Reads up to a comma or blank, because some registries send URLs and scopes without quotes. */
static struct text read_bare(struct reader *reader) {
    size_t length = 0;
    while (length < reader->left.length && !strchr(" \t,", reader->left.at[length]))
        length++;
    struct text bare = {reader->left.at, length};
    skip(reader, length);
    return bare;
}

/* Reads a quoted string into `out`, unescaped; "" when it is too long or contains a control
 * character. False: its closing quote is missing. */
static bool read_quoted(struct reader *reader, char *out, size_t size) {
    size_t length = 0;
    bool fits = true;
    skip(reader, 1);
    while (reader->left.length && !at(reader, '"')) {
        if (at(reader, '\\') && reader->left.length > 1)
            skip(reader, 1);
        unsigned char c = (unsigned char)*reader->left.at;
        fits = fits && length + 1 < size && c >= 0x20 && c != 0x7f;
        if (fits)
            out[length++] = (char)c;
        skip(reader, 1);
    }
    out[fits ? length : 0] = '\0';
    if (!at(reader, '"'))
        return false;
    skip(reader, 1);
    return true;
}

/* Skips up to the next comma outside quotes. */
static void skip_item(struct reader *reader) {
    while (reader->left.length && !at(reader, ',')) {
        char dropped[1];
        if (!at(reader, '"'))
            skip(reader, 1);
        else if (!read_quoted(reader, dropped, sizeof dropped))
            return;
    }
}

/* Reads the value after "name=" into `known`, unless a value is already there; NULL: drops it. */
static void read_value(struct reader *reader, char *known, size_t size) {
    char dropped[1];
    bool wanted = known && *known == '\0';
    if (at(reader, '"')) {
        read_quoted(reader, wanted ? known : dropped, wanted ? size : sizeof dropped);
        return;
    }
    struct text bare = read_bare(reader);
    for (size_t i = 0; i < bare.length; i++) {
        if ((unsigned char)bare.at[i] < 0x20 || bare.at[i] == 0x7f)
            return;
    }
    if (wanted)
        text_copy(bare, known, size);
}

static void read_parameter(struct reader *reader, struct text name, struct challenge *current) {
    if (text_is_nocase(name, "realm"))
        read_value(reader, current->realm, sizeof current->realm);
    else if (text_is_nocase(name, "service"))
        read_value(reader, current->service, sizeof current->service);
    else if (text_is_nocase(name, "scope"))
        read_value(reader, current->scope, sizeof current->scope);
    else
        read_value(reader, NULL, 0);
}

static enum challenge_scheme scheme_of(struct text name) {
    if (text_is_nocase(name, "bearer"))
        return CHALLENGE_BEARER;
    return text_is_nocase(name, "basic") ? CHALLENGE_BASIC : CHALLENGE_NONE;
}

static void consider(const struct challenge *current, struct challenge *best) {
    if (current->scheme == CHALLENGE_BEARER && current->realm[0] == '\0')
        return;
    if (current->scheme > best->scheme)
        *best = *current;
}

void challenge_read(struct text value, struct challenge *out) {
    struct reader reader = {value};
    struct challenge current = {0};
    for (;;) {
        while (at(&reader, ',') || at(&reader, ' ') || at(&reader, '\t'))
            skip(&reader, 1);
        if (reader.left.length == 0)
            break;
        struct text name = read_token(&reader);
        skip_blanks(&reader);
        if (name.length == 0) {
            skip_item(&reader);
        } else if (at(&reader, '=')) {
            skip(&reader, 1);
            skip_blanks(&reader);
            read_parameter(&reader, name, &current);
        } else {
            consider(&current, out);
            current = (struct challenge){.scheme = scheme_of(name)};
        }
    }
    consider(&current, out);
}
