/* Text and numbers as JSON, into a sheet that grows: byte for byte as msgspec writes them. */
#ifndef JSON_TEXT_H
#define JSON_TEXT_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <math.h>
#include <time.h>

#include "shortest.h"

#define NOINLINE __attribute__((noinline)) /* a decision touches much else: code that isn't fetched twice is faster */

enum { DONE = 0, UNKNOWN = 1, FAILED = -1 };
/* What a function here returns: UNKNOWN for what msgspec has to write or to refuse, FAILED with an exception set. */

typedef struct {
    char *start, *at, *end;
} Sheet;

static NOINLINE int grow(Sheet *out, size_t more)
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

/* Not 0 where one of eight bytes is special. */
static inline uint64_t any_special(uint64_t x)
{
    const uint64_t ones = 0x0101010101010101, tops = 0x8080808080808080;
    const uint64_t quote = x ^ (ones * '"'), slash = x ^ (ones * '\\');
    return ((x - ones * 0x20) & ~x & tops) | ((quote - ones) & ~quote & tops) | ((slash - ones) & ~slash & tops);
}

static NOINLINE int put_escaped(Sheet *out, const char *text, Py_ssize_t length)
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

static NOINLINE int put_text(Sheet *out, const char *text, Py_ssize_t length)
{
    if (room(out, 6 * (size_t)length + 10)) return FAILED;
    *out->at++ = '"';
    Py_ssize_t i = 0;
    uint64_t special = 0;
    for (; i + 8 <= length; i += 8) {
        uint64_t eight;
        memcpy(&eight, text + i, 8);
        special |= any_special(eight);
        memcpy(out->at + i, &eight, 8);
    }
    for (; i < length; i++) {
        special |= is_special((unsigned char)text[i]);
        out->at[i] = text[i];
    }
    if (special) {
        if (put_escaped(out, text, length)) return FAILED;
    } else
        out->at += length;
    *out->at++ = '"';
    return DONE;
}

static inline int put_str(Sheet *out, PyObject *value)
{
    const char *text;
    Py_ssize_t length;
    return text_of(value, &text, &length) ? UNKNOWN : put_text(out, text, length);
}

/* --- Numbers -------------------------------------------------------------------------------------------------------- */

static NOINLINE int put_float(Sheet *out, double value, const Power *powers)
{
    if (!isfinite(value)) return put_bytes(out, "null", 4);
    if (room(out, FLOAT_MOST)) return FAILED;
    const Decimal decimal = value == 0.0 ? (Decimal){0, 0} : shortest(value, powers);
    out->at = put_decimal(out->at, signbit(value) != 0, decimal);
    return DONE;
}

/* As round(value, 6) has it. Of what is nearly half a millionth more than a millionth, only exact arithmetic can say. */
static NOINLINE int put_rounded(Sheet *out, double value)
{
    const double millionths = fabs(value) * 1e6;
    if (!(millionths < 1e12)) return UNKNOWN;
    const double whole = floor(millionths), rest = millionths - whole; /* within 1e-4 */
    if (fabs(rest - 0.5) < 1e-3) return UNKNOWN;
    if (room(out, FLOAT_MOST)) return FAILED;
    out->at = put_decimal(out->at, signbit(value) != 0, (Decimal){(uint64_t)whole + (rest > 0.5), -6});
    return DONE;
}

static NOINLINE int put_int(Sheet *out, PyObject *value)
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

typedef struct {
    int64_t second;
    char text[20];
} Second; /* the whole second that was written last: many moments are of one */

/* A moment in epoch seconds, to the millisecond, as serving.deciding.answers.rfc3339 has it. */
static inline int put_moment(Sheet *out, double moment, Second *last)
{
    if (!(0.0 <= moment && moment < 253402300799.0)) return UNKNOWN; /* the year 10000 */
    const double whole = floor(moment);
    const int micros = (int)rint((moment - whole) * 1e6);
    const time_t second = (time_t)whole + micros / 1000000;
    if (second != last->second) {
        struct tm parts;
        if (!gmtime_r(&second, &parts)) return UNKNOWN;
        if (strftime(last->text, sizeof last->text, "%Y-%m-%dT%H:%M:%S", &parts) != 19) return UNKNOWN;
        last->second = second;
    }
    const int millis = micros % 1000000 / 1000;
    const char after[] = {'.', (char)('0' + millis / 100), (char)('0' + millis / 10 % 10), (char)('0' + millis % 10), 'Z'};
    return put_bytes(out, last->text, 19) || put_bytes(out, after, sizeof after) ? FAILED : DONE;
}

#endif
