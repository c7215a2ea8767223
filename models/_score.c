/* All of a model's score in one call: the row of what is known (_rows.c), the trees (_bits.c), calibration and means
 * (_rows.c), and no object between them. models/model.py says what it has to give, and does it itself whenever this
 * answers None: for a surface or an offer that the model was not trained on.
 *
 * Never build this with -ffast-math, and always with -ffp-contract=off.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#include "../decisioning/asks.h"

#define VERSION 2 /* of what Python and this ask of one another: models/by_c.py has the same */

/* Those of the other two; models/by_c.py sees to it that they are of a version that has them so. */
static int (*row_of)(PyObject *packer, PyObject *known, PyObject *surface, double *row, Py_ssize_t width);
static int (*sums_of)(PyObject *masks, const double *row, Py_ssize_t width, const int64_t *asked, Py_ssize_t count,
                      double *sums);
static double (*blended)(double raw, double mean, double slope, double intercept, double weight);

typedef struct {
    PyObject_HEAD
    PyObject *packer, *masks;
    PyObject *offers;   /* a dict of our own from name to number */
    PyObject *surfaces; /* the same */
    double *means;      /* a row for each surface, of a rate for each offer */
    double slope, intercept, weight;
    Py_ssize_t width;
} Asker;

/* --- Asking ------------------------------------------------------------------------------------------------------- */

/* The number of a name; -1 for one that is not there, -2 for an error. */
static Py_ssize_t number_of(PyObject *numbers, PyObject *name)
{
    PyObject *number = PyDict_GetItemWithError(numbers, name);
    if (number) return PyLong_AsSsize_t(number);
    return PyErr_Occurred() ? -2 : -1;
}

static PyObject *list_of(const double *values, Py_ssize_t count)
{
    PyObject *made = PyList_New(count);
    for (Py_ssize_t k = 0; made && k < count; k++) {
        PyObject *value = PyFloat_FromDouble(values[k]);
        if (value)
            PyList_SET_ITEM(made, k, value);
        else
            Py_CLEAR(made);
    }
    return made;
}

/* What is said of some offers by their numbers on a surface, to where `count` numbers have room; `row` has room for the
 * width. -1 for an error. */
static int say(const Asker *self, PyObject *known, PyObject *surface, Py_ssize_t here, const int64_t *asked,
               Py_ssize_t count, double *p, double *row)
{
    if (row_of(self->packer, known, surface, row, self->width) < 0) return -1;
    if (sums_of(self->masks, row, self->width, asked, count, p) < 0) return -1;
    const double *means = self->means + here * PyDict_GET_SIZE(self->offers);
    for (Py_ssize_t k = 0; k < count; k++)
        p[k] = blended(p[k], means[asked[k]], self->slope, self->intercept, self->weight);
    return 0;
}

/* The answer, in memory for `width` + 2 × (number of offers) numbers of eight bytes. */
static PyObject *answer(const Asker *self, PyObject *known, PyObject *surface, PyObject *offers, double *memory)
{
    const Py_ssize_t count = PyTuple_GET_SIZE(offers), here = number_of(self->surfaces, surface);
    double *p = memory + self->width;
    int64_t *asked = (int64_t *)(p + count);
    if (here < 0) return here == -1 ? Py_NewRef(Py_None) : NULL;
    for (Py_ssize_t k = 0; k < count; k++) {
        asked[k] = number_of(self->offers, PyTuple_GET_ITEM(offers, k));
        if (asked[k] < 0) return asked[k] == -1 ? Py_NewRef(Py_None) : NULL;
    }
    return say(self, known, surface, here, asked, count, p, memory) < 0 ? NULL : list_of(p, count);
}

