/* Durations as Go programs read them from YAML. Private to config/. */
#ifndef CONFIG_GO_DURATION_H
#define CONFIG_GO_DURATION_H

#include <stdbool.h>
#include <stdint.h>
#include "base/text.h"

/* "168h", "1h30m", "1.5h", "250ms", "-1s"; a number alone is of nanoseconds. Milliseconds, rounded
 * up. False: no duration, or too long for Go (292 years); *ms stays as it was. */
bool go_duration_parse(struct text text, int64_t *ms);

#endif
