/* What is asked about a user, and the facts made of the answers, where all is as usual. stores/online/about.py says what is
 * right, and answers itself (its functions are the `twins`) where anything is not.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#include "../../decisioning/records.h"

#define VERSION 1 /* of what Python and this ask of one another: stores/online/about.py has the same */
#define FIELD 16  /* bytes of a field, and half of the digits of a user's key */
#define MOST_DIGITS 10
#define MOST_BUCKETS 4294967296u /* as many as a checksum has values */

enum { FACTS, SHARED, RECORDS };
static const char *const FIELDS[RECORDS][10] = {
    [FACTS] = {"features", "as_of", "history", "budgets", "killed", "unread", "degraded", "fresh", "shed", NULL},
    [SHARED] = {"killed", "budgets", "missing", "degraded", NULL},
};

enum { QUESTION, FOUND, UNPACK, UNPACK_HISTORY, FRESHEN, AS_OF, COUNTING, TAG, START, PIECES, TOLD };

typedef struct {
    PyObject_HEAD
    Record records[RECORDS];
    PyObject *told[TOLD];
    PyObject *first, *second, *heads, *fourth, *last; /* of PIECES, borrowed from it */
    uint64_t buckets;
    Py_ssize_t width; /* bytes of a vector */
} About;

/* --- What is asked ---------------------------------------------------------------------------------------------------- */

/* The bytes that a user's key writes in hexadecimal digits; 0 for what is no key. */
static int read_key(PyObject *user, unsigned char field[FIELD])
{
    if (!PyUnicode_CheckExact(user) || !PyUnicode_IS_COMPACT_ASCII(user) || PyUnicode_GET_LENGTH(user) != 2 * FIELD) return 0;
    const unsigned char *digits = PyUnicode_1BYTE_DATA(user);
    for (int i = 0; i < 2 * FIELD; i++) {
        const unsigned char one = digits[i];
        const int is_digit = one >= '0' && one <= '9';
        if (!is_digit && (one < 'a' || one > 'f')) return 0;
        field[i / 2] = (unsigned char)(field[i / 2] << 4 | (is_digit ? one - '0' : one - 'a' + 10));
    }
    return 1;
}

/* As zlib does it; by four bits at a time, as a table of 64 bytes is at hand when one of 1,024 is not. */
static uint32_t crc32_of(const unsigned char *bytes, int n)
{
    static const uint32_t table[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
                                       0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                                       0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    uint32_t sum = 0xffffffff;
    for (int i = 0; i < n; i++) {
        sum ^= bytes[i];
        sum = sum >> 4 ^ table[sum & 15];
        sum = sum >> 4 ^ table[sum & 15];
    }
    return ~sum;
}

static char *put(char *into, const void *bytes, Py_ssize_t n) { return memcpy(into, bytes, n), into + n; }

static char *put_piece(char *into, PyObject *piece) { return put(into, PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece)); }

/* question(user) -> bytes */
static PyObject *about_question(PyObject *object, PyObject *user)
{
    const About *self = (const About *)object;
    unsigned char field[FIELD];
    if (!read_key(user, field)) return PyObject_CallOneArg(self->told[QUESTION], user);
    char bucket[MOST_DIGITS];
    int digits = 0;
    uint64_t rest = crc32_of(field, FIELD) % self->buckets;
    do
        bucket[MOST_DIGITS - ++digits] = (char)('0' + rest % 10);
    while (rest /= 10);
    if (digits > PyTuple_GET_SIZE(self->heads)) return PyObject_CallOneArg(self->told[QUESTION], user);
    PyObject *head = PyTuple_GET_ITEM(self->heads, digits - 1);
    const Py_ssize_t size = PyBytes_GET_SIZE(self->first) + PyBytes_GET_SIZE(self->second) + PyBytes_GET_SIZE(head) +
                            PyBytes_GET_SIZE(self->fourth) + PyBytes_GET_SIZE(self->last) + 5 * FIELD + digits;
    PyObject *out = PyBytes_FromStringAndSize(NULL, size);
    if (!out) return NULL;
    char *into = put_piece(PyBytes_AS_STRING(out), self->first);
    into = put_piece(put(into, PyUnicode_1BYTE_DATA(user), 2 * FIELD), self->second);
    into = put_piece(put(into, PyUnicode_1BYTE_DATA(user), 2 * FIELD), head);
    into = put_piece(put(into, bucket + MOST_DIGITS - digits, digits), self->fourth);
    put_piece(put(into, field, FIELD), self->last);
    return out;
}

