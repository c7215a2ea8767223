/* What a worker counts of each decision that it answers, noted in one call and without an object: one row of numbers,
 * and which of a few combinations of words it belongs to. Several times a second, `drain` gives all that was noted.
 *
 * serving/figures/metrics.py says what is counted, and counts itself what is unusual, such as a decision that lacked something.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "../../decisioning/records.h"

#define VERSION 1 /* of what Python and this ask of one another: metrics.py has the same */

enum { MOST_ROWS = 8192, MOST_GROUPS = 32, WORDS = 6 };

typedef struct {
    PyObject *words[WORDS]; /* owned: route, surface, source, choice, rung, model (or None) */
} Group;

typedef struct {
    double seconds, age, p_convert; /* the last two: NaN where there is none */
    int group;
} Row;

enum { DECISION, SHOWN, POLICY, FACTS, RECORDS };
enum { SURFACE, SOURCE, SLATE, POLICY_OF, HOLDOUT, MODEL, DEGRADED, OFFER, P_CONVERT, CHAMPION, CHALLENGER, AS_OF, SHED };
static const struct {
    int record;
    const char *name;
} PLACE[] = {{DECISION, "surface"}, {DECISION, "source"}, {DECISION, "slate"}, {DECISION, "policy"},
             {DECISION, "holdout"}, {DECISION, "model"}, {DECISION, "degraded"}, {SHOWN, "offer"},
             {SHOWN, "p_convert"}, {POLICY, "champion"}, {POLICY, "challenger"}, {FACTS, "as_of"}, {FACTS, "shed"}};
enum { PLACES = sizeof PLACE / sizeof *PLACE };

enum { BY_CHAMPION, BY_CHALLENGER, BY_EXPLORATION, BY_HOLDOUT, BY_NOBODY, CHOICES };

typedef struct {
    PyObject_HEAD
    PyObject *twin, *nothing, *rung; /* what counts all else; the offer that stands for none; the rung of most */
    PyObject *choices[CHOICES];
    PyTypeObject *types[RECORDS];
    Py_ssize_t places[PLACES];
    int n_groups, n_rows;
    Group groups[MOST_GROUPS];
    Row rows[MOST_ROWS];
} Notes;

static inline PyObject *at(const Notes *self, PyObject *object, int place)
{
    return *(PyObject **)((char *)object + self->places[place]);
}

/* --- Noting --------------------------------------------------------------------------------------------------------- */

/* 1 for two texts that are the same, 0 for others, -1 for what is no text. */
static int is_same(PyObject *one, PyObject *other)
{
    if (one == other) return 1;
    if (!one || !other || !PyUnicode_CheckExact(one) || !PyUnicode_CheckExact(other)) return -1;
    return PyUnicode_Compare(one, other) == 0;
}

/* Whose choice was drawn; -1 for what is not plain. `shown`: the first offer's name. */
static int chosen_by(const Notes *self, PyObject *decision, PyObject *shown)
{
    PyObject *policy = at(self, decision, POLICY_OF);
    if (policy == Py_None) return BY_NOBODY;
    if (!policy || !Py_IS_TYPE(policy, self->types[POLICY])) return -1;
    if (at(self, decision, HOLDOUT) != Py_None) return BY_HOLDOUT;
    PyObject *challenger = at(self, policy, CHALLENGER);
    const int champions = is_same(shown, at(self, policy, CHAMPION));
    const int challengers = champions || challenger == Py_None ? 0 : is_same(shown, challenger);
    if (champions < 0 || challengers < 0) return -1;
    return champions ? BY_CHAMPION : challengers ? BY_CHALLENGER : BY_EXPLORATION;
}

/* The group of these words, by who they are; -1 where there are too many groups. */
static int group_of(Notes *self, PyObject *const words[WORDS])
{
    for (int i = 0; i < self->n_groups; i++)
        if (memcmp(self->groups[i].words, words, sizeof self->groups[i].words) == 0) return i;
    if (self->n_groups == MOST_GROUPS) return -1;
    for (int i = 0; i < WORDS; i++) self->groups[self->n_groups].words[i] = Py_NewRef(words[i]);
    return self->n_groups++;
}

