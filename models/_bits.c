/* Scores of many offers for one user by bit masks. models/masks.py says what the tables hold, models/by_numpy.py does
 * the same in numpy.
 *
 * A row of masks has a bit for each leaf of each tree, leaves from left to right, in `words` 32-bit words a tree. The rows
 * that a user's values select are ANDed, and then each offer's; the lowest bit that is left is the leaf reached. Sums are
 * taken tree by tree, a double each, so that they are LightGBM's to the last bit: never build this with -ffast-math, and
 * always with -ffp-contract=off.
 *
 * Tables come from files, so nothing is believed: all that scoring relies on is checked when a Masks is made, which
 * copies its tables and never changes after. Scratch memory belongs to the call, so that threads may share a Masks.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("avx512f", "avx2", "default"))) /* chosen when it loads */
#else
#define FOR_EACH_PROCESSOR
#endif

#define VERSION 2 /* of what Python and this ask of one another: models/by_c.py has the same */
#define LINE 16 /* words ANDed at a time: a cache line of them */
typedef uint32_t Line __attribute__((vector_size(4 * LINE)));
#define TOGETHER 4 /* offers summed side by side, as their additions need not wait for one another */

typedef struct {
    int64_t place; /* of the context row; of a crossing, nothing */
    int64_t first; /* of its cuts */
    int64_t count; /* of its cuts: interval i holds what is above cut i - 1, and not above cut i */
    int64_t base;  /* its first row: of count + 1 intervals, and then of a missing value */
} Column;

typedef struct {
    PyObject_HEAD
    Column *columns; /* those of the context, and then of the crossings */
    double *cuts, *values, *factors;
    int64_t *places;
    uint32_t *table, *offers; /* rows of `stride` words, a whole number of lines */
    Py_ssize_t n_context, n_crossings, n_rows, n_offers, n_cuts;
    Py_ssize_t trees, words, leaves, forests, width, stride;
} Masks;

typedef struct {
    const uint32_t **rows; /* of the context's columns */
    uint32_t *user;        /* what they leave open */
    uint32_t *crossed;     /* TOGETHER rows: what an offer's crossings leave open besides */
    double *context;
    double *sums;
    int64_t *asked;
    void *memory;
} Scratch;

/* --- Scoring ------------------------------------------------------------------------------------------------------ */

/* How many cuts are below the value. Without a branch, as nobody can foretell which way a search goes. */
static inline int64_t below(const double *cuts, int64_t count, double value)
{
    const double *from = cuts;
    while (count > 1) {
        const int64_t half = count / 2;
        from += half & -(int64_t)(from[half - 1] < value);
        count -= half;
    }
    return from - cuts + (from[0] < value);
}

static inline const uint32_t *row_of(const Masks *self, const Column *column, double value)
{
    const int64_t interval = below(self->cuts + column->first, column->count, value);
    return self->table + (column->base + (value == value ? interval : column->count + 1)) * self->stride;
}

static inline void and_lines(uint32_t *into, const uint32_t *const *rows, Py_ssize_t n, Py_ssize_t at, const int lines)
{
    Line open[4];
    for (int i = 0; i < lines; i++) open[i] = ~(Line){0};
    for (Py_ssize_t row = 0; row < n; row++)
        for (int i = 0; i < lines; i++) open[i] &= *(const Line *)(rows[row] + at + i * LINE);
    for (int i = 0; i < lines; i++) *(Line *)(into + at + i * LINE) = open[i];
}

/* The AND of rows, a few lines at a time, which stay in registers. */
FOR_EACH_PROCESSOR
static void and_rows(uint32_t *into, const uint32_t *const *rows, Py_ssize_t n, Py_ssize_t stride)
{
    Py_ssize_t at = 0;
    for (; at + 2 * LINE <= stride; at += 2 * LINE) and_lines(into, rows, n, at, 2);
    for (; at < stride; at += LINE) and_lines(into, rows, n, at, 1);
}

/* What the context leaves open, into scratch->user. */
static void narrow(const Masks *self, const double *context, Scratch *scratch)
{
    for (Py_ssize_t c = 0; c < self->n_context; c++)
        scratch->rows[c] = row_of(self, self->columns + c, context[self->columns[c].place]);
    and_rows(scratch->user, scratch->rows, self->n_context, self->stride);
}

