/* Many conditions decided at once: the look-ups of features, and what remains to be asked of several together.
 * decisioning/index.py says what is right, and answers itself (it is the `twin`) where a value is of another type than
 * its feature should have.
 *
 * A state has a bit for each condition that fails, lowest first, and then one for each test that holds. Python code may
 * run wherever a value is hashed or a cell is computed; nothing that it could change is held across that.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#include "bits.h"

#define VERSION 1 /* of what Python and this ask of one another: decisioning/by_cells.py has the same */
#define DEEPEST 100 /* conditions within conditions */
#define LARGEST 512 /* words of a state: 32,768 conditions and tests */

enum { ORDERED, NAMED, MOVING };       /* how a table finds the cell of a value */
enum { ANY_BIT, ALL_BITS, AND, OR };   /* what a node asks */

typedef struct {
    PyObject *name;
    int kind;
    PyObject *compute; /* (value, now) -> bytes of a cell */
    PyObject *memo;    /* NAMED: from values to bytes */
    Py_ssize_t n_points;
    const double *points;    /* ORDERED: rising */
    const uint64_t *cells;   /* ORDERED: below the first point, on it, between it and the next, ..., above the last */
    const uint64_t *missing; /* the cell of no value */
    PyObject *kept[3];       /* the bytes that those three are in */
} Table;

typedef struct {
    int kind;
    Py_ssize_t end;       /* the number of the node after this one and all within it */
    const uint64_t *mask; /* within the bytes `kept` */
    PyObject *kept;
} Node;

typedef struct {
    PyObject_HEAD
    Table *tables;
    Node *nodes; /* each clause: its root, and what is within. The root's `whose` fail where it doesn't hold */
    PyObject *twin, *whose; /* `whose`: a tuple of bytes, one for each clause */
    Py_ssize_t n_tables, n_nodes, words, conditions, limit;
} Evaluator;

/* --- Evaluating ----------------------------------------------------------------------------------------------------- */

static inline void add(const Evaluator *self, uint64_t *state, const uint64_t *cell)
{
    for (Py_ssize_t i = 0; i < self->words; i++) state[i] |= cell[i];
}

static const uint64_t *words_of(const Evaluator *self, PyObject *bytes)
{
    const int fits = PyBytes_CheckExact(bytes) && PyBytes_GET_SIZE(bytes) == self->words * 8;
    if (!fits) PyErr_SetString(PyExc_ValueError, "a cell is of another size");
    return fits ? (const uint64_t *)PyBytes_AS_STRING(bytes) : NULL;
}

enum { FAILED = -1, FINE = 0, UNUSUAL = 1 };

static int add_computed(const Evaluator *self, const Table *table, PyObject *value, PyObject *now, uint64_t *state)
{
    PyObject *found = PyObject_CallFunctionObjArgs(table->compute, value, now, NULL);
    const uint64_t *cell = found ? words_of(self, found) : NULL;
    if (cell) add(self, state, cell);
    int done = cell ? FINE : FAILED;
    if (cell && table->kind == NAMED && PyDict_GET_SIZE(table->memo) < self->limit)
        done = PyDict_SetItem(table->memo, value, found) < 0 ? FAILED : FINE;
    Py_XDECREF(found);
    return done;
}

static int add_named(const Evaluator *self, const Table *table, PyObject *value, PyObject *now, uint64_t *state)
{
    PyObject *known = PyDict_GetItemWithError(table->memo, value);
    if (!known) return PyErr_Occurred() ? FAILED : add_computed(self, table, value, now, state);
    add(self, state, (const uint64_t *)PyBytes_AS_STRING(known)); /* a memo holds what words_of let through */
    return FINE;
}

/* Python's bisect_left + bisect_right. */
static Py_ssize_t position(const double *points, Py_ssize_t n, double value)
{
    Py_ssize_t left = 0, right = 0;
    for (Py_ssize_t until = n; left < until;) {
        const Py_ssize_t middle = (left + until) / 2;
        if (points[middle] < value)
            left = middle + 1;
        else
            until = middle;
    }
    for (Py_ssize_t until = n; right < until;) {
        const Py_ssize_t middle = (right + until) / 2;
        if (value < points[middle])
            until = middle;
        else
            right = middle + 1;
    }
    return left + right;
}

static int add_ordered(const Evaluator *self, const Table *table, PyObject *value, uint64_t *state)
{
    double number;
    if (PyFloat_CheckExact(value))
        number = PyFloat_AS_DOUBLE(value);
    else {
        int overflow = 1;
        const long long whole = PyLong_CheckExact(value) ? PyLong_AsLongLongAndOverflow(value, &overflow) : 0;
        if (overflow || whole > 1LL << 53 || whole < -(1LL << 53)) return UNUSUAL;
        number = (double)whole;
    }
    if (number != number) return UNUSUAL;
    add(self, state, table->cells + position(table->points, table->n_points, number) * self->words);
    return FINE;
}

