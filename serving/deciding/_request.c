/* What a client sends as a request for a decision, in one call: its context by the types of the catalog, the user's
 * keyed hash and a fresh id.
 *
 * What is unusual (a sticky surface, a set, a time, a value of a wrong type) is left to the twin as a whole:
 * serving/deciding/requests.py, which is this file's other half.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "../../decisioning/blake2b.h"
#include "../../decisioning/records.h"

#define VERSION 1 /* of what Python and this ask of one another: requests.py has the same */

enum { DONE = 0, UNUSUAL = 1, FAILED = -1 };
/* What a function here returns: UNUSUAL for what the twin has to see to, FAILED with an exception set. */

enum { BOOL, INT, FLOAT, ENUM, TEXT, KINDS };

enum { KEY_BYTES = 16, SECRET_MOST = 64, TEXT_MOST = 256 };
#define INT_MOST (1LL << 53)

typedef struct {
    PyObject_HEAD
    PyObject *twin;
    Record request;
    PyTypeObject *types[4];  /* of the arguments below */
    Py_ssize_t name, sticky; /* of a surface, in bytes */
    Py_ssize_t user_id, context, slots, exclude; /* of what was sent */
    Py_ssize_t known;        /* of a reader of contexts */
    Py_ssize_t left;         /* of a source of ids */
    PyObject *kinds[KINDS];  /* the types of features */
    PyObject *nothing, *nobody; /* an empty tuple, an empty frozenset */
} Maker;

enum { SURFACE, SENT, CONTEXTS, IDS };
enum { A_SECRET, A_CONTEXTS, A_SURFACE, A_SENT, A_NOW, A_FRESH, ARGUMENTS };

static inline PyObject *slot(PyObject *object, Py_ssize_t offset) { return *(PyObject **)((char *)object + offset); }

/* --- The context ---------------------------------------------------------------------------------------------------- */

enum { KIND = 0, DECLARED = 3, KNOWN = 5 }; /* the places in features.context._Known */

/* A value as the catalog's type has it: itself, or another one. A new reference; NULL, maybe without an error, where it
 * is not plainly one. */
static PyObject *typed(const Maker *self, PyObject *kind, PyObject *found)
{
    if (kind == self->kinds[ENUM] || kind == self->kinds[TEXT])
        return PyUnicode_CheckExact(found) && PyUnicode_GET_LENGTH(found) <= TEXT_MOST ? Py_NewRef(found) : NULL;
    if (kind == self->kinds[BOOL]) return PyBool_Check(found) ? Py_NewRef(found) : NULL;
    if (kind == self->kinds[FLOAT] && PyFloat_CheckExact(found)) return Py_NewRef(found);
    if ((kind != self->kinds[FLOAT] && kind != self->kinds[INT]) || !PyLong_CheckExact(found)) return NULL;
    int is_too_large;
    const long long whole = PyLong_AsLongLongAndOverflow(found, &is_too_large);
    if (is_too_large || whole > INT_MOST || whole < -INT_MOST) return NULL;
    return kind == self->kinds[INT] ? Py_NewRef(found) : PyFloat_FromDouble((double)whole);
}

/* Takes a value out of what was sent, or puts another one in its place (NULL: none). What was sent stays as it is: the
 * first time, `values` becomes a copy. */
static int replace(PyObject **values, PyObject *sent, PyObject *name, PyObject *value)
{
    if (*values == sent) {
        PyObject *copy = PyDict_Copy(sent);
        if (!copy) return FAILED;
        Py_SETREF(*values, copy);
    }
    return value ? PyDict_SetItem(*values, name, value) : PyDict_DelItem(*values, name);
}

