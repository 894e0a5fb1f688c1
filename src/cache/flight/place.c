/* What all kinds of places have in common. */
#include "cache/flight/place.h"

void place_finish(struct place *place) {
    place->kind->finish(place);
}

void place_move(struct place *place, unsigned location) {
    atomic_store(&place->location, location);
    place->kind->reset(place);
}
