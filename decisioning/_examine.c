/* What is known of a request's user, and what the rules leave of a surface's offers: the steps of `examine` in a row.
 * decisioning/engine.py says what is right, and answers itself (its function is the `twin`) where anything is unusual.
 *
 * The steps themselves are told as callables: those of other extensions, or Python's. Python code may run in each of
 * them, so that all that is read of the request and the facts is held while they do.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "bits.h"
#include "examiner.h"
#include "records.h"

#define VERSION 2 /* of what Python and this ask of one another: decisioning/by_examiner.py has the same */
#define MOST_UNITS (1LL << 53) /* which a double holds exactly */

/* --- What is asked ---------------------------------------------------------------------------------------------------- */

enum { USER, NOW, CONTEXT, EXCLUDE, FEATURES, AS_OF, HISTORY, BUDGETS, KILLED, UNREAD, FRESH, PARTS };
static const int PLACES[PARTS] = {R_USER, R_NOW, R_CONTEXT, R_EXCLUDE, /* the others are of the facts */
                                  F_FEATURES, F_AS_OF, F_HISTORY, F_BUDGETS, F_KILLED, F_UNREAD, F_FRESH};

typedef struct {
    PyObject *request, *facts;
    PyObject *of[PARTS];
    double now;
} Asked;

/* Takes hold of what is read of a request and of facts. UNUSUAL, and nothing held, for other types. */
static int take(const Examiner *self, PyObject *request, PyObject *facts, Asked *asked)
{
    if (!record_is(&self->records[REQUESTS], request) || !record_is(&self->records[ALL_FACTS], facts)) return UNUSUAL;
    PyObject **of = asked->of;
    for (int i = 0; i < PARTS; i++) {
        of[i] = i < FEATURES ? record_field(&self->records[REQUESTS], request, PLACES[i])
                             : record_field(&self->records[ALL_FACTS], facts, PLACES[i]);
        if (!of[i]) return UNUSUAL;
    }
    if (!PyUnicode_CheckExact(of[USER]) || !PyFloat_CheckExact(of[NOW]) || !isfinite(PyFloat_AS_DOUBLE(of[NOW])) ||
        !PyAnySet_CheckExact(of[EXCLUDE]) || !PyDict_CheckExact(of[BUDGETS]) || !PyAnySet_CheckExact(of[KILLED]) ||
        !PyAnySet_CheckExact(of[UNREAD]) || !PyDict_CheckExact(of[FRESH]) ||
        (of[AS_OF] != Py_None && !PyFloat_CheckExact(of[AS_OF])))
        return UNUSUAL;
    for (int i = 0; i < PARTS; i++) Py_INCREF(of[i]);
    asked->request = request, asked->facts = facts, asked->now = PyFloat_AS_DOUBLE(of[NOW]);
    return FINE;
}

static void let_go(Asked *asked)
{
    for (int i = 0; i < PARTS; i++) Py_DECREF(asked->of[i]);
}

static PyObject *call(PyObject *callable, PyObject *one, PyObject *two, PyObject *three)
{
    PyObject *args[] = {NULL, one, two, three};
    return PyObject_Vectorcall(callable, args + 1, (three ? 3 : 2) | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
}

/* The values that rules and models may read. Where some may be too old, or are not as usual, Python says. */
static PyObject *values_of(const Examiner *self, const Asked *asked)
{
    PyObject *as_of = asked->of[AS_OF];
    const int may_be_stale = as_of == Py_None ? PyDict_GET_SIZE(asked->of[FRESH]) > 0
                                              : asked->now - PyFloat_AS_DOUBLE(as_of) > self->freshest;
    if (!may_be_stale && self->calls[MERGE] != Py_None) {
        PyObject *found = call(self->calls[MERGE], asked->of[FEATURES], asked->of[CONTEXT], NULL);
        if (found != Py_None) return found;
        Py_DECREF(found);
    }
    return call(self->calls[KNOWN], asked->request, asked->facts, NULL);
}

/* The name of the holdout that keeps the user on the simple policy here; None for none. Each is told as (salt, the first
 * bucket that is out, name). */
static PyObject *holdout_of(const Examiner *self, const Asked *asked)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(self->told[HOLDOUTS]); i++) {
        PyObject *one = PyTuple_GET_ITEM(self->told[HOLDOUTS], i);
        PyObject *bucket = call(self->calls[BUCKET], PyTuple_GET_ITEM(one, 0), asked->of[USER], self->told[BUCKETS]);
        const int is_in = bucket ? PyObject_RichCompareBool(bucket, PyTuple_GET_ITEM(one, 1), Py_LT) : -1;
        Py_XDECREF(bucket);
        if (is_in) return is_in < 0 ? NULL : Py_NewRef(PyTuple_GET_ITEM(one, 2));
    }
    Py_RETURN_NONE;
}

