/* Records as JSON, byte for byte as msgspec writes them in its deterministic order, and faster: what a record consists
 * of is known beforehand, so that nothing is looked up by name; and floats take fewer steps.
 *
 * `encode` says None to whatever it doesn't know (another type, a key that is no str, too large an int, a lone
 * surrogate): then msgspec has to write it, or to refuse it. No Python code runs meanwhile, so that borrowed references
 * hold and one sheet is enough. stores/log/written.py is its other half.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <stdlib.h>

#include "json_text.h"

#define VERSION 2 /* of what Python and this ask of one another: written.py has the same */

enum { DEPTH = 32, FEW = 64, NAMES = 4, AHEAD = 6, KEPT = 1 << 18 };

typedef struct {
    Py_ssize_t slot;  /* where the object holds its reference, in bytes */
    PyObject *label;  /* bytes: `{"name":` or `,"name":` */
    PyObject *absent; /* bytes, in place of None */
    int is_rounded;   /* to six places */
} Field;

typedef struct {
    PyTypeObject *type;
    Field *fields;
    Py_ssize_t n_fields;
} Kind;

typedef struct {
    PyObject_HEAD
    Kind *kinds;
    Py_ssize_t n_kinds;
    PyObject *texts; /* a tuple of subclasses of str whose instances are written as their text */
    Power *powers;
    PyObject *last; /* bytes: `,"name":"` of a last field that holds a moment */
    Second second;
    /* Of the value that is being written: */
    Sheet sheet;
    int depth;
    PyObject *names; /* the last tuple of several str, and the place of its text: another one may begin with the same */
    size_t names_from, names_until;
} Writer;

typedef struct {
    const char *text;
    Py_ssize_t length;
    PyObject *key, *value;
} Entry;

static int put(Writer *self, PyObject *value);

/* --- What holds others ---------------------------------------------------------------------------------------------- */

/* Writes the items that a tuple begins with, where another one has just been written of them; returns their number. */
static Py_ssize_t put_again(Writer *self, PyObject *tuple)
{
    const Py_ssize_t n = self->names ? PyTuple_GET_SIZE(self->names) : 0;
    if (n > PyTuple_GET_SIZE(tuple)) return 0;
    for (Py_ssize_t i = 0; i < n; i++)
        if (PyTuple_GET_ITEM(tuple, i) != PyTuple_GET_ITEM(self->names, i)) return 0;
    const size_t length = self->names_until - self->names_from;
    if (n && room(&self->sheet, length)) return FAILED;
    return n && put_bytes(&self->sheet, self->sheet.start + self->names_from, length) ? FAILED : n;
}

static int put_tuple(Writer *self, PyObject *tuple)
{
    Sheet *out = &self->sheet;
    const Py_ssize_t n = PyTuple_GET_SIZE(tuple);
    if (put_char(out, '[')) return FAILED;
    const size_t from = out->at - out->start;
    const Py_ssize_t written = put_again(self, tuple);
    if (written < 0) return FAILED;
    int are_names = n >= NAMES && written == 0;
    for (Py_ssize_t i = written; i < n; i++) {
        PyObject *item = PyTuple_GET_ITEM(tuple, i);
        if (i + AHEAD < n) __builtin_prefetch(PyTuple_GET_ITEM(tuple, i + AHEAD));
        are_names &= PyUnicode_CheckExact(item);
        if (i && put_char(out, ',')) return FAILED;
        const int failed = put(self, item);
        if (failed) return failed;
    }
    if (are_names) {
        self->names = tuple;
        self->names_from = from;
        self->names_until = out->at - out->start;
    }
    return put_char(out, ']');
}

/* By the bytes of UTF-8. */
static int by_text(const void *one, const void *other)
{
    const Entry *a = one, *b = other;
    const int first = (unsigned char)a->text[0] - (unsigned char)b->text[0]; /* an empty one has a 0 there */
    if (first) return first;
    const int order = memcmp(a->text, b->text, a->length < b->length ? a->length : b->length);
    return order ? order : (a->length > b->length) - (a->length < b->length);
}