/* ask(known: mapping, surface: str, offers: sequence of str) -> list of floats, or None */
static PyObject *asker_ask(PyObject *object, PyObject *const *args, Py_ssize_t n)
{
    const Asker *self = (const Asker *)object;
    if (n != 3) return PyErr_Format(PyExc_TypeError, "ask takes what is known, a surface, and offers");
    /* A tuple, as the hash of a name could change a list. */
    PyObject *offers = PySequence_Tuple(args[2]), *found = NULL;
    if (!offers) return NULL;
    PyObject *known = PyDict_Check(args[0]) ? Py_NewRef(args[0]) : PyObject_CallOneArg((PyObject *)&PyDict_Type, args[0]);
    if (known) {
        double *memory = PyMem_Malloc((self->width + 2 * PyTuple_GET_SIZE(offers)) * sizeof(double));
        found = memory ? answer(self, known, args[1], offers, memory) : PyErr_NoMemory();
        PyMem_Free(memory);
    }
    Py_XDECREF(known);
    Py_DECREF(offers);
    return found;
}

/* --- Being asked by C ---------------------------------------------------------------------------------------------- */

typedef struct {
    Asks asks;
    Asker *asker;
    PyObject *surface;
    Py_ssize_t here;
    int64_t base;      /* the number of NOTHING, which effects are measured against; -1 where they are not */
    int64_t numbers[]; /* of the offers; -1 for one that the model doesn't know */
} Ready;

/* `Asks.ask`: the numbers, with those of the base at the end, are in memory for one more of each than there are offers. */
static int ready_ask(const Asks *asks, PyObject *known, const int64_t *places, Py_ssize_t count, double *p_convert,
                     double *effect, double *memory)
{
    const Ready *self = (const Ready *)asks;
    double *p = memory, *row = memory + 2 * (asks->offers + 1);
    int64_t *asked = (int64_t *)(memory + asks->offers + 1);
    for (Py_ssize_t k = 0; k < count; k++)
        if ((asked[k] = self->numbers[places[k]]) < 0) return 0;
    asked[count] = self->base;
    const Py_ssize_t all = count + asks->has_effect;
    if (say(self->asker, known, self->surface, self->here, asked, all, p, row) < 0) return -1;
    memcpy(p_convert, p, count * sizeof(double));
    for (Py_ssize_t k = 0; asks->has_effect && k < count; k++) effect[k] = p[k] - p[count];
    return 1;
}

static void ready_free(PyObject *capsule)
{
    Ready *self = PyCapsule_GetPointer(capsule, ASKS);
    Py_XDECREF(self->asker);
    Py_XDECREF(self->surface);
    PyMem_Free(self);
}

/* ready(surface: str, offers: tuple of str, base: str or None) -> capsule, or None: the surface or the base is unknown */
static PyObject *asker_ready(PyObject *object, PyObject *const *args, Py_ssize_t n)
{
    Asker *asker = (Asker *)object;
    if (n != 3 || !PyTuple_CheckExact(args[1]))
        return PyErr_Format(PyExc_TypeError, "ready takes a surface, a tuple of offers, and a base or None");
    const Py_ssize_t offers = PyTuple_GET_SIZE(args[1]), here = number_of(asker->surfaces, args[0]);
    const Py_ssize_t base = here < 0 || args[2] == Py_None ? -1 : number_of(asker->offers, args[2]);
    if (here == -2 || base == -2) return NULL;
    if (here == -1 || (base == -1 && args[2] != Py_None)) Py_RETURN_NONE;
    Ready *self = PyMem_Calloc(1, sizeof(Ready) + offers * sizeof(int64_t));
    if (!self) return PyErr_NoMemory();
    self->asks = (Asks){ready_ask, offers, asker->width + 2 * (offers + 1), base >= 0};
    self->here = here, self->base = base;
    int fine = 1;
    for (Py_ssize_t k = 0; fine && k < offers; k++) {
        self->numbers[k] = number_of(asker->offers, PyTuple_GET_ITEM(args[1], k));
        fine = self->numbers[k] != -2;
    }
    PyObject *capsule = fine ? PyCapsule_New(self, ASKS, ready_free) : NULL;
    if (!capsule) return PyMem_Free(self), NULL;
    self->asker = (Asker *)Py_NewRef(object);
    self->surface = Py_NewRef(args[0]);
    return capsule;
}

/* --- Making and checking ------------------------------------------------------------------------------------------ */

static int are_numbers(PyObject *dict)
{
    PyObject *key, *value;
    for (Py_ssize_t at = 0; PyDict_Next(dict, &at, &key, &value);) {
        const Py_ssize_t number = PyLong_CheckExact(value) ? PyLong_AsSsize_t(value) : -1;
        if (number < 0 || number >= PyDict_GET_SIZE(dict)) return PyErr_Clear(), 0;
    }
    return 1;
}

