/* Parses patterns into tokens, and matches paths against them. */
#include "build/ignore.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "base/cleanup.h"

enum token_kind {
    TOKEN_LITERAL, /* this byte */
    TOKEN_ONE,     /* any character but a slash */
    TOKEN_STAR,    /* any run of them */
    TOKEN_PARTS,   /* nothing, or any run of bytes that ends with a slash */
    TOKEN_REST,    /* any run of bytes */
    TOKEN_CLASS,   /* a character of a class */
};

struct token {
    enum token_kind kind;
    unsigned char literal;
    bool negated;     /* CLASS */
    struct text text; /* CLASS: what stands between the brackets, in the pattern's memory */
};

struct pattern {
    struct pattern *next;
    bool takes_back; /* it began with '!' */
    bool folders_only;
    size_t count;
    char *text; /* owned */
    struct token tokens[];
};

struct ignore {
    enum ignore_rules rules;
    size_t count;
    bool *matched; /* `count` of them, for one look; owned */
    struct pattern *first, **last;
};

struct ignore *ignore_new(enum ignore_rules rules) {
    struct ignore *ignore = calloc(1, sizeof *ignore);
    if (!ignore)
        return NULL;
    ignore->rules = rules;
    ignore->last = &ignore->first;
    return ignore;
}

void ignore_free(struct ignore *ignore) {
    if (!ignore)
        return;
    for (struct pattern *pattern = ignore->first, *next; pattern; pattern = next) {
        next = pattern->next;
        free(pattern->text);
        free(pattern);
    }
    free(ignore->matched);
    free(ignore);
}

/* ---- patterns to tokens ---- */

/* The length of a class behind its '[', up to its ']'; 0: there is no end, or nothing in it. Go's
 * filepath.Match() wants at least one character, and a range's both ends. */
static size_t class_length(struct text rest) {
    size_t at = 0, items = 0;
    if (at < rest.length && rest.at[at] == '^')
        at++;
    while (at < rest.length && (rest.at[at] != ']' || items == 0)) {
        for (int end = 0; end < 2; end++) {
            if (at < rest.length && rest.at[at] == '\\')
                at++;
            if (at >= rest.length || (end == 0 && (rest.at[at] == '-' || rest.at[at] == ']')))
                return 0;
            at++;
            if (end == 1 || at >= rest.length || rest.at[at] != '-')
                break;
            at++;
        }
        items++;
    }
    return at < rest.length ? at : 0;
}

/* The length of the UTF-8 character at the start of a text that is not empty. */
static size_t character_length(struct text text) {
    size_t length = 1;
    while (length < text.length && length < 4 && ((unsigned char)text.at[length] & 0xc0) == 0x80)
        length++;
    return length;
}

static struct text take_character(struct text *rest) {
    if (rest->length > 1 && rest->at[0] == '\\')
        *rest = text_from(*rest, 1);
    size_t length = character_length(*rest);
    struct text character = {rest->at, length};
    *rest = text_from(*rest, length);
    return character;
}

static int compare_characters(struct text a, struct text b) {
    size_t shorter = a.length < b.length ? a.length : b.length;
    int order = memcmp(a.at, b.at, shorter);
    return order ? order : (a.length > b.length) - (a.length < b.length);
}

static bool class_has(const struct token *token, struct text character) {
    bool found = false;
    for (struct text rest = token->text; rest.length > 0;) {
        struct text low = take_character(&rest), high = low;
        if (rest.length > 1 && rest.at[0] == '-') {
            rest = text_from(rest, 1);
            high = take_character(&rest);
        }
        found = found || (compare_characters(low, character) <= 0 &&
                          compare_characters(character, high) <= 0);
    }
    return found != token->negated;
}

struct parsing {
    struct pattern *pattern;
    struct text rest;
    enum ignore_rules rules;
};

static void add_token(struct parsing *parsing, struct token token) {
    parsing->pattern->tokens[parsing->pattern->count++] = token;
}

static bool refuse_class(struct error *error) {
    return error_set(error, ERROR_INVALID, "a '[' has no end, or nothing that it stands for");
}