/* --- What is found ---------------------------------------------------------------------------------------------------- */

static int is_usual(const About *self, PyObject *answers, PyObject *shared)
{
    if (!PyList_CheckExact(answers) || PyList_GET_SIZE(answers) != 3 || !record_is(&self->records[SHARED], shared)) return 0;
    for (int i = 0; i < self->records[SHARED].n; i++)
        if (!record_field(&self->records[SHARED], shared, i)) return 0;
    PyObject *history = PyList_GET_ITEM(answers, 0), *fresh = PyList_GET_ITEM(answers, 1), *packed = PyList_GET_ITEM(answers, 2);
    PyObject *tag = self->told[TAG];
    return PyList_CheckExact(history) && PyList_CheckExact(fresh) && !PyList_GET_SIZE(fresh) && PyBytes_CheckExact(packed) &&
           PyBytes_GET_SIZE(packed) == PyBytes_GET_SIZE(tag) + self->width &&
           !memcmp(PyBytes_AS_STRING(packed), PyBytes_AS_STRING(tag), PyBytes_GET_SIZE(tag));
}

/* The user's own events, counted on from the snapshot: another dict of features, and the moments. -1 for an error. */
static int count_on(const About *self, PyObject *past, PyObject **features, PyObject **moments)
{
    PyObject *args[] = {*features, self->told[AS_OF], *moments, self->told[COUNTING], past};
    PyObject *found = PyObject_Vectorcall(self->told[FRESHEN], args, 5, NULL);
    const int fine = found && PyTuple_CheckExact(found) && PyTuple_GET_SIZE(found) == 2;
    if (fine) {
        Py_SETREF(*features, Py_NewRef(PyTuple_GET_ITEM(found, 0)));
        Py_SETREF(*moments, Py_NewRef(PyTuple_GET_ITEM(found, 1)));
    } else if (found)
        PyErr_SetString(PyExc_TypeError, "features and moments are a pair");
    Py_XDECREF(found);
    return fine ? 0 : -1;
}

/* The facts of usual answers; NULL for an error. All that is read is held, as the callables may be anything. */
static PyObject *usual(const About *self, PyObject *history, PyObject *packed, PyObject *shared)
{
    PyObject *vector[] = {packed, self->told[START]};
    PyObject *features = PyObject_Vectorcall(self->told[UNPACK], vector, 2, NULL), *moments = features ? PyDict_New() : NULL;
    PyObject *past = !moments                     ? NULL
                     : PyList_GET_SIZE(history) ? PyObject_CallOneArg(self->told[UNPACK_HISTORY], history)
                                                  : PyTuple_New(0);
    const int counts = past && PyTuple_GET_SIZE(self->told[COUNTING]) && PyTuple_CheckExact(past) && PyTuple_GET_SIZE(past);
    if (!past || (counts && count_on(self, past, &features, &moments) < 0)) {
        Py_XDECREF(features), Py_XDECREF(moments), Py_XDECREF(past);
        return NULL;
    }
    enum { KILLED, BUDGETS, MISSING, DEGRADED };
    PyObject *of[4];
    for (int i = 0; i < 4; i++) of[i] = Py_XNewRef(record_field(&self->records[SHARED], shared, i));
    PyObject *values[] = {features,   Py_NewRef(self->told[AS_OF]), past, of[BUDGETS], of[KILLED], of[MISSING], of[DEGRADED],
                          moments,    Py_NewRef(Py_None)};
    return record_made(&self->records[FACTS], values);
}

