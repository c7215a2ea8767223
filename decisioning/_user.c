/* What is known of a user, in one mapping, and the user's buckets in experiments. decisioning/knowledge.py and
 * decisioning/experiments.py say what is right.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define VERSION 1 /* of what Python and this ask of one another: decisioning/knowledge.py has the same */

/* --- What is known ------------------------------------------------------------------------------------------------- */

static int holds_none(PyObject *dict)
{
    PyObject *key, *value;
    for (Py_ssize_t at = 0; PyDict_Next(dict, &at, &key, &value);)
        if (value == Py_None) return 1;
    return 0;
}

/* Whether all keys of a dict are in a set. -1 for an error. */
static int are_among(PyObject *dict, PyObject *names)
{
    PyObject *key, *value;
    for (Py_ssize_t at = 0; PyDict_Next(dict, &at, &key, &value);) {
        if (!PyUnicode_CheckExact(key)) return 0; /* no other's hash or comparison may run while we go through */
        const int found = PySet_Contains(names, key);
        if (found != 1) return found;
    }
    return 1;
}

static int add_defaults(PyObject *known, PyObject *defaults)
{
    PyObject *key, *value;
    for (Py_ssize_t at = 0; PyDict_Next(defaults, &at, &key, &value);)
        if (!PyDict_SetDefault(known, key, value)) return -1;
    return 0;
}

/* merge(defaults: dict, features: mapping, context: mapping, allowed: frozenset of names) -> dict, the latter winning;
 * None where a value is None, a name of the context is not allowed, or a mapping is no dict. */
static PyObject *merge(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t n)
{
    if (n != 4 || !PyDict_CheckExact(args[0]) || !PyFrozenSet_CheckExact(args[3]))
        return PyErr_Format(PyExc_TypeError, "merge takes defaults, features, a context and the names that it may have");
    if (!PyDict_CheckExact(args[1]) || !PyDict_CheckExact(args[2])) Py_RETURN_NONE;
    const int are_allowed = are_among(args[2], args[3]);
    if (are_allowed < 0) return NULL;
    if (!are_allowed) Py_RETURN_NONE;
    PyObject *known = PyDict_Copy(args[1]);
    if (known && (add_defaults(known, args[0]) < 0 || PyDict_Update(known, args[2]) < 0)) Py_CLEAR(known);
    if (known && holds_none(known)) {
        Py_DECREF(known);
        Py_RETURN_NONE;
    }
    return known;
}

/* --- Buckets ------------------------------------------------------------------------------------------------------- */

static inline uint64_t turned(uint64_t x, int by) { return x << by | x >> (64 - by); }

static inline uint64_t mixed(uint64_t k)
{
    k = (k ^ k >> 33) * 0xff51afd7ed558ccdULL;
    k = (k ^ k >> 33) * 0xc4ceb9fe1a85ec53ULL;
    return k ^ k >> 33;
}

static inline uint64_t word(const unsigned char *at, size_t size)
{
    uint64_t found = 0;
    for (size_t i = 0; i < size; i++) found |= (uint64_t)at[i] << 8 * i;
    return found;
}

/* The low 64 bits of MurmurHash3 x64_128 with seed 0 (Austin Appleby, public domain). */
static uint64_t murmur(const unsigned char *at, size_t size)
{
    const uint64_t c1 = 0x87c37b91114253d5ULL, c2 = 0x4cf5ad432745937fULL;
    uint64_t h1 = 0, h2 = 0;
    size_t left = size;
    for (; left >= 16; at += 16, left -= 16) {
        h1 ^= turned(word(at, 8) * c1, 31) * c2;
        h1 = (turned(h1, 27) + h2) * 5 + 0x52dce729;
        h2 ^= turned(word(at + 8, 8) * c2, 33) * c1;
        h2 = (turned(h2, 31) + h1) * 5 + 0x38495ab5;
    }
    if (left > 8) h2 ^= turned(word(at + 8, left - 8) * c2, 33) * c1;
    if (left) h1 ^= turned(word(at, left < 8 ? left : 8) * c1, 31) * c2;
    h1 ^= size;
    h2 ^= size;
    h1 += h2;
    h2 += h1;
    return mixed(h1) + mixed(h2);
}

/* bucket(salt: str, user: str, buckets: int) -> int */
static PyObject *bucket(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t n)
{
    Py_ssize_t salt_size, user_size;
    if (n != 3 || !PyUnicode_Check(args[0]) || !PyUnicode_Check(args[1]))
        return PyErr_Format(PyExc_TypeError, "bucket takes a salt, a user, and how many buckets there are");
    const char *salt = PyUnicode_AsUTF8AndSize(args[0], &salt_size);
    const char *user = salt ? PyUnicode_AsUTF8AndSize(args[1], &user_size) : NULL;
    const long long buckets = user ? PyLong_AsLongLong(args[2]) : -1;
    if (buckets < 1) return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "there is at least one bucket");
    unsigned char here[256], *text = here;
    const size_t size = (size_t)salt_size + 1 + (size_t)user_size;
    if (size > sizeof here && !(text = PyMem_Malloc(size))) return PyErr_NoMemory();
    memcpy(text, salt, salt_size);
    text[salt_size] = '|';
    memcpy(text + salt_size + 1, user, user_size);
    const uint64_t found = murmur(text, size);
    if (text != here) PyMem_Free(text);
    /* Signed, as by Python: the shift keeps the sign, and what is left of a division is not negative. */
    const long long left = ((long long)found >> 4) % buckets;
    return PyLong_FromLongLong(left < 0 ? left + buckets : left);
}

static PyMethodDef functions[] = {
    {"merge", (PyCFunction)(void (*)(void))merge, METH_FASTCALL, "All that is known, by name."},
    {"bucket", (PyCFunction)(void (*)(void))bucket, METH_FASTCALL, "Where a user's hash falls."},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_user", "What is known of a user.", -1, functions};

PyMODINIT_FUNC PyInit__user(void)
{
    PyObject *made = PyModule_Create(&module);
    if (made && PyModule_AddIntConstant(made, "VERSION", VERSION) < 0) Py_CLEAR(made);
    return made;
}