/* Few are mostly in order already, or nearly so. */
static void sort(Entry *entries, Py_ssize_t n)
{
    if (n > FEW) {
        qsort(entries, n, sizeof(Entry), by_text);
        return;
    }
    for (Py_ssize_t i = 1; i < n; i++) {
        const Entry one = entries[i];
        Py_ssize_t at = i;
        for (; at && by_text(entries + at - 1, &one) > 0; at--) entries[at] = entries[at - 1];
        if (at < i) entries[at] = one;
    }
}

static int put_entries(Writer *self, Entry *entries, Py_ssize_t n, const char *ends)
{
    Sheet *out = &self->sheet;
    for (Py_ssize_t i = 0; i < n; i++)
        if (!PyUnicode_CheckExact(entries[i].key) || text_of(entries[i].key, &entries[i].text, &entries[i].length))
            return UNKNOWN;
    sort(entries, n);
    for (Py_ssize_t i = 0; i < n; i++) {
        if (put_char(out, i ? ',' : ends[0]) || put_text(out, entries[i].text, entries[i].length)) return FAILED;
        if (!entries[i].value) continue;
        if (put_char(out, ':')) return FAILED;
        const int failed = put(self, entries[i].value);
        if (failed) return failed;
    }
    return put_char(out, ends[1]);
}

static int put_dict(Writer *self, PyObject *dict)
{
    Entry few[FEW], *entries = few;
    const Py_ssize_t n = PyDict_GET_SIZE(dict);
    if (n == 0) return put_bytes(&self->sheet, "{}", 2);
    if (n > FEW && !(entries = PyMem_Malloc(n * sizeof(Entry)))) return PyErr_NoMemory(), FAILED;
    Entry *entry = entries;
    for (Py_ssize_t at = 0; entry < entries + n && PyDict_Next(dict, &at, &entry->key, &entry->value);) __builtin_prefetch((entry++)->value);
    const int failed = put_entries(self, entries, entry - entries, "{}");
    if (entries != few) PyMem_Free(entries);
    return failed;
}

static int put_set(Writer *self, PyObject *set)
{
    const Py_ssize_t n = PySet_GET_SIZE(set);
    if (n == 0) return put_bytes(&self->sheet, "[]", 2);
    PyObject *items = PySequence_Tuple(set);
    Entry *entries = items ? PyMem_Calloc(n, sizeof(Entry)) : NULL;
    if (items && !entries) PyErr_NoMemory();
    for (Py_ssize_t i = 0; entries && i < n; i++) entries[i].key = PyTuple_GET_ITEM(items, i);
    const int failed = entries ? put_entries(self, entries, n, "[]") : FAILED;
    PyMem_Free(entries);
    Py_XDECREF(items);
    return failed;
}

static int put_field(Writer *self, const Field *field, PyObject *value)
{
    Sheet *out = &self->sheet;
    if (!value) return UNKNOWN; /* msgspec leaves it out */
    if (put_bytes(out, PyBytes_AS_STRING(field->label), PyBytes_GET_SIZE(field->label))) return FAILED;
    if (value == Py_None) return put_bytes(out, PyBytes_AS_STRING(field->absent), PyBytes_GET_SIZE(field->absent));
    if (!field->is_rounded) return put(self, value);
    return PyFloat_CheckExact(value) ? put_rounded(out, PyFloat_AS_DOUBLE(value)) : UNKNOWN;
}

static int put_record(Writer *self, const Kind *kind, PyObject *record)
{
    for (const Field *field = kind->fields; field < kind->fields + kind->n_fields; field++) {
        const int failed = put_field(self, field, *(PyObject **)((char *)record + field->slot));
        if (failed) return failed;
    }
    return put_char(&self->sheet, '}');
}

static int put_other(Writer *self, PyObject *value)
{
    for (const Kind *kind = self->kinds; kind < self->kinds + self->n_kinds; kind++)
        if (Py_IS_TYPE(value, kind->type)) return put_record(self, kind, value);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(self->texts); i++)
        if (Py_IS_TYPE(value, (PyTypeObject *)PyTuple_GET_ITEM(self->texts, i))) return put_str(&self->sheet, value);
    return UNKNOWN;
}

