/* A user's packed events, unpacked: stores/online/layout.py packs them, and its `unpack_history` says what is right. This
 * gives the same for what today's `pack_event` writes, and leaves everything else to it (its function is the `twin`).
 *
 * Many events are of few kinds (a type, an offer, a surface), which stand in a row in the bytes: the texts of a kind are
 * made once and shared, so that an event is a number, three pointers, and no more.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../decisioning/records.h"

#define VERSION 2 /* of what Python and this ask of one another: stores/online/layout.py has the same */

typedef struct {
    PyObject *text[3]; /* type, offer, surface */
    PyObject *packed;  /* their bytes; NULL: nothing here */
    uint64_t hash;
    int is_shown; /* it goes where it is a decision's own */
} Kind;

typedef struct {
    PyObject_HEAD
    PyTypeObject *event;
    PyObject *twin, *mark;   /* Python's functions: one for all, and the mark of a decision's id */
    PyObject *shown;         /* a set of types */
    Py_ssize_t at, slots[3]; /* where an event has its parts */
    Kind **kinds;            /* open addressing; the size is a power of two */
    Py_ssize_t size, used, limit;
} Reader;

typedef struct {
    double at;
    const Kind *kind;
    uint64_t mark;
    Py_ssize_t place; /* in the order in which it came */
} Row;

enum { FAILED = -1, UNUSUAL = 0, FINE = 1 };

/* --- Kinds of events -------------------------------------------------------------------------------------------------- */

static uint64_t hash_of(const unsigned char *bytes, Py_ssize_t n)
{
    uint64_t hash = (uint64_t)n * 0x9E3779B97F4A7C15u, word;
    for (; n >= 8; bytes += 8, n -= 8) {
        memcpy(&word, bytes, 8);
        hash = (hash ^ word) * 0xff51afd7ed558ccdu, hash ^= hash >> 32;
    }
    for (word = 0; n > 0; n--) word = word << 8 | bytes[n - 1];
    hash = (hash ^ word) * 0xff51afd7ed558ccdu;
    return hash ^ hash >> 29;
}

static Kind **place_of(const Reader *self, uint64_t hash, const unsigned char *bytes, Py_ssize_t n)
{
    for (uint64_t i = hash;; i++) {
        Kind **kind = self->kinds + (i & (uint64_t)(self->size - 1));
        if (!*kind || ((*kind)->hash == hash && PyBytes_GET_SIZE((*kind)->packed) == n &&
                       !memcmp(PyBytes_AS_STRING((*kind)->packed), bytes, n)))
            return kind;
    }
}

static int grow(Reader *self)
{
    Kind **before = self->kinds, **kinds = PyMem_Calloc(2 * self->size, sizeof(Kind *));
    const Py_ssize_t size = self->size;
    if (!kinds) return PyErr_NoMemory(), FAILED;
    self->kinds = kinds, self->size = 2 * size;
    for (Py_ssize_t i = 0; i < size; i++)
        if (before[i]) {
            PyObject *packed = before[i]->packed;
            *place_of(self, before[i]->hash, (unsigned char *)PyBytes_AS_STRING(packed), PyBytes_GET_SIZE(packed)) =
                before[i];
        }
    PyMem_Free(before);
    return FINE;
}

static void let_go(Kind *kind)
{
    for (int i = 0; i < 3; i++) Py_XDECREF(kind->text[i]);
    Py_XDECREF(kind->packed);
    PyMem_Free(kind);
}

/* The length of a packed text's head, and of the text; 0 for what is no short text. */
static Py_ssize_t head_of(const unsigned char *bytes, const unsigned char *end, Py_ssize_t *length)
{
    if (bytes < end && (*bytes & 0xe0) == 0xa0) return *length = *bytes & 0x1f, 1;
    if (bytes + 1 < end && *bytes == 0xd9) return *length = bytes[1], 2;
    if (bytes + 2 < end && *bytes == 0xda) return *length = bytes[1] << 8 | bytes[2], 3;
    return 0;
}

