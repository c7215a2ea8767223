/* The values of a packed vector, by name. features/unpacking.py says what each number stands for; this gives the same. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <string.h>

#define VERSION 1    /* of what Python and this ask of one another: features/unpacking.py has the same */
#define SETS_KEPT 4096 /* of each feature: the masks that users really have */
#define MOST_MEMBERS 24

enum { FLOAT, INT, BOOL, TIME, ENUM, SET };

typedef struct {
    PyObject *name;
    int kind;
    PyObject *values; /* ENUM, SET: a tuple of what a code or a bit stands for */
    PyObject *sets;   /* SET: a dict from mask to frozenset */
} Field;

typedef struct {
    PyObject_HEAD
    Field *fields;
    Py_ssize_t n;
    double minutes_from;
    PyObject *whole; /* a dict of all names, to be copied: cheaper than to make one name by name */
} Unpacker;

/* --- From numbers to values ------------------------------------------------------------------------------------------- */

static PyObject *members(const Field *field, unsigned long mask)
{
    PyObject *found = PyFrozenSet_New(NULL);
    for (Py_ssize_t i = 0; found && i < PyTuple_GET_SIZE(field->values); i++)
        if (mask >> i & 1 && PySet_Add(found, PyTuple_GET_ITEM(field->values, i)) < 0) Py_CLEAR(found);
    return found;
}

static PyObject *set_of(const Field *field, double number)
{
    if (number <= -1.0) Py_RETURN_NONE;
    /* a float32 beyond 2^63 has no bits among the lowest */
    const unsigned long bits = number < 0x1p63 ? (unsigned long)(long long)number : 0;
    const unsigned long mask = bits & ((1ul << PyTuple_GET_SIZE(field->values)) - 1);
    PyObject *key = PyLong_FromUnsignedLong(mask);
    PyObject *found = key ? PyDict_GetItemWithError(field->sets, key) : NULL;
    if (found)
        Py_INCREF(found);
    else if (key && !PyErr_Occurred() && (found = members(field, mask)) && PyDict_GET_SIZE(field->sets) < SETS_KEPT &&
             PyDict_SetItem(field->sets, key, found) < 0)
        Py_CLEAR(found);
    Py_XDECREF(key);
    return found;
}

/* The value that a number stands for; None where it stands for none. */
static PyObject *value_of(const Unpacker *self, const Field *field, double number)
{
    if (!isfinite(number)) Py_RETURN_NONE;
    switch (field->kind) {
    case FLOAT: return PyFloat_FromDouble(number);
    case INT: return PyLong_FromDouble(nearbyint(number));
    case BOOL: return PyBool_FromLong(number != 0.0);
    case TIME: return PyFloat_FromDouble(self->minutes_from + 60.0 * number);
    case SET: return set_of(field, number);
    }
    if (!(0.0 <= number && number < (double)PyTuple_GET_SIZE(field->values))) Py_RETURN_NONE;
    return Py_NewRef(PyTuple_GET_ITEM(field->values, (Py_ssize_t)number));
}

/* Puts all values into a dict that has all names; that of a missing one is taken out. */
static int fill(const Unpacker *self, PyObject *out, const char *packed)
{
    for (Py_ssize_t i = 0; i < self->n; i++) {
        const unsigned char *bytes = (const unsigned char *)packed + 4 * i;
        const unsigned int bits = bytes[0] | bytes[1] << 8 | bytes[2] << 16 | (unsigned int)bytes[3] << 24;
        float number;
        memcpy(&number, &bits, sizeof number);
        PyObject *name = self->fields[i].name, *value = value_of(self, self->fields + i, number);
        int failed = !value;
        if (value && value != Py_None)
            failed = PyDict_SetItem(out, name, value);
        else if (value)
            failed = PyDict_DelItem(out, name);
        Py_XDECREF(value);
        if (failed) return -1;
    }
    return 0;
}