static int look_up(const Evaluator *self, PyObject *values, PyObject *now, uint64_t *state)
{
    int done = FINE;
    for (Py_ssize_t t = 0; t < self->n_tables && done == FINE; t++) {
        const Table *table = self->tables + t;
        PyObject *value = PyDict_GetItemWithError(values, table->name);
        if (!value && PyErr_Occurred()) return FAILED;
        if (!value || value == Py_None) {
            add(self, state, table->missing);
            continue;
        }
        Py_INCREF(value);
        done = table->kind == ORDERED ? add_ordered(self, table, value, state)
               : table->kind == NAMED ? add_named(self, table, value, now, state)
                                      : add_computed(self, table, value, now, state);
        Py_DECREF(value);
    }
    return done;
}

static int node_holds(const Evaluator *self, const uint64_t *state, Py_ssize_t at)
{
    const Node *node = self->nodes + at;
    if (node->kind == AND || node->kind == OR) {
        for (Py_ssize_t child = at + 1; child < node->end; child = self->nodes[child].end)
            if (node_holds(self, state, child) == (node->kind == OR)) return node->kind == OR;
        return node->kind == AND;
    }
    for (Py_ssize_t i = 0; i < self->words; i++) {
        if (node->kind == ANY_BIT && state[i] & node->mask[i]) return 1;
        if (node->kind == ALL_BITS && (state[i] & node->mask[i]) != node->mask[i]) return 0;
    }
    return node->kind == ALL_BITS;
}

static void ask_together(const Evaluator *self, uint64_t *state)
{
    for (Py_ssize_t at = 0, clause = 0; at < self->n_nodes; at = self->nodes[at].end, clause++)
        if (!node_holds(self, state, at))
            add(self, state, (const uint64_t *)PyBytes_AS_STRING(PyTuple_GET_ITEM(self->whose, clause)));
}

/* (the conditions that hold, the tests that do) */
static PyObject *outcome(const Evaluator *self, const uint64_t *state)
{
    uint64_t alive[LARGEST], truth[LARGEST];
    const Py_ssize_t tests = self->words * 64 - self->conditions;
    for (Py_ssize_t i = 0; i < self->words; i++) alive[i] = ~state[i];
    bits_part(alive, self->words, 0, self->conditions, alive);
    bits_part(state, self->words, self->conditions, tests, truth);
    PyObject *holding = bits_number(alive, bits_words(self->conditions));
    PyObject *word = holding ? bits_number(truth, bits_words(tests)) : NULL;
    PyObject *both = word ? PyTuple_Pack(2, holding, word) : NULL;
    Py_XDECREF(holding);
    Py_XDECREF(word);
    return both;
}

/* evaluate(values: mapping, now: float) -> (int, int) */
static PyObject *evaluator_evaluate(PyObject *object, PyObject *const *args, Py_ssize_t n)
{
    const Evaluator *self = (const Evaluator *)object;
    uint64_t state[LARGEST];
    if (n != 2) return PyErr_Format(PyExc_TypeError, "evaluate takes values and a moment");
    memset(state, 0, self->words * 8);
    const int done = PyDict_CheckExact(args[0]) ? look_up(self, args[0], args[1], state) : UNUSUAL;
    if (done == FAILED) return NULL;
    if (done == UNUSUAL) return PyObject_CallFunctionObjArgs(self->twin, args[0], args[1], NULL);
    ask_together(self, state);
    return outcome(self, state);
}

/* --- Making and checking -------------------------------------------------------------------------------------------- */

static int refuse(const char *why)
{
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, why);
    return -1;
}

/* A table is told as (name, kind, points, cells, missing, compute), the three in the middle as bytes. */
static int read_table(const Evaluator *self, PyObject *told, Table *table)
{
    PyObject *name, *points, *cells, *missing, *compute;
    if (!PyTuple_CheckExact(told) || !PyArg_ParseTuple(told, "UiSSSO", &name, &table->kind, &points, &cells, &missing, &compute))
        return refuse("a table is not of six parts");
    table->name = Py_NewRef(name);
    table->compute = Py_NewRef(compute);
    table->kept[0] = Py_NewRef(points);
    table->kept[1] = Py_NewRef(cells);
    table->kept[2] = Py_NewRef(missing);
    table->n_points = PyBytes_GET_SIZE(points) / 8;
    table->points = (const double *)PyBytes_AS_STRING(points);
    table->cells = (const uint64_t *)PyBytes_AS_STRING(cells);
    if (!(table->missing = words_of(self, missing)) || !(table->memo = PyDict_New())) return -1;
    const Py_ssize_t count = 2 * table->n_points + 1;
    if (table->kind == ORDERED && PyBytes_GET_SIZE(cells) != count * self->words * 8)
        return refuse("a table has other cells than its points make");
    return table->kind < ORDERED || table->kind > MOVING ? refuse("there is no such kind of table") : 0;
}