static bool parse_class(struct parsing *parsing, struct error *error) {
    struct text rest = text_from(parsing->rest, 1);
    bool is_git = parsing->rules == IGNORE_AS_GIT;
    bool negated = rest.length > 0 && (rest.at[0] == '^' || (is_git && rest.at[0] == '!'));
    struct text inside = negated ? text_from(rest, 1) : rest;
    size_t length = class_length(inside);
    if (length == 0)
        return refuse_class(error);
    add_token(parsing,
              (struct token){.kind = TOKEN_CLASS, .negated = negated, .text = {inside.at, length}});
    parsing->rest = text_from(inside, length + 1);
    return true;
}

/* Whether two stars are a part of their own, between slashes. Elsewhere gitignore(5) takes them for
 * one star. */
static bool is_whole_part(const struct parsing *parsing) {
    size_t at = parsing->pattern->count;
    const struct token *before = at > 0 ? &parsing->pattern->tokens[at - 1] : NULL;
    bool begins = !before || (before->kind == TOKEN_LITERAL && before->literal == '/') ||
                  before->kind == TOKEN_PARTS;
    return begins && (parsing->rest.length == 2 || parsing->rest.at[2] == '/');
}

static void parse_stars(struct parsing *parsing) {
    bool two = text_starts(parsing->rest, "**");
    if (!two || (parsing->rules == IGNORE_AS_GIT && !is_whole_part(parsing))) {
        add_token(parsing, (struct token){.kind = TOKEN_STAR});
        parsing->rest = text_from(parsing->rest, two ? 2 : 1);
        return;
    }
    bool is_first = parsing->pattern->count == 0;
    parsing->rest = text_from(parsing->rest, 2);
    bool has_slash = text_starts(parsing->rest, "/");
    if (has_slash)
        parsing->rest = text_from(parsing->rest, 1);
    /* moby takes "**" at the start of a pattern that goes on without a wildcard for "ends with". */
    bool is_suffix = is_first && !has_slash &&
                     !memchr(parsing->rest.at, '*', parsing->rest.length) &&
                     !memchr(parsing->rest.at, '?', parsing->rest.length) &&
                     !memchr(parsing->rest.at, '[', parsing->rest.length) &&
                     !memchr(parsing->rest.at, '\\', parsing->rest.length);
    bool is_rest = parsing->rest.length == 0 || is_suffix;
    add_token(parsing, (struct token){.kind = is_rest ? TOKEN_REST : TOKEN_PARTS});
}

static bool parse_tokens(struct parsing *parsing, struct error *error) {
    while (parsing->rest.length > 0) {
        char next = parsing->rest.at[0];
        if (next == '*') {
            parse_stars(parsing);
        } else if (next == '[') {
            if (!parse_class(parsing, error))
                return false;
        } else if (next == '?') {
            add_token(parsing, (struct token){.kind = TOKEN_ONE});
            parsing->rest = text_from(parsing->rest, 1);
        } else {
            if (next == '\\' && parsing->rest.length == 1)
                return error_set(error, ERROR_INVALID, "a '\\' stands at its end");
            if (next == '\\')
                parsing->rest = text_from(parsing->rest, 1);
            add_token(parsing, (struct token){.kind = TOKEN_LITERAL,
                                              .literal = (unsigned char)parsing->rest.at[0]});
            parsing->rest = text_from(parsing->rest, 1);
        }
    }
    return true;
}

/* Go's filepath.Clean() of a pattern, in place: no empty and no "." part, ".." takes one away. */
static void clean(char *path) {
    char *out = path;
    bool rooted = path[0] == '/';
    size_t up = 0; /* bytes of leading ".." parts */
    struct text rest = text_of(path);
    while (rest.at) {
        struct text part = text_cut(rest, '/', &rest);
        if (part.length == 0 || text_is(part, "."))
            continue;
        size_t length = (size_t)(out - path);
        if (text_is(part, "..") && length > up) {
            while (out > path && *--out != '/')
                ;
            continue;
        }
        if (text_is(part, "..") && rooted)
            continue;
        if (length > 0)
            *out++ = '/';
        memmove(out, part.at, part.length);
        out += part.length;
        if (text_is(part, ".."))
            up = (size_t)(out - path);
    }
    *out = '\0';
}

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct text trim(struct text text) {
    while (text.length > 0 && is_space(text.at[0]))
        text = text_from(text, 1);
    while (text.length > 0 && is_space(text.at[text.length - 1]))
        text.length--;
    return text;
}