/* --- What is dropped -------------------------------------------------------------------------------------------------- */

/* A drop is (stage, position, offers); the head of one is its stage and position. */
static int add_drop(PyObject *drops, PyObject *head, PyObject *offers)
{
    PyObject *drop =
        offers ? PyTuple_Pack(3, PyTuple_GET_ITEM(head, 0), PyTuple_GET_ITEM(head, 1), offers) : NULL;
    const int done = drop ? PyList_Append(drops, drop) : FAILED;
    Py_XDECREF(drop);
    Py_XDECREF(offers);
    return done;
}

/* Drops the offers of some names, if there are any. */
static int add_named(const Examiner *self, PyObject *drops, int head, PyObject *names)
{
    if (PySet_GET_SIZE(names) == 0) return FINE;
    return add_drop(drops, self->told[head], PyObject_CallMethod(self->told[PLAN], "bits_of", "O", names));
}

/* What the live windows drop now, worked out before for each stretch of time; the place is that of bisect_right. */
static int add_live(const Examiner *self, PyObject *drops, double now)
{
    const double *starts = (const double *)PyBytes_AS_STRING(self->told[LIVE_STARTS]);
    Py_ssize_t low = 0, high = PyBytes_GET_SIZE(self->told[LIVE_STARTS]) / 8;
    while (low < high) {
        const Py_ssize_t middle = (low + high) / 2;
        if (now < starts[middle])
            high = middle;
        else
            low = middle + 1;
    }
    PyObject *drop = PyTuple_GET_ITEM(self->told[LIVE_DROPS], low);
    return drop == Py_None ? FINE : PyList_Append(drops, drop);
}

static int add_ineligible(const Examiner *self, PyObject *drops, const uint64_t *holding)
{
    uint64_t failed[LARGEST], any = 0;
    const Py_ssize_t n = bits_words(self->own);
    for (Py_ssize_t i = 0; i < n; i++) failed[i] = ~holding[i];
    bits_part(failed, n, 0, self->own, failed);
    for (Py_ssize_t i = 0; i < n; i++) any |= failed[i];
    return any ? add_drop(drops, self->told[ELIGIBLE_HEAD], bits_number(failed, n)) : FINE;
}

/* Invariants and guards, whose conditions are not what they have to be. */
static int add_broken(const Examiner *self, PyObject *drops, const uint64_t *holding)
{
    uint64_t broken[LARGEST];
    bits_part(holding, bits_words(self->conditions), self->offers, self->rules, broken);
    for (Py_ssize_t i = 0; i < bits_words(self->rules); i++)
        for (uint64_t left = broken[i] ^ self->wanted[i]; left; left &= left - 1) {
            const Py_ssize_t rule = 64 * i + __builtin_ctzll(left);
            if (PyList_Append(drops, PyTuple_GET_ITEM(self->told[RULE_DROPS], rule)) < 0) return FAILED;
        }
    return FINE;
}

