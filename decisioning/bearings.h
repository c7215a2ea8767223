/* What kinds of events bear on, as decisioning/tallies.py tells it: learned once for each kind, and kept in one place.
 *
 * Python code runs in `learn` alone, and wherever an object is made (the garbage collector). Nothing that it could
 * change is held across that: bearings are never let go of before their owner, and tallies only grow.
 */
#ifndef SEGUE_BEARINGS_H
#define SEGUE_BEARINGS_H
#include <Python.h>
#include <limits.h>
#include <math.h>
#include <string.h>

typedef struct {
    int n; /* windows, rising */
    const double *windows;
    const int *starts;  /* of n + 2 cells among the numbers, the last one for the end */
    const int *numbers; /* of tallies */
} Bearing;

typedef struct {
    Py_hash_t hash;
    PyObject *type, *offer, *surface;
    Bearing *bearing; /* NULL: nothing here */
} Kind;

typedef struct {
    Py_ssize_t need, rule;
    PyObject *bits, *drop;
    int is_silence;
    double within, lasts; /* of a silence */
} Tally;

typedef struct {
    PyObject_HEAD
    PyObject *twin, *look_up, *told; /* `told`: the twin's list of tallies */
    PyObject *heads;                 /* the stage and position of each rule */
    PyTypeObject *event;
    Py_ssize_t at, type, offer, surface; /* where an event has them */
    Kind *kinds;                         /* open addressing; the size is a power of two */
    Py_ssize_t size, used, limit;
    Tally *tallies;
    Py_ssize_t n_tallies;
    int *counts; /* by tally; all zero between calls */
} Tallies;

enum { FAILED = -1, UNUSUAL = 0, FINE = 1 };

/* --- What kinds of events bear on ----------------------------------------------------------------------------------- */

static Kind *place_of(const Tallies *self, Py_hash_t hash, PyObject *type, PyObject *offer, PyObject *surface)
{
    for (size_t i = (size_t)hash;; i++) {
        Kind *kind = self->kinds + (i & (size_t)(self->size - 1));
        if (!kind->bearing) return kind;
        if (kind->hash == hash && (kind->offer == offer || !PyUnicode_Compare(kind->offer, offer)) &&
            (kind->type == type || !PyUnicode_Compare(kind->type, type)) &&
            (kind->surface == surface || !PyUnicode_Compare(kind->surface, surface)))
            return kind;
    }
}

static int grow(Tallies *self)
{
    Kind *before = self->kinds;
    const Py_ssize_t size = self->size;
    Kind *kinds = PyMem_Calloc(2 * size, sizeof(Kind));
    if (!kinds) return PyErr_NoMemory(), FAILED;
    self->kinds = kinds, self->size = 2 * size;
    for (Kind *kind = before; kind < before + size; kind++)
        if (kind->bearing) *place_of(self, kind->hash, kind->type, kind->offer, kind->surface) = *kind;
    PyMem_Free(before);
    return FINE;
}

/* One of the twin's tallies; what it holds is new. */
static int read_tally(const Tallies *self, PyObject *told, Tally *found)
{
    PyObject *silence;
    if (!PyTuple_Check(told)) return PyErr_SetString(PyExc_TypeError, "a tally is a tuple"), FAILED;
    if (!PyArg_ParseTuple(told, "nnO!O", &found->need, &found->rule, &PyLong_Type, &found->bits,
                                                  &silence))
        return FAILED;
    if (found->rule < 0 || found->rule >= PyTuple_GET_SIZE(self->heads))
        return PyErr_SetString(PyExc_ValueError, "a tally is of no rule"), FAILED;
    if ((found->is_silence = silence != Py_None)) {
        if (found->need < 1) return PyErr_SetString(PyExc_ValueError, "a silence needs events"), FAILED;
        PyObject *within = PyObject_GetAttrString(silence, "within"), *lasts = PyObject_GetAttrString(silence, "lasts");
        found->within = within && within != Py_None ? PyFloat_AsDouble(within) : NAN;
        found->lasts = lasts ? PyFloat_AsDouble(lasts) : NAN;
        Py_XDECREF(within), Py_XDECREF(lasts);
        if (PyErr_Occurred()) return FAILED;
    }
    PyObject *head = PyTuple_GET_ITEM(self->heads, found->rule);
    found->drop = Py_BuildValue("(OOO)", PyTuple_GET_ITEM(head, 0), PyTuple_GET_ITEM(head, 1), found->bits);
    Py_XINCREF(found->drop ? found->bits : NULL);
    return found->drop ? FINE : FAILED;
}