/* A new pattern of this text, not parsed yet. NULL: out of memory. */
static struct pattern *pattern_new(struct text text, bool takes_back) {
    /* A pattern of gitignore(5) may get one token in front. */
    struct pattern *pattern =
        calloc(1, sizeof *pattern + (text.length + 1) * sizeof *pattern->tokens);
    if (!pattern || !(pattern->text = text_dup(text))) {
        free(pattern);
        return NULL;
    }
    pattern->takes_back = takes_back;
    return pattern;
}

static bool keep_pattern(struct ignore *ignore, struct pattern *pattern, struct error *error) {
    struct parsing parsing = {pattern, text_of(pattern->text), ignore->rules};
    *ignore->last = pattern; /* freed with the set */
    ignore->last = &pattern->next;
    ignore->count++;
    if (ignore->count > IGNORE_PATTERNS_LIMIT)
        return error_set(error, ERROR_INVALID, "there are more than %d patterns",
                         IGNORE_PATTERNS_LIMIT);
    bool *matched = reallocarray(ignore->matched, ignore->count, sizeof *matched);
    if (!matched)
        return error_set(error, ERROR_MEMORY, "out of memory");
    ignore->matched = matched;
    return parse_tokens(&parsing, error);
}

static bool add_docker(struct ignore *ignore, struct text line, struct error *error) {
    if (text_starts(line, "#"))
        return true;
    line = trim(line);
    if (line.length == 0)
        return true;
    bool takes_back = line.at[0] == '!';
    if (takes_back)
        line = trim(text_from(line, 1));
    if (line.length == 0)
        return error_set(error, ERROR_INVALID, "a '!' alone takes nothing back");
    struct pattern *pattern = pattern_new(line, takes_back);
    if (!pattern)
        return error_set(error, ERROR_MEMORY, "out of memory");
    clean(pattern->text); /* "" is the folder itself */
    return keep_pattern(ignore, pattern, error);
}

/* Without the white space at its end that no backslash keeps. */
static struct text trim_git(struct text line) {
    if (text_ends(line, "\r"))
        line.length--;
    while (text_ends(line, " ") && !(line.length > 1 && line.at[line.length - 2] == '\\'))
        line.length--;
    return line;
}

static bool add_git(struct ignore *ignore, struct text line, struct error *error) {
    line = trim_git(line);
    bool takes_back = text_starts(line, "!");
    if (text_starts(line, "#"))
        return true;
    if (takes_back)
        line = text_from(line, 1);
    bool folders_only = text_ends(line, "/");
    if (folders_only)
        line.length--;
    if (line.length == 0)
        return true;
    bool anchored = memchr(line.at, '/', line.length) != NULL;
    if (line.at[0] == '/')
        line = text_from(line, 1);
    struct pattern *pattern = pattern_new(line, takes_back);
    if (!pattern)
        return error_set(error, ERROR_MEMORY, "out of memory");
    pattern->folders_only = folders_only;
    if (!anchored)
        pattern->tokens[pattern->count++] = (struct token){.kind = TOKEN_PARTS};
    return keep_pattern(ignore, pattern, error);
}

bool ignore_add(struct ignore *ignore, struct text pattern, struct error *error) {
    if (pattern.length > IGNORE_PATTERN_LIMIT)
        return error_set(error, ERROR_INVALID, "the pattern has more than %d bytes",
                         IGNORE_PATTERN_LIMIT);
    if (pattern.length > 0 && memchr(pattern.at, '\0', pattern.length))
        return error_set(error, ERROR_INVALID, "the pattern has a NUL byte");
    return ignore->rules == IGNORE_AS_DOCKER ? add_docker(ignore, pattern, error)
                                             : add_git(ignore, pattern, error);
}

bool ignore_add_file(struct ignore *ignore, const char *name, struct text bytes,
                     struct error *error) {
    if (text_starts(bytes, "\xef\xbb\xbf")) /* a byte order mark */
        bytes = text_from(bytes, 3);
    for (unsigned number = 1; bytes.at && bytes.length > 0; number++) {
        struct text line = text_cut(bytes, '\n', &bytes);
        if (!ignore_add(ignore, line, error))
            return error_wrap(error, "%s:%u", name, number);
    }
    return true;
}

/* ---- matching ---- */

/* Whether the tokens match all of `path`. Goes through the path once for each token, so that no
 * pattern is slow: `reached` says which lengths of the path the tokens before can match. */
struct reach {
    bool at[IGNORE_PATTERN_LIMIT + 1];
};