/* The kind of some bytes that hold three texts, made of them. UNUSUAL where they aren't UTF-8, or kinds are too many. */
static int learn(Reader *self, uint64_t hash, const unsigned char *bytes, Py_ssize_t n, const Kind **found)
{
    if (self->used >= self->limit) return UNUSUAL;
    if (2 * self->used >= self->size && grow(self) == FAILED) return FAILED;
    Kind *kind = PyMem_Calloc(1, sizeof(Kind));
    if (!kind) return PyErr_NoMemory(), FAILED;
    const unsigned char *part = bytes;
    for (int i = 0; i < 3; i++) {
        Py_ssize_t length = 0;
        part += head_of(part, bytes + n, &length);
        if (!(kind->text[i] = PyUnicode_DecodeUTF8((const char *)part, length, NULL))) break;
        PyUnicode_InternInPlace(&kind->text[i]);
        part += length;
    }
    if (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
        PyErr_Clear();
        return let_go(kind), UNUSUAL;
    }
    kind->hash = hash;
    kind->packed = PyErr_Occurred() ? NULL : PyBytes_FromStringAndSize((const char *)bytes, n);
    kind->is_shown = kind->packed ? PySet_Contains(self->shown, kind->text[0]) : FAILED;
    if (kind->is_shown == FAILED) return let_go(kind), FAILED;
    Kind **place = place_of(self, hash, bytes, n);
    if (*place) return let_go(kind), *found = *place, FINE; /* another thread was faster */
    *place = kind, *found = kind;
    self->used++;
    return FINE;
}

/* --- From bytes to events --------------------------------------------------------------------------------------------- */

static int read_mark(const unsigned char *bytes, const unsigned char *end, uint64_t *mark)
{
    if (bytes >= end) return UNUSUAL;
    const int size = *bytes < 0x80 ? 0 : *bytes >= 0xcc && *bytes <= 0xcf ? 1 << (*bytes - 0xcc) : FAILED;
    if (size < 0 || end - bytes != size + 1) return UNUSUAL;
    *mark = size ? 0 : *bytes;
    for (int i = 1; i <= size; i++) *mark = *mark << 8 | bytes[i];
    return FINE;
}

/* One packed event: an array of a double, three texts and a whole number. */
static int read_row(Reader *self, PyObject *packed, Row *row)
{
    if (!PyBytes_CheckExact(packed)) return UNUSUAL;
    const unsigned char *bytes = (const unsigned char *)PyBytes_AS_STRING(packed), *end = bytes + PyBytes_GET_SIZE(packed);
    if (end - bytes < 10 || bytes[0] != 0x95 || bytes[1] != 0xcb) return UNUSUAL;
    uint64_t bits = 0;
    for (int i = 2; i < 10; i++) bits = bits << 8 | bytes[i];
    memcpy(&row->at, &bits, sizeof row->at);
    if (isnan(row->at)) return UNUSUAL;
    const unsigned char *texts = bytes + 10, *at = texts;
    for (int i = 0; i < 3; i++) {
        Py_ssize_t length, head = head_of(at, end, &length);
        if (!head || length > end - at - head) return UNUSUAL;
        at += head + length;
    }
    if (read_mark(at, end, &row->mark) != FINE) return UNUSUAL;
    const uint64_t hash = hash_of(texts, at - texts);
    const Kind *known = *place_of(self, hash, texts, at - texts);
    if (known) return row->kind = known, FINE;
    Py_INCREF(packed);
    const int state = learn(self, hash, texts, at - texts, &row->kind);
    Py_DECREF(packed);
    return state;
}

/* As Python compares the rows as tuples; equal ones stay in their order. */
static int by_time(const void *a, const void *b)
{
    const Row *one = a, *other = b;
    int differ = (one->at > other->at) - (one->at < other->at);
    for (int i = 0; !differ && one->kind != other->kind && i < 3; i++)
        differ = PyUnicode_Compare(one->kind->text[i], other->kind->text[i]);
    if (!differ) differ = (one->mark > other->mark) - (one->mark < other->mark);
    return differ ? differ : (one->place > other->place) - (one->place < other->place);
}

static PyObject *event_of(const Reader *self, const Row *row)
{
    PyObject *at = PyFloat_FromDouble(row->at), *event = at ? self->event->tp_alloc(self->event, 0) : NULL;
    if (!event) return Py_XDECREF(at), NULL;
    *(PyObject **)((char *)event + self->at) = at;
    for (int i = 0; i < 3; i++) *(PyObject **)((char *)event + self->slots[i]) = Py_NewRef(row->kind->text[i]);
    return event;
}

static PyObject *events_of(const Reader *self, const Row *rows, Py_ssize_t n)
{
    PyObject *out = PyTuple_New(n);
    for (Py_ssize_t i = 0; out && i < n; i++) {
        PyObject *event = event_of(self, rows + i);
        if (event)
            PyTuple_SET_ITEM(out, i, event);
        else
            Py_CLEAR(out);
    }
    return out;
}

