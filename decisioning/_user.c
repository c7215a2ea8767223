/* What is known of a user, in one mapping, and the user's buckets in experiments. decisioning/knowledge.py and
 * decisioning/experiments.py say what is right.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define VERSION 5 /* of what Python and this ask of one another: decisioning/knowledge.py has the same */

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

#define PATIENCE 64 /* users with other features than before, until theirs are remembered */

typedef struct {
    PyObject_HEAD
    PyObject *defaults, *allowed; /* `allowed`: the names that a context may have */
    PyObject *names, *lacking; /* of features that came before, in their order, and the defaults of what is not among them */
    int others;                /* users since then who had others */
} Merger;

/* Whether the features are those remembered, in the same order, and none is None. Most users have the same. */
static int are_as_before(const Merger *self, PyObject *features)
{
    PyObject *key, *value;
    Py_ssize_t i = 0;
    if (!self->names || PyTuple_GET_SIZE(self->names) != PyDict_GET_SIZE(features)) return 0;
    for (Py_ssize_t at = 0; PyDict_Next(features, &at, &key, &value); i++)
        if (key != PyTuple_GET_ITEM(self->names, i) || value == Py_None) return 0;
    return 1;
}

static int remember(Merger *self, PyObject *features)
{
    PyObject *key, *value, *names = PyTuple_New(PyDict_GET_SIZE(features)), *lacking = names ? PyDict_New() : NULL;
    Py_ssize_t i = 0;
    int fine = lacking != NULL;
    for (Py_ssize_t at = 0; fine && PyDict_Next(features, &at, &key, &value); i++) {
        fine = PyUnicode_CheckExact(key); /* no other's hash or comparison may run while we go through */
        PyTuple_SET_ITEM(names, i, Py_NewRef(key));
    }
    for (Py_ssize_t at = 0; fine && PyDict_Next(self->defaults, &at, &key, &value);) {
        const int is_there = PyDict_Contains(features, key);
        fine = is_there > 0 || (is_there == 0 && PyDict_SetItem(lacking, key, value) == 0);
    }
    if (fine) {
        Py_XSETREF(self->names, Py_NewRef(names));
        Py_XSETREF(self->lacking, Py_NewRef(lacking));
        self->others = 0;
    }
    Py_XDECREF(names);
    Py_XDECREF(lacking);
    return PyErr_Occurred() ? -1 : 0;
}

/* merge(features: mapping, context: mapping) -> dict of the defaults, the features and the context, the latter winning;
 * None where a value is None, a name of the context is not allowed, or a mapping is no dict. */
static PyObject *merger_merge(PyObject *object, PyObject *const *args, Py_ssize_t n)
{
    Merger *self = (Merger *)object;
    if (n != 2) return PyErr_Format(PyExc_TypeError, "merge takes features and a context");
    if (!PyDict_CheckExact(args[0]) || !PyDict_CheckExact(args[1])) Py_RETURN_NONE;
    const int are_allowed = are_among(args[1], self->allowed);
    if (are_allowed < 0) return NULL;
    if (!are_allowed || holds_none(args[1])) Py_RETURN_NONE;
    const int as_before = are_as_before(self, args[0]);
    if (!as_before && (!self->names || ++self->others >= PATIENCE) && remember(self, args[0]) < 0) return NULL;
    PyObject *known = PyDict_Copy(args[0]);
    if (known && (add_defaults(known, as_before ? self->lacking : self->defaults) < 0 || PyDict_Update(known, args[1]) < 0))
        Py_CLEAR(known);
    if (known && !as_before && holds_none(known)) {
        Py_DECREF(known);
        Py_RETURN_NONE;
    }
    return known;
}

static PyObject *merger_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    PyObject *defaults, *allowed;
    if (!PyArg_ParseTuple(args, "O!O!", &PyDict_Type, &defaults, &PyFrozenSet_Type, &allowed)) return NULL;
    Merger *self = (Merger *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->defaults = PyDict_Copy(defaults); /* which nobody else changes */
    self->allowed = Py_NewRef(allowed);
    if (!self->defaults) Py_CLEAR(self);
    return (PyObject *)self;
}

