/* What a surface's examiner knows, and how it is told: decisioning/by_examiner.py tells it, once for each release. All is
 * checked here, so that `_examine.c` has to check no more than what a request brings.
 */
#ifndef SEGUE_EXAMINER_H
#define SEGUE_EXAMINER_H
#include <Python.h>
#include <stdint.h>

#include "bits.h"
#include "cases.h"
#include "records.h"

#define LARGEST 512 /* words of a set: 32,768 conditions */
#define MOST_BUDGETS 256

typedef struct {
    PyObject *name, *drop;
    double starts, until, impressions;
    int is_even, is_hard;
} Budget;

enum { CASES, SCREENS, REQUESTS, ALL_FACTS, RECORDS };
enum { KNOWN, MERGE, BUCKET, EVALUATE, PAST, LIMITS, ARMS, TWIN, CALLS }; /* MERGE and LIMITS: or None */
enum { PLAN, HOLDOUTS, BUCKETS, KILLED_HEAD, EXCLUDED_HEAD, ELIGIBLE_HEAD, LIVE_STARTS, LIVE_DROPS,
       RULE_DROPS, SHUT, CLOSED, HISTORY_NAME, TOLD };

typedef struct {
    PyObject_HEAD
    Record records[RECORDS];
    PyObject *calls[CALLS], *told[TOLD];
    Budget *budgets;
    Py_ssize_t n_budgets, own, offers, rules, weights, conditions; /* `own`: of the offers, those that compete here */
    uint64_t *wanted; /* by rule: what its condition has to be */
    double freshest;
} Examiner;

enum { FAILED = -1, FINE = 0, UNUSUAL = 1 };

static const char *const *const FIELDS[RECORDS] = {CASE, SCREEN, REQUEST, FACTS};

/* --- Making and checking ---------------------------------------------------------------------------------------------- */

static const char *const RECORD_NAMES[RECORDS] = {"case", "screen", "request", "facts"};
static const char *const CALL_NAMES[CALLS] = {"known", "merge", "bucket", "evaluate", "past", "limits", "arms", "twin"};
static const struct {
    const char *name;
    PyTypeObject *type;
} TOLD_NAMES[TOLD] = {
    [PLAN] = {"plan", &PyBaseObject_Type},
    [HOLDOUTS] = {"holdouts", &PyTuple_Type},
    [BUCKETS] = {"buckets", &PyLong_Type},
    [KILLED_HEAD] = {"killed", &PyTuple_Type},
    [EXCLUDED_HEAD] = {"excluded", &PyTuple_Type},
    [ELIGIBLE_HEAD] = {"eligible", &PyTuple_Type},
    [LIVE_STARTS] = {"live_starts", &PyBytes_Type},
    [LIVE_DROPS] = {"live_drops", &PyTuple_Type},
    [RULE_DROPS] = {"rule_drops", &PyTuple_Type},
    [SHUT] = {"shut", &PyTuple_Type},
    [CLOSED] = {"closed", &PyTuple_Type},
    [HISTORY_NAME] = {"history", &PyUnicode_Type},
};

static int refuse(const char *why)
{
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, why);
    return FAILED;
}

/* What was told by a name, borrowed. NULL for an error. */
static PyObject *told_as(PyObject *keywords, const char *name, PyTypeObject *type)
{
    PyObject *found = keywords ? PyDict_GetItemString(keywords, name) : NULL;
    if (found && PyObject_TypeCheck(found, type)) return found;
    return PyErr_Format(PyExc_TypeError, "%s is not told, or is no %s", name, type->tp_name);
}

static int read_all(Examiner *self, PyObject *keywords)
{
    PyObject *found;
    for (int i = 0; i < RECORDS; i++) {
        if (!(found = told_as(keywords, RECORD_NAMES[i], &PyType_Type))) return FAILED;
        if (record_of(found, FIELDS[i], self->records + i) < 0) return FAILED;
    }
    for (int i = 0; i < CALLS; i++) {
        if (!(found = told_as(keywords, CALL_NAMES[i], &PyBaseObject_Type))) return FAILED;
        self->calls[i] = Py_NewRef(found);
    }
    for (int i = 0; i < TOLD; i++) {
        if (!(found = told_as(keywords, TOLD_NAMES[i].name, TOLD_NAMES[i].type))) return FAILED;
        self->told[i] = Py_NewRef(found);
    }
    return FINE;
}