/* float32(user's value × offer's), missing where float32 can't hold it. */
static double crossed_value(const Masks *self, Py_ssize_t crossing, int64_t offer, const double *context)
{
    const Py_ssize_t at = crossing * self->n_offers + offer;
    const double product = context[self->places[at]] * self->factors[at];
    const float rounded = fabs(product) < 2.0 * FLT_MAX ? (float)product : NAN;
    return isinf(rounded) ? NAN : rounded;
}

/* The masks of one offer, ANDed with what its crossings leave open. */
static const uint32_t *masks_of(const Masks *self, int64_t offer, const double *context, uint32_t *into)
{
    const uint32_t *own = self->offers + offer * self->stride;
    if (self->n_crossings == 0) return own;
    memcpy(into, own, self->stride * sizeof(uint32_t));
    for (Py_ssize_t x = 0; x < self->n_crossings; x++) {
        const Column *column = self->columns + self->n_context + x;
        const uint32_t *row = row_of(self, column, crossed_value(self, x, offer, context));
        for (Py_ssize_t i = 0; i < self->stride; i++) into[i] &= row[i];
    }
    return into;
}

/* The value of the leaf at the lowest bit. There is one: no row closes the bit of a tree's last leaf. */
static inline double leaf_of(const uint32_t *user, const uint32_t *offer, const double *values)
{
    Py_ssize_t word = 0;
    while ((user[word] & offer[word]) == 0) word++;
    return values[32 * word + __builtin_ctz(user[word] & offer[word])];
}

static void add_up(const Masks *self, const uint32_t *user, const uint32_t *const *offer, double *sums)
{
    const Py_ssize_t words = self->words;
    const double *values = self->values;
    for (int k = 0; k < TOGETHER; k++) sums[k] = 0.0;
    if (words == 1)
        for (Py_ssize_t t = 0; t < self->trees; t++, values += self->leaves)
            for (int k = 0; k < TOGETHER; k++) sums[k] += values[__builtin_ctz(user[t] & offer[k][t])];
    else
        for (Py_ssize_t at = 0; at < self->trees * words; at += words, values += self->leaves)
            for (int k = 0; k < TOGETHER; k++) sums[k] += leaf_of(user + at, offer[k] + at, values);
}

/* The sums of some offers for one context row. */
static void sum_offers(const Masks *self, const double *context, Scratch *scratch, Py_ssize_t count, double *sums)
{
    const uint32_t *offer[TOGETHER];
    double found[TOGETHER];
    for (Py_ssize_t k = 0; k < count; k += TOGETHER) {
        const Py_ssize_t here = count - k < TOGETHER ? count - k : TOGETHER;
        for (Py_ssize_t j = 0; j < TOGETHER; j++)
            offer[j] = j < here ? masks_of(self, scratch->asked[k + j], context, scratch->crossed + j * self->stride)
                                : offer[0];
        add_up(self, scratch->user, offer, found);
        memcpy(sums + k, found, here * sizeof(double));
    }
}

/* The same of some forests, whose trees stand interleaved. */
static void sum_forests(const Masks *self, const Scratch *scratch, Py_ssize_t count, double *sums)
{
    for (Py_ssize_t k = 0; k < count; k++) sums[k] = 0.0;
    for (Py_ssize_t round = 0; round < self->trees; round += self->forests)
        for (Py_ssize_t k = 0; k < count; k++) {
            const Py_ssize_t tree = round + scratch->asked[k], at = tree * self->words;
            sums[k] += leaf_of(scratch->user + at, self->offers + at, self->values + tree * self->leaves);
        }
}

static void score(const Masks *self, const double *context, Scratch *scratch, Py_ssize_t count, double *sums)
{
    narrow(self, context, scratch);
    if (self->forests == 1)
        sum_offers(self, context, scratch, count, sums);
    else
        sum_forests(self, scratch, count, sums);
}

/* --- What Python asks --------------------------------------------------------------------------------------------- */

/* `size` bytes that begin at a cache line, of memory that `free` is to be called with. */
static void *lines(Py_ssize_t size, void **memory)
{
    *memory = PyMem_Malloc(size + 64);
    return *memory ? (void *)(((uintptr_t)*memory + 63) & ~(uintptr_t)63) : PyErr_NoMemory();
}

