/* The events of a user's past, counted. decisioning/tallies.py says what is right; this gives the same, and leaves to it
 * whatever is not of the usual types (its object is the `twin`). What a kind of event bears on is in `bearings.h`.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bearings.h"
#include "records.h"

#define VERSION 1 /* of what Python and this ask of one another: decisioning/tallies.py has the same */

#define FEW 64 /* events: what needs no memory of its own */

typedef struct {
    const Bearing *bearing;
    double at;
} Seen;

/* Room for as much as is wanted: `here`, where that is large enough. To be given back to `leave`. NULL for an error. */
static void *room(void *here, size_t fits, size_t wanted)
{
    void *found = wanted <= fits ? here : PyMem_Malloc(wanted);
    return found ? found : PyErr_NoMemory();
}

static void leave(const void *here, void *found)
{
    if (found != here) PyMem_Free(found);
}

#define SLOT(event, offset) (*(PyObject **)((char *)(event) + (offset)))

/* Looks at one event. */
static int see(Tallies *self, PyObject *event, Seen *seen)
{
    if (!Py_IS_TYPE(event, self->event)) return UNUSUAL;
    PyObject *type = SLOT(event, self->type), *offer = SLOT(event, self->offer);
    PyObject *surface = SLOT(event, self->surface), *at = SLOT(event, self->at);
    if (!type || !offer || !surface || !at || !PyUnicode_CheckExact(type) || !PyUnicode_CheckExact(offer) ||
        !PyUnicode_CheckExact(surface) || !PyFloat_CheckExact(at) || isnan(PyFloat_AS_DOUBLE(at)))
        return UNUSUAL;
    const Py_hash_t first = PyObject_Hash(type), second = PyObject_Hash(offer), third = PyObject_Hash(surface);
    if (first == -1 || second == -1 || third == -1) return FAILED;
    const Py_hash_t hash = (Py_hash_t)(((size_t)first * 1000003u ^ (size_t)second) * 1000003u ^ (size_t)third);
    seen->at = PyFloat_AS_DOUBLE(at);
    const Kind *kind = place_of(self, hash, type, offer, surface);
    if (kind->bearing) return seen->bearing = kind->bearing, FINE;
    if (self->used >= self->limit) return UNUSUAL;
    Py_INCREF(type), Py_INCREF(offer), Py_INCREF(surface);
    seen->bearing = learn(self, hash, type, offer, surface);
    Py_DECREF(type), Py_DECREF(offer), Py_DECREF(surface);
    return seen->bearing ? FINE : FAILED;
}

/* All events of a tuple, where there are FEW of them `here`, else in a room of their own. */
static int see_all(Tallies *self, PyObject *history, PyObject *now, Seen *here, Seen **all)
{
    if (!PyTuple_CheckExact(history) || !PyFloat_CheckExact(now)) return UNUSUAL;
    if (!(*all = room(here, FEW * sizeof(Seen), PyTuple_GET_SIZE(history) * sizeof(Seen)))) return FAILED;
    int state = FINE;
    for (Py_ssize_t i = 0; state == FINE && i < PyTuple_GET_SIZE(history); i++)
        state = see(self, PyTuple_GET_ITEM(history, i), *all + i);
    if (state != FINE) leave(here, *all);
    return state;
}

/* The tallies that an event adds to: as bisect_right, which puts an age that is none behind all windows. */
static const int *added_by(const Seen *seen, double now, const int **end)
{
    const Bearing *bearing = seen->bearing;
    const double age = now - seen->at;
    int cell = 0;
    while (cell < bearing->n && !(age < bearing->windows[cell])) cell++;
    *end = bearing->numbers + bearing->starts[cell + 1];
    return bearing->numbers + bearing->starts[cell];
}

/* --- Counting ------------------------------------------------------------------------------------------------------- */

static int by_number(const void *a, const void *b)
{
    const double one = *(const double *)a, other = *(const double *)b;
    return (one > other) - (one < other);
}

/* Whether the events of a silence lie close enough to one another, and it lasts; `times` has room for all. */
static int is_silent(const Tally *tally, int number, const Seen *seen, Py_ssize_t n, double now, double *times)
{
    Py_ssize_t found = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        const Bearing *bearing = seen[i].bearing;
        for (int k = bearing->starts[0]; k < bearing->starts[1]; k++)
            if (bearing->numbers[k] == number) {
                times[found++] = now < seen[i].at ? now : seen[i].at;
                break;
            }
    }
    qsort(times, found, sizeof(double), by_number);
    for (Py_ssize_t last = found - 1; last > tally->need - 2; last--)
        if (isnan(tally->within) || times[last] - times[last - tally->need + 1] <= tally->within)
            return times[last] + tally->lasts > now;
    return 0;
}