static int put(Writer *self, PyObject *value)
{
    Sheet *out = &self->sheet;
    if (PyFloat_CheckExact(value)) return put_float(out, PyFloat_AS_DOUBLE(value), self->powers);
    if (PyUnicode_CheckExact(value)) return put_str(out, value);
    if (PyLong_CheckExact(value)) return put_int(out, value);
    if (value == Py_None) return put_bytes(out, "null", 4);
    if (value == Py_True) return put_bytes(out, "true", 4);
    if (value == Py_False) return put_bytes(out, "false", 5);
    if (self->depth == DEPTH) return UNKNOWN;
    self->depth++;
    const int failed = PyTuple_CheckExact(value)       ? put_tuple(self, value)
                       : PyDict_CheckExact(value)      ? put_dict(self, value)
                       : PyFrozenSet_CheckExact(value) ? put_set(self, value)
                                                       : put_other(self, value);
    self->depth--;
    return failed;
}

/* Puts a last field into the record that was written. */
static int put_last(Writer *self, double moment)
{
    Sheet *out = &self->sheet;
    if (out->at[-1] != '}') return UNKNOWN;
    out->at--;
    if (put_bytes(out, PyBytes_AS_STRING(self->last), PyBytes_GET_SIZE(self->last))) return FAILED;
    const int failed = put_moment(out, moment, &self->second);
    return failed ? failed : put_bytes(out, "\"}", 2);
}

/* encode(record, moment of its last field) -> bytes, or None where msgspec has to; without a moment, of any value */
static PyObject *writer_encode(PyObject *object, PyObject *const *args, Py_ssize_t n)
{
    Writer *self = (Writer *)object;
    Sheet *out = &self->sheet;
    if (n < 1 || n > 2) return PyErr_Format(PyExc_TypeError, "encode takes a value, and a moment or none");
    const double moment = n == 2 ? PyFloat_AsDouble(args[1]) : 0.0;
    if (moment == -1.0 && PyErr_Occurred()) return NULL;
    const int collects = PyGC_Disable(); /* a collection could run Python code, and that come back here */
    out->at = out->start;
    self->depth = 0;
    self->names = NULL;
    int failed = put(self, args[0]);
    if (!failed && n == 2) failed = put_last(self, moment);
    PyObject *line = failed == FAILED ? NULL
                     : failed         ? Py_NewRef(Py_None)
                                      : PyBytes_FromStringAndSize(out->start, out->at - out->start);
    if (collects) PyGC_Enable();
    if (out->end - out->start > KEPT) {
        PyMem_Free(out->start);
        *out = (Sheet){NULL, NULL, NULL};
    }
    return line;
}

/* --- Making a Writer ------------------------------------------------------------------------------------------------ */

static int refuse(const char *why)
{
    PyErr_SetString(PyExc_ValueError, why);
    return -1;
}

/* Where objects of a type hold an attribute. -1 and ValueError for one that has no slot of its own. */
static Py_ssize_t slot_of(PyTypeObject *type, PyObject *name)
{
    PyObject *found = type->tp_dict ? PyDict_GetItemWithError(type->tp_dict, name) : NULL;
    if (!found || !Py_IS_TYPE(found, &PyMemberDescr_Type) || PyDescr_TYPE(found) != type)
        return PyErr_Occurred() ? -1 : refuse("a field has no slot");
    const PyMemberDef *member = ((PyMemberDescrObject *)found)->d_member;
    return member->type == T_OBJECT_EX ? member->offset : refuse("a field's slot is of another kind");
}

static int read_field(PyTypeObject *type, PyObject *told, Field *field)
{
    PyObject *name, *label, *absent;
    int is_rounded;
    if (!PyTuple_CheckExact(told)) return refuse("a field is not of four parts");
    if (!PyArg_ParseTuple(told, "USSp", &name, &label, &absent, &is_rounded)) return -1;
    *field = (Field){slot_of(type, name), Py_NewRef(label), Py_NewRef(absent), is_rounded};
    return field->slot < 0 ? -1 : 0;
}

