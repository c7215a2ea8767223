/* The two ends of a score, which cost more than the trees between them when Python does them one by one: the row of
 * numbers that a model reads of what is known (Packer), and from log-odds to probabilities (blend). models/encoding.py and
 * models/calibration.py say what both have to give, and give the same to the last bit.
 *
 * Never build this with -ffast-math, and always with -ffp-contract=off.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <float.h>
#include <math.h>
#include <string.h>

#define VERSION 2 /* of what Python and this ask of one another: models/by_c.py has the same */

enum { NUMBER, BOOL, ENUM, SET };

typedef struct {
    PyObject *name;
    int kind;
    Py_ssize_t at, width; /* its columns */
    PyObject *values;     /* ENUM: a dict of our own from value to place; SET: a tuple of members */
    PyObject *encode;     /* Python's own function, for values of any other type than the usual ones */
} Field;

typedef struct {
    PyObject_HEAD
    Field *fields;
    Py_ssize_t n_fields, width;
    double *missing;    /* the row of somebody of whom nothing is known, on no surface */
    PyObject *surfaces; /* a dict from name to column */
} Packer;

/* --- From what is known to a row ---------------------------------------------------------------------------------- */

/* What Python makes of a value. -1 for an error. */
static int put_any(const Field *field, PyObject *value, double *row)
{
    PyObject *found = PyObject_CallOneArg(field->encode, value);
    if (!found || found == Py_None) {
        Py_XDECREF(found);
        return found ? 0 : -1;
    }
    const int fits = PyTuple_CheckExact(found) && PyTuple_GET_SIZE(found) == field->width;
    for (Py_ssize_t i = 0; fits && i < field->width; i++) row[i] = (float)PyFloat_AsDouble(PyTuple_GET_ITEM(found, i));
    Py_DECREF(found);
    if (!fits) PyErr_SetString(PyExc_ValueError, "an encoder gave another number of columns");
    return PyErr_Occurred() ? -1 : 0;
}

static int put_number(const Field *field, PyObject *value, double *row)
{
    if (PyFloat_CheckExact(value)) {
        const double number = PyFloat_AS_DOUBLE(value);
        if (-FLT_MAX <= number && number <= FLT_MAX) *row = (float)number;
        return 0;
    }
    int is_too_large = 1;
    const long long number = PyLong_CheckExact(value) ? PyLong_AsLongLongAndOverflow(value, &is_too_large) : 0;
    if (is_too_large) return put_any(field, value, row);
    *row = (float)(double)number;
    return 0;
}

static int put_enum(const Field *field, PyObject *value, double *row)
{
    if (!PyUnicode_CheckExact(value)) return put_any(field, value, row);
    PyObject *place = PyDict_GetItemWithError(field->values, value);
    if (!place) return PyErr_Occurred() ? -1 : 0;
    memset(row, 0, field->width * sizeof(double));
    row[PyLong_AsSsize_t(place)] = 1.0;
    return 0;
}

static int put_set(const Field *field, PyObject *value, double *row)
{
    if (!PyFrozenSet_CheckExact(value)) return put_any(field, value, row);
    for (Py_ssize_t i = 0; i < field->width; i++) {
        const int has = PySet_Contains(value, PyTuple_GET_ITEM(field->values, i));
        if (has < 0) return -1;
        row[i] = has;
    }
    return 0;
}

static int put(const Field *field, PyObject *value, double *row)
{
    switch (field->kind) {
    case NUMBER: return put_number(field, value, row);
    case ENUM: return put_enum(field, value, row);
    case SET: return put_set(field, value, row);
    default:
        if (!PyBool_Check(value)) return put_any(field, value, row);
        *row = value == Py_True;
        return 0;
    }
}

static int fill(const Packer *self, PyObject *known, PyObject *surface, double *row)
{
    memcpy(row, self->missing, self->width * sizeof(double));
    for (const Field *field = self->fields; field < self->fields + self->n_fields; field++) {
        PyObject *value = PyDict_GetItemWithError(known, field->name);
        if (!value && PyErr_Occurred()) return -1;
        if (!value || value == Py_None) continue;
        Py_INCREF(value); /* Python's own encoders could let it go */
        const int failed = put(field, value, row + field->at);
        Py_DECREF(value);
        if (failed) return -1;
    }
    PyObject *place = PyDict_GetItemWithError(self->surfaces, surface);
    if (place) row[PyLong_AsSsize_t(place)] = 1.0;
    return PyErr_Occurred() ? -1 : 0;
}