/* facts(answers: [history, fresh, packed], shared) -> Facts */
static PyObject *about_facts(PyObject *object, PyObject *const *args, Py_ssize_t n)
{
    const About *self = (const About *)object;
    if (n == 2 && is_usual(self, args[0], args[1])) {
        PyObject *history = Py_NewRef(PyList_GET_ITEM(args[0], 0)), *packed = Py_NewRef(PyList_GET_ITEM(args[0], 2));
        PyObject *found = usual(self, history, packed, args[1]);
        Py_DECREF(history), Py_DECREF(packed);
        if (found || !PyErr_ExceptionMatches(PyExc_Exception)) return found;
        PyErr_Clear(); /* damaged: what that means is the twin's to say */
    }
    return PyObject_Vectorcall(self->told[FOUND], args, n, NULL);
}

/* --- Making one ------------------------------------------------------------------------------------------------------- */

static int refuse(const char *why)
{
    PyErr_SetString(PyExc_ValueError, why);
    return -1;
}

static int read_pieces(About *self, PyObject *pieces)
{
    if (!PyArg_ParseTuple(pieces, "SSO!SS", &self->first, &self->second, &PyTuple_Type, &self->heads, &self->fourth,
                          &self->last))
        return -1;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(self->heads); i++)
        if (!PyBytes_CheckExact(PyTuple_GET_ITEM(self->heads, i))) return refuse("pieces are bytes");
    return 0;
}

static PyObject *about_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"question", "found",  "facts", "shared",         "digits", "pieces",   "buckets", "tag",
                            "width",    "start", "unpack", "unpack_history", "as_of",  "counting", "freshen", NULL};
    PyObject *told[TOLD], *records[RECORDS];
    Py_ssize_t digits, width;
    unsigned long long buckets;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "OOOOnO!KSnO!OOOO!O", names, &told[QUESTION], &told[FOUND],
                                     &records[FACTS], &records[SHARED], &digits, &PyTuple_Type, &told[PIECES], &buckets,
                                     &told[TAG], &width, &PyLong_Type, &told[START], &told[UNPACK], &told[UNPACK_HISTORY],
                                     &told[AS_OF], &PyTuple_Type, &told[COUNTING], &told[FRESHEN]))
        return NULL;
    if (digits != 2 * FIELD) return refuse("a user key has other digits"), NULL;
    if (buckets < 1 || buckets > MOST_BUCKETS) return refuse("there are no such buckets"), NULL;
    if (width < 0 || width > PY_SSIZE_T_MAX / 8) return refuse("there is no such width"), NULL;
    About *self = (About *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->buckets = buckets, self->width = 4 * width;
    for (int i = 0; i < TOLD; i++) self->told[i] = Py_NewRef(told[i]);
    int fine = read_pieces(self, told[PIECES]) == 0;
    for (int i = 0; fine && i < RECORDS; i++) fine = record_of(records[i], FIELDS[i], &self->records[i]) == 0;
    if (!fine) Py_CLEAR(self);
    return (PyObject *)self;
}

static void about_dealloc(PyObject *object)
{
    About *self = (About *)object;
    for (int i = 0; i < RECORDS; i++) record_let_go(&self->records[i]);
    for (int i = 0; i < TOLD; i++) Py_XDECREF(self->told[i]);
    Py_TYPE(object)->tp_free(object);
}

static PyMethodDef methods[] = {
    {"question", about_question, METH_O, "What is asked about a user."},
    {"facts", (PyCFunction)(void (*)(void))about_facts, METH_FASTCALL, "What is found."},
    {NULL, NULL, 0, NULL}};

static PyTypeObject AboutType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "stores.online._about.About",
    .tp_basicsize = sizeof(About),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = about_new,
    .tp_dealloc = about_dealloc,
    .tp_methods = methods,
    .tp_doc = "Asks about users of one version.",
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_about", "Users, asked about.", -1, NULL};

PyMODINIT_FUNC PyInit__about(void)
{
    if (PyType_Ready(&AboutType) < 0) return NULL;
    PyObject *made = PyModule_Create(&module);
    if (made && (PyModule_AddObjectRef(made, "About", (PyObject *)&AboutType) < 0 ||
                 PyModule_AddIntConstant(made, "VERSION", VERSION) < 0))
        Py_CLEAR(made);
    return made;
}
