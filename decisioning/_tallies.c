/* The events of a user's past, counted. decisioning/tallies.py says what is right; this gives the same, and leaves to it
 * whatever is not of the usual types (its object is the `twin`). What a kind of event bears on is asked of Python once.
 *
 * Python code runs in `learn` alone, and wherever an object is made (the garbage collector). Nothing that it could
 * change is held across that: bearings are never let go of before their owner, and tallies only grow.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <structmember.h>

#define VERSION 1 /* of what Python and this ask of one another: decisioning/tallies.py has the same */

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

typedef struct {
    const Bearing *bearing;
    double at;
} Seen;

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

/* All events of a tuple, into memory that is to be freed. */
static int see_all(Tallies *self, PyObject *history, PyObject *now, Seen **all)
{
    *all = NULL;
    if (!PyTuple_CheckExact(history) || !PyFloat_CheckExact(now)) return UNUSUAL;
    if (!(*all = PyMem_Calloc(PyTuple_GET_SIZE(history) + 1, sizeof(Seen)))) return PyErr_NoMemory(), FAILED;
    int state = FINE;
    for (Py_ssize_t i = 0; state == FINE && i < PyTuple_GET_SIZE(history); i++)
        state = see(self, PyTuple_GET_ITEM(history, i), *all + i);
    if (state != FINE) PyMem_Free(*all), *all = NULL;
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
    qsort(reached, full, sizeof(Reached), by_rule);
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
    Seen *seen;
    if (n_args != 3 || !PyTuple_CheckExact(args[2]) || PyTuple_GET_SIZE(args[2]) != PyTuple_GET_SIZE(self->heads))
        return PyErr_Format(PyExc_TypeError, "drops takes a history, a moment, and what each rule drops anyway");
    const int state = see_all(self, args[0], args[1], &seen);
    if (state == FAILED) return NULL;
    if (state == UNUSUAL)
        return PyObject_CallMethod(self->twin, "drops", "OOO", args[0], args[1], args[2]);
    const Py_ssize_t n = PyTuple_GET_SIZE(args[0]);
    Reached *reached = PyMem_Malloc((self->n_tallies + 1) * sizeof(Reached));
    double *times = PyMem_Malloc((n + 1) * sizeof(double));
    PyObject *out = NULL;
    if (reached && times)
        out = listed(self, args[2], reached, count(self, seen, n, PyFloat_AS_DOUBLE(args[1]), times, reached));
    else
        PyErr_NoMemory();
    PyMem_Free(times);
    PyMem_Free(reached);
    PyMem_Free(seen);
    return out;
}

/* added(history, now) */
static PyObject *tallies_added(PyObject *object, PyObject *const *args, Py_ssize_t n_args)
{
    Tallies *self = (Tallies *)object;
    Seen *seen;
    if (n_args != 2) return PyErr_Format(PyExc_TypeError, "added takes a history and a moment");
    const int state = see_all(self, args[0], args[1], &seen);
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
    PyMem_Free(seen);
    return out;
}

/* --- Making one ------------------------------------------------------------------------------------------------------- */

/* Where events keep an attribute. -1 for an error. */
static Py_ssize_t offset_of(PyTypeObject *type, const char *name)
{
    PyObject *slot = PyObject_GetAttrString((PyObject *)type, name);
    Py_ssize_t offset = -1;
    if (slot && Py_IS_TYPE(slot, &PyMemberDescr_Type) && ((PyMemberDescrObject *)slot)->d_member->type == T_OBJECT_EX)
        offset = ((PyMemberDescrObject *)slot)->d_member->offset;
    if (slot && offset < 0) PyErr_Format(PyExc_TypeError, "events keep no %s in a slot", name);
    Py_XDECREF(slot);
    return offset;
}

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