/* Memory for one call about `count` offers or forests. */
static int allocate(const Masks *self, Py_ssize_t count, Scratch *scratch)
{
    const Py_ssize_t row = self->stride * sizeof(uint32_t);
    const Py_ssize_t crossed = self->n_crossings ? TOGETHER * row : 0;
    char *at = lines(row + crossed + (self->n_context + self->width + 2 * count) * 8, &scratch->memory);
    if (!at) return -1;
    scratch->user = (uint32_t *)at;
    scratch->crossed = (uint32_t *)(at += row);
    scratch->rows = (const uint32_t **)(at += crossed);
    scratch->context = (double *)(at += self->n_context * 8);
    scratch->sums = (double *)(at += self->width * 8);
    scratch->asked = (int64_t *)(at + count * 8);
    return 0;
}

/* The same, and the numbers of the offers (or forests) asked: a tuple, as a number's own __index__ could change a
 * list. */
static int scratch_for(const Masks *self, PyObject *asked, Scratch *scratch)
{
    const Py_ssize_t count = PyTuple_GET_SIZE(asked), choice = self->forests == 1 ? self->n_offers : self->forests;
    if (allocate(self, count, scratch) < 0) return -1;
    for (Py_ssize_t k = 0; k < count; k++) {
        scratch->asked[k] = PyNumber_AsSsize_t(PyTuple_GET_ITEM(asked, k), PyExc_IndexError);
        if (scratch->asked[k] < 0 || scratch->asked[k] >= choice) {
            if (!PyErr_Occurred()) PyErr_Format(PyExc_IndexError, "offers are numbered from 0 to %zd", choice - 1);
            return -1;
        }
    }
    return 0;
}

