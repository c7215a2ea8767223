/* Sets of bits as words, lowest first, and as ints of Python. */
#ifndef SEGUE_BITS_H
#define SEGUE_BITS_H
#include <Python.h>
#include <stdint.h>

/* How many words so many bits take; at least one. */
static inline Py_ssize_t bits_words(Py_ssize_t count) { return count > 64 ? (count + 63) / 64 : 1; }

static inline PyObject *bits_number(const uint64_t *words, Py_ssize_t n)
{
    while (n > 1 && !words[n - 1]) n--;
    if (n <= 1) return PyLong_FromUnsignedLongLong(n ? words[0] : 0);
    return _PyLong_FromByteArray((const unsigned char *)words, (size_t)n * 8, 1, 0);
}

/* An int of no more than so many words. -1 for an error. */
static inline int bits_read(PyObject *number, uint64_t *words, Py_ssize_t n)
{
    if (!PyLong_Check(number)) return PyErr_SetString(PyExc_TypeError, "a set of bits is an int"), -1;
    if (n == 1) {
        words[0] = PyLong_AsUnsignedLongLong(number);
        return words[0] == (uint64_t)-1 && PyErr_Occurred() ? -1 : 0;
    }
#if PY_VERSION_HEX < 0x030D0000
    return _PyLong_AsByteArray((PyLongObject *)number, (unsigned char *)words, (size_t)n * 8, 1, 0);
#else
    return _PyLong_AsByteArray((PyLongObject *)number, (unsigned char *)words, (size_t)n * 8, 1, 0, 1);
#endif
}

/* `count` of the bits of `n` words, from the `start`-th on. Whatever lies behind them is none. */
static inline void bits_part(const uint64_t *words, Py_ssize_t n, Py_ssize_t start, Py_ssize_t count, uint64_t *into)
{
    const Py_ssize_t many = bits_words(count), shift = start % 64;
    for (Py_ssize_t i = 0; i < many; i++) {
        const Py_ssize_t at = start / 64 + i;
        into[i] = at < n ? words[at] >> shift : 0;
        if (shift && at + 1 < n) into[i] |= words[at + 1] << (64 - shift);
    }
    if (count < many * 64) into[many - 1] &= ((uint64_t)1 << count % 64) - 1;
}

#endif