/* What the user's past forbids, and the surface's budgets: `spent`, by budget. All by Python where there are quiet hours. */
static int add_limits(const Examiner *self, PyObject *drops, const Asked *asked, PyObject *values, const char *spent)
{
    PyObject *found;
    if (self->calls[LIMITS] != Py_None)
        found = call(self->calls[LIMITS], asked->request, asked->facts, values);
    else {
        const int is_unread = PySet_Contains(asked->of[UNREAD], self->told[HISTORY_NAME]);
        PyObject *shut = self->told[is_unread ? CLOSED : SHUT];
        found = is_unread < 0 ? NULL : call(self->calls[PAST], asked->of[HISTORY], asked->of[NOW], shut);
    }
    const Py_ssize_t end = PyList_GET_SIZE(drops);
    int done = found ? PyList_SetSlice(drops, end, end, found) : FAILED;
    Py_XDECREF(found);
    for (Py_ssize_t i = 0; done == FINE && i < self->n_budgets; i++)
        if (spent[i]) done = PyList_Append(drops, self->budgets[i].drop);
    return done;
}

/* Which budgets have nothing left by now. One that nobody could read has nothing left if it is a hard one. */
static int read_budgets(const Examiner *self, const Asked *asked, char *spent)
{
    for (Py_ssize_t i = 0; i < self->n_budgets; i++) {
        const Budget *budget = self->budgets + i;
        spent[i] = 0;
        if (!(budget->starts <= asked->now && asked->now < budget->until)) continue;
        PyObject *found = PyDict_GetItemWithError(asked->of[BUDGETS], budget->name);
        if (!found && PyErr_Occurred()) return FAILED;
        if (found == Py_None) found = NULL;
        int overflow = 1;
        const long long units = found && PyLong_CheckExact(found) ? PyLong_AsLongLongAndOverflow(found, &overflow) : 0;
        if (found && (overflow || units > MOST_UNITS || units < -MOST_UNITS)) return UNUSUAL;
        double allowed = budget->impressions;
        if (budget->is_even) {
            const double passed = asked->now - budget->starts;
            allowed *= (passed > 0 ? passed : 0.0) / (budget->until - budget->starts);
        }
        spent[i] = found ? (double)units >= allowed : budget->is_hard;
    }
    return FINE;
}

/* --- The whole -------------------------------------------------------------------------------------------------------- */

/* What all drops together leave. */
static PyObject *left_of(const Examiner *self, PyObject *drops)
{
    uint64_t left[LARGEST], dropped[LARGEST];
    const Py_ssize_t n = bits_words(self->offers);
    memset(left, 0xff, n * 8);
    bits_part(left, n, 0, self->own, left);
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(drops); i++) {
        PyObject *drop = PyList_GET_ITEM(drops, i);
        if (!PyTuple_Check(drop) || PyTuple_GET_SIZE(drop) != 3)
            return PyErr_Format(PyExc_TypeError, "a drop is of three parts");
        if (bits_read(PyTuple_GET_ITEM(drop, 2), dropped, n) < 0) return NULL;
        for (Py_ssize_t k = 0; k < bits_words(self->own); k++) left[k] &= ~dropped[k];
    }
    return bits_number(left, bits_words(self->own));
}

static PyObject *part(const Examiner *self, const uint64_t *holding, Py_ssize_t start, Py_ssize_t end)
{
    uint64_t found[LARGEST];
    bits_part(holding, bits_words(self->conditions), start, end - start, found);
    return bits_number(found, bits_words(end - start));
}