static void merger_dealloc(PyObject *object)
{
    Merger *self = (Merger *)object;
    Py_XDECREF(self->defaults), Py_XDECREF(self->allowed), Py_XDECREF(self->names), Py_XDECREF(self->lacking);
    Py_TYPE(object)->tp_free(object);
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

/* Where the hash of `salt|user` falls; -1 for an error. */
static long long fall(const char *salt, Py_ssize_t salt_size, const char *user, Py_ssize_t user_size, long long buckets)
{
    unsigned char here[256], *text = here;
    const size_t size = (size_t)salt_size + 1 + (size_t)user_size;
    if (size > sizeof here && !(text = PyMem_Malloc(size))) return PyErr_NoMemory(), -1;
    memcpy(text, salt, salt_size);
    text[salt_size] = '|';
    memcpy(text + salt_size + 1, user, user_size);
    const uint64_t hash = murmur(text, size);
    if (text != here) PyMem_Free(text);
    return (long long)((hash >> 4) % (uint64_t)buckets);
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
    const long long found = fall(salt, salt_size, user, user_size, buckets);
    return found < 0 ? NULL : PyLong_FromLongLong(found);
}

/* --- Arms ---------------------------------------------------------------------------------------------------------- */

#define MOST 64 /* experiments and ablations: the bits of a word */

typedef struct {
    PyObject *name, *layer, *salt, *arms; /* `arms`: a tuple of (the first bucket that is no longer the arm's, its name) */
    long long start, end;
    int first; /* the experiment that asks for the same layer's bucket first */
} Seat;

typedef struct {
    PyObject_HEAD
    Seat seats[MOST];
    long long buckets;
    int n, everyone; /* `everyone`: how many of them, the first, are for everybody */
} Seats;

static long long fall_of(PyObject *salt, const char *user, Py_ssize_t size, long long buckets)
{
    Py_ssize_t salt_size;
    const char *text = PyUnicode_AsUTF8AndSize(salt, &salt_size);
    return text ? fall(text, salt_size, user, size, buckets) : -1;
}

/* Puts the arm of who has a seat among the others. */
static int add_arm(const Seats *self, const Seat *seat, const char *user, Py_ssize_t size, PyObject *into)
{
    const long long spot = fall_of(seat->salt, user, size, self->buckets);
    if (spot < 0) return -1;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(seat->arms); i++) {
        PyObject *arm = PyTuple_GET_ITEM(seat->arms, i);
        if (spot < PyLong_AsLongLong(PyTuple_GET_ITEM(arm, 0)))
            return PyDict_SetItem(into, seat->name, PyTuple_GET_ITEM(arm, 1));
    }
    return 0;
}

/* Adds the arms of the seats that a user may take, one bit each. */
static int add_arms(const Seats *self, PyObject *user, unsigned long long open, PyObject *into)
{
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(user, &size);
    long long found[MOST];
    for (int i = 0; i < self->n; i++) found[i] = -1;
    for (int i = 0; text && i < self->n; i++) {
        const Seat *seat = self->seats + i;
        if (!(open >> i & 1)) continue;
        if (found[seat->first] < 0 && (found[seat->first] = fall_of(seat->layer, text, size, self->buckets)) < 0) return -1;
        if (found[seat->first] < seat->start || found[seat->first] >= seat->end) continue;
        if (add_arm(self, seat, text, size, into) < 0) return -1;
    }
    return text ? 0 : -1;
}

/* arms(user: str, audiences: int) -> dict of arms by the names of their experiments */
static PyObject *seats_arms(PyObject *object, PyObject *const *args, Py_ssize_t n)
{
    const Seats *self = (const Seats *)object;
    if (n != 2 || !PyUnicode_Check(args[0]) || !PyLong_Check(args[1]))
        return PyErr_Format(PyExc_TypeError, "arms takes a user and the audiences that they are in");
    const unsigned long long ours = self->n < MOST ? (1ULL << self->n) - 1 : ~0ULL, all = (1ULL << self->everyone) - 1;
    const unsigned long long open = (PyLong_AsUnsignedLongLongMask(args[1]) << self->everyone | all) & ours;
    PyObject *arms = PyDict_New();
    if (arms && open && add_arms(self, args[0], open, arms) < 0) Py_CLEAR(arms); /* else their bytes are not asked for */
    return arms;
}

