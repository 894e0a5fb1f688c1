/* The table of the settings of tarn node. */
#include "config/checks.h"
#include "config/options.h"
#include "config/reader.h"
#include "config/words.h"

#define NODE(member)                                                                               \
    .group = CONFIG_NODE, .offset = offsetof(struct config_loaded, config.member),                 \
    .size = sizeof(((struct config_loaded *)0)->config.member)

static const struct config_option options[] = {
    {.key = "from",
     .type = CONFIG_LIST,
     .placeholder = "URL",
     NODE(node.spans.from),
     .least = 1,
     .check = config_check_url,
     .help = "URLs of the tarns that images come from, asked in this order; https, or http on this "
             "machine",
     .details = "The login is the one that Docker's config.json has for the URL's host."},
    {.key = "root",
     .type = CONFIG_STRING,
     .placeholder = "FOLDER",
     NODE(node.spans.root),
     .check = config_check_any,
     .help = "folder of what was fetched, of what is written to mounts, and of the list of mounts",
     .details = "It must not be on a mount of tarn."},
    {.key = "run",
     .type = CONFIG_STRING,
     .placeholder = "FOLDER",
     NODE(node.run),
     .check = config_check_any,
     .help = "folder of the sockets, and of mounts that only tarn itself uses"},
    {.key = "listen",
     .type = CONFIG_LIST,
     .placeholder = "ADDRESS",
     NODE(node.listen),
     .check = config_check_address,
     .help = "addresses that serve /livez, /readyz and /metrics"},
    {.key = "cache_size",
     .type = CONFIG_SIZE,
     NODE(node.spans.cache_size),
     .least = 1 << 20,
     .help = "bytes on the disk of what was fetched; with fewer than an image has, parts of it are "
             "fetched again"},
    {.key = "background",
     .type = CONFIG_SIZE,
     NODE(node.spans.background),
     .help = "bytes a second at which the rest of an image is fetched while it is in use; 0: it is "
             "not"},
    {.key = "wait",
     .type = CONFIG_DURATION,
     NODE(node.spans.wait_ms),
     .least = 1,
     .most = 86400000,
     .help = "how long a read waits while no source answers, before it fails"},
    {.key = "trace",
     .type = CONFIG_BOOLEAN,
     NODE(node.spans.trace),
     .help = "whether what a start reads is recorded, and fetched ahead at the next start"},
    {.key = "trace_time",
     .type = CONFIG_DURATION,
     NODE(node.spans.trace_time_ms),
     .least = 1,
     .most = 3600000,
     .help = "how long a start is recorded"},
    {.key = "log.level",
     .type = CONFIG_CHOICE,
     .placeholder = "LEVEL",
     NODE(log_level),
     .choices = config_log_levels,
     .help = "the least important level that is logged"},
    {.key = "log.format",
     .type = CONFIG_CHOICE,
     .placeholder = "FORMAT",
     NODE(log_format),
     .choices = config_log_formats,
     .help = "format of the log's lines, for people or for collectors"},
    {.key = "confine",
     .type = CONFIG_CHOICE,
     .placeholder = "MODE",
     NODE(confine),
     .choices = config_confine_modes,
     .help = "whether the process that answers reads gives up the rights that it does not need",
     .details = "It then writes only below root and run, mounts nothing itself, and starts no "
                "programs (unless a credential helper is configured). auto: as far as the kernel "
                "offers it. require: all of it, or tarn does not start."},
};
_Static_assert(sizeof options / sizeof *options <= OPTION_LIMIT,
               "config_loaded.set_at is too small");

const struct config_document config_node_document = {options, sizeof options / sizeof *options,
                                                     "TARN_NODE_", "TARN_NODE_CONFIG"};