/* Whether a tuple has so many tuples of a size in it; some may be None. */
static int is_of(PyObject *tuple, Py_ssize_t many, Py_ssize_t size, int or_none)
{
    int fine = PyTuple_GET_SIZE(tuple) == many;
    for (Py_ssize_t i = 0; fine && i < many; i++) {
        PyObject *one = PyTuple_GET_ITEM(tuple, i);
        fine = (or_none && one == Py_None) || (PyTuple_CheckExact(one) && PyTuple_GET_SIZE(one) == size);
    }
    return fine;
}

/* How many there are of what; and what rules want, whose bits are no more than there are rules. */
static int read_counts(Examiner *self, PyObject *keywords)
{
    PyObject *counts = told_as(keywords, "counts", &PyTuple_Type), *wanted = told_as(keywords, "wanted", &PyLong_Type);
    PyObject *freshest = told_as(keywords, "freshest", &PyFloat_Type);
    if (!counts || !wanted || !freshest) return FAILED;
    if (!PyArg_ParseTuple(counts, "nnnnn", &self->own, &self->offers, &self->rules, &self->weights, &self->conditions))
        return FAILED;
    if (self->own < 0 || self->offers < self->own || self->rules < 0 || self->weights < 0 ||
        self->conditions > LARGEST * 64 || self->offers > self->conditions || self->rules > self->conditions ||
        self->weights > self->conditions || self->offers + self->rules + self->weights > self->conditions)
        return refuse("there are not so many conditions");
    const Py_ssize_t n = bits_words(self->rules);
    if (!(self->wanted = PyMem_Calloc(n, 8))) return PyErr_NoMemory(), FAILED;
    if (bits_read(wanted, self->wanted, n) < 0) return FAILED;
    bits_part(self->wanted, n, 0, self->rules, self->wanted);
    self->freshest = PyFloat_AS_DOUBLE(freshest);
    const Py_ssize_t starts = PyBytes_GET_SIZE(self->told[LIVE_STARTS]) / 8;
    int fine = is_of(self->told[HOLDOUTS], PyTuple_GET_SIZE(self->told[HOLDOUTS]), 3, 0) &&
               is_of(self->told[LIVE_DROPS], starts + 1, 3, 1) && is_of(self->told[RULE_DROPS], self->rules, 3, 0);
    for (int i = KILLED_HEAD; i <= ELIGIBLE_HEAD; i++) fine = fine && PyTuple_GET_SIZE(self->told[i]) == 2;
    return fine ? FINE : refuse("there are not so many drops, or they are of other parts");
}

/* A budget is told as (name, drop, starts, until, impressions, even, hard). */
static int read_told_budgets(Examiner *self, PyObject *keywords)
{
    PyObject *told = told_as(keywords, "budgets", &PyTuple_Type);
    if (!told) return FAILED;
    const Py_ssize_t many = PyTuple_GET_SIZE(told);
    if (many > MOST_BUDGETS || !is_of(told, many, 7, 0)) return refuse("these are no budgets, or too many");
    if (!(self->budgets = PyMem_Calloc(many + 1, sizeof(Budget)))) return PyErr_NoMemory(), FAILED;
    for (Py_ssize_t i = 0; i < many; i++) {
        Budget *one = self->budgets + i;
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(told, i), "UO!dddpp", &one->name, &PyTuple_Type, &one->drop, &one->starts,
                              &one->until, &one->impressions, &one->is_even, &one->is_hard))
            return FAILED;
        Py_INCREF(one->name), Py_INCREF(one->drop);
        self->n_budgets++;
    }
    return FINE;
}

static PyObject *examiner_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    if (PyTuple_GET_SIZE(args)) return PyErr_Format(PyExc_TypeError, "all is told by name");
    Examiner *self = (Examiner *)type->tp_alloc(type, 0);
    if (self && (read_all(self, keywords) < 0 || read_counts(self, keywords) < 0 || read_told_budgets(self, keywords) < 0))
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void examiner_dealloc(PyObject *object)
{
    Examiner *self = (Examiner *)object;
    for (int i = 0; i < RECORDS; i++) record_let_go(self->records + i);
    for (int i = 0; i < CALLS; i++) Py_XDECREF(self->calls[i]);
    for (int i = 0; i < TOLD; i++) Py_XDECREF(self->told[i]);
    for (Py_ssize_t i = 0; i < self->n_budgets; i++) Py_DECREF(self->budgets[i].name), Py_DECREF(self->budgets[i].drop);
    PyMem_Free(self->budgets);
    PyMem_Free(self->wanted);
    Py_TYPE(object)->tp_free(object);
}

#endif
