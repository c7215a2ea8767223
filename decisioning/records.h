/* Records of Python (`domain.record`: dataclasses whose fields are slots), read and made without running any Python.
 *
 * A record's type is told once, by whoever makes the object that will read or make such records.
 */
#ifndef SEGUE_RECORDS_H
#define SEGUE_RECORDS_H
#include <Python.h>
#include <structmember.h>

#define MOST_FIELDS 24

typedef struct {
    PyTypeObject *type; /* owned; NULL before it is told, and after record_let_go */
    Py_ssize_t offsets[MOST_FIELDS];
    int n;
} Record;

/* Where instances of a type keep an attribute. -1 for an error. */
static inline Py_ssize_t offset_of(PyTypeObject *type, const char *name)
{
    PyObject *slot = PyObject_GetAttrString((PyObject *)type, name);
    Py_ssize_t offset = -1;
    if (slot && Py_IS_TYPE(slot, &PyMemberDescr_Type) && ((PyMemberDescrObject *)slot)->d_member->type == T_OBJECT_EX)
        offset = ((PyMemberDescrObject *)slot)->d_member->offset;
    if (slot && offset < 0) PyErr_Format(PyExc_TypeError, "a %s keeps no %s in a slot", type->tp_name, name);
    Py_XDECREF(slot);
    return offset;
}

/* The fields of a record, which are all that it has, in their order: `names` ends with a NULL. -1 for an error. */
static inline int record_of(PyObject *type, const char *const names[], Record *into)
{
    if (!PyType_Check(type)) return PyErr_SetString(PyExc_TypeError, "a record is told by its type"), -1;
    PyObject *fields = PyObject_GetAttrString(type, "__match_args__");
    int fine = fields && PyTuple_CheckExact(fields), n = 0;
    for (; fine && names[n]; n++)
        fine = n < MOST_FIELDS && n < PyTuple_GET_SIZE(fields) &&
               (PyUnicode_Check(PyTuple_GET_ITEM(fields, n)) &&
                PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(fields, n), names[n]) == 0) &&
               (into->offsets[n] = offset_of((PyTypeObject *)type, names[n])) >= 0;
    fine = fine && n == PyTuple_GET_SIZE(fields);
    if (!fine && !PyErr_Occurred())
        PyErr_Format(PyExc_TypeError, "a %s has other fields", ((PyTypeObject *)type)->tp_name);
    Py_XDECREF(fields);
    if (!fine) return -1;
    into->n = n;
    Py_XSETREF(into->type, (PyTypeObject *)Py_NewRef(type));
    return 0;
}

static inline void record_let_go(Record *record) { Py_CLEAR(record->type); }

/* Whether an object is such a record: of the very type, and no other. */
static inline int record_is(const Record *record, PyObject *object) { return Py_IS_TYPE(object, record->type); }

/* A field of such a record, borrowed; NULL, and no error, where it was deleted. */
static inline PyObject *record_field(const Record *record, PyObject *object, int at)
{
    return *(PyObject **)((char *)object + record->offsets[at]);
}

/* A new record of some values, one for each field in their order, whose references it takes over, also where it fails.
 * A NULL among them is an error that was raised before. */
static inline PyObject *record_made(const Record *record, PyObject *values[])
{
    int fine = 1;
    for (int i = 0; i < record->n; i++) fine = fine && values[i];
    PyObject *made = fine ? record->type->tp_alloc(record->type, 0) : NULL;
    for (int i = 0; i < record->n; i++)
        if (made)
            *(PyObject **)((char *)made + record->offsets[i]) = values[i];
        else
            Py_XDECREF(values[i]);
    return made;
}

#endif
