/* The steps of a ranking that go over all offers that are left. decisioning/passes.py says what is right.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>

#define VERSION 1 /* of what Python and this ask of one another: decisioning/passes.py has the same */

/* --- Bits to offers ------------------------------------------------------------------------------------------------ */

typedef struct {
    unsigned long long small;
    PyObject *large; /* the bytes of a set of more than 63 bits, lowest first */
    Py_ssize_t bits;
} Bits;

static int read_bits(PyObject *left, Bits *into)
{
    int overflow;
    if (!PyLong_CheckExact(left)) return PyErr_SetString(PyExc_TypeError, "a bit set is an int"), -1;
    const long long small = PyLong_AsLongLongAndOverflow(left, &overflow);
    if (small == -1 && PyErr_Occurred()) return -1;
    if (small < 0 && overflow <= 0) return PyErr_SetString(PyExc_ValueError, "a bit set is not negative"), -1;
    into->large = NULL;
    into->small = (unsigned long long)small;
    into->bits = small ? 64 - __builtin_clzll((unsigned long long)small) : 1;
    if (!overflow) return 0;
    PyObject *length = PyObject_CallMethod(left, "bit_length", NULL);
    into->bits = length ? PyLong_AsSsize_t(length) : -1;
    Py_XDECREF(length);
    if (into->bits < 0) return -1;
    into->large = PyObject_CallMethod(left, "to_bytes", "ns", (into->bits + 7) / 8, "little");
    return into->large ? 0 : -1;
}

static inline int has(const Bits *bits, Py_ssize_t at)
{
    if (!bits->large) return bits->small >> at & 1;
    return PyBytes_AS_STRING(bits->large)[at / 8] >> at % 8 & 1;
}

/* pick(left: int, names: tuple) -> (flags: bytes, names of the bits that are set) */
static PyObject *pick(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t n)
{
    if (n != 2 || !PyTuple_CheckExact(args[1])) return PyErr_Format(PyExc_TypeError, "pick takes bits and names");
    Bits bits;
    if (read_bits(args[0], &bits) < 0) return NULL;
    PyObject *flags = PyBytes_FromStringAndSize(NULL, bits.bits), *names = NULL, *both = NULL;
    Py_ssize_t count = 0, at = 0;
    const Py_ssize_t known = bits.bits < PyTuple_GET_SIZE(args[1]) ? bits.bits : PyTuple_GET_SIZE(args[1]);
    for (Py_ssize_t i = 0; flags && i < bits.bits; i++) {
        PyBytes_AS_STRING(flags)[i] = (char)has(&bits, i);
        count += i < known && has(&bits, i);
    }
    if (flags) names = PyTuple_New(count);
    for (Py_ssize_t i = 0; names && i < known; i++)
        if (PyBytes_AS_STRING(flags)[i]) PyTuple_SET_ITEM(names, at++, Py_NewRef(PyTuple_GET_ITEM(args[1], i)));
    if (names) both = PyTuple_Pack(2, flags, names);
    Py_XDECREF(bits.large);
    Py_XDECREF(flags);
    Py_XDECREF(names);
    return both;
}

/* --- Scores -------------------------------------------------------------------------------------------------------- */

static PyObject *product(PyObject *effect, PyObject *worth)
{
    if (PyFloat_CheckExact(effect) && PyFloat_CheckExact(worth))
        return PyFloat_FromDouble(PyFloat_AS_DOUBLE(effect) * PyFloat_AS_DOUBLE(worth));
    return PyNumber_Multiply(effect, worth);
}

/* weigh(effect: sequence, worth: tuple, flags: bytes) -> list of effect × worth, worth being that of what is flagged */
static PyObject *weigh(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t n)
{
    if (n != 3 || !PyTuple_CheckExact(args[1]) || !PyBytes_CheckExact(args[2]))
        return PyErr_Format(PyExc_TypeError, "weigh takes effects, worths and flags");
    PyObject *effects = PySequence_Tuple(args[0]), *scores = effects ? PyList_New(0) : NULL; /* nobody changes a tuple */
    const Py_ssize_t flags = PyBytes_GET_SIZE(args[2]), worths = PyTuple_GET_SIZE(args[1]);
    const Py_ssize_t size = flags < worths ? flags : worths;
    Py_ssize_t k = 0;
    for (Py_ssize_t i = 0; scores && i < size && k < PyTuple_GET_SIZE(effects); i++) {
        if (!PyBytes_AS_STRING(args[2])[i]) continue;
        PyObject *score = product(PyTuple_GET_ITEM(effects, k++), PyTuple_GET_ITEM(args[1], i));
        if (!score || PyList_Append(scores, score) < 0) Py_CLEAR(scores);
        Py_XDECREF(score);
    }
    Py_XDECREF(effects);
    return scores;
}

/* best(scores: sequence) -> the place of the highest; -1 where two are as high, or one is no float, or NaN */
static PyObject *best(PyObject *Py_UNUSED(module), PyObject *sequence)
{
    PyObject *scores = PySequence_Tuple(sequence);
    if (!scores) return NULL;
    Py_ssize_t place = -1;
    double highest = 0.0;
    int is_tied = 0;
    for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(scores); k++) {
        PyObject *value = PyTuple_GET_ITEM(scores, k);
        const double score = PyFloat_CheckExact(value) ? PyFloat_AS_DOUBLE(value) : NAN;
        if (score != score) {
            place = -1;
            break;
        }
        is_tied = place >= 0 && (score == highest || (is_tied && score < highest));
        if (place < 0 || score > highest) {
            highest = score;
            place = k;
        }
    }
    Py_DECREF(scores);
    return PyLong_FromSsize_t(is_tied ? -1 : place);
}

static PyMethodDef functions[] = {
    {"pick", (PyCFunction)(void (*)(void))pick, METH_FASTCALL, "The flags and names of a bit set."},
    {"weigh", (PyCFunction)(void (*)(void))weigh, METH_FASTCALL, "Effects times what they are worth."},
    {"best", best, METH_O, "The place of the one highest score."},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_rank", "What a ranking does to each offer.", -1, functions};

PyMODINIT_FUNC PyInit__rank(void)
{
    PyObject *made = PyModule_Create(&module);
    if (made && PyModule_AddIntConstant(made, "VERSION", VERSION) < 0) Py_CLEAR(made);
    return made;
}