typedef struct {
    Py_ssize_t rule;
    int number;
} Reached;

static int by_rule(const void *a, const void *b)
{
    const Reached *one = a, *other = b;
    return (one->rule > other->rule) - (one->rule < other->rule);
}

/* Counts; nothing of Python's is made or called here. Returns how many tallies are full. */
static Py_ssize_t count(Tallies *self, const Seen *seen, Py_ssize_t n, double now, double *times, Reached *reached)
{
    Py_ssize_t touched = 0, full = 0;
    const int *number, *end;
    for (Py_ssize_t i = 0; i < n; i++)
        for (number = added_by(seen + i, now, &end); number < end; number++)
            if (self->counts[*number]++ == 0) reached[touched++].number = *number;
    for (Py_ssize_t i = 0; i < touched; i++) {
        const int one = reached[i].number;
        const Tally *tally = self->tallies + one;
        const int is_full = self->counts[one] >= tally->need;
        self->counts[one] = 0;
        if (is_full && (!tally->is_silence || is_silent(tally, one, seen, n, now, times)))
            reached[full++] = (Reached){tally->rule, one};
    }
    if (full > 1) qsort(reached, full, sizeof(Reached), by_rule);
    return full;
}

/* What one rule drops, of what it drops anyway and of its full tallies; None for nothing. */
static PyObject *drop_of(const Tallies *self, Py_ssize_t rule, PyObject *shut, const Reached *from, const Reached *until)
{
    if (shut == Py_None && from == until) Py_RETURN_NONE;
    if (shut == Py_None && until - from == 1) return Py_NewRef(self->tallies[from->number].drop);
    PyObject *bits = Py_NewRef(shut == Py_None ? self->tallies[from->number].bits : shut);
    for (; bits && from < until; from++) Py_SETREF(bits, PyNumber_Or(bits, self->tallies[from->number].bits));
    PyObject *head = PyTuple_GET_ITEM(self->heads, rule);
    return bits ? Py_BuildValue("(OON)", PyTuple_GET_ITEM(head, 0), PyTuple_GET_ITEM(head, 1), bits) : NULL;
}

static PyObject *listed(const Tallies *self, PyObject *shut, const Reached *reached, Py_ssize_t full)
{
    PyObject *out = PyList_New(0);
    const Reached *from = reached;
    for (Py_ssize_t rule = 0; out && rule < PyTuple_GET_SIZE(self->heads); rule++) {
        const Reached *until = from;
        while (until < reached + full && until->rule == rule) until++;
        PyObject *drop = drop_of(self, rule, PyTuple_GET_ITEM(shut, rule), from, until);
        if (!drop || (drop != Py_None && PyList_Append(out, drop) < 0)) Py_CLEAR(out);
        Py_XDECREF(drop);
        from = until;
    }
    return out;
}

/* drops(history, now, shut) */
static PyObject *tallies_drops(PyObject *object, PyObject *const *args, Py_ssize_t n_args)
{
    Tallies *self = (Tallies *)object;
    Seen few[FEW], *seen;
    if (n_args != 3 || !PyTuple_CheckExact(args[2]) || PyTuple_GET_SIZE(args[2]) != PyTuple_GET_SIZE(self->heads))
        return PyErr_Format(PyExc_TypeError, "drops takes a history, a moment, and what each rule drops anyway");
    const int state = see_all(self, args[0], args[1], few, &seen);
    if (state == FAILED) return NULL;
    if (state == UNUSUAL)
        return PyObject_CallMethod(self->twin, "drops", "OOO", args[0], args[1], args[2]);
    const Py_ssize_t n = PyTuple_GET_SIZE(args[0]);
    Reached some[4 * FEW], *reached = room(some, sizeof some, self->n_tallies * sizeof(Reached));
    double moments[FEW], *times = room(moments, sizeof moments, n * sizeof(double));
    PyObject *out = NULL;
    if (reached && times)
        out = listed(self, args[2], reached, count(self, seen, n, PyFloat_AS_DOUBLE(args[1]), times, reached));
    leave(moments, times);
    leave(some, reached);
    leave(few, seen);
    return out;
}

/* added(history, now) */
static PyObject *tallies_added(PyObject *object, PyObject *const *args, Py_ssize_t n_args)
{
    Tallies *self = (Tallies *)object;
    Seen few[FEW], *seen;
    if (n_args != 2) return PyErr_Format(PyExc_TypeError, "added takes a history and a moment");
    const int state = see_all(self, args[0], args[1], few, &seen);
    if (state == FAILED) return NULL;
    if (state == UNUSUAL) return PyObject_CallMethod(self->twin, "added", "OO", args[0], args[1]);
    PyObject *out = PyList_New(0);
    const int *number, *end;
    for (Py_ssize_t i = 0; out && i < PyTuple_GET_SIZE(args[0]); i++)
        for (number = added_by(seen + i, PyFloat_AS_DOUBLE(args[1]), &end); out && number < end; number++) {
            PyObject *one = PyLong_FromLong(*number);
            if (!one || PyList_Append(out, one) < 0) Py_CLEAR(out);
            Py_XDECREF(one);
        }
    leave(few, seen);
    return out;
}