/* One value that was sent. Nothing here runs Python code: names and values are of the very types. */
static int read_value(const Maker *self, PyObject *known, PyObject *name, PyObject *found, PyObject *sent,
                      PyObject **values, long *undeclared)
{
    if (!PyTuple_Check(known) || PyTuple_GET_SIZE(known) != KNOWN) return UNUSUAL;
    PyObject *value = typed(self, PyTuple_GET_ITEM(known, KIND), found);
    if (!value) return PyErr_Occurred() ? FAILED : UNUSUAL;
    PyObject *declared = PyTuple_GET_ITEM(known, DECLARED);
    int is_declared = 1, fine = DONE;
    if (declared != Py_None) is_declared = PyFrozenSet_CheckExact(declared) ? PySet_Contains(declared, value) : UNUSUAL;
    if (is_declared < 0) fine = FAILED;
    if (is_declared == 0) ++*undeclared, fine = replace(values, sent, name, NULL);
    if (is_declared > 0 && value != found) fine = replace(values, sent, name, value);
    Py_DECREF(value);
    return fine;
}

/* The values of a context as a dict of one's own (or the one that was sent, where nothing is to be changed), and what
 * was left out of it. */
static int read_context(const Maker *self, PyObject *known, PyObject *sent, PyObject **values, long *unknown,
                        long *undeclared)
{
    PyObject *name, *found;
    Py_ssize_t at = 0;
    int told = DONE;
    while (told == DONE && PyDict_Next(sent, &at, &name, &found)) {
        if (!PyUnicode_CheckExact(name)) return UNUSUAL;
        PyObject *one = PyDict_GetItemWithError(known, name);
        if (!one && PyErr_Occurred()) return FAILED;
        if (!one) ++*unknown;
        told = one && found != Py_None ? read_value(self, one, name, found, sent, values, undeclared)
                                       : replace(values, sent, name, NULL);
    }
    return told;
}

/* What was left out, as words for `degraded`. */
static PyObject *left_out(const Maker *self, long unknown, long undeclared)
{
    if (!unknown && !undeclared) return Py_NewRef(self->nothing);
    PyObject *words = PyTuple_New((unknown > 0) + (undeclared > 0));
    Py_ssize_t n = 0;
    const char *const told[] = {"context:unknown_names:%ld", "context:undeclared_values:%ld"};
    if (words && unknown) PyTuple_SET_ITEM(words, n++, PyUnicode_FromFormat(told[0], unknown));
    if (words && undeclared) PyTuple_SET_ITEM(words, n++, PyUnicode_FromFormat(told[1], undeclared));
    for (Py_ssize_t i = 0; words && i < n; i++)
        if (!PyTuple_GET_ITEM(words, i)) Py_CLEAR(words);
    return words;
}

/* --- The user and the id -------------------------------------------------------------------------------------------- */

/* The keyed hash that stands for a user, in hexadecimal digits. NULL without an error for an id that is no UTF-8. */
static PyObject *user_key(PyObject *secret, PyObject *user_id)
{
    Py_ssize_t length;
    const char *text = PyUnicode_AsUTF8AndSize(user_id, &length);
    if (!text) {
        if (PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) PyErr_Clear();
        return NULL;
    }
    Blake2b hash;
    unsigned char digest[KEY_BYTES];
    blake2b_begin(&hash, KEY_BYTES, PyBytes_AS_STRING(secret), (size_t)PyBytes_GET_SIZE(secret));
    blake2b_add(&hash, text, (size_t)length);
    blake2b_end(&hash, digest);
    PyObject *made = PyUnicode_New(2 * KEY_BYTES, 127);
    for (int i = 0; made && i < 2 * KEY_BYTES; i++)
        PyUnicode_1BYTE_DATA(made)[i] = (Py_UCS1) "0123456789abcdef"[digest[i / 2] >> (i % 2 ? 0 : 4) & 15];
    return made;
}

/* A new id, by a source of them: a str. What is left there is taken without a call. */
static PyObject *fresh_id(const Maker *self, PyObject *fresh)
{
    PyObject *left = Py_IS_TYPE(fresh, self->types[IDS]) ? slot(fresh, self->left) : NULL;
    const Py_ssize_t n = left && PyList_CheckExact(left) ? PyList_GET_SIZE(left) : 0;
    PyObject *id = n ? Py_NewRef(PyList_GET_ITEM(left, n - 1)) : PyObject_CallNoArgs(fresh);
    if (n && PyList_SetSlice(left, n - 1, n, NULL) < 0) Py_CLEAR(id);
    if (id && !PyUnicode_Check(id)) {
        PyErr_SetString(PyExc_TypeError, "an id is a text");
        Py_CLEAR(id);
    }
    return id;
}