static int fill(Asker *self, PyObject *offers, PyObject *surfaces, const Py_buffer *means)
{
    self->offers = PyDict_Copy(offers);
    self->surfaces = PyDict_Copy(surfaces);
    self->means = PyMem_Malloc(means->len + 1);
    if (!self->offers || !self->surfaces || !self->means) return PyErr_Occurred() ? -1 : (PyErr_NoMemory(), -1);
    memcpy(self->means, means->buf, means->len);
    const Py_ssize_t cells = PyDict_GET_SIZE(self->offers) * PyDict_GET_SIZE(self->surfaces);
    if (!are_numbers(self->offers) || !are_numbers(self->surfaces) || self->width < 0 || self->width > INT32_MAX ||
        means->len != cells * (Py_ssize_t)sizeof(double))
        return PyErr_SetString(PyExc_ValueError, "there is not one mean for each surface and offer"), -1;
    return 0;
}

static PyObject *asker_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"packer", "masks", "width", "offers", "surfaces", "means", "slope", "intercept", "weight",
                            NULL};
    PyObject *packer, *masks, *offers, *surfaces;
    Py_buffer means = {0};
    Py_ssize_t width;
    double slope, intercept, weight;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "OOnO!O!y*ddd", names, &packer, &masks, &width, &PyDict_Type,
                                     &offers, &PyDict_Type, &surfaces, &means, &slope, &intercept, &weight))
        return NULL;
    Asker *self = (Asker *)type->tp_alloc(type, 0);
    if (self) {
        self->packer = Py_NewRef(packer);
        self->masks = Py_NewRef(masks);
        self->width = width;
        self->slope = slope;
        self->intercept = intercept;
        self->weight = weight;
        if (fill(self, offers, surfaces, &means) < 0) Py_CLEAR(self);
    }
    PyBuffer_Release(&means);
    return (PyObject *)self;
}

static void asker_dealloc(PyObject *object)
{
    Asker *self = (Asker *)object;
    Py_XDECREF(self->packer);
    Py_XDECREF(self->masks);
    Py_XDECREF(self->offers);
    Py_XDECREF(self->surfaces);
    PyMem_Free(self->means);
    Py_TYPE(object)->tp_free(object);
}

static PyMethodDef methods[] = {
    {"ask", (PyCFunction)(void (*)(void))asker_ask, METH_FASTCALL, "A probability for each offer; None: ask the twin."},
    {"ready", (PyCFunction)(void (*)(void))asker_ready, METH_FASTCALL, "For other extensions, on a surface; or None."},
    {NULL, NULL, 0, NULL}};

static PyTypeObject AskerType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "models._score.Asker",
    .tp_basicsize = sizeof(Asker),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = asker_new,
    .tp_dealloc = asker_dealloc,
    .tp_methods = methods,
    .tp_doc = "A model, ready to be asked.",
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_score", "A model's score in one call.", -1, NULL};

/* A function of another extension. NULL and ImportError where that is not there, or an older one. */
static void *function_of(const char *extension, const char *capsule)
{
    PyObject *imported = PyImport_ImportModule(extension);
    void *found = imported ? PyCapsule_Import(capsule, 0) : NULL;
    Py_XDECREF(imported);
    if (!found) PyErr_Format(PyExc_ImportError, "there is no %s", capsule);
    return found;
}

PyMODINIT_FUNC PyInit__score(void)
{
    row_of = function_of("models._rows", "models._rows.row");
    sums_of = row_of ? function_of("models._bits", "models._bits.sums") : NULL;
    blended = sums_of ? function_of("models._rows", "models._rows.blended") : NULL;
    if (!blended || PyType_Ready(&AskerType) < 0) return NULL;
    PyObject *made = PyModule_Create(&module);
    if (made && (PyModule_AddObjectRef(made, "Asker", (PyObject *)&AskerType) < 0 ||
                 PyModule_AddIntConstant(made, "VERSION", VERSION) < 0))
        Py_CLEAR(made);
    return made;
}
