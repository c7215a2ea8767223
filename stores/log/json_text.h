/* Text and numbers as JSON, into a sheet that grows: byte for byte as msgspec writes them. */
#ifndef JSON_TEXT_H
#define JSON_TEXT_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <math.h>

#include "shortest.h"

enum { DONE = 0, UNKNOWN = 1, FAILED = -1 };
/* What a function here returns: UNKNOWN for what msgspec has to write or to refuse, FAILED with an exception set. */

typedef struct {
    char *start, *at, *end;
} Sheet;

static inline int grow(Sheet *out, size_t more)
{
    const size_t used = out->at - out->start, size = 2 * (used + more);
    char *larger = PyMem_Realloc(out->start, size);
    if (!larger) return PyErr_NoMemory(), FAILED;
    out->start = larger;
    out->at = larger + used;
    out->end = larger + size;
    return DONE;
}

static inline int room(Sheet *out, size_t more) { return (size_t)(out->end - out->at) < more ? grow(out, more) : DONE; }

static inline int put_bytes(Sheet *out, const char *bytes, size_t n)
{
    if (room(out, n)) return FAILED;
    memcpy(out->at, bytes, n);
    out->at += n;
    return DONE;
}

static inline int put_char(Sheet *out, char one) { return put_bytes(out, &one, 1); }

/* The UTF-8 of a str, which belongs to it. */
static inline int text_of(PyObject *value, const char **text, Py_ssize_t *length)
{
    if (PyUnicode_IS_COMPACT_ASCII(value)) {
        *text = (const char *)PyUnicode_1BYTE_DATA(value);
        *length = PyUnicode_GET_LENGTH(value);
        return DONE;
    }
    *text = PyUnicode_AsUTF8AndSize(value, length);
    if (!*text) PyErr_Clear(); /* msgspec says it better */
    return *text ? DONE : UNKNOWN;
}

static inline int is_special(unsigned char c) { return (c < 0x20) | (c == '"') | (c == '\\'); }

static inline int put_escaped(Sheet *out, const char *text, Py_ssize_t length)
{
    static const char after[] = "btn-fr", hex[] = "0123456789abcdef"; /* of the bytes from 8 on; 11 has none */
    if (room(out, 6 * (size_t)length)) return FAILED;
    for (const char *end = text + length; text < end; text++) {
        const unsigned char c = (unsigned char)*text;
        if (!is_special(c)) {
            *out->at++ = (char)c;
            continue;
        }
        *out->at++ = '\\';
        if (c >= 0x20)
            *out->at++ = (char)c;
        else if (c >= 8 && c <= 13 && c != 11)
            *out->at++ = after[c - 8];
        else {
            memcpy(out->at, "u00", 3);
            out->at[3] = hex[c >> 4];
            out->at[4] = hex[c & 15];
            out->at += 5;
        }
    }
    return DONE;
}

static inline int put_text(Sheet *out, const char *text, Py_ssize_t length)
{
    unsigned special = 0;
    for (Py_ssize_t i = 0; i < length; i++) special |= is_special((unsigned char)text[i]);
    if (room(out, (size_t)length + 2)) return FAILED;
    *out->at++ = '"';
    if (special) {
        if (put_escaped(out, text, length)) return FAILED;
    } else {
        memcpy(out->at, text, length);
        out->at += length;
    }
    return put_char(out, '"');
}

static inline int put_str(Sheet *out, PyObject *value)
{
    const char *text;
    Py_ssize_t length;
    return text_of(value, &text, &length) ? UNKNOWN : put_text(out, text, length);
}

/* --- Numbers -------------------------------------------------------------------------------------------------------- */

static inline int put_float(Sheet *out, double value, const Power *powers)
{
    if (!isfinite(value)) return put_bytes(out, "null", 4);
    if (room(out, FLOAT_MOST)) return FAILED;
    const Decimal decimal = value == 0.0 ? (Decimal){0, 0} : shortest(value, powers);
    out->at = put_decimal(out->at, signbit(value) != 0, decimal);
    return DONE;
}

/* As round(value, 6) has it. Of what is nearly half a millionth more than a millionth, only exact arithmetic can say. */
static inline int put_rounded(Sheet *out, double value)
{
    const double millionths = fabs(value) * 1e6;
    if (!(millionths < 1e12)) return UNKNOWN;
    const double whole = floor(millionths), rest = millionths - whole; /* within 1e-4 */
    if (fabs(rest - 0.5) < 1e-3) return UNKNOWN;
    if (room(out, FLOAT_MOST)) return FAILED;
    out->at = put_decimal(out->at, signbit(value) != 0, (Decimal){(uint64_t)whole + (rest > 0.5), -6});
    return DONE;
}

static inline int put_int(Sheet *out, PyObject *value)
{
    int is_too_large;
    const long long number = PyLong_AsLongLongAndOverflow(value, &is_too_large);
    if (is_too_large) return UNKNOWN;
    if (room(out, DIGITS)) return FAILED;
    const uint64_t size = number < 0 ? -(uint64_t)number : (uint64_t)number;
    if (number < 0) *out->at++ = '-';
    out->at = put_digits(out->at, size);
    return DONE;
}

#endif
