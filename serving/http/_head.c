/* The head of the plainest of requests: a POST that came whole and alone in one read, with nothing about it that a
   parser of HTTP would have to think over.

   `plain(data, line)` gives None for anything else, and that is no verdict: httptools reads it then. So this may be
   stricter than that, and never laxer: what it takes, httptools reads to the same fields, with nothing left over. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define VERSION 1

#define MOST_HEAD 8192 /* bytes; of a longer head none is plain */
#define MOST_DIGITS 6  /* of a body's length */
#define MOST_BODY 65536 /* bytes; of a longer body the rest is not waited for (serving.http.guard.BUFFERED) */

/* What a byte may be a part of. */
#define NAME 1  /* a header's name: RFC 9110, section 5.6.2 */
#define VALUE 2 /* a header's value: what is printable, and tabs; no control character, and nothing beyond ASCII */

static unsigned char kinds[256];

typedef struct {
    const char *at;
    Py_ssize_t size;
} Text;

typedef struct {
    Text authorization, deadline, connection;
    Py_ssize_t length; /* of the body; -1 as long as it is not known */
} Head;

static void
learn(void)
{
    for (int byte = ' '; byte < 0x7f; byte++) {
        kinds[byte] |= VALUE;
    }
    kinds['\t'] |= VALUE;
    for (const char *one = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"; *one; one++) {
        kinds[(unsigned char)*one] |= NAME;
    }
    for (int byte = 'A'; byte <= 'Z'; byte++) {
        kinds[byte] |= NAME;
    }
}

/* Whether a text is one in small letters, however its own are written. */
static int
is(Text text, const char *small, Py_ssize_t size)
{
    if (text.size != size) {
        return 0;
    }
    for (Py_ssize_t place = 0; place < size; place++) {
        char one = text.at[place];
        if ((one >= 'A' && one <= 'Z' ? one | 0x20 : one) != small[place]) {
            return 0;
        }
    }
    return 1;
}
#define IS(text, small) is(text, small, (Py_ssize_t)sizeof(small) - 1)

/* A value that is to be passed on comes once, and neither begins nor ends with a blank. */
static int
take(Text *where, Text value)
{
    if (where->at != NULL || value.size == 0) {
        return 0;
    }
    char first = value.at[0], last = value.at[value.size - 1];
    if (first == ' ' || first == '\t' || last == ' ' || last == '\t') {
        return 0;
    }
    *where = value;
    return 1;
}

static int
measure(Head *head, Text digits)
{
    if (head->length >= 0 || digits.size == 0 || digits.size > MOST_DIGITS) {
        return 0;
    }
    Py_ssize_t length = 0;
    for (Py_ssize_t place = 0; place < digits.size; place++) {
        char digit = digits.at[place];
        if (digit < '0' || digit > '9') {
            return 0;
        }
        length = 10 * length + (digit - '0');
    }
    head->length = length;
    return length <= MOST_BODY;
}

/* Whether a header leaves the request a plain one. What it says of the connection or the body's form does not. */
static int
note(Head *head, Text name, Text value)
{
    switch (name.size) {
    case 2:
        return !IS(name, "te");
    case 6:
        return !IS(name, "expect");
    case 7:
        return !IS(name, "upgrade") && !IS(name, "trailer");
    case 10:
        return !IS(name, "connection") || (IS(value, "keep-alive") && take(&head->connection, value));
    case 13:
        return !IS(name, "authorization") || take(&head->authorization, value);
    case 14:
        if (IS(name, "content-length")) {
            return measure(head, value);
        }
        return !IS(name, "segue-deadline") || take(&head->deadline, value);
    case 16:
        return !IS(name, "proxy-connection");
    case 17:
        return !IS(name, "transfer-encoding");
    }
    return 1;
}

/* Where the head ends that begins with a request's second line; NULL where it is not plain. */
static const char *
read_head(const char *at, const char *end, Head *head)
{
    while (at + 1 < end && !(at[0] == '\r' && at[1] == '\n')) {
        Text name = {at, 0}, value;
        while (at < end && kinds[(unsigned char)*at] & NAME) {
            at++;
        }
        name.size = at - name.at;
        if (name.size == 0 || at == end || *at++ != ':') {
            return NULL;
        }
        if (at < end && *at == ' ') {
            at++;
        }
        value.at = at;
        while (at < end && kinds[(unsigned char)*at] & VALUE) {
            at++;
        }
        value.size = at - value.at;
        if (end - at < 2 || at[0] != '\r' || at[1] != '\n' || !note(head, name, value)) {
            return NULL;
        }
        at += 2;
    }
    return end - at < 2 ? NULL : at + 2;
}

static PyObject *
bytes_or_none(Text text)
{
    return text.at == NULL ? Py_NewRef(Py_None) : PyBytes_FromStringAndSize(text.at, text.size);
}

static PyObject *
told(const Head *head, const char *body)
{
    PyObject *found = PyTuple_New(3);
    if (found == NULL) {
        return NULL;
    }
    PyObject *parts[3] = {
        bytes_or_none(head->authorization),
        bytes_or_none(head->deadline),
        PyBytes_FromStringAndSize(body, head->length),
    };
    int is_whole = 1;
    for (int place = 0; place < 3; place++) {
        is_whole &= parts[place] != NULL;
        PyTuple_SET_ITEM(found, place, parts[place]);
    }
    if (!is_whole) {
        Py_DECREF(found);
        return NULL;
    }
    return found;
}

PyDoc_STRVAR(plain_doc, "plain(data: bytes, line: bytes) -> tuple[bytes | None, bytes | None, bytes] | None\n\n"
                        "Authorization, Segue-Deadline and the body of the request that is all of `data`, if it is a\n"
                        "plain one that begins with `line`, the request's first.");

static PyObject *
plain(PyObject *module, PyObject *const *words, Py_ssize_t count)
{
    (void)module;
    if (count != 2 || !PyBytes_CheckExact(words[0]) || !PyBytes_CheckExact(words[1])) {
        PyErr_SetString(PyExc_TypeError, "plain() takes two arguments, data and line, both bytes");
        return NULL;
    }
    const char *at = PyBytes_AS_STRING(words[0]), *line = PyBytes_AS_STRING(words[1]);
    Py_ssize_t size = PyBytes_GET_SIZE(words[0]), first = PyBytes_GET_SIZE(words[1]);
    if (size < first || memcmp(at, line, first) != 0) {
        Py_RETURN_NONE;
    }
    const char *end = at + size;
    Head head = {.length = -1};
    const char *body = read_head(at + first, size > MOST_HEAD ? at + MOST_HEAD : end, &head);
    if (body == NULL || end - body != head.length) {
        Py_RETURN_NONE;
    }
    return told(&head, body);
}

static PyMethodDef functions[] = {
    {"plain", (PyCFunction)(void (*)(void))plain, METH_FASTCALL, plain_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "serving.http._head",
    .m_doc = "The head of the plainest of requests.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC
PyInit__head(void)
{
    learn();
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL && PyModule_AddIntConstant(module, "VERSION", VERSION) < 0) {
        Py_CLEAR(module);
    }
    return module;
}