static PyObject *decision_id(const Maker *self, PyObject *fresh, PyObject *surface)
{
    PyObject *id = fresh_id(self, fresh);
    if (!id) return NULL;
    PyObject *named;
    if (PyUnicode_IS_COMPACT_ASCII(id) && PyUnicode_IS_COMPACT_ASCII(surface)) {
        const Py_ssize_t before = PyUnicode_GET_LENGTH(id), after = PyUnicode_GET_LENGTH(surface);
        named = PyUnicode_New(before + 1 + after, 127);
        if (named) {
            Py_UCS1 *at = PyUnicode_1BYTE_DATA(named);
            memcpy(at, PyUnicode_1BYTE_DATA(id), (size_t)before);
            at[before] = '.';
            memcpy(at + before + 1, PyUnicode_1BYTE_DATA(surface), (size_t)after);
        }
    } else
        named = PyUnicode_FromFormat("%U.%U", id, surface);
    Py_DECREF(id);
    return named;
}

/* --- The request ---------------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject *name, *user_id, *context, *slots, *exclude, *known; /* borrowed of the arguments, which nobody changes */
} Sent;

/* The parts of the arguments, where all are of the usual types. */
static int read_sent(const Maker *self, PyObject *const *args, Sent *into)
{
    PyObject *surface = args[A_SURFACE], *sent = args[A_SENT], *secret = args[A_SECRET];
    if (!Py_IS_TYPE(surface, self->types[SURFACE]) || !Py_IS_TYPE(sent, self->types[SENT]) ||
        !Py_IS_TYPE(args[A_CONTEXTS], self->types[CONTEXTS]) || !PyBytes_CheckExact(secret) ||
        PyBytes_GET_SIZE(secret) > SECRET_MOST)
        return UNUSUAL;
    PyObject *sticky = slot(surface, self->sticky);
    *into = (Sent){slot(surface, self->name), slot(sent, self->user_id), slot(sent, self->context),
                   slot(sent, self->slots), slot(sent, self->exclude), slot(args[A_CONTEXTS], self->known)};
    if (!sticky || !PyFloat_CheckExact(sticky) || PyFloat_AS_DOUBLE(sticky) != 0.0) return UNUSUAL;
    if (!into->name || !PyUnicode_CheckExact(into->name) || !into->user_id || !PyUnicode_CheckExact(into->user_id))
        return UNUSUAL;
    if (!into->context || !PyDict_CheckExact(into->context) || !into->slots) return UNUSUAL;
    if (!into->exclude || !PyTuple_CheckExact(into->exclude) || !into->known || !PyDict_CheckExact(into->known))
        return UNUSUAL;
    return DONE;
}

static PyObject *maker_make(Maker *self, PyObject *const *args, Py_ssize_t n)
{
    if (n != ARGUMENTS) return PyErr_SetString(PyExc_TypeError, "make takes six arguments"), NULL;
    Sent sent;
    long unknown = 0, undeclared = 0;
    PyObject *values = NULL, *user = NULL;
    int told = read_sent(self, args, &sent);
    if (told == DONE) {
        values = Py_NewRef(sent.context);
        told = read_context(self, sent.known, sent.context, &values, &unknown, &undeclared);
    }
    if (told == DONE && !(user = user_key(args[A_SECRET], sent.user_id))) told = PyErr_Occurred() ? FAILED : UNUSUAL;
    if (told != DONE) {
        Py_XDECREF(values);
        return told == UNUSUAL ? PyObject_Vectorcall(self->twin, args, n, NULL) : NULL;
    }
    PyObject *parts[] = {
        decision_id(self, args[A_FRESH], sent.name), user, Py_NewRef(sent.name), Py_NewRef(args[A_NOW]), values,
        Py_NewRef(sent.slots),
        PyTuple_GET_SIZE(sent.exclude) ? PyFrozenSet_New(sent.exclude) : Py_NewRef(self->nobody)};
    PyObject *request = record_made(&self->request, parts);
    PyObject *words = request ? left_out(self, unknown, undeclared) : NULL;
    PyObject *both = words ? PyTuple_Pack(2, request, words) : NULL;
    Py_XDECREF(request);
    Py_XDECREF(words);
    return both;
}