static inline int is_number(PyObject *object)
{
    return object && PyFloat_CheckExact(object) && isfinite(PyFloat_AS_DOUBLE(object));
}

/* Notes a decision that is plain in every way: 0 where it isn't. */
static int noted(Notes *self, PyObject *route, PyObject *decision, PyObject *facts, PyObject *now, PyObject *seconds)
{
    if (self->n_rows == MOST_ROWS) return 0;
    if (!Py_IS_TYPE(decision, self->types[DECISION]) || !Py_IS_TYPE(facts, self->types[FACTS])) return 0;
    PyObject *slate = at(self, decision, SLATE), *degraded = at(self, decision, DEGRADED);
    if (!degraded || !PyTuple_CheckExact(degraded) || PyTuple_GET_SIZE(degraded)) return 0;
    if (!slate || !PyTuple_CheckExact(slate) || !is_number(now) || !is_number(seconds)) return 0;
    PyObject *as_of = at(self, facts, AS_OF);
    if (at(self, facts, SHED) != Py_None || (as_of != Py_None && !is_number(as_of))) return 0;

    PyObject *first = PyTuple_GET_SIZE(slate) ? PyTuple_GET_ITEM(slate, 0) : NULL, *p_convert = Py_None;
    if (first && !Py_IS_TYPE(first, self->types[SHOWN])) return 0;
    PyObject *model = at(self, decision, MODEL);
    if (first && model != Py_None) p_convert = at(self, first, P_CONVERT);
    if (p_convert != Py_None && !is_number(p_convert)) return 0;
    const int choice = chosen_by(self, decision, first ? at(self, first, OFFER) : self->nothing);
    PyObject *words[WORDS] = {route, at(self, decision, SURFACE), at(self, decision, SOURCE),
                              choice < 0 ? NULL : self->choices[choice], self->rung, model};
    for (int i = 0; i < WORDS; i++)
        if (!words[i]) return 0;
    const int group = group_of(self, words);
    if (group < 0) return 0;
    self->rows[self->n_rows++] = (Row){
        PyFloat_AS_DOUBLE(seconds),
        as_of == Py_None ? NAN : PyFloat_AS_DOUBLE(now) - PyFloat_AS_DOUBLE(as_of),
        p_convert == Py_None ? NAN : PyFloat_AS_DOUBLE(p_convert), group};
    return 1;
}

static PyObject *notes_served(Notes *self, PyObject *const *args, Py_ssize_t n)
{
    if (n != 5) return PyErr_SetString(PyExc_TypeError, "served takes five arguments"), NULL;
    if (noted(self, args[0], args[1], args[2], args[3], args[4])) Py_RETURN_NONE;
    return PyObject_Vectorcall(self->twin, args, n, NULL);
}

/* --- Giving --------------------------------------------------------------------------------------------------------- */

static int append(PyObject *list, double value)
{
    if (isnan(value)) return 0;
    PyObject *number = PyFloat_FromDouble(value);
    const int told = number ? PyList_Append(list, number) : -1;
    Py_XDECREF(number);
    return told;
}

/* What was noted of one group: (words, seconds, ages, p_converts). */
static PyObject *told_of(const Notes *self, int group)
{
    PyObject *words = PyTuple_New(WORDS), *seconds = PyList_New(0), *ages = PyList_New(0), *chances = PyList_New(0);
    int fine = words && seconds && ages && chances;
    for (int i = 0; fine && i < WORDS; i++) PyTuple_SET_ITEM(words, i, Py_NewRef(self->groups[group].words[i]));
    for (const Row *row = self->rows; fine && row < self->rows + self->n_rows; row++)
        if (row->group == group)
            fine = !append(seconds, row->seconds) && !append(ages, row->age) && !append(chances, row->p_convert);
    PyObject *told = fine ? PyTuple_Pack(4, words, seconds, ages, chances) : NULL;
    Py_XDECREF(words);
    Py_XDECREF(seconds);
    Py_XDECREF(ages);
    Py_XDECREF(chances);
    return told;
}

