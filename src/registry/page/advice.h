/* What to do about a failure of an upstream, in a sentence. Pure; any thread. */
#ifndef PAGE_ADVICE_H
#define PAGE_ADVICE_H

/* `status` is that of the response to the client, 0: none; `text` its message, or the reason for
 * which the upstream is left alone. Never NULL. */
const char *advice_for(int status, const char *text);

#endif