/* The screen of what holds: a pair of the conditions that hold, and the truth word. */
static PyObject *screen_of(const Examiner *self, const Asked *asked, PyObject *values, PyObject *outcome, const char *spent)
{
    uint64_t holding[LARGEST];
    if (!PyTuple_CheckExact(outcome) || PyTuple_GET_SIZE(outcome) != 2)
        return PyErr_Format(PyExc_TypeError, "what holds is told as a pair");
    if (bits_read(PyTuple_GET_ITEM(outcome, 0), holding, bits_words(self->conditions)) < 0) return NULL;
    PyObject *drops = PyList_New(0);
    if (!drops || add_named(self, drops, KILLED_HEAD, asked->of[KILLED]) < 0 ||
        add_named(self, drops, EXCLUDED_HEAD, asked->of[EXCLUDE]) < 0 || add_live(self, drops, asked->now) < 0 ||
        add_ineligible(self, drops, holding) < 0 || add_broken(self, drops, holding) < 0 ||
        add_limits(self, drops, asked, values, spent) < 0) {
        Py_XDECREF(drops);
        return NULL;
    }
    const Py_ssize_t after_rules = self->offers + self->rules, after_weights = after_rules + self->weights;
    PyObject *parts[] = {left_of(self, drops), Py_NewRef(PyTuple_GET_ITEM(outcome, 1)), drops,
                         part(self, holding, after_rules, after_weights),
                         part(self, holding, after_weights, self->conditions)};
    return record_made(&self->records[SCREENS], parts);
}

/* The user's arms, by experiment: none for one who is held out. */
static PyObject *arms_of(const Examiner *self, const Asked *asked, PyObject *holdout, PyObject *screen)
{
    if (holdout != Py_None) return PyDict_New();
    return call(self->calls[ARMS], asked->of[USER], record_field(&self->records[SCREENS], screen, S_AUDIENCES), NULL);
}

static PyObject *case_of(const Examiner *self, PyObject *release, const Asked *asked, const char *spent)
{
    PyObject *values = values_of(self, asked), *holdout = values ? holdout_of(self, asked) : NULL;
    PyObject *outcome = holdout ? call(self->calls[EVALUATE], values, asked->of[NOW], NULL) : NULL;
    PyObject *screen = outcome ? screen_of(self, asked, values, outcome, spent) : NULL;
    PyObject *arms = screen ? arms_of(self, asked, holdout, screen) : NULL;
    Py_XDECREF(outcome);
    PyObject *parts[] = {Py_NewRef(release), Py_NewRef(self->told[PLAN]), Py_NewRef(asked->request),
                         Py_NewRef(asked->facts), values, screen, arms, holdout};
    return record_made(&self->records[CASES], parts);
}

/* examine(release, request, facts) -> Case */
static PyObject *examiner_examine(PyObject *object, PyObject *const *args, Py_ssize_t n)
{
    const Examiner *self = (const Examiner *)object;
    char spent[MOST_BUDGETS];
    Asked asked;
    if (n != 3) return PyErr_Format(PyExc_TypeError, "examine takes a release, a request and facts");
    int done = take(self, args[1], args[2], &asked);
    PyObject *found = NULL;
    if (done == FINE) {
        done = read_budgets(self, &asked, spent);
        if (done == FINE) found = case_of(self, args[0], &asked, spent);
        let_go(&asked);
    }
    return done == UNUSUAL ? PyObject_Vectorcall(self->calls[TWIN], args, 3, NULL) : found;
}

static PyMethodDef methods[] = {
    {"examine", (PyCFunction)(void (*)(void))examiner_examine, METH_FASTCALL, "What is known, and what the rules leave."},
    {NULL, NULL, 0, NULL}};

static PyTypeObject ExaminerType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "decisioning._examine.Examiner",
    .tp_basicsize = sizeof(Examiner),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = examiner_new,
    .tp_dealloc = examiner_dealloc,
    .tp_methods = methods,
    .tp_doc = "The rules of a surface, ready to be asked.",
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_examine", "What the rules leave.", -1, NULL};

PyMODINIT_FUNC PyInit__examine(void)
{
    if (PyType_Ready(&ExaminerType) < 0) return NULL;
    PyObject *made = PyModule_Create(&module);
    if (made && (PyModule_AddObjectRef(made, "Examiner", (PyObject *)&ExaminerType) < 0 ||
                 PyModule_AddIntConstant(made, "VERSION", VERSION) < 0))
        Py_CLEAR(made);
    return made;
}