/* Takes over the tallies that the twin has learned of. */
static int catch_up(Tallies *self)
{
    const Py_ssize_t n = PyList_GET_SIZE(self->told), had = self->n_tallies;
    if (n <= had) return FINE;
    int *counts = PyMem_Realloc(self->counts, n * sizeof(int));
    if (counts) self->counts = counts, memset(counts + had, 0, (n - had) * sizeof(int));
    Tally *tallies = PyMem_Realloc(self->tallies, n * sizeof(Tally));
    if (tallies) self->tallies = tallies;
    if (!counts || !tallies) return PyErr_NoMemory(), FAILED;
    for (Py_ssize_t i = had; i < n; i++) {
        Tally found;
        PyObject *told = PyList_GetItem(self->told, i);
        Py_XINCREF(told);
        const int state = told ? read_tally(self, told, &found) : FAILED;
        Py_XDECREF(told);
        if (state == FAILED) return FAILED;
        if (i == self->n_tallies) {
            tallies = self->tallies, tallies[self->n_tallies++] = found;
            continue;
        }
        Py_DECREF(found.bits), Py_DECREF(found.drop); /* another thread was faster */
    }
    return FINE;
}

/* A bearing in one piece of memory, of what Python says. NULL for an error. */
static Bearing *written(const Tallies *self, PyObject *windows, PyObject *cells)
{
    const Py_ssize_t n = PyTuple_GET_SIZE(windows);
    Py_ssize_t numbers = 0;
    int fine = PyTuple_GET_SIZE(cells) == n + 1 && n < INT_MAX / 2;
    for (Py_ssize_t i = 0; fine && i <= n; i++) {
        fine = PyTuple_CheckExact(PyTuple_GET_ITEM(cells, i));
        numbers += fine ? PyTuple_GET_SIZE(PyTuple_GET_ITEM(cells, i)) : 0;
    }
    fine = fine && numbers < INT_MAX / 2;
    if (!fine) return PyErr_SetString(PyExc_ValueError, "a bearing has other cells than windows"), NULL;
    Bearing *bearing = PyMem_Malloc(sizeof(Bearing) + n * sizeof(double) + (n + 2 + numbers) * sizeof(int));
    if (!bearing) return (Bearing *)PyErr_NoMemory();
    double *window = (double *)(bearing + 1);
    int *starts = (int *)(window + n), *number = starts + n + 2;
    *bearing = (Bearing){.n = (int)n, .windows = window, .starts = starts, .numbers = number};
    for (Py_ssize_t i = 0; i < n; i++) window[i] = PyFloat_AsDouble(PyTuple_GET_ITEM(windows, i));
    for (Py_ssize_t i = 0; i <= n; i++) {
        PyObject *cell = PyTuple_GET_ITEM(cells, i);
        starts[i] = (int)(number - bearing->numbers);
        for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(cell); k++) {
            const Py_ssize_t tally = PyLong_AsSsize_t(PyTuple_GET_ITEM(cell, k));
            fine = fine && tally >= 0 && tally < self->n_tallies;
            *number++ = (int)tally;
        }
    }
    starts[n + 1] = (int)(number - bearing->numbers);
    if (fine && !PyErr_Occurred()) return bearing;
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "a bearing names no tally");
    PyMem_Free(bearing);
    return NULL;
}

/* What Python makes of a kind of event. NULL for an error. */
static const Bearing *learn(Tallies *self, Py_hash_t hash, PyObject *type, PyObject *offer, PyObject *surface)
{
    PyObject *windows, *cells;
    PyObject *told = PyObject_CallFunctionObjArgs(self->look_up, type, offer, surface, NULL);
    Bearing *bearing = NULL;
    if (told && catch_up(self) == FINE) {
        if (!PyTuple_Check(told))
            PyErr_SetString(PyExc_TypeError, "a bearing is a pair");
        else if (PyArg_ParseTuple(told, "O!O!", &PyTuple_Type, &windows, &PyTuple_Type, &cells))
            bearing = written(self, windows, cells);
    }
    Py_XDECREF(told);
    if (!bearing) return NULL;
    if (2 * self->used >= self->size && grow(self) == FAILED) return PyMem_Free(bearing), NULL;
    Kind *kind = place_of(self, hash, type, offer, surface);
    if (kind->bearing) return PyMem_Free(bearing), kind->bearing; /* another thread was faster */
    *kind = (Kind){hash, Py_NewRef(type), Py_NewRef(offer), Py_NewRef(surface), bearing};
    self->used++;
    return bearing;
}

#endif
