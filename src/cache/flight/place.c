/* What all kinds of places have in common. */
#include "cache/flight/place.h"

void place_finish(struct place *place) {
    place->kind->finish(place);
}

void place_move(struct place *place, unsigned location) {
    atomic_store(&place->location, location);
    place->kind->reset(place);
}

enum retry_failure place_judge_leniently(const struct error *error) {
    return error->kind == ERROR_INVALID ? FAILURE_LASTING : retry_classify(error);
}

void place_lower_never(struct place *place, unsigned others) {
    (void)place;
    (void)others;
}

void place_keeps_nothing(struct place *place) {
    (void)place;
}
