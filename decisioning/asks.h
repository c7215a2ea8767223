/* What one extension asks another: the scores of a model that was made ready for the offers of a surface.
 *
 * `decisioning._decide` asks; who answers (models/_score.c) gives it in a capsule of the name below, which keeps alive
 * all that it needs.
 */
#ifndef SEGUE_ASKS_H
#define SEGUE_ASKS_H
#include <Python.h>
#include <stdint.h>

#define ASKS "decisioning.asks"

typedef struct Asks {
    /* Writes p_convert, and the effect where `has_effect`, of the offers at `count` places among those that this was
     * made for. `known` is a dict of values by name; `memory` has room for `room` numbers of eight bytes. 1: done; 0: it
     * can't say, and Python has to ask the model; -1: an error. It may run Python code. */
    int (*ask)(const struct Asks *self, PyObject *known, const int64_t *places, Py_ssize_t count, double *p_convert,
               double *effect, double *memory);
    Py_ssize_t offers; /* that it was made for: no place is as high */
    Py_ssize_t room;
    int has_effect; /* else it is p_convert itself */
} Asks;

#endif