static int notes_clear(Notes *self)
{
    const int n = self->n_groups;
    self->n_rows = self->n_groups = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < WORDS; j++) Py_CLEAR(self->groups[i].words[j]);
    return 0;
}

static PyObject *notes_drain(Notes *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *told = PyList_New(0);
    for (int i = 0; told && i < self->n_groups; i++) {
        PyObject *one = told_of(self, i);
        if (!one || PyList_Append(told, one) < 0) Py_CLEAR(told);
        Py_XDECREF(one);
    }
    notes_clear(self);
    return told;
}

/* --- The module ----------------------------------------------------------------------------------------------------- */

static PyObject *notes_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"twin", "records", "choices", "nothing", "rung", NULL};
    PyObject *twin, *records, *choices, *nothing, *rung;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "OO!O!OO", names, &twin, &PyTuple_Type, &records, &PyTuple_Type,
                                     &choices, &nothing, &rung))
        return NULL;
    if (PyTuple_GET_SIZE(records) != RECORDS || PyTuple_GET_SIZE(choices) != CHOICES)
        return PyErr_SetString(PyExc_ValueError, "four types and five choices are known here"), NULL;
    Notes *self = (Notes *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->twin = Py_NewRef(twin);
    self->nothing = Py_NewRef(nothing);
    self->rung = Py_NewRef(rung);
    for (int i = 0; i < CHOICES; i++) self->choices[i] = Py_NewRef(PyTuple_GET_ITEM(choices, i));
    int fine = 1;
    for (int i = 0; fine && i < RECORDS; i++) {
        PyObject *one = PyTuple_GET_ITEM(records, i);
        fine = PyType_Check(one);
        if (fine) self->types[i] = (PyTypeObject *)Py_NewRef(one);
    }
    if (!fine) PyErr_SetString(PyExc_TypeError, "a record is told by its type");
    for (int i = 0; fine && i < PLACES; i++)
        fine = (self->places[i] = offset_of(self->types[PLACE[i].record], PLACE[i].name)) >= 0;
    if (!fine) Py_CLEAR(self);
    return (PyObject *)self;
}

static int notes_traverse(Notes *self, visitproc visit, void *arg)
{
    Py_VISIT(self->twin); /* which holds whoever holds this */
    return 0;
}

static int notes_let_go(Notes *self)
{
    Py_CLEAR(self->twin);
    return 0;
}

static void notes_dealloc(PyObject *object)
{
    Notes *self = (Notes *)object;
    PyObject_GC_UnTrack(object);
    notes_clear(self);
    for (int i = 0; i < CHOICES; i++) Py_XDECREF(self->choices[i]);
    for (int i = 0; i < RECORDS; i++) Py_XDECREF(self->types[i]);
    Py_XDECREF(self->twin);
    Py_XDECREF(self->nothing);
    Py_XDECREF(self->rung);
    Py_TYPE(object)->tp_free(object);
}

static PyMethodDef methods[] = {
    {"served", (PyCFunction)(void (*)(void))notes_served, METH_FASTCALL, "Notes a decision that was answered."},
    {"drain", (PyCFunction)notes_drain, METH_NOARGS, "What was noted since the last time, by groups."},
    {NULL, NULL, 0, NULL}};

static PyTypeObject NotesType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "serving.figures._metrics.Notes",
    .tp_basicsize = sizeof(Notes),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = notes_new,
    .tp_dealloc = notes_dealloc,
    .tp_traverse = (traverseproc)notes_traverse,
    .tp_clear = (inquiry)notes_let_go,
    .tp_methods = methods,
    .tp_doc = "Notes what is counted of decisions.",
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_metrics", "Notes of decisions.", -1, NULL};

PyMODINIT_FUNC PyInit__metrics(void)
{
    if (PyType_Ready(&NotesType) < 0) return NULL;
    PyObject *made = PyModule_Create(&module);
    if (made && (PyModule_AddObjectRef(made, "Notes", (PyObject *)&NotesType) < 0 ||
                 PyModule_AddIntConstant(made, "VERSION", VERSION) < 0))
        Py_CLEAR(made);
    return made;
}