static int read_kind(PyObject *told, Kind *kind)
{
    PyObject *type, *fields;
    if (!PyTuple_CheckExact(told)) return refuse("a kind is not of two parts");
    if (!PyArg_ParseTuple(told, "O!O!", &PyType_Type, &type, &PyTuple_Type, &fields)) return -1;
    const Py_ssize_t n = PyTuple_GET_SIZE(fields);
    if (n == 0) return refuse("a kind has no fields");
    kind->type = (PyTypeObject *)Py_NewRef(type);
    kind->fields = PyMem_Calloc(n, sizeof(Field));
    if (!kind->fields) return PyErr_NoMemory(), -1;
    for (; kind->n_fields < n; kind->n_fields++)
        if (read_field(kind->type, PyTuple_GET_ITEM(fields, kind->n_fields), kind->fields + kind->n_fields) < 0) {
            kind->n_fields++; /* it is to be let go of, too */
            return -1;
        }
    return 0;
}

static int read_all(Writer *self, PyObject *kinds, PyObject *texts, PyObject *last, const Py_buffer *powers)
{
    const Py_ssize_t n = PyTuple_GET_SIZE(kinds);
    if (powers->len != POWERS * (Py_ssize_t)sizeof(Power)) return refuse("so many powers are none of ours");
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(texts); i++) {
        PyObject *type = PyTuple_GET_ITEM(texts, i);
        if (!PyType_Check(type) || !PyType_IsSubtype((PyTypeObject *)type, &PyUnicode_Type))
            return refuse("a text is no str");
    }
    self->texts = Py_NewRef(texts);
    self->last = Py_NewRef(last);
    self->second.second = -1;
    self->powers = PyMem_Malloc(powers->len);
    self->kinds = PyMem_Calloc(n + 1, sizeof(Kind));
    if (!self->powers || !self->kinds) return PyErr_NoMemory(), -1;
    memcpy(self->powers, powers->buf, powers->len);
    self->n_kinds = n;
    for (Py_ssize_t i = 0; i < n; i++)
        if (read_kind(PyTuple_GET_ITEM(kinds, i), self->kinds + i) < 0) return -1;
    return 0;
}

static PyObject *writer_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"kinds", "texts", "last", "powers", NULL};
    PyObject *kinds, *texts, *last;
    Py_buffer powers = {0};
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!O!Sy*", names, &PyTuple_Type, &kinds, &PyTuple_Type, &texts,
                                     &last, &powers))
        return NULL;
    Writer *self = (Writer *)type->tp_alloc(type, 0);
    if (self && read_all(self, kinds, texts, last, &powers) < 0) Py_CLEAR(self);
    PyBuffer_Release(&powers);
    return (PyObject *)self;
}

static void writer_dealloc(PyObject *object)
{
    Writer *self = (Writer *)object;
    for (const Kind *kind = self->kinds; kind < self->kinds + self->n_kinds; kind++) {
        for (Py_ssize_t i = 0; i < kind->n_fields; i++) {
            Py_XDECREF(kind->fields[i].label);
            Py_XDECREF(kind->fields[i].absent);
        }
        PyMem_Free(kind->fields);
        Py_XDECREF(kind->type);
    }
    Py_XDECREF(self->texts);
    Py_XDECREF(self->last);
    PyMem_Free(self->kinds);
    PyMem_Free(self->powers);
    PyMem_Free(self->sheet.start);
    Py_TYPE(object)->tp_free(object);
}

static PyMethodDef methods[] = {
    {"encode", (PyCFunction)(void (*)(void))writer_encode, METH_FASTCALL,
     "The JSON of a value; None where it holds what this doesn't know."},
    {NULL, NULL, 0, NULL}};

static PyTypeObject WriterType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "stores.log._json.Writer",
    .tp_basicsize = sizeof(Writer),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = writer_new,
    .tp_dealloc = writer_dealloc,
    .tp_methods = methods,
    .tp_doc = "Writes records of some types as JSON.",
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_json", "Records as JSON.", -1, NULL};

PyMODINIT_FUNC PyInit__json(void)
{
    if (PyType_Ready(&WriterType) < 0) return NULL;
    PyObject *made = PyModule_Create(&module);
    if (made && (PyModule_AddObjectRef(made, "Writer", (PyObject *)&WriterType) < 0 ||
                 PyModule_AddIntConstant(made, "VERSION", VERSION) < 0))
        Py_CLEAR(made);
    return made;
}
