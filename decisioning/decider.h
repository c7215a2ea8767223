/* What a decider knows of a surface, a release and the records that it reads and makes, as decisioning/by_decider.py tells
 * it: copied or held once, checked, and never changed after that, but for a memo.
 */
#ifndef SEGUE_DECIDER_H
#define SEGUE_DECIDER_H
#include <Python.h>

#include "asks.h"
#include "blake2b.h"
#include "cases.h"
#include "records.h"

enum { MILLION = 1000000 };

static const char *const SHOWN[] = {"offer", "slot", "creative", "p_convert", "score", "probability", NULL};
static const char *const POLICY[] = {"offers", "champion", "challenger", "share", "canary", "draw", NULL};
static const char *const DECISION[] = {"decision_id", "surface",  "release", "slate",  "source", "model",
                                       "degraded",    "eligible", "p_convert", "scores", "truth",  "policy",
                                       "arms",        "holdout",  "ghost",   NULL};

typedef struct {
    PyObject_HEAD
    PyObject *examine;   /* (release, request, facts) -> case */
    PyObject *twin;      /* (case) -> decision: of what is unusual */
    PyObject *names;     /* of the surface's offers */
    PyObject *creatives; /* of each offer: None, or a dict of its texts by locale; None's is for any other one */
    PyObject *worths;    /* (now, arms, weights) -> the bytes of min_score, each offer's worth, each one's priority */
    PyObject *memo;      /* of those */
    PyObject *rival;     /* (case) -> the challenger's choice; None where nothing challenges */
    PyObject *capsule, *said, *release, *source, *label, *absent, *nothing, *moments, *locale;
    const Asks *asks;    /* in the capsule */
    Blake2b salted;      /* the digest of a draw, up to the decision's id */
    Py_ssize_t offers, slots;
    long long uniform, canary; /* millionths */
    double min_p;
    int may_be_nothing;
    Record cases, requests, facts, screens, shown, policies, decisions;
} Decider;

/* --- Making and checking ------------------------------------------------------------------------------------------ */

static int refuse(const char *why)
{
    PyErr_SetString(PyExc_ValueError, why);
    return -1;
}

/* `types`: those of a case, a request, facts, a screen, what is shown, a policy, and a decision. */
static int read_types(Decider *self, PyObject *types)
{
    Record *records[] = {&self->cases, &self->requests, &self->facts, &self->screens, &self->shown, &self->policies,
                         &self->decisions};
    const char *const *fields[] = {CASE, REQUEST, FACTS, SCREEN, SHOWN, POLICY, DECISION};
    if (PyTuple_GET_SIZE(types) != 7) return refuse("there are seven types of records");
    for (int i = 0; i < 7; i++)
        if (record_of(PyTuple_GET_ITEM(types, i), fields[i], records[i]) < 0) return -1;
    return 0;
}

static int check_creatives(PyObject *creatives)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(creatives); i++) {
        PyObject *one = PyTuple_GET_ITEM(creatives, i);
        if (one == Py_None) continue;
        if (!PyDict_CheckExact(one) || !PyDict_Contains(one, Py_None))
            return refuse("a creative has a text for any locale, or is None");
    }
    return 0;
}

static int check(Decider *self)
{
    self->asks = PyCapsule_GetPointer(self->capsule, ASKS);
    if (!self->asks) return -1;
    self->offers = PyTuple_GET_SIZE(self->names);
    if (PyTuple_GET_SIZE(self->creatives) != self->offers || self->asks->offers != self->offers || self->asks->room < 0)
        return refuse("the model or the creatives are of other offers");
    if (self->said != Py_None && !PyDict_CheckExact(self->said)) return refuse("what was said is kept in a dict");
    if (PyBytes_GET_SIZE(self->moments) % (Py_ssize_t)sizeof(double)) return refuse("moments are doubles");
    if (self->uniform < 0 || self->uniform > MILLION || self->canary < 0 || self->canary > MILLION)
        return refuse("a share is of a million");
    return check_creatives(self->creatives);
}

static PyObject *decider_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"types",  "examine", "twin",  "names",  "creatives", "asks",    "said",    "worths", "moments",
                            "rival",  "release", "source", "label",   "absent",  "nothing", "salt",   "slots",
                            "uniform", "canary", "min_p", "may_be_nothing", NULL};
    Decider *self = (Decider *)type->tp_alloc(type, 0);
    PyObject *types;
    Py_buffer salt = {0};
    if (!self) return NULL;
    int fine = PyArg_ParseTupleAndKeywords(
        args, keywords, "O!OOO!O!OOOSOUOUO!Uy*nLLdp", names, &PyTuple_Type, &types, &self->examine, &self->twin, &PyTuple_Type,
        &self->names, &PyTuple_Type, &self->creatives, &self->capsule, &self->said, &self->worths, &self->moments,
        &self->rival, &self->release, &self->source, &self->label, &PyTuple_Type, &self->absent, &self->nothing, &salt,
        &self->slots, &self->uniform, &self->canary, &self->min_p, &self->may_be_nothing);
    Py_XINCREF(self->twin), Py_XINCREF(self->names), Py_XINCREF(self->creatives), Py_XINCREF(self->capsule);
    Py_XINCREF(self->said), Py_XINCREF(self->worths), Py_XINCREF(self->moments), Py_XINCREF(self->rival);
    Py_XINCREF(self->release), Py_XINCREF(self->source), Py_XINCREF(self->label), Py_XINCREF(self->absent);
    Py_XINCREF(self->nothing), Py_XINCREF(self->examine);
    fine = fine && read_types(self, types) == 0 && check(self) == 0;
    fine = fine && (self->memo = PyDict_New()) && (self->locale = PyUnicode_InternFromString("locale"));
    if (fine) {
        blake2b_begin(&self->salted, 8, NULL, 0);
        blake2b_add(&self->salted, salt.buf, salt.len);
    }
    PyBuffer_Release(&salt);
    if (!fine) Py_CLEAR(self);
    return (PyObject *)self;
}

static void decider_dealloc(PyObject *object)
{
    Decider *self = (Decider *)object;
    PyObject *held[] = {self->twin,  self->names,  self->creatives, self->worths, self->memo,   self->rival,   self->capsule,
                        self->said,  self->release, self->source,   self->label,  self->absent, self->nothing, self->moments,
                        self->locale, self->examine};
    Record *records[] = {&self->cases, &self->requests, &self->facts, &self->screens, &self->shown, &self->policies,
                         &self->decisions};
    for (size_t i = 0; i < sizeof held / sizeof *held; i++) Py_XDECREF(held[i]);
    for (size_t i = 0; i < sizeof records / sizeof *records; i++) record_let_go(records[i]);
    Py_TYPE(object)->tp_free(object);
}

#endif