/* unpack(packed: bytes, start: int = 0) -> dict */
static PyObject *unpacker_unpack(PyObject *object, PyObject *const *args, Py_ssize_t n)
{
    const Unpacker *self = (const Unpacker *)object;
    Py_buffer packed;
    if (n < 1 || n > 2) return PyErr_Format(PyExc_TypeError, "unpack takes bytes and a place");
    const Py_ssize_t start = n == 2 ? PyLong_AsSsize_t(args[1]) : 0;
    if (start < 0 && !PyErr_Occurred()) return PyErr_Format(PyExc_ValueError, "a vector begins at no negative place");
    if (PyErr_Occurred() || PyObject_GetBuffer(args[0], &packed, PyBUF_SIMPLE) < 0) return NULL;
    PyObject *out = NULL;
    if (start > packed.len || packed.len - start != 4 * self->n)
        PyErr_Format(PyExc_ValueError, "A packed vector of %zd bytes isn't of this schema: %zd expected.",
                     packed.len - start, 4 * self->n);
    else if ((out = PyDict_Copy(self->whole)) && fill(self, out, (const char *)packed.buf + start) < 0)
        Py_CLEAR(out);
    PyBuffer_Release(&packed);
    return out;
}

/* --- Making one ------------------------------------------------------------------------------------------------------- */

static int refuse(const char *why)
{
    PyErr_SetString(PyExc_ValueError, why);
    return -1;
}

static int read_field(PyObject *told, Field *field)
{
    PyObject *name, *values;
    int kind;
    if (!PyTuple_CheckExact(told)) return refuse("a field is a tuple");
    if (!PyArg_ParseTuple(told, "UiO!", &name, &kind, &PyTuple_Type, &values)) return -1;
    if (kind < FLOAT || kind > SET) return refuse("there is no such kind of field");
    if (kind == SET && PyTuple_GET_SIZE(values) > MOST_MEMBERS) return refuse("a set has too many members");
    field->kind = kind, field->name = Py_NewRef(name), field->values = Py_NewRef(values);
    return (field->sets = PyDict_New()) ? 0 : -1;
}

static PyObject *unpacker_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    PyObject *fields;
    double minutes_from;
    if (!PyArg_ParseTuple(args, "O!d", &PyTuple_Type, &fields, &minutes_from)) return NULL;
    Unpacker *self = (Unpacker *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->minutes_from = minutes_from;
    self->whole = PyDict_New();
    self->fields = PyMem_Calloc(PyTuple_GET_SIZE(fields) + 1, sizeof(Field));
    int failed = !self->whole;
    if (!self->fields) failed = 1, PyErr_NoMemory();
    for (Py_ssize_t i = 0; !failed && i < PyTuple_GET_SIZE(fields); i++) {
        self->n++; /* what is half made is let go of, too */
        failed = read_field(PyTuple_GET_ITEM(fields, i), self->fields + i) < 0 ||
                 PyDict_SetItem(self->whole, self->fields[i].name, Py_None) < 0;
    }
    if (!failed && PyDict_GET_SIZE(self->whole) != self->n) failed = refuse("two fields have one name");
    if (failed) Py_CLEAR(self);
    return (PyObject *)self;
}

static void unpacker_dealloc(PyObject *object)
{
    Unpacker *self = (Unpacker *)object;
    for (Py_ssize_t i = 0; i < self->n; i++) {
        Py_XDECREF(self->fields[i].name);
        Py_XDECREF(self->fields[i].values);
        Py_XDECREF(self->fields[i].sets);
    }
    Py_XDECREF(self->whole);
    PyMem_Free(self->fields);
    Py_TYPE(object)->tp_free(object);
}

static PyMethodDef methods[] = {
    {"unpack", (PyCFunction)(void (*)(void))unpacker_unpack, METH_FASTCALL, "The values of a packed vector, by name."},
    {NULL, NULL, 0, NULL}};

static PyTypeObject UnpackerType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "features._vectors.Unpacker",
    .tp_basicsize = sizeof(Unpacker),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = unpacker_new,
    .tp_dealloc = unpacker_dealloc,
    .tp_methods = methods,
    .tp_doc = "Unpacks vectors of one schema.",
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_vectors", "Packed vectors, unpacked.", -1, NULL};

PyMODINIT_FUNC PyInit__vectors(void)
{
    if (PyType_Ready(&UnpackerType) < 0) return NULL;
    PyObject *made = PyModule_Create(&module);
    if (made && (PyModule_AddObjectRef(made, "Unpacker", (PyObject *)&UnpackerType) < 0 ||
                 PyModule_AddIntConstant(made, "VERSION", VERSION) < 0))
        Py_CLEAR(made);
    return made;
}
