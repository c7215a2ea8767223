/* From a request to its decision, in one call: what the rules left (by examine), the model asked, scores weighed and held against the
 * thresholds, the best of them, the draw, the slot, and the record of it all. `decided` in decisioning/engine.py says what
 * is right, and decides itself, as a whole, whatever is unusual (several models or slots, the held out, ties, a server
 * that is behind). decisioning/by_decider.py tells this what it has to know of a surface.
 *
 * Never build this with -ffast-math, and always with -ffp-contract=off.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>

#include "bits.h"
#include "decider.h"

#define VERSION 2 /* of what Python and this ask of one another: decisioning/by_decider.py has the same */

enum { FAILED = -1, UNUSUAL = 0, FINE = 1 };
enum { DRAW_BITS = 53, MEMO_LIMIT = 512, FEW = 640 };

/* One decision on its way. References are owned. */
typedef struct {
    PyObject *id, *surface, *context, *degraded, *values, *arms, *word, *weights, *names, *worths, *actions;
    double now, *memory;
    int64_t *places; /* of what is left, among the surface's offers */
    double *p_convert, *effect, *scores, *spare;
    Py_ssize_t n, champion, challenger, chosen; /* actions by number: n is NOTHING, -1 none */
    long long share, canary, draw;
    double few[FEW];
} Work;

static void let_go(Work *w)
{
    Py_XDECREF(w->id), Py_XDECREF(w->surface), Py_XDECREF(w->context), Py_XDECREF(w->degraded), Py_XDECREF(w->values);
    Py_XDECREF(w->arms), Py_XDECREF(w->word), Py_XDECREF(w->weights), Py_XDECREF(w->names), Py_XDECREF(w->worths);
    Py_XDECREF(w->actions);
    if (w->memory != w->few) PyMem_Free(w->memory);
}

/* --- What is asked ------------------------------------------------------------------------------------------------- */

static PyObject *take(const Record *record, PyObject *object, int field)
{
    return Py_XNewRef(record_field(record, object, field));
}

/* Whether one slot is asked for. */
static int is_single(const Decider *self, PyObject *slots)
{
    int overflow;
    return self->slots == 1 || (slots && PyLong_CheckExact(slots) && PyLong_AsLongAndOverflow(slots, &overflow) == 1);
}

/* Takes what is read of a case, and says whether all is of the usual types. */
static int take_case(const Decider *self, PyObject *asked, Work *w)
{
    PyObject *request = record_field(&self->cases, asked, C_REQUEST), *facts = record_field(&self->cases, asked, C_FACTS);
    PyObject *screen = record_field(&self->cases, asked, C_SCREEN);
    if (!request || !facts || !screen || !record_is(&self->requests, request) || !record_is(&self->facts, facts) ||
        !record_is(&self->screens, screen))
        return 0;
    w->id = take(&self->requests, request, R_ID), w->surface = take(&self->requests, request, R_SURFACE);
    w->context = take(&self->requests, request, R_CONTEXT), w->degraded = take(&self->facts, facts, F_DEGRADED);
    w->values = take(&self->cases, asked, C_VALUES), w->arms = take(&self->cases, asked, C_ARMS);
    w->word = take(&self->screens, screen, S_WORD), w->weights = take(&self->screens, screen, S_WEIGHTS);
    PyObject *now = record_field(&self->requests, request, R_NOW), *unread = record_field(&self->facts, facts, F_UNREAD);
    if (!now || !PyFloat_CheckExact(now) || !unread || !PyFrozenSet_CheckExact(unread)) return 0;
    w->now = PyFloat_AS_DOUBLE(now);
    return PySet_GET_SIZE(unread) == 0 && record_field(&self->facts, facts, F_SHED) == Py_None && w->id &&
           PyUnicode_CheckExact(w->id) && w->surface && w->context && PyDict_CheckExact(w->context) && w->degraded &&
           PyTuple_CheckExact(w->degraded) && w->values && PyDict_CheckExact(w->values) && w->arms &&
           PyDict_CheckExact(w->arms) && w->word && PyLong_CheckExact(w->word) && w->weights &&
           PyLong_CheckExact(w->weights) && is_single(self, record_field(&self->requests, request, R_SLOTS));
}