static PyTypeObject PackerType;

/* What models/_score.c asks, by a capsule: the row of a packer, written to where `width` doubles have room. -1 for an
 * error. */
static int row_of(PyObject *object, PyObject *known, PyObject *surface, double *row, Py_ssize_t width)
{
    if (!Py_IS_TYPE(object, &PackerType)) return PyErr_SetString(PyExc_TypeError, "this is no packer"), -1;
    const Packer *self = (const Packer *)object;
    if (!PyDict_Check(known) || width != self->width)
        return PyErr_SetString(PyExc_ValueError, "the row is of other columns"), -1;
    return fill(self, known, surface, row);
}

/* packer(known: mapping, surface: str) -> bytes of doubles */
static PyObject *packer_call(PyObject *object, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    const Packer *self = (const Packer *)object;
    PyObject *known, *surface;
    if (!PyArg_UnpackTuple(args, "packer", 2, 2, &known, &surface)) return NULL;
    if (PyDict_Check(known))
        Py_INCREF(known);
    else if (!(known = PyObject_CallOneArg((PyObject *)&PyDict_Type, known)))
        return NULL;
    PyObject *out = PyBytes_FromStringAndSize(NULL, self->width * sizeof(double));
    if (out && fill(self, known, surface, (double *)PyBytes_AS_STRING(out)) < 0) Py_CLEAR(out);
    Py_DECREF(known);
    return out;
}

/* --- Making and checking a Packer --------------------------------------------------------------------------------- */

static int refuse(const char *why)
{
    PyErr_SetString(PyExc_ValueError, why);
    return -1;
}

static int are_places(PyObject *dict, Py_ssize_t from, Py_ssize_t until)
{
    PyObject *key, *value;
    for (Py_ssize_t at = 0; PyDict_Next(dict, &at, &key, &value);) {
        const Py_ssize_t place = PyLong_CheckExact(value) ? PyLong_AsSsize_t(value) : -1;
        if (place < from || place >= until) return 0;
    }
    return 1;
}

static int read_field(const Packer *self, PyObject *told, Field *field)
{
    if (!PyTuple_CheckExact(told) ||
        !PyArg_ParseTuple(told, "UinnOO", &field->name, &field->kind, &field->at, &field->width, &field->values,
                          &field->encode)) {
        memset(field, 0, sizeof *field);
        return refuse("a field is not of six parts");
    }
    Py_INCREF(field->name);
    Py_INCREF(field->encode);
    field->values = PyDict_CheckExact(field->values) ? PyDict_Copy(field->values) : Py_NewRef(field->values);
    if (!field->values) return -1;
    if (field->width < 0 || field->at < 0 || field->at > self->width - field->width)
        return refuse("a field's columns are not of the row");
    if (field->kind == ENUM && !(PyDict_CheckExact(field->values) && are_places(field->values, 0, field->width)))
        return refuse("a field's values are not in its columns");
    if (field->kind == SET && !(PyTuple_CheckExact(field->values) && PyTuple_GET_SIZE(field->values) == field->width))
        return refuse("a field's members are not in its columns");
    if ((field->kind == NUMBER || field->kind == BOOL) && field->width != 1) return refuse("a number has one column");
    return field->kind < NUMBER || field->kind > SET ? refuse("there is no such kind of field") : 0;
}

static int read_fields(Packer *self, PyObject *fields, const Py_buffer *missing, PyObject *surfaces)
{
    self->width = missing->len / (Py_ssize_t)sizeof(double);
    self->missing = PyMem_Malloc(missing->len + 1);
    self->fields = PyMem_Calloc(PyTuple_GET_SIZE(fields) + 1, sizeof(Field));
    if (!self->missing || !self->fields) return PyErr_NoMemory(), -1;
    memcpy(self->missing, missing->buf, missing->len);
    if (missing->len % sizeof(double) || !are_places(surfaces, 0, self->width))
        return refuse("a surface is not in its column");
    self->surfaces = PyDict_Copy(surfaces);
    for (; self->surfaces && self->n_fields < PyTuple_GET_SIZE(fields); self->n_fields++)
        if (read_field(self, PyTuple_GET_ITEM(fields, self->n_fields), self->fields + self->n_fields) < 0) {
            self->n_fields++; /* it is to be let go of, too */
            return -1;
        }
    return self->surfaces ? 0 : -1;
}