/* A node is told as (kind, mask) or as (kind, (nodes within)). */
static int read_node(Evaluator *self, PyObject *told, int depth)
{
    int kind;
    PyObject *rest;
    if (depth > DEEPEST) return refuse("conditions are too deep");
    if (!PyTuple_CheckExact(told) || !PyArg_ParseTuple(told, "iO", &kind, &rest)) return refuse("a node has two parts");
    Node *grown = PyMem_Realloc(self->nodes, (self->n_nodes + 1) * sizeof(Node));
    if (!grown) return PyErr_NoMemory(), -1;
    self->nodes = grown;
    const Py_ssize_t at = self->n_nodes++;
    self->nodes[at] = (Node){.kind = kind, .kept = Py_NewRef(rest)};
    if (kind == ANY_BIT || kind == ALL_BITS) {
        if (!(self->nodes[at].mask = words_of(self, rest))) return -1;
    } else if ((kind != AND && kind != OR) || !PyTuple_CheckExact(rest))
        return refuse("there is no such kind of node");
    else
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(rest); i++)
            if (read_node(self, PyTuple_GET_ITEM(rest, i), depth + 1) < 0) return -1;
    self->nodes[at].end = self->n_nodes;
    return 0;
}

static int fill(Evaluator *self, PyObject *tables, PyObject *clauses)
{
    const Py_ssize_t count = PyTuple_GET_SIZE(tables), many = PyTuple_GET_SIZE(clauses);
    if (self->words < 1 || self->words > LARGEST || self->conditions < 0 || self->conditions > self->words * 64)
        return refuse("a state is not of so many words");
    if (!(self->tables = PyMem_Calloc(count + 1, sizeof(Table)))) return PyErr_NoMemory(), -1;
    while (self->n_tables < count) {
        Table *table = self->tables + self->n_tables++;
        if (read_table(self, PyTuple_GET_ITEM(tables, self->n_tables - 1), table) < 0) return -1;
    }
    for (Py_ssize_t i = 0; i < many; i++)
        if (read_node(self, PyTuple_GET_ITEM(clauses, i), 0) < 0) return -1;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(self->whose); i++)
        if (!words_of(self, PyTuple_GET_ITEM(self->whose, i))) return -1;
    return PyTuple_GET_SIZE(self->whose) == many ? 0 : refuse("there is not one mask for each clause");
}

static PyObject *evaluator_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"tables", "clauses", "whose", "conditions", "words", "limit", "twin", NULL};
    PyObject *tables, *clauses, *whose, *twin;
    Py_ssize_t conditions, words, limit;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!O!O!nnnO", names, &PyTuple_Type, &tables, &PyTuple_Type, &clauses,
                                     &PyTuple_Type, &whose, &conditions, &words, &limit, &twin))
        return NULL;
    Evaluator *self = (Evaluator *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->whose = Py_NewRef(whose);
    self->twin = Py_NewRef(twin);
    self->conditions = conditions;
    self->words = words;
    self->limit = limit;
    if (fill(self, tables, clauses) < 0) Py_CLEAR(self);
    return (PyObject *)self;
}

static void evaluator_dealloc(PyObject *object)
{
    Evaluator *self = (Evaluator *)object;
    for (Py_ssize_t t = 0; t < self->n_tables; t++) {
        Table *table = self->tables + t;
        PyObject *ours[] = {table->name, table->compute, table->memo, table->kept[0], table->kept[1], table->kept[2]};
        for (int i = 0; i < 6; i++) Py_XDECREF(ours[i]);
    }
    for (Py_ssize_t i = 0; i < self->n_nodes; i++) Py_XDECREF(self->nodes[i].kept);
    Py_XDECREF(self->twin);
    Py_XDECREF(self->whose);
    PyMem_Free(self->tables);
    PyMem_Free(self->nodes);
    Py_TYPE(object)->tp_free(object);
}

/* remembered() -> how many values all tables together know the cells of */
static PyObject *evaluator_remembered(PyObject *object, PyObject *Py_UNUSED(nothing))
{
    const Evaluator *self = (const Evaluator *)object;
    Py_ssize_t found = 0;
    for (Py_ssize_t t = 0; t < self->n_tables; t++) found += PyDict_GET_SIZE(self->tables[t].memo);
    return PyLong_FromSsize_t(found);
}

static PyMethodDef methods[] = {
    {"remembered", evaluator_remembered, METH_NOARGS, "How many values it knows the cells of."},
    {"evaluate", (PyCFunction)(void (*)(void))evaluator_evaluate, METH_FASTCALL, "What holds, as bit sets."},
    {NULL, NULL, 0, NULL}};

static PyTypeObject EvaluatorType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "decisioning._cells.Evaluator",
    .tp_basicsize = sizeof(Evaluator),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = evaluator_new,
    .tp_dealloc = evaluator_dealloc,
    .tp_methods = methods,
    .tp_doc = "Conditions, ready to be asked all at once.",
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_cells", "Many conditions at once.", -1, NULL};

PyMODINIT_FUNC PyInit__cells(void)
{
    if (PyType_Ready(&EvaluatorType) < 0) return NULL;
    PyObject *made = PyModule_Create(&module);
    if (made && (PyModule_AddObjectRef(made, "Evaluator", (PyObject *)&EvaluatorType) < 0 ||
                 PyModule_AddIntConstant(made, "VERSION", VERSION) < 0))
        Py_CLEAR(made);
    return made;
}