static int read_case(const Decider *self, PyObject *asked, Work *w)
{
    if (!record_is(&self->cases, asked) || record_field(&self->cases, asked, C_HOLDOUT) != Py_None) return UNUSUAL;
    if (!take_case(self, asked, w)) return UNUSUAL;
    const size_t words = bits_words(self->offers), room = words + 4 * self->offers + self->asks->room;
    w->memory = room <= FEW ? w->few : PyMem_Malloc(room * sizeof(double));
    if (!w->memory) return PyErr_NoMemory(), FAILED;
    uint64_t *left = (uint64_t *)w->memory;
    w->places = (int64_t *)w->memory + words;
    w->p_convert = w->memory + words + self->offers, w->effect = w->p_convert + self->offers;
    w->scores = w->effect + self->offers, w->spare = w->scores + self->offers;
    PyObject *set = record_field(&self->screens, record_field(&self->cases, asked, C_SCREEN), S_LEFT);
    if (!set || !PyLong_CheckExact(set)) return UNUSUAL;
    if (bits_read(set, left, words) < 0) return PyErr_Clear(), UNUSUAL; /* more than there are offers */
    for (Py_ssize_t i = 0; i < self->offers; i++)
        if (left[i / 64] >> i % 64 & 1) w->places[w->n++] = i;
    return w->n ? FINE : UNUSUAL;
}

/* --- What is best -------------------------------------------------------------------------------------------------- */

static PyObject *names_of(const Decider *self, const Work *w, PyObject *more)
{
    PyObject *names = PyTuple_New(w->n + (more != NULL));
    for (Py_ssize_t k = 0; names && k < w->n; k++)
        PyTuple_SET_ITEM(names, k, Py_NewRef(PyTuple_GET_ITEM(self->names, w->places[k])));
    if (names && more) PyTuple_SET_ITEM(names, w->n, Py_NewRef(more));
    return names;
}