static PyObject *packer_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"fields", "missing", "surfaces", NULL};
    Py_buffer missing = {0};
    PyObject *fields, *surfaces;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!y*O!", names, &PyList_Type, &fields, &missing, &PyDict_Type,
                                     &surfaces))
        return NULL;
    PyObject *told = PyList_AsTuple(fields); /* as a number's own __index__ could change a list */
    Packer *self = told ? (Packer *)type->tp_alloc(type, 0) : NULL;
    if (self && read_fields(self, told, &missing, surfaces) < 0) Py_CLEAR(self);
    Py_XDECREF(told);
    PyBuffer_Release(&missing);
    return (PyObject *)self;
}

static void packer_dealloc(PyObject *object)
{
    Packer *self = (Packer *)object;
    for (Py_ssize_t i = 0; i < self->n_fields; i++) {
        Py_XDECREF(self->fields[i].name);
        Py_XDECREF(self->fields[i].values);
        Py_XDECREF(self->fields[i].encode);
    }
    Py_XDECREF(self->surfaces);
    PyMem_Free(self->fields);
    PyMem_Free(self->missing);
    Py_TYPE(object)->tp_free(object);
}

static PyTypeObject PackerType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "models._rows.Packer",
    .tp_basicsize = sizeof(Packer),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = packer_new,
    .tp_dealloc = packer_dealloc,
    .tp_call = packer_call,
    .tp_doc = "Makes a row of numbers of what is known.",
};

/* --- From log-odds to probabilities ------------------------------------------------------------------------------- */

/* What models.calibration.Platt makes of one, and then models.model.Model of its mean. */
static double blended(double raw, double mean, double slope, double intercept, double weight)
{
    const double odds = slope * raw + intercept;
    const double learned = odds < -700.0 ? 0.0 : 1.0 / (1.0 + exp(-odds));
    if (learned != learned) return mean;
    const double p = mean + weight * (learned - mean);
    return p < 0.0 ? 0.0 : p > 1.0 ? 1.0 : p;
}

/* blend(raw: list of floats, means: list of as many, slope, intercept, weight) -> list of floats */
static PyObject *blend(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t n)
{
    if (n != 5 || !PyList_Check(args[0]) || !PyList_Check(args[1]) ||
        PyList_GET_SIZE(args[0]) != PyList_GET_SIZE(args[1]))
        return PyErr_Format(PyExc_TypeError, "blend takes as many log-odds as means, and three numbers");
    const double slope = PyFloat_AsDouble(args[2]), intercept = PyFloat_AsDouble(args[3]);
    const double weight = PyFloat_AsDouble(args[4]);
    PyObject *out = PyErr_Occurred() ? NULL : PyList_New(PyList_GET_SIZE(args[0]));
    for (Py_ssize_t i = 0; out && i < PyList_GET_SIZE(out); i++) {
        PyObject *raws = PyList_GetItem(args[0], i); /* checked: a number's own __float__ could change the list */
        const double raw = raws ? PyFloat_AsDouble(raws) : 0.0;
        PyObject *theirs = PyErr_Occurred() ? NULL : PyList_GetItem(args[1], i);
        const double mean = theirs ? PyFloat_AsDouble(theirs) : 0.0;
        PyObject *p = PyErr_Occurred() ? NULL : PyFloat_FromDouble(blended(raw, mean, slope, intercept, weight));
        if (p)
            PyList_SET_ITEM(out, i, p);
        else
            Py_CLEAR(out);
    }
    return out;
}

static PyMethodDef functions[] = {
    {"blend", (PyCFunction)(void (*)(void))blend, METH_FASTCALL, "Calibrated probabilities, shrunk to their means."},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_rows", "The two ends of a score.", -1, functions};

static int add_capsule(PyObject *made, const char *path, void *function)
{
    PyObject *capsule = PyCapsule_New(function, path, NULL);
    const int failed = !capsule || PyModule_AddObjectRef(made, strrchr(path, '.') + 1, capsule) < 0;
    Py_XDECREF(capsule);
    return failed;
}

PyMODINIT_FUNC PyInit__rows(void)
{
    if (PyType_Ready(&PackerType) < 0) return NULL;
    PyObject *made = PyModule_Create(&module);
    if (made && (PyModule_AddObjectRef(made, "Packer", (PyObject *)&PackerType) < 0 ||
                 add_capsule(made, "models._rows.row", (void *)row_of) ||
                 add_capsule(made, "models._rows.blended", (void *)blended) ||
                 PyModule_AddIntConstant(made, "VERSION", VERSION) < 0))
        Py_CLEAR(made);
    return made;
}