/* A context is a sequence of numbers, or the bytes of their doubles. */
static int read_context(const Masks *self, PyObject *context, double *into)
{
    if (PyBytes_CheckExact(context) && PyBytes_GET_SIZE(context) == self->width * 8) {
        memcpy(into, PyBytes_AS_STRING(context), self->width * 8);
        return 0;
    }
    PyObject *numbers = PySequence_Tuple(context);
    if (!numbers) return -1;
    if (PyTuple_GET_SIZE(numbers) != self->width)
        PyErr_Format(PyExc_ValueError, "a context has %zd columns", self->width);
    for (Py_ssize_t c = 0; !PyErr_Occurred() && c < self->width; c++)
        into[c] = PyFloat_AsDouble(PyTuple_GET_ITEM(numbers, c));
    Py_DECREF(numbers);
    return PyErr_Occurred() ? -1 : 0;
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

/* scores(context: sequence of floats or bytes, asked: sequence of numbers) -> list of floats */
static PyObject *masks_scores(PyObject *object, PyObject *const *args, Py_ssize_t n)
{
    const Masks *self = (const Masks *)object;
    if (n != 2) return PyErr_Format(PyExc_TypeError, "scores takes a context and the offers asked");
    PyObject *asked = PySequence_Tuple(args[1]);
    PyObject *out = NULL;
    Scratch scratch = {0};
    if (asked && scratch_for(self, asked, &scratch) == 0 && read_context(self, args[0], scratch.context) == 0) {
        const Py_ssize_t count = PyTuple_GET_SIZE(asked);
        score(self, scratch.context, &scratch, count, scratch.sums);
        out = list_of(scratch.sums, count);
    }
    PyMem_Free(scratch.memory);
    Py_XDECREF(asked);
    return out;
}

static PyTypeObject MasksType;

/* What models/_score.c asks, by a capsule: the sums of some offers of one forest for a row of `width` doubles. Checks all
 * that it is given. -1 for an error. */
static int sums_of(PyObject *object, const double *context, Py_ssize_t width, const int64_t *asked, Py_ssize_t count,
                   double *sums)
{
    if (!Py_IS_TYPE(object, &MasksType)) return PyErr_SetString(PyExc_TypeError, "these are no masks"), -1;
    const Masks *self = (const Masks *)object;
    int fits = self->forests == 1 && width == self->width;
    for (Py_ssize_t k = 0; k < count; k++) fits &= asked[k] >= 0 && asked[k] < self->n_offers;
    if (!fits) return PyErr_SetString(PyExc_ValueError, "the masks are of other columns or offers"), -1;
    Scratch scratch = {0};
    if (allocate(self, count, &scratch) < 0) return -1;
    memcpy(scratch.asked, asked, count * sizeof(int64_t));
    score(self, context, &scratch, count, sums);
    PyMem_Free(scratch.memory);
    return 0;
}

/* matrix(contexts: (n, width) doubles, asked: sequence of numbers, out: (n, len(asked)) doubles to write) */
static PyObject *masks_matrix(PyObject *object, PyObject *args)
{
    const Masks *self = (const Masks *)object;
    Py_buffer contexts = {0}, out = {0};
    PyObject *numbers, *done = NULL;
    Scratch scratch = {0};
    if (!PyArg_ParseTuple(args, "y*Ow*", &contexts, &numbers, &out)) return NULL;
    PyObject *asked = PySequence_Tuple(numbers);
    const Py_ssize_t count = asked ? PyTuple_GET_SIZE(asked) : 0, width = self->width, n = count ? out.len / 8 / count : 0;
    const int is_odd = (uintptr_t)contexts.buf % 8 || (uintptr_t)out.buf % 8;
    if (!asked) goto end;
    if (is_odd || contexts.len != n * width * 8 || out.len != n * count * 8) {
        PyErr_SetString(PyExc_ValueError, "the contexts and what to write have other shapes");
        goto end;
    }
    if (scratch_for(self, asked, &scratch) < 0) goto end;
    for (Py_ssize_t row = 0; row < n; row++)
        score(self, (const double *)contexts.buf + row * width, &scratch, count, (double *)out.buf + row * count);
    done = Py_NewRef(Py_None);
end:
    PyMem_Free(scratch.memory);
    Py_XDECREF(asked);
    PyBuffer_Release(&contexts);
    PyBuffer_Release(&out);
    return done;
}

/* --- Making and checking ------------------------------------------------------------------------------------------ */

static int refuse(const char *why)
{
    PyErr_SetString(PyExc_ValueError, why);
    return -1;
}

/* A copy of numbers of eight bytes. */
static void *numbers(const Py_buffer *from)
{
    void *made = PyMem_Malloc(from->len + 8);
    return made ? memcpy(made, from->buf, from->len) : PyErr_NoMemory();
}

/* A copy of rows of masks, each beginning at a cache line, with nothing open beyond its end. */
static uint32_t *rows_of(const Py_buffer *from, Py_ssize_t rows, Py_ssize_t size, Py_ssize_t stride)
{
    void *memory = NULL;
    if (posix_memalign(&memory, 64, rows * stride * sizeof(uint32_t) + 64)) return (void *)PyErr_NoMemory();
    memset(memory, 0, rows * stride * sizeof(uint32_t));
    for (Py_ssize_t row = 0; row < rows; row++)
        memcpy((uint32_t *)memory + row * stride, (const uint32_t *)from->buf + row * size, size * sizeof(uint32_t));
    return memory;
}

static int check_shapes(Masks *self, const Py_buffer *given)
{
    const Py_ssize_t most = INT32_MAX;
    if (self->trees < 1 || self->trees > most || self->words < 1 || self->words > most / self->trees ||
        self->leaves < 1 || self->leaves > 32 * self->words)
        return refuse("no forest has so many trees, words or leaves");
    if (self->forests < 1 || self->trees % self->forests || self->width < 0 || self->width > most)
        return refuse("no forests have so many trees or columns");
    const Py_ssize_t size = self->trees * self->words * 4;
    if (given[2].len % size || given[3].len % size) return refuse("a row has no mask for each tree");
    self->n_rows = given[2].len / size;
    self->n_offers = given[3].len / size;
    self->n_cuts = given[1].len / 8;
    if (self->n_crossings < 0 || self->n_crossings > given[0].len / (Py_ssize_t)sizeof(Column) ||
        given[0].len % sizeof(Column) || given[1].len % 8)
        return refuse("columns or cuts are cut off");
    self->n_context = given[0].len / (Py_ssize_t)sizeof(Column) - self->n_crossings;
    if (given[4].len / 8 / self->trees != self->leaves || given[4].len % (8 * self->trees))
        return refuse("there is not one value for each leaf");
    if (given[5].len != self->n_crossings * self->n_offers * 8 || given[6].len != given[5].len)
        return refuse("there is not one place and factor for each crossing and offer");
    if (self->forests > 1 && (self->n_offers < 1 || self->n_crossings)) return refuse("several forests know one offer");
    return 0;
}

static int check_columns(const Masks *self)
{
    for (Py_ssize_t c = 0; c < self->n_context + self->n_crossings; c++) {
        const Column *column = self->columns + c;
        if (c < self->n_context && (column->place < 0 || column->place >= self->width))
            return refuse("a column is not of the context");
        if (column->count < 1 || column->count > self->n_cuts || column->first < 0 ||
            column->first > self->n_cuts - column->count)
            return refuse("a column's cuts are not there");
        if (column->base < 0 || column->base > self->n_rows - column->count - 2)
            return refuse("a column's rows are not there");
    }
    for (Py_ssize_t at = 0; at < self->n_crossings * self->n_offers; at++)
        if (self->places[at] < 0 || self->places[at] >= self->width) return refuse("a place is not of the context");
    return 0;
}

/* The bit of the last leaf is set everywhere: so one is always found, and it is the number of a leaf. */
static int check_masks(const Masks *self, const uint32_t *rows, Py_ssize_t count)
{
    const Py_ssize_t last = self->leaves - 1;
    for (Py_ssize_t row = 0; row < count; row++, rows += self->stride)
        for (Py_ssize_t tree = 0; tree < self->trees; tree++)
            if (!(rows[tree * self->words + last / 32] >> last % 32 & 1)) return refuse("a last leaf is closed");
    return 0;
}

static int fill(Masks *self, const Py_buffer *given)
{
    if (check_shapes(self, given) < 0) return -1;
    const Py_ssize_t size = self->trees * self->words;
    self->stride = (size + LINE - 1) / LINE * LINE;
    if (!(self->columns = numbers(given)) || !(self->cuts = numbers(given + 1)) ||
        !(self->table = rows_of(given + 2, self->n_rows, size, self->stride)) ||
        !(self->offers = rows_of(given + 3, self->n_offers, size, self->stride)) ||
        !(self->values = numbers(given + 4)) || !(self->places = numbers(given + 5)) ||
        !(self->factors = numbers(given + 6)))
        return -1;
    if (check_columns(self) < 0 || check_masks(self, self->table, self->n_rows) < 0) return -1;
    return check_masks(self, self->offers, self->n_offers);
}

static PyObject *masks_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"columns",   "cuts",  "table", "offers", "values",  "places", "factors",
                            "crossings", "trees", "words", "leaves", "forests", "width",  NULL};
    Py_buffer given[7] = {{0}};
    Masks *self = (Masks *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    int failed = !PyArg_ParseTupleAndKeywords(
        args, keywords, "y*y*y*y*y*y*y*nnnnnn", names, given, given + 1, given + 2, given + 3, given + 4, given + 5,
        given + 6, &self->n_crossings, &self->trees, &self->words, &self->leaves, &self->forests, &self->width);
    failed = failed || fill(self, given) < 0;
    for (int i = 0; i < 7; i++)
        if (given[i].obj) PyBuffer_Release(given + i);
    if (failed) Py_CLEAR(self);
    return (PyObject *)self;
}

