/*
 * Writes HTML: text from outside, numbers for people, and templates.
 *
 * Pure; any thread. What is appended to a failed buffer is lost, as base/buffer.h says.
 */
#ifndef PAGE_HTML_H
#define PAGE_HTML_H

#include <stdint.h>
#include "base/buffer.h"
#include "base/text.h"

/* Stands in a page for the host name that the visitor used, until html_put_host() replaces it, so
 * that visitors under several names share one page. html_text() never writes it. */
#define HTML_HOST "\x01"

/* Appends text as the content of an element or of a quoted attribute. Control characters are left
 * out. */
void html_text(struct buffer *out, const char *text);
void html_text_of(struct buffer *out, struct text text);

/* Appends text as the value of a parameter of a URL in an attribute: percent-encoded. */
void html_parameter(struct buffer *out, const char *text);

void html_number(struct buffer *out, uint64_t number); /* "1,234,567" */
void html_size(struct buffer *out, uint64_t bytes);    /* "1.5 GiB" */
/* "41.2 %"; "–" when there is no whole. */
void html_percent(struct buffer *out, uint64_t part, uint64_t whole);
void html_duration(struct buffer *out, int64_t seconds); /* "2 days", "3 min" */
/* <time> with "3 min ago", "now"; "never" for 0. Both are wall seconds. */
void html_ago(struct buffer *out, int64_t then_s, int64_t now_s);

/* Appends a template, and calls `fill` for each {{name}} in it. */
void html_fill(struct buffer *out, struct text template,
               void (*fill)(void *context, struct text name, struct buffer *out), void *context);

/* Appends the page with the visitor's host in place of each HTML_HOST. */
void html_put_host(struct buffer *out, struct text page, const char *host);

#endif
