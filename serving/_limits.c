/* A request within its client's limit, taken without an object: serving/limits.py says what is right, and sees to
 * whatever is unusual, such as a limit that is reached.
 *
 * The counts lie in memory that all workers of a server share. A word is read and written at once, and nobody writes
 * what another worker writes.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "../decisioning/records.h"

#define VERSION 1 /* of what Python and this ask of one another: limits.py has the same */

enum { COUNT_BITS = 20 };
static const int64_t COUNT = (1 << COUNT_BITS) - 1, WINDOW = (1 << 22) - 1;
static const double MOST_WINDOWS = 9e15; /* as whole numbers are exact up to there */

typedef struct {
    PyObject_HEAD
    Py_buffer words; /* of one client, one for each worker */
    PyObject *counts;
    Py_ssize_t worker; /* where the counts keep which worker this is, in bytes */
    double requests, seconds;
} Taker;

/* What a worker's word becomes with one request more in a window. */
static int64_t one_more(int64_t word, int64_t window, int64_t before)
{
    if (word >> 2 * COUNT_BITS == window) return word + 1;
    const int64_t earlier = word >> 2 * COUNT_BITS == before ? word & COUNT : 0;
    return (window << COUNT_BITS | earlier) << COUNT_BITS | 1;
}

static PyObject *taker_take(Taker *self, PyObject *now)
{
    PyObject *number = *(PyObject **)((char *)self->counts + self->worker);
    const Py_ssize_t workers = self->words.len / (Py_ssize_t)sizeof(int64_t);
    const Py_ssize_t worker = number ? PyLong_AsSsize_t(number) : workers;
    if (worker == -1 && PyErr_Occurred()) return NULL;
    const double moment = PyFloat_CheckExact(now) ? PyFloat_AS_DOUBLE(now) / self->seconds : -1.0;
    if (!(0.0 <= moment && moment < MOST_WINDOWS) || worker < 0 || worker >= workers) Py_RETURN_FALSE;

    int64_t *const words = self->words.buf;
    const int64_t whole = (int64_t)moment, window = whole & WINDOW, before = (whole - 1) & WINDOW;
    int64_t these = 0, earlier = 0;
    for (Py_ssize_t i = 0; i < workers; i++) {
        const int64_t word = __atomic_load_n(words + i, __ATOMIC_RELAXED), its_window = word >> 2 * COUNT_BITS;
        if (its_window == window) {
            these += word & COUNT;
            earlier += word >> COUNT_BITS & COUNT;
        } else if (its_window == before)
            earlier += word & COUNT;
    }
    const double passed = moment - (double)whole;
    if ((double)these + (double)earlier * (1.0 - passed) + 1.0 > self->requests) Py_RETURN_FALSE;
    const int64_t word = __atomic_load_n(words + worker, __ATOMIC_RELAXED);
    __atomic_store_n(words + worker, one_more(word, window, before), __ATOMIC_RELAXED);
    Py_RETURN_TRUE;
}

static PyObject *taker_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"counts", "words", "requests", "seconds", NULL};
    PyObject *counts, *words;
    double requests, seconds;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "OOdd", names, &counts, &words, &requests, &seconds)) return NULL;
    if (!(seconds > 0)) return PyErr_SetString(PyExc_ValueError, "a limit is for some seconds"), NULL;
    const Py_ssize_t worker = offset_of(Py_TYPE(counts), "worker");
    Taker *self = worker < 0 ? NULL : (Taker *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->counts = Py_NewRef(counts);
    self->worker = worker;
    self->requests = requests;
    self->seconds = seconds;
    if (PyObject_GetBuffer(words, &self->words, PyBUF_CONTIG | PyBUF_FORMAT) < 0) Py_CLEAR(self);
    if (self && (self->words.itemsize != sizeof(int64_t) || (uintptr_t)self->words.buf % sizeof(int64_t))) {
        PyErr_SetString(PyExc_ValueError, "a count is a word of 8 bytes");
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static void taker_dealloc(PyObject *object)
{
    Taker *self = (Taker *)object;
    PyBuffer_Release(&self->words);
    Py_XDECREF(self->counts);
    Py_TYPE(object)->tp_free(object);
}

static PyMethodDef methods[] = {
    {"take", (PyCFunction)taker_take, METH_O, "Whether a request was taken; False where that is not plain."},
    {NULL, NULL, 0, NULL}};

static PyTypeObject TakerType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "serving._limits.Taker",
    .tp_basicsize = sizeof(Taker),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = taker_new,
    .tp_dealloc = taker_dealloc,
    .tp_methods = methods,
    .tp_doc = "Takes the requests of one client.",
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_limits", "Requests within limits.", -1, NULL};

PyMODINIT_FUNC PyInit__limits(void)
{
    if (PyType_Ready(&TakerType) < 0) return NULL;
    PyObject *made = PyModule_Create(&module);
    if (made && (PyModule_AddObjectRef(made, "Taker", (PyObject *)&TakerType) < 0 ||
                 PyModule_AddIntConstant(made, "VERSION", VERSION) < 0))
        Py_CLEAR(made);
    return made;
}