/* --- The module ----------------------------------------------------------------------------------------------------- */

static int read_places(Maker *self)
{
    const struct {
        int type;
        const char *name;
        Py_ssize_t *into;
    } places[] = {{SURFACE, "name", &self->name}, {SURFACE, "sticky", &self->sticky}, {SENT, "user_id", &self->user_id},
                  {SENT, "context", &self->context}, {SENT, "slots", &self->slots}, {SENT, "exclude", &self->exclude},
                  {CONTEXTS, "known", &self->known}, {IDS, "left", &self->left}};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if ((*places[i].into = offset_of(self->types[places[i].type], places[i].name)) < 0) return -1;
    return 0;
}

static PyObject *maker_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static const char *const fields[] = {"decision_id", "user", "surface", "now", "context", "slots", "exclude", NULL};
    static char *names[] = {"twin", "request", "surface", "sent", "contexts", "ids", "kinds", NULL};
    PyObject *twin, *request, *types[4], *kinds;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "OOO!O!O!O!O!", names, &twin, &request, &PyType_Type, types,
                                     &PyType_Type, types + 1, &PyType_Type, types + 2, &PyType_Type, types + 3,
                                     &PyTuple_Type, &kinds))
        return NULL;
    if (PyTuple_GET_SIZE(kinds) != KINDS) return PyErr_SetString(PyExc_ValueError, "five kinds are known here"), NULL;
    Maker *self = (Maker *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->twin = Py_NewRef(twin);
    for (int i = 0; i < 4; i++) self->types[i] = (PyTypeObject *)Py_NewRef(types[i]);
    for (int i = 0; i < KINDS; i++) self->kinds[i] = Py_NewRef(PyTuple_GET_ITEM(kinds, i));
    self->nothing = PyTuple_New(0);
    self->nobody = PyFrozenSet_New(NULL);
    if (!self->nothing || !self->nobody || read_places(self) < 0 || record_of(request, fields, &self->request) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void maker_dealloc(PyObject *object)
{
    Maker *self = (Maker *)object;
    record_let_go(&self->request);
    for (int i = 0; i < 4; i++) Py_XDECREF(self->types[i]);
    for (int i = 0; i < KINDS; i++) Py_XDECREF(self->kinds[i]);
    Py_XDECREF(self->twin);
    Py_XDECREF(self->nothing);
    Py_XDECREF(self->nobody);
    Py_TYPE(object)->tp_free(object);
}

static PyMethodDef methods[] = {
    {"make", (PyCFunction)(void (*)(void))maker_make, METH_FASTCALL, "The request, and what its context left out."},
    {NULL, NULL, 0, NULL}};

static PyTypeObject MakerType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "serving.deciding._request.Maker",
    .tp_basicsize = sizeof(Maker),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = maker_new,
    .tp_dealloc = maker_dealloc,
    .tp_methods = methods,
    .tp_doc = "Makes requests of what is sent.",
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_request", "Requests of what is sent.", -1, NULL};

PyMODINIT_FUNC PyInit__request(void)
{
    if (PyType_Ready(&MakerType) < 0) return NULL;
    PyObject *made = PyModule_Create(&module);
    if (made && (PyModule_AddObjectRef(made, "Maker", (PyObject *)&MakerType) < 0 ||
                 PyModule_AddIntConstant(made, "VERSION", VERSION) < 0))
        Py_CLEAR(made);
    return made;
}
