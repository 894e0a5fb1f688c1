/* Says what to do about a failure of an upstream. */
#include "registry/page/advice.h"

#include <stddef.h>
#include <string.h>

/* By words in the message: the first that fits decides. */
static const struct {
    const char *words, *advice;
} by_words[] = {
    {"no such host", "Check the registry's name, and the DNS of this machine."},
    {"certificate", "Give the registry's authorities as ca_file, and check this machine's clock."},
    {"wrong bytes", "Look for a proxy that answers in the registry's place, or a broken mirror."},
    {"disk is full", "Free space on the disk, or lower max_size."},
    {"its log says why", "Look into tarn's log."},
    {"too many", "Wait; if it goes on, raise max_flights or waiting_per_upstream."},
    {"no response in time",
     "Check the way to the registry; raise first_byte_timeout if it is just slow."},
    {"no connection", "Check that the registry runs, and that a firewall or proxy lets tarn out."},
    {"no response", "Check that the registry runs, and that a firewall or proxy lets tarn out."},
};

const char *advice_for(int status, const char *text) {
    for (size_t i = 0; i < sizeof by_words / sizeof *by_words; i++) {
        if (strstr(text, by_words[i].words))
            return by_words[i].advice;
    }
    switch (status) {
    case 403:
        return "Check the credentials of this upstream: tarn whoami shows which are used.";
    case 429:
        return "Wait; with credentials of an account the registry allows more.";
    case 502:
    case 503:
        return "Wait, or look at the registry's own state; what is cached is served meanwhile.";
    case 504:
        return "Check the way to the registry; raise first_byte_timeout if it is just slow.";
    default:
        return "Look into tarn's log.";
    }
}