/* A seat is told as (name, layer's salt, start, end, salt, arms). */
static int read_seat(Seats *self, PyObject *told)
{
    Seat *seat = self->seats + self->n;
    PyObject *name, *layer, *salt, *arms;
    if (!PyTuple_CheckExact(told) || !PyArg_ParseTuple(told, "UULLUO!", &name, &layer, &seat->start, &seat->end, &salt,
                                                       &PyTuple_Type, &arms))
        return -1;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(arms); i++) {
        PyObject *arm = PyTuple_GET_ITEM(arms, i);
        if (!PyTuple_CheckExact(arm) || PyTuple_GET_SIZE(arm) != 2 || !PyLong_CheckExact(PyTuple_GET_ITEM(arm, 0)) ||
            PyLong_AsLongLong(PyTuple_GET_ITEM(arm, 0)) == -1)
            return -1;
    }
    seat->name = Py_NewRef(name);
    seat->layer = Py_NewRef(layer);
    seat->salt = Py_NewRef(salt);
    seat->arms = Py_NewRef(arms);
    seat->first = self->n++;
    for (int i = self->n - 2; i >= 0; i--)
        if (PyUnicode_Compare(self->seats[i].layer, layer) == 0) seat->first = i;
    return 0;
}

static PyObject *seats_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    PyObject *told;
    long long buckets;
    int everyone;
    if (!PyArg_ParseTuple(args, "O!Li", &PyTuple_Type, &told, &buckets, &everyone)) return NULL;
    Seats *self = (Seats *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->buckets = buckets, self->everyone = everyone;
    int failed = buckets < 1 || PyTuple_GET_SIZE(told) > MOST || everyone < 0 || everyone >= MOST ||
                 everyone > PyTuple_GET_SIZE(told);
    for (Py_ssize_t i = 0; !failed && i < PyTuple_GET_SIZE(told); i++) failed = read_seat(self, PyTuple_GET_ITEM(told, i)) < 0;
    if (failed) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "these are no seats, or too many");
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static void seats_dealloc(PyObject *object)
{
    Seats *self = (Seats *)object;
    for (int i = 0; i < self->n; i++) {
        PyObject *ours[] = {self->seats[i].name, self->seats[i].layer, self->seats[i].salt, self->seats[i].arms};
        for (int k = 0; k < 4; k++) Py_XDECREF(ours[k]);
    }
    Py_TYPE(object)->tp_free(object);
}

static PyMethodDef merging[] = {
    {"merge", (PyCFunction)(void (*)(void))merger_merge, METH_FASTCALL, "All that is known, by name."}, {NULL, NULL, 0, NULL}};

static PyTypeObject MergerType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "decisioning._user.Merger",
    .tp_basicsize = sizeof(Merger),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = merger_new,
    .tp_dealloc = merger_dealloc,
    .tp_methods = merging,
    .tp_doc = "What a catalog adds to a user's features, and takes of a context.",
};

static PyMethodDef methods[] = {
    {"arms", (PyCFunction)(void (*)(void))seats_arms, METH_FASTCALL, "The arms of a user."}, {NULL, NULL, 0, NULL}};

static PyTypeObject SeatsType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "decisioning._user.Seats",
    .tp_basicsize = sizeof(Seats),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = seats_new,
    .tp_dealloc = seats_dealloc,
    .tp_methods = methods,
    .tp_doc = "The experiments and ablations of a catalog, in buckets.",
};

static PyMethodDef functions[] = {
    {"bucket", (PyCFunction)(void (*)(void))bucket, METH_FASTCALL, "Where a user's hash falls."},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_user", "What is known of a user.", -1, functions};

PyMODINIT_FUNC PyInit__user(void)
{
    if (PyType_Ready(&SeatsType) < 0 || PyType_Ready(&MergerType) < 0) return NULL;
    PyObject *made = PyModule_Create(&module);
    if (made && (PyModule_AddObjectRef(made, "Seats", (PyObject *)&SeatsType) < 0 ||
                 PyModule_AddObjectRef(made, "Merger", (PyObject *)&MergerType) < 0 ||
                 PyModule_AddIntConstant(made, "VERSION", VERSION) < 0))
        Py_CLEAR(made);
    return made;
}