static void step_literal(const struct token *token, struct text path, const struct reach *from,
                         struct reach *to) {
    for (size_t i = 0; i < path.length; i++) {
        if (!from->at[i])
            continue;
        struct text character = {path.at + i, character_length(text_from(path, i))};
        if (token->kind == TOKEN_LITERAL && (unsigned char)path.at[i] == token->literal)
            to->at[i + 1] = true;
        else if ((token->kind == TOKEN_ONE && path.at[i] != '/') ||
                 (token->kind == TOKEN_CLASS && class_has(token, character)))
            to->at[i + character.length] = true;
    }
}

static void step_run(const struct token *token, struct text path, const struct reach *from,
                     struct reach *to) {
    bool open = false;
    for (size_t i = 0; i <= path.length; i++) {
        open = open || from->at[i];
        bool at_part = from->at[i] || (i > 0 && path.at[i - 1] == '/');
        if (open && (token->kind != TOKEN_PARTS || at_part))
            to->at[i] = true;
        if (token->kind == TOKEN_STAR && i < path.length && path.at[i] == '/')
            open = false;
    }
}

static bool pattern_matches(const struct pattern *pattern, struct text path) {
    struct reach reaches[2] = {{{false}}};
    unsigned now = 0;
    if (path.length > IGNORE_PATTERN_LIMIT)
        return false;
    reaches[0].at[0] = true;
    for (size_t i = 0; i < pattern->count; i++) {
        const struct token *token = &pattern->tokens[i];
        struct reach *to = &reaches[1 - now];
        memset(to->at, 0, path.length + 1);
        if (token->kind == TOKEN_STAR || token->kind == TOKEN_PARTS || token->kind == TOKEN_REST)
            step_run(token, path, &reaches[now], to);
        else
            step_literal(token, path, &reaches[now], to);
        now = 1 - now;
    }
    return reaches[now].at[path.length];
}

/* The verdict on one path. `matched` says of each pattern whether it has matched the folder around
 * it, and then whether it matches the path. A pattern that could change nothing is not asked, and
 * counts as one that does not match: so it is in Docker, too (MatchesUsingParentResults()). */
static bool decide(const struct ignore *ignore, struct text path, bool *matched) {
    bool left_out = false;
    size_t i = 0;
    for (const struct pattern *pattern = ignore->first; pattern; pattern = pattern->next, i++) {
        matched[i] =
            matched[i] || (pattern->takes_back == left_out && pattern_matches(pattern, path));
        if (matched[i])
            left_out = !pattern->takes_back;
    }
    return left_out;
}

static bool matches_docker(const struct ignore *ignore, struct text path) {
    if (ignore->count == 0)
        return false;
    memset(ignore->matched, 0, ignore->count * sizeof *ignore->matched);
    for (size_t i = 1; i < path.length; i++)
        if (path.at[i] == '/')
            decide(ignore, (struct text){path.at, i}, ignore->matched);
    return decide(ignore, path, ignore->matched);
}

/* The verdict on one path itself, not on the folders it is in. */
static bool matches_git_itself(const struct ignore *ignore, struct text path, bool is_folder) {
    bool matched = false;
    for (const struct pattern *pattern = ignore->first; pattern; pattern = pattern->next)
        if (pattern->takes_back == matched && (is_folder || !pattern->folders_only) &&
            pattern_matches(pattern, path))
            matched = !pattern->takes_back;
    return matched;
}

bool ignore_matches(const struct ignore *ignore, const char *path, bool is_folder) {
    struct text text = text_of(path);
    if (ignore->rules == IGNORE_AS_DOCKER)
        return matches_docker(ignore, text);
    for (size_t i = 1; i < text.length; i++)
        if (text.at[i] == '/' && matches_git_itself(ignore, (struct text){path, i}, true))
            return true;
    return matches_git_itself(ignore, text, is_folder);
}

/* Docker looks into a folder that is left out only if a pattern that takes back names something in
 * it letter by letter. */
static bool names_below(const struct pattern *pattern, const char *path) {
    size_t length = strlen(path);
    return strncmp(pattern->text, path, length) == 0 &&
           (pattern->text[length] == '/' || pattern->text[length] == '\0');
}

bool ignore_is_final(const struct ignore *ignore, const char *path) {
    if (ignore->rules == IGNORE_AS_GIT)
        return true;
    for (const struct pattern *pattern = ignore->first; pattern; pattern = pattern->next)
        if (pattern->takes_back && names_below(pattern, path))
            return false;
    return true;
}