/* Which stretch between two moments a time is in: bisect.bisect_right. */
static Py_ssize_t stretch(const Decider *self, double now)
{
    const double *moments = (const double *)PyBytes_AS_STRING(self->moments);
    Py_ssize_t low = 0, high = PyBytes_GET_SIZE(self->moments) / (Py_ssize_t)sizeof(double);
    while (low < high) {
        const Py_ssize_t middle = (low + high) / 2;
        if (now < moments[middle])
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* What the factors hang on: the stretch of time, the context weights that hold, and the arms. */
static PyObject *key_of(const Decider *self, const Work *w)
{
    PyObject *key = PyTuple_New(2 + 2 * PyDict_GET_SIZE(w->arms)), *name, *arm;
    PyObject *when = key ? PyLong_FromSsize_t(stretch(self, w->now)) : NULL;
    if (!when) return Py_XDECREF(key), NULL;
    PyTuple_SET_ITEM(key, 0, when);
    PyTuple_SET_ITEM(key, 1, Py_NewRef(w->weights));
    for (Py_ssize_t at = 0, k = 2; PyDict_Next(w->arms, &at, &name, &arm); k += 2) {
        PyTuple_SET_ITEM(key, k, Py_NewRef(name));
        PyTuple_SET_ITEM(key, k + 1, Py_NewRef(arm));
    }
    return key;
}

static int find_worths(const Decider *self, Work *w)
{
    PyObject *key = key_of(self, w);
    PyObject *found = key ? Py_XNewRef(PyDict_GetItemWithError(self->memo, key)) : NULL;
    if (key && !found && !PyErr_Occurred()) {
        found = PyObject_CallFunction(self->worths, "dOO", w->now, w->arms, w->weights);
        const Py_ssize_t size = (1 + 2 * self->offers) * (Py_ssize_t)sizeof(double);
        if (found && found != Py_None && !(PyBytes_CheckExact(found) && PyBytes_GET_SIZE(found) == size)) {
            PyErr_SetString(PyExc_ValueError, "there is not one worth and one priority for each offer");
            Py_CLEAR(found);
        }
        if (found && PyDict_GET_SIZE(self->memo) < MEMO_LIMIT && PyDict_SetItem(self->memo, key, found) < 0)
            Py_CLEAR(found);
    }
    Py_XDECREF(key);
    w->worths = found;
    return !found ? FAILED : found == Py_None ? UNUSUAL : FINE;
}

/* What the model says, and for whoever wants to remember it. */
static int ask(const Decider *self, Work *w)
{
    const int state = self->asks->ask(self->asks, w->values, w->places, w->n, w->p_convert, w->effect, w->spare);
    if (state != FINE) return state;
    if (!self->asks->has_effect) w->effect = w->p_convert;
    if (self->said == Py_None) return FINE;
    const Py_ssize_t size = w->n * (Py_ssize_t)sizeof(double);
    PyObject *p = PyBytes_FromStringAndSize((const char *)w->p_convert, size);
    PyObject *effect = PyBytes_FromStringAndSize((const char *)w->effect, self->asks->has_effect ? size : 0);
    PyObject *one = p && effect ? PyTuple_Pack(4, self->label, w->names, p, effect) : NULL;
    const int failed = !one || PyDict_SetItem(self->said, self->label, one) < 0;
    Py_XDECREF(p), Py_XDECREF(effect), Py_XDECREF(one);
    return failed ? FAILED : FINE;
}

/* Weighs what was said, and leaves out what misses a threshold. What is no number is Python's. */
static int weigh(const Decider *self, Work *w)
{
    const double *worths = (const double *)PyBytes_AS_STRING(w->worths) + 1, min_score = worths[-1];
    Py_ssize_t kept = 0;
    for (Py_ssize_t k = 0; k < w->n; k++) {
        const double p = w->p_convert[k], effect = w->effect[k], score = effect * worths[w->places[k]];
        if (!isfinite(p) || !isfinite(effect) || !isfinite(score)) return UNUSUAL;
        w->places[kept] = w->places[k], w->p_convert[kept] = p, w->scores[kept] = score;
        kept += !(p < self->min_p) && !(score < min_score);
    }
    if (kept == w->n) return FINE;
    w->n = kept;
    Py_SETREF(w->names, names_of(self, w, NULL));
    return !w->names ? FAILED : kept ? FINE : UNUSUAL;
}

/* The first in order of priority and score. The hash that settles a tie is Python's. */
static int find_champion(const Decider *self, Work *w)
{
    const double *priorities = (const double *)PyBytes_AS_STRING(w->worths) + 1 + self->offers;
    int is_tied = 0;
    w->champion = w->n;
    for (Py_ssize_t k = 0; k < w->n; k++) {
        const double score = w->scores[k], priority = priorities[w->places[k]];
        if (score <= 0 && self->may_be_nothing) continue;
        const Py_ssize_t best = w->champion;
        const double least = best < w->n ? priorities[w->places[best]] : -INFINITY;
        if (priority < least || (priority == least && score < w->scores[best])) continue;
        is_tied = priority == least && score == w->scores[best];
        w->champion = k;
    }
    return is_tied ? UNUSUAL : FINE;
}

/* --- What is drawn ------------------------------------------------------------------------------------------------- */

/* Where a challenger's choice is among the actions; -1 where it isn't, -2 for an error. */
static Py_ssize_t find_challenger(const Decider *self, const Work *w, PyObject *asked)
{
    if (self->rival == Py_None) return -1;
    PyObject *choice = PyObject_CallOneArg(self->rival, asked);
    Py_ssize_t found = -1;
    for (Py_ssize_t k = 0; choice && found == -1 && k < PyTuple_GET_SIZE(w->actions); k++) {
        const int same = PyObject_RichCompareBool(choice, PyTuple_GET_ITEM(w->actions, k), Py_EQ);
        found = same < 0 ? -2 : same ? k : -1;
    }
    Py_XDECREF(choice);
    return choice ? found : -2;
}

static int draw(const Decider *self, Work *w, PyObject *asked)
{
    Py_ssize_t size;
    unsigned char digest[8];
    const char *id = PyUnicode_AsUTF8AndSize(w->id, &size);
    if (!id) return PyErr_Clear(), UNUSUAL; /* a lone surrogate: Python tells of it in its own words */
    Blake2b hash = self->salted;
    blake2b_add(&hash, id, size);
    blake2b_end(&hash, digest);
    for (int i = 0; i < 8; i++) w->draw = (long long)((unsigned long long)w->draw << 8 | digest[i]);
    w->draw = (long long)((unsigned long long)w->draw >> (64 - DRAW_BITS));

    w->actions = self->may_be_nothing ? names_of(self, w, self->nothing) : Py_NewRef(w->names);
    if (!w->actions || (w->challenger = find_challenger(self, w, asked)) == -2) return FAILED;
    const Py_ssize_t n = PyTuple_GET_SIZE(w->actions);
    w->share = self->uniform / n, w->canary = w->challenger >= 0 ? self->canary : 0;
    const long long target = (long long)((__int128)w->draw * MILLION >> DRAW_BITS), even = w->share * n;
    w->chosen = target < even                ? (Py_ssize_t)(target / w->share)
                : target < even + w->canary  ? w->challenger
                                             : w->champion;
    return FINE;
}

/* --- What is answered ---------------------------------------------------------------------------------------------- */

static PyObject *floats(const double *values, Py_ssize_t n)
{
    PyObject *made = PyTuple_New(n);
    for (Py_ssize_t k = 0; made && k < n; k++) {
        PyObject *value = PyFloat_FromDouble(values[k]);
        if (value)
            PyTuple_SET_ITEM(made, k, value);
        else
            Py_CLEAR(made);
    }
    return made;
}

/* The language of a locale: what comes before the first of its subtags. */
static PyObject *language_of(PyObject *locale)
{
    const Py_ssize_t size = PyUnicode_GET_LENGTH(locale);
    Py_ssize_t end = 0;
    while (end < size && PyUnicode_READ_CHAR(locale, end) != '-' && PyUnicode_READ_CHAR(locale, end) != '_') end++;
    return PyUnicode_Substring(locale, 0, end);
}

/* As Creative.localised: for the locale, or else its language, or else for nobody's. NULL for an error, too. */
static PyObject *text_for(PyObject *texts, PyObject *locale)
{
    PyObject *found = NULL;
    if (locale && PyUnicode_Check(locale) && PyUnicode_GET_LENGTH(locale)) {
        found = PyDict_GetItemWithError(texts, locale);
        PyObject *language = found || PyErr_Occurred() ? NULL : language_of(locale);
        if (language) found = PyDict_GetItemWithError(texts, language);
        Py_XDECREF(language);
    }
    return found || PyErr_Occurred() ? found : PyDict_GetItemWithError(texts, Py_None);
}

static PyObject *creative_of(const Decider *self, const Work *w, Py_ssize_t place)
{
    PyObject *texts = PyTuple_GET_ITEM(self->creatives, place);
    if (texts == Py_None) return Py_NewRef(Py_None);
    PyObject *locale = Py_XNewRef(PyDict_GetItemWithError(w->context, self->locale));
    PyObject *found = PyErr_Occurred() ? NULL : Py_XNewRef(text_for(texts, locale));
    Py_XDECREF(locale);
    return found;
}

/* The one slot of the answer. */
static PyObject *slate_of(const Decider *self, const Work *w, PyObject *p_convert, PyObject *scores)
{
    const Py_ssize_t first = w->chosen;
    if (first == w->n || !p_convert || !scores) return PyTuple_New(0);
    long long weight = w->share + (first == w->challenger ? w->canary : 0);
    if (first == w->champion) weight += MILLION - w->share * PyTuple_GET_SIZE(w->actions) - w->canary;
    PyObject *values[] = {Py_NewRef(PyTuple_GET_ITEM(w->names, first)), PyLong_FromLong(1),
                          creative_of(self, w, w->places[first]),       Py_NewRef(PyTuple_GET_ITEM(p_convert, first)),
                          Py_NewRef(PyTuple_GET_ITEM(scores, first)),   PyFloat_FromDouble((double)weight / MILLION)};
    PyObject *shown = record_made(&self->shown, values), *slate = shown ? PyTuple_Pack(1, shown) : NULL;
    Py_XDECREF(shown);
    return slate;
}

static PyObject *policy_of(const Decider *self, const Work *w)
{
    PyObject *challenger = w->challenger < 0 ? Py_None : PyTuple_GET_ITEM(w->actions, w->challenger);
    PyObject *champion = w->champion == w->n ? self->nothing : PyTuple_GET_ITEM(w->names, w->champion);
    PyObject *values[] = {Py_NewRef(w->actions),           Py_NewRef(champion),
                          Py_NewRef(challenger),           PyLong_FromLongLong(w->share),
                          PyLong_FromLongLong(w->canary), PyLong_FromLongLong(w->draw)};
    return record_made(&self->policies, values);
}

/* The truth word in hexadecimal. */
static PyObject *truth_of(PyObject *word)
{
    int overflow;
    const long long small = PyLong_AsLongLongAndOverflow(word, &overflow);
    char text[24];
    if (!overflow && small >= 0) return PyUnicode_FromStringAndSize(text, sprintf(text, "%llx", small));
    PyObject *hex = PyNumber_ToBase(word, 16), *bare = hex ? PyUnicode_Substring(hex, 2, PY_SSIZE_T_MAX) : NULL;
    Py_XDECREF(hex);
    return bare;
}

static PyObject *degraded_of(const Decider *self, const Work *w)
{
    return PyTuple_GET_SIZE(self->absent) ? PySequence_Concat(w->degraded, self->absent) : Py_NewRef(w->degraded);
}

static PyObject *decision_of(const Decider *self, const Work *w)
{
    PyObject *p_convert = floats(w->p_convert, w->n), *scores = floats(w->scores, w->n);
    PyObject *values[] = {Py_NewRef(w->id),
                          Py_NewRef(w->surface),
                          Py_NewRef(self->release),
                          slate_of(self, w, p_convert, scores),
                          Py_NewRef(self->source),
                          Py_NewRef(self->label),
                          degraded_of(self, w),
                          Py_NewRef(w->names),
                          p_convert,
                          scores,
                          truth_of(w->word),
                          policy_of(self, w),
                          Py_NewRef(w->arms),
                          Py_NewRef(Py_None),
                          Py_NewRef(Py_None)};
    return record_made(&self->decisions, values);
}

/* decide(release, request, facts) -> Decision */
static PyObject *decider_decide(PyObject *object, PyObject *const *args, Py_ssize_t n)
{
    const Decider *self = (const Decider *)object;
    PyObject *asked = PyObject_Vectorcall(self->examine, args, n, NULL);
    if (!asked) return NULL;
    Work w;
    memset(&w, 0, offsetof(Work, few));
    int state = read_case(self, asked, &w);
    if (state == FINE) state = find_worths(self, &w);
    if (state == FINE) state = (w.names = names_of(self, &w, NULL)) ? ask(self, &w) : FAILED;
    if (state == FINE) state = weigh(self, &w);
    if (state == FINE) state = find_champion(self, &w);
    if (state == FINE) state = draw(self, &w, asked);
    PyObject *decision = state == FINE ? decision_of(self, &w) : NULL;
    let_go(&w);
    if (state == UNUSUAL) decision = PyObject_CallOneArg(self->twin, asked);
    Py_DECREF(asked);
    return decision;
}

/* --- The module --------------------------------------------------------------------------------------------------- */

static PyMethodDef methods[] = {
    {"decide", (PyCFunction)(void (*)(void))decider_decide, METH_FASTCALL, "From a request to its decision."},
    {NULL, NULL, 0, NULL}};

static PyTypeObject DeciderType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "decisioning._decide.Decider",
    .tp_basicsize = sizeof(Decider),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = decider_new,
    .tp_dealloc = decider_dealloc,
    .tp_methods = methods,
    .tp_doc = "What is chosen on a surface of a release.",
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_decide", "From a request to its decision in one call.", -1, NULL};

PyMODINIT_FUNC PyInit__decide(void)
{
    if (PyType_Ready(&DeciderType) < 0) return NULL;
    PyObject *made = PyModule_Create(&module);
    if (made && (PyModule_AddObjectRef(made, "Decider", (PyObject *)&DeciderType) < 0 ||
                 PyModule_AddIntConstant(made, "VERSION", VERSION) < 0))
        Py_CLEAR(made);
    return made;
}
