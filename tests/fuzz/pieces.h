/* An input that is what several readers read one after the other: pieces with a NUL byte between.
 */
#ifndef PIECES_H
#define PIECES_H

#include "base/text.h"

static struct text rest; /* what is not read yet */

static struct text next_piece(void) {
    struct text piece = text_cut(rest, '\0', &rest);
    return piece.at ? piece : (struct text){"", 0};
}

#endif