/* unpack(packed: list, own: the id of a decision, or nothing) -> tuple of events */
static PyObject *reader_unpack(PyObject *object, PyObject *const *args, Py_ssize_t n_args)
{
    Reader *self = (Reader *)object;
    if (n_args < 1 || n_args > 2 || !PyList_CheckExact(args[0]) || (n_args == 2 && !PyUnicode_CheckExact(args[1])))
        return PyErr_Format(PyExc_TypeError, "unpack takes a list and the id of a decision");
    uint64_t own = 0;
    const int has_own = n_args == 2 && PyUnicode_GET_LENGTH(args[1]);
    if (has_own) {
        PyObject *mark = PyObject_CallOneArg(self->mark, args[1]);
        own = mark ? PyLong_AsUnsignedLongLong(mark) : 0;
        Py_XDECREF(mark);
        if (PyErr_Occurred()) return NULL;
    }
    const Py_ssize_t n = PyList_GET_SIZE(args[0]);
    Row *rows = PyMem_Malloc((n + 1) * sizeof(Row));
    if (!rows) return PyErr_NoMemory();
    int state = FINE, is_sorted = 1;
    Py_ssize_t kept = 0;
    for (Py_ssize_t i = 0; state == FINE && i < n && i < PyList_GET_SIZE(args[0]); i++) {
        state = read_row(self, PyList_GET_ITEM(args[0], i), rows + kept);
        if (state != FINE || (has_own && rows[kept].mark == own && rows[kept].kind->is_shown)) continue;
        rows[kept].place = i;
        is_sorted = is_sorted && (kept == 0 || by_time(rows + kept - 1, rows + kept) < 0);
        kept++;
    }
    if (state == FINE && !is_sorted) qsort(rows, kept, sizeof(Row), by_time);
    PyObject *out = state == FINE ? events_of(self, rows, kept) : NULL;
    PyMem_Free(rows);
    return state == UNUSUAL ? PyObject_Vectorcall(self->twin, args, n_args, NULL) : out;
}

/* --- Making one ------------------------------------------------------------------------------------------------------- */

static PyObject *reader_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    static const char *names[] = {"type", "offer", "surface"};
    PyTypeObject *event;
    PyObject *twin, *mark, *shown;
    Py_ssize_t limit;
    if (!PyArg_ParseTuple(args, "OOO!O!n", &twin, &mark, &PyType_Type, &event, &PyFrozenSet_Type, &shown, &limit))
        return NULL;
    Reader *self = (Reader *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->event = (PyTypeObject *)Py_NewRef(event), self->shown = Py_NewRef(shown), self->limit = limit;
    self->twin = Py_NewRef(twin), self->mark = Py_NewRef(mark);
    self->size = 16;
    if (!(self->kinds = PyMem_Calloc(self->size, sizeof(Kind *)))) PyErr_NoMemory();
    self->at = PyErr_Occurred() ? FAILED : offset_of(event, "at");
    for (int i = 0; i < 3; i++) self->slots[i] = PyErr_Occurred() ? FAILED : offset_of(event, names[i]);
    if (PyErr_Occurred()) Py_CLEAR(self);
    return (PyObject *)self;
}

static void reader_dealloc(PyObject *object)
{
    Reader *self = (Reader *)object;
    for (Py_ssize_t i = 0; self->kinds && i < self->size; i++)
        if (self->kinds[i]) let_go(self->kinds[i]);
    PyMem_Free(self->kinds);
    Py_XDECREF(self->event), Py_XDECREF(self->shown), Py_XDECREF(self->twin), Py_XDECREF(self->mark);
    Py_TYPE(object)->tp_free(object);
}

static PyMethodDef methods[] = {
    {"unpack", (PyCFunction)(void (*)(void))reader_unpack, METH_FASTCALL, "Events, oldest first."},
    {NULL, NULL, 0, NULL}};

static PyTypeObject ReaderType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "stores.online._events.Reader",
    .tp_basicsize = sizeof(Reader),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = reader_new,
    .tp_dealloc = reader_dealloc,
    .tp_methods = methods,
    .tp_doc = "Unpacks events.",
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_events", "A user's packed events, unpacked.", -1, NULL};

PyMODINIT_FUNC PyInit__events(void)
{
    if (PyType_Ready(&ReaderType) < 0) return NULL;
    PyObject *made = PyModule_Create(&module);
    if (made && (PyModule_AddObjectRef(made, "Reader", (PyObject *)&ReaderType) < 0 ||
                 PyModule_AddIntConstant(made, "VERSION", VERSION) < 0))
        Py_CLEAR(made);
    return made;
}