/* --- Making one ------------------------------------------------------------------------------------------------------- */

/* The stage and position of each rule. NULL for an error. */
static PyObject *heads_of(PyObject *rules)
{
    PyObject *heads = PyTuple_Check(rules) ? PyTuple_New(PyTuple_GET_SIZE(rules)) : NULL;
    if (!heads && !PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "rules are a tuple");
    for (Py_ssize_t i = 0; heads && i < PyTuple_GET_SIZE(heads); i++) {
        PyObject *rule = PyTuple_GET_ITEM(rules, i), *head = PySequence_GetSlice(rule, 0, 2);
        if (head && PyTuple_CheckExact(head) && PyTuple_GET_SIZE(head) == 2) {
            PyTuple_SET_ITEM(heads, i, head);
            continue;
        }
        if (head) PyErr_SetString(PyExc_TypeError, "a rule begins with its stage and its position");
        Py_XDECREF(head);
        Py_CLEAR(heads);
    }
    return heads;
}

static PyObject *tallies_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    PyObject *twin, *rules;
    PyTypeObject *event;
    Py_ssize_t limit;
    if (!PyArg_ParseTuple(args, "OO!n", &twin, &PyType_Type, &event, &limit)) return NULL;
    Tallies *self = (Tallies *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->twin = Py_NewRef(twin), self->event = (PyTypeObject *)Py_NewRef(event), self->limit = limit;
    self->size = 16;
    if (!(self->kinds = PyMem_Calloc(self->size, sizeof(Kind)))) PyErr_NoMemory();
    self->look_up = PyErr_Occurred() ? NULL : PyObject_GetAttrString(twin, "look_up");
    self->told = self->look_up ? PyObject_GetAttrString(twin, "tallies") : NULL;
    if (self->told && !PyList_CheckExact(self->told)) PyErr_SetString(PyExc_TypeError, "tallies are a list");
    if (self->told && !PyErr_Occurred() && (rules = PyObject_GetAttrString(twin, "rules"))) {
        self->heads = heads_of(rules);
        Py_DECREF(rules);
    }
    if (!self->heads || (self->at = offset_of(event, "at")) < 0 || (self->type = offset_of(event, "type")) < 0 ||
        (self->offer = offset_of(event, "offer")) < 0 || (self->surface = offset_of(event, "surface")) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void tallies_dealloc(PyObject *object)
{
    Tallies *self = (Tallies *)object;
    for (Kind *kind = self->kinds; self->kinds && kind < self->kinds + self->size; kind++)
        if (kind->bearing) {
            Py_DECREF(kind->type), Py_DECREF(kind->offer), Py_DECREF(kind->surface);
            PyMem_Free(kind->bearing);
        }
    for (Py_ssize_t i = 0; i < self->n_tallies; i++) {
        Py_DECREF(self->tallies[i].bits);
        Py_DECREF(self->tallies[i].drop);
    }
    PyMem_Free(self->kinds), PyMem_Free(self->tallies), PyMem_Free(self->counts);
    Py_XDECREF(self->twin), Py_XDECREF(self->look_up), Py_XDECREF(self->told), Py_XDECREF(self->heads);
    Py_XDECREF(self->event);
    Py_TYPE(object)->tp_free(object);
}

static PyMethodDef methods[] = {
    {"drops", (PyCFunction)(void (*)(void))tallies_drops, METH_FASTCALL, "What each rule drops."},
    {"added", (PyCFunction)(void (*)(void))tallies_added, METH_FASTCALL, "What the events add to."},
    {NULL, NULL, 0, NULL}};

static PyTypeObject TalliesType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "decisioning._tallies.Tallies",
    .tp_basicsize = sizeof(Tallies),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = tallies_new,
    .tp_dealloc = tallies_dealloc,
    .tp_methods = methods,
    .tp_doc = "Counts the events of a user's past.",
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_tallies", "A user's past, counted.", -1, NULL};

PyMODINIT_FUNC PyInit__tallies(void)
{
    if (PyType_Ready(&TalliesType) < 0) return NULL;
    PyObject *made = PyModule_Create(&module);
    if (made && (PyModule_AddObjectRef(made, "Tallies", (PyObject *)&TalliesType) < 0 ||
                 PyModule_AddIntConstant(made, "VERSION", VERSION) < 0))
        Py_CLEAR(made);
    return made;
}