static void masks_dealloc(PyObject *object)
{
    Masks *self = (Masks *)object;
    void *ours[] = {self->columns, self->cuts, self->values, self->factors, self->places};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) PyMem_Free(ours[i]);
    free(self->table);
    free(self->offers);
    Py_TYPE(object)->tp_free(object);
}

static PyMethodDef methods[] = {
    {"scores", (PyCFunction)(void (*)(void))masks_scores, METH_FASTCALL, "The sums of some offers for one context row."},
    {"matrix", masks_matrix, METH_VARARGS, "The same for many context rows, written into a buffer."},
    {NULL, NULL, 0, NULL}};

static PyTypeObject MasksType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "models._bits.Masks",
    .tp_basicsize = sizeof(Masks),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = masks_new,
    .tp_dealloc = masks_dealloc,
    .tp_methods = methods,
    .tp_doc = "The tables of some forests, and what each offer leaves open.",
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_bits", "Scoring by bit masks.", -1, NULL};

PyMODINIT_FUNC PyInit__bits(void)
{
    if (PyType_Ready(&MasksType) < 0) return NULL;
    PyObject *made = PyModule_Create(&module), *capsule = PyCapsule_New((void *)sums_of, "models._bits.sums", NULL);
    if (made && (!capsule || PyModule_AddObjectRef(made, "Masks", (PyObject *)&MasksType) < 0 ||
                 PyModule_AddObjectRef(made, "sums", capsule) < 0 ||
                 PyModule_AddIntConstant(made, "VERSION", VERSION) < 0))
        Py_CLEAR(made);
    Py_XDECREF(capsule);
    return made;
}
